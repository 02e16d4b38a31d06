//! A view against a real directory tree.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use walt_image::{FileKind, View};

use crate::stacked::{content, walk};

/// What the tree's origin can be expected to have kept.
#[derive(Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) nanoseconds: bool,
    pub(crate) xattrs: bool,
}

/// Asserts that both have the same paths, and the same of each: kind, mode, owner, times, size,
/// content, link target, device numbers, hard links, extended attributes. Gives their number.
pub(crate) fn assert_same(view: &View, root: &Path, kept: Kept) -> usize {
    let mut paths = Vec::new();
    list(root, b"", &mut paths);
    paths.sort();
    let mut ours = Vec::new();
    walk(view, &mut |path, ino| ours.push((path.to_vec(), ino)));
    ours.sort();
    let names: Vec<_> = ours.iter().map(|(path, _)| String::from_utf8_lossy(path)).collect();
    let theirs: Vec<_> = paths.iter().map(|path| String::from_utf8_lossy(path)).collect();
    assert!(names == theirs, "other paths: {:?}", difference(&names, &theirs));

    let mut hard_links = HashMap::new();
    for (path, ino) in &ours {
        let attr = view.attr(*ino).unwrap();
        let real = root.join(std::ffi::OsStr::from_bytes(path));
        let meta = fs::symlink_metadata(&real).unwrap();
        let name = real.display();
        assert_eq!(attr.kind, kind(meta.file_type()), "{name}");
        if attr.kind != FileKind::Symlink {
            assert_eq!(attr.mode, meta.mode() & 0o7777, "mode of {name}");
        }
        assert_eq!((attr.uid, attr.gid), (meta.uid(), meta.gid()), "owner of {name}");
        assert_eq!(attr.mtime.secs, meta.mtime(), "time of {name}");
        if kept.nanoseconds {
            assert_eq!(i64::from(attr.mtime.nanos), meta.mtime_nsec(), "nanoseconds of {name}");
        }
        match attr.kind {
            FileKind::Regular => {
                assert_eq!(attr.size, meta.size(), "size of {name}");
                assert!(content(view, *ino) == fs::read(&real).unwrap(), "content of {name}");
            }
            FileKind::Symlink => {
                let target = fs::read_link(&real).unwrap();
                assert_eq!(view.readlink(*ino), Some(target.as_os_str().as_bytes()), "target of {name}");
                assert_eq!(attr.size, meta.size(), "size of {name}");
            }
            FileKind::BlockDevice | FileKind::CharDevice => {
                assert_eq!(attr.rdev, device(meta.rdev()), "device numbers of {name}");
            }
            _ => {}
        }
        // btrfs and overlayfs count the links of directories otherwise.
        if attr.kind != FileKind::Directory {
            assert_eq!(u64::from(attr.nlink), meta.nlink(), "links of {name}");
            assert_eq!(*hard_links.entry(meta.ino()).or_insert(*ino), *ino, "hard link {name}");
        }
        if kept.xattrs && matches!(attr.kind, FileKind::Regular | FileKind::Directory) {
            let mut ours: Vec<_> = view.xattrs(*ino).iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
            ours.sort();
            assert_eq!(ours, xattrs(&real), "attributes of {name}");
        }
    }
    ours.len()
}

fn list(directory: &Path, prefix: &[u8], paths: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let path = [prefix, if prefix.is_empty() { &b""[..] } else { b"/" }, entry.file_name().as_bytes()].concat();
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), &path, paths);
        }
        paths.push(path);
    }
}

fn difference<'a, T: PartialEq>(a: &'a [T], b: &'a [T]) -> Vec<&'a T> {
    let mut only: Vec<_> = a.iter().filter(|x| !b.contains(x)).collect();
    only.extend(b.iter().filter(|x| !a.contains(x)));
    only.truncate(20);
    only
}

fn kind(file_type: fs::FileType) -> FileKind {
    match file_type {
        t if t.is_dir() => FileKind::Directory,
        t if t.is_symlink() => FileKind::Symlink,
        t if t.is_block_device() => FileKind::BlockDevice,
        t if t.is_char_device() => FileKind::CharDevice,
        t if t.is_fifo() => FileKind::Fifo,
        t if t.is_socket() => FileKind::Socket,
        _ => FileKind::Regular,
    }
}

/// glibc's `gnu_dev_major` and `gnu_dev_minor`, for the 12 + 20 bits that Linux has.
fn device(rdev: u64) -> (u32, u32) {
    (u32::try_from(rdev >> 8 & 0xfff).unwrap(), u32::try_from(rdev & 0xff | rdev >> 12 & 0xf_ff00).unwrap())
}

/// `user.*` and `security.capability`; others depend on the machine that the test runs on.
fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let output = Command::new("getfattr")
        .args(["--absolute-names", "-h", "-d", "-m", "^(user|security.capability)", "-e", "hex"])
        .arg(path)
        .output()
        .unwrap_or_else(|e| panic!("getfattr (package attr) is needed: {e}"));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| {
            let digits = value.strip_prefix("0x").unwrap_or_default().as_bytes();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            (name.as_bytes().to_vec(), digits.chunks(2).map(byte).collect())
        })
        .collect();
    found.sort();
    found
}
