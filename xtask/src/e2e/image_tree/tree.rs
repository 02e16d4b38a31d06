//! A tree of files as somebody sees it, and what two of them differ in.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt::{self, Display};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use testbed::process::run as run_program;

use crate::image::hex;

/// Objects by their path below the root, whose own path is empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree(pub(super) BTreeMap<PathBuf, Object>);

/// One object of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Object {
    /// `S_IFMT` and permission bits, inode(7).
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub(super) mtime: (i64, i64),
    /// Bytes; 0 for directories, whose size is the file system's own business.
    pub(super) size: u64,
    pub(super) links: u64,
    /// Major and minor number of a device.
    pub(super) device: (u32, u32),
    /// The target of a symlink; SHA-256 of a file.
    pub(super) content: String,
    /// The first path that names the same inode.
    pub(super) first_name: PathBuf,
    /// Names, and values in hex.
    pub(super) xattrs: BTreeMap<String, String>,
}

/// The bits of the mode that tell the kind, inode(7).
pub(super) const S_IFMT: u32 = 0o170_000;
/// A directory.
pub(super) const S_IFDIR: u32 = 0o040_000;
/// A regular file.
pub(super) const S_IFREG: u32 = 0o100_000;
/// A symlink.
pub(super) const S_IFLNK: u32 = 0o120_000;

impl Object {
    pub(super) fn is(&self, kind: u32) -> bool {
        self.mode & S_IFMT == kind
    }

    fn of_path(path: &Path) -> Result<(Self, u64)> {
        let metadata = fs::symlink_metadata(path)?;
        let mode = metadata.mode();
        let content = match mode & S_IFMT {
            S_IFREG => sha256(&mut fs::File::open(path)?)?,
            S_IFLNK => hex(fs::read_link(path)?.as_os_str().as_bytes()),
            _ => String::new(),
        };
        let device = match mode & S_IFMT {
            0o020_000 | 0o060_000 => device(metadata.rdev()),
            _ => (0, 0),
        };
        let object = Self {
            mode,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            size: if mode & S_IFMT == S_IFDIR { 0 } else { metadata.size() },
            links: metadata.nlink(),
            device,
            content,
            first_name: PathBuf::new(),
            xattrs: BTreeMap::new(),
        };
        Ok((object, metadata.ino()))
    }

    /// All of it as pairs of name and value, for comparing and for telling.
    fn fields(&self) -> [(&'static str, String); 9] {
        [
            ("mode", format!("{:o}", self.mode)),
            ("owner", format!("{}:{}", self.uid, self.gid)),
            ("mtime", format!("{}.{:09}", self.mtime.0, self.mtime.1)),
            ("size", self.size.to_string()),
            ("links", self.links.to_string()),
            ("device", format!("{},{}", self.device.0, self.device.1)),
            ("content", self.content.clone()),
            ("first name", self.first_name.display().to_string()),
            ("xattrs", format!("{:?}", self.xattrs)),
        ]
    }
}

impl Tree {
    /// Everything below `root`, by lstat(2), read(2), readlink(2) and getfattr(1).
    pub(super) fn of_directory(root: &Path) -> Result<Self> {
        // A symlink to the tree would be its root.
        let root = &root.canonicalize().with_context(|| format!("there is no {root:?}"))?;
        let mut objects = Vec::new();
        let mut directories = vec![PathBuf::new()];
        let look = |path: &Path| {
            Object::of_path(&root.join(path)).with_context(|| format!("cannot read {path:?} in {root:?}"))
        };
        let (top, ino) = look(Path::new(""))?;
        objects.push((PathBuf::new(), top, ino));
        while let Some(directory) = directories.pop() {
            for entry in
                fs::read_dir(root.join(&directory)).with_context(|| format!("cannot list {directory:?} in {root:?}"))?
            {
                let path = directory.join(entry?.file_name());
                let (object, ino) = look(&path)?;
                if object.is(S_IFDIR) {
                    directories.push(path.clone());
                }
                objects.push((path, object, ino));
            }
        }
        let mut tree = Self::of_objects(objects);
        tree.read_xattrs(root)?;
        Ok(tree)
    }

    /// A tree of objects whose inode numbers tell which are the same.
    pub(super) fn of_objects(mut objects: Vec<(PathBuf, Object, u64)>) -> Self {
        objects.sort_by(|a, b| a.0.cmp(&b.0));
        let mut first_names: HashMap<u64, PathBuf> = HashMap::new();
        let mut tree = Self::default();
        for (path, mut object, ino) in objects {
            object.first_name.clone_from(first_names.entry(ino).or_insert_with(|| path.clone()));
            tree.0.insert(path, object);
        }
        tree
    }

    /// getfattr(1) over all of it at once: paths with special bytes come as `\ooo`.
    fn read_xattrs(&mut self, root: &Path) -> Result<()> {
        let mut getfattr = Command::new("getfattr");
        getfattr.args(["-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "."]).current_dir(root);
        let text = run_program(&mut getfattr)?;
        let mut path = PathBuf::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("# file: ") {
                path = unescape(name.strip_prefix("./").unwrap_or(if name == "." { "" } else { name }));
            } else if let Some((name, value)) = line.split_once('=') {
                let object = self.0.get_mut(&path).with_context(|| format!("getfattr tells of an unknown {path:?}"))?;
                object.xattrs.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }

    /// Gives each directory the links that its subdirectories make: `.` and the name of each, and each one's `..`.
    pub(super) fn count_directory_links(&mut self) {
        let mut links: HashMap<PathBuf, u64> = HashMap::new();
        for (path, _) in self.0.iter().filter(|(_, object)| object.is(S_IFDIR)) {
            if let Some(parent) = path.parent() {
                *links.entry(parent.to_owned()).or_default() += 1;
            }
        }
        for (path, object) in self.0.iter_mut().filter(|(_, object)| object.is(S_IFDIR)) {
            object.links = 2 + links.get(path).copied().unwrap_or_default();
        }
    }
}

/// What two trees differ in.
#[derive(Debug, Default)]
pub(super) struct Differences {
    count: usize,
    first: Vec<String>,
}

impl Differences {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn add(&mut self, difference: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < 20 {
            self.first.push(difference());
        }
    }
}

impl Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        write!(f, "{} differences, such as\n    {}", self.count, self.first.join("\n    "))
    }
}

/// Compares every object and every field.
pub(super) fn differences(expected: &Tree, seen: &Tree) -> Differences {
    let mut differences = Differences::default();
    for (path, wanted) in &expected.0 {
        match seen.0.get(path) {
            None => differences.add(|| format!("{} is missing", path.display())),
            Some(found) if found == wanted => {}
            Some(found) => {
                let pairs = wanted.fields().into_iter().zip(found.fields());
                for ((name, wanted), (_, found)) in pairs.filter(|(wanted, found)| wanted != found) {
                    differences.add(|| format!("{}: {name} is {found} instead of {wanted}", path.display()));
                }
            }
        }
    }
    for path in seen.0.keys().filter(|path| !expected.0.contains_key(*path)) {
        differences.add(|| format!("{} should not be there", path.display()));
    }
    differences
}

/// Major and minor number: 12 and 20 bits, as makedev(3) packs them.
pub(super) fn device(rdev: u64) -> (u32, u32) {
    ((rdev >> 8 & 0xfff) as u32, (rdev & 0xff | rdev >> 12 & 0xf_ff00) as u32)
}

/// SHA-256 of all that comes, in hex.
pub(super) fn sha256(source: &mut impl std::io::Read) -> Result<String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match source.read(&mut chunk)? {
            0 => return Ok(hex(&hash.finalize())),
            length => hash.update(&chunk[..length]),
        }
    }
}

/// Undoes the escapes of getfattr(1): `\` and three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal = |digits: &[u8; 3]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        let escaped = after.first_chunk().filter(|_| byte == b'\\').and_then(octal);
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(objects: &[(&str, u32, u64)]) -> Tree {
        let object = |mode| Object { mode, ..Object::default() };
        Tree::of_objects(objects.iter().map(|(path, mode, ino)| (path.into(), object(*mode), *ino)).collect())
    }

    #[test]
    fn each_kind_of_difference_is_told() {
        let expected = tree(&[("", 0o040_755, 1), ("a", 0o100_644, 2), ("b", 0o100_644, 2), ("c", 0o100_600, 3)]);
        assert!(differences(&expected, &expected.clone()).is_empty());
        let seen = tree(&[("", 0o040_755, 1), ("a", 0o100_755, 2), ("b", 0o100_644, 3), ("d", 0o100_600, 4)]);
        assert_eq!(
            differences(&expected, &seen).first,
            [
                "a: mode is 100755 instead of 100644",
                "b: first name is b instead of a",
                "c is missing",
                "d should not be there",
            ]
        );
    }

    #[test]
    fn directories_have_links_by_their_subdirectories() {
        let mut tree = tree(&[("", 0o040_755, 1), ("a", 0o040_755, 2), ("a/b", 0o040_755, 3), ("a/c", 0o100_644, 4)]);
        tree.count_directory_links();
        let links: Vec<_> = tree.0.values().map(|object| object.links).collect();
        assert_eq!(links, [3, 3, 2, 0]);
    }

    #[test]
    fn getfattrs_escapes_are_undone() {
        assert_eq!(unescape(r"a\012b\\"), Path::new("a\nb\\\\"));
    }
}
