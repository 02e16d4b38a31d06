//! `walt-changes`: what has changed on the node since it was booted, as one layer of an OCI image, on standard output.
//!
//! The source is the upper layer of the union, which has no name any more: the net service holds it open as its standard
//! output, and `/proc/<pid>/fd/1` leads there. What a file there does not hold itself (a directory that was renamed, an
//! inode without its content) is read from `/`, where it is whole.

mod skipped;
mod source;

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, major, minor};
use tree::{Missing, TarStream};
use wire::tar::{Entry, Kind};

use crate::failure::{Doing as _, Failure};
use crate::options::Options;

/// `argv[0]` of the process that holds the upper layer open.
pub(crate) const NET_SERVICE: &str = "@walt-net-service";

const NAME: &str = "walt-changes";

/// Bytes written at once.
const PIECE: usize = 256 * 1024;

/// A file with fewer bytes of holes is written whole.
const WORTHWHILE_HOLES: u64 = 64 * 1024;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let write = || -> Result<(), Failure> {
        Options::new(arguments)?.end()?;
        let upper = source::upper_layer()?;
        let root = rustix::fs::open("/", DIRECTORY, Mode::empty()).doing(|| "open /".into())?;
        let out = TarStream::new(BufWriter::with_capacity(PIECE, io::stdout().lock()));
        let mut changes = Changes { out, links: HashMap::new(), root };
        changes.upper(&upper, b"")?;
        changes.out.end().and_then(|mut out| out.flush()).doing(|| "write the end".into())
    };
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{NAME}: {failure}");
            ExitCode::FAILURE
        }
    }
}

struct Changes<W> {
    out: TarStream<W>,
    /// Files with several names: where they stand in the tar, by the file system's and their own number.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// The union.
    root: OwnedFd,
}

impl<W: io::Write> Changes<W> {
    /// All that is in a directory of the upper layer.
    fn upper(&mut self, directory: &OwnedFd, path: &[u8]) -> Result<(), Failure> {
        for name in source::names(directory).doing(|| format!("read the changes in /{}", shown(path)))? {
            let below = join(path, name.to_bytes());
            if skipped::is_skipped(&below) {
                continue;
            }
            // It may have been removed just now.
            let Ok(stat) = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                // Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
                FileType::CharacterDevice if stat.st_rdev == 0 => self.hide(&join(path, b".wh."), name.to_bytes())?,
                FileType::Directory => {
                    let Ok(opened) = rustix::fs::openat(directory, &name, DIRECTORY, Mode::empty()) else { continue };
                    let attribute = |name| source::attribute(&opened, name);
                    if attribute(c"trusted.overlay.redirect").is_some() {
                        // It was renamed: here is only what has changed in it.
                        self.merged(&below)?;
                        continue;
                    }
                    self.directory(&opened, &below, &stat)?;
                    if attribute(c"trusted.overlay.opaque").as_deref() == Some(b"y") {
                        self.hide(&join(&below, b".wh..wh..opq"), b"")?;
                    }
                    self.upper(&opened, &below)?;
                }
                FileType::RegularFile if source::has_attribute_at(directory, &name, c"trusted.overlay.metacopy") => {
                    self.merged(&below)?;
                }
                _ => self.object(directory, &name, &below, &stat)?,
            }
        }
        Ok(())
    }

    /// What the union shows at `path`: a file, or a directory with all that is in it, in the place of what is there in the
    /// image.
    fn merged(&mut self, path: &[u8]) -> Result<(), Failure> {
        let (directory, name) = match source::resolve(&self.root, path) {
            Ok(found) => found,
            // Removed or renamed just now.
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return self.warn(path, &format!("is left out: {error}")),
        };
        self.whole(&directory, &name, path)
    }

    fn whole(&mut self, parent: &OwnedFd, name: &CStr, path: &[u8]) -> Result<(), Failure> {
        let Ok(stat) = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return self.object(parent, name, path, &stat);
        }
        let Ok(opened) = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) else { return Ok(()) };
        self.directory(&opened, path, &stat)?;
        self.hide(&join(path, b".wh..wh..opq"), b"")?;
        // What is mounted in it is none of the image.
        let device = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| stat.st_dev);
        if device(&opened) != device(&self.root) {
            return Ok(());
        }
        for name in source::names(&opened).doing(|| format!("read /{}", shown(path)))? {
            let below = join(path, name.to_bytes());
            if !skipped::is_skipped(&below) {
                self.whole(&opened, &name, &below)?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, opened: &OwnedFd, path: &[u8], stat: &Stat) -> Result<(), Failure> {
        self.entry(path, Kind::Directory, stat, &source::attributes(opened))
    }

    /// An empty file that hides something of the layers below.
    fn hide(&mut self, path: &[u8], name: &[u8]) -> Result<(), Failure> {
        let path = [path, name].concat();
        let entry = Entry {
            path: &path,
            kind: Kind::File { size: 0 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            xattrs: &[],
        };
        self.out.entry(&entry).doing(|| format!("write {}", shown(&path)))
    }

    /// Anything but a directory.
    fn object(&mut self, directory: &OwnedFd, name: &CStr, path: &[u8], stat: &Stat) -> Result<(), Failure> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        // Numbers of one file system each: those of the union and of its upper layer differ.
        let number = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 && kind != FileType::Socket {
            if let Some(first) = self.links.get(&number).cloned() {
                return self.entry(path, Kind::HardLink(&first), stat, &[]);
            }
            self.links.insert(number, path.to_vec());
        }
        match kind {
            FileType::RegularFile => self.file(directory, name, path),
            FileType::Symlink => match rustix::fs::readlinkat(directory, name, Vec::new()) {
                Ok(target) => self.entry(path, Kind::Symlink(target.to_bytes()), stat, &[]),
                Err(_) => Ok(()),
            },
            FileType::CharacterDevice | FileType::BlockDevice => {
                let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
                let is_block = kind == FileType::BlockDevice;
                let kind = if is_block { Kind::BlockDevice(major, minor) } else { Kind::CharDevice(major, minor) };
                self.entry(path, kind, stat, &[])
            }
            FileType::Fifo => self.entry(path, Kind::Fifo, stat, &[]),
            // A socket is nothing without the process that listens on it.
            _ => Ok(()),
        }
    }

    fn file(&mut self, directory: &OwnedFd, name: &CStr, path: &[u8]) -> Result<(), Failure> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return self.warn(path, &format!("is left out: {error}")),
        };
        let stat = rustix::fs::fstat(&file).doing(|| format!("look at {}", shown(path)))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let attributes = source::attributes(&file);
        let on_disk = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let runs = if on_disk.saturating_add(WORTHWHILE_HOLES) < size { source::runs(&file, size) } else { None };
        let kind = match &runs {
            Some(runs) => Kind::Sparse { size, runs },
            None => Kind::File { size },
        };
        self.entry(path, kind, &stat, &attributes)?;
        let whole = [(0, size)];
        let mut short = 0;
        for &(offset, len) in runs.as_deref().unwrap_or(&whole) {
            rustix::fs::seek(&file, SeekFrom::Start(offset)).doing(|| format!("read {}", shown(path)))?;
            let content = self.out.content(&mut file, len, Missing::IsZeros, |_| ());
            short += content.doing(|| format!("write the content of {}", shown(path)))?;
        }
        self.out.pad(kind.content()).doing(|| format!("write {}", shown(path)))?;
        let now = file.metadata().map_or(size, |metadata| metadata.len());
        if short > 0 || now != size {
            self.warn(
                path,
                &format!("has changed while it was read: {size} bytes are saved, of which {short} are zeros"),
            )?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &[u8], kind: Kind<'_>, stat: &Stat, xattrs: &[source::Attribute]) -> Result<(), Failure> {
        let entry = Entry {
            path,
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: source::modified(stat),
            xattrs,
        };
        self.out.entry(&entry).doing(|| format!("write {}", shown(path)))
    }

    fn warn(&self, path: &[u8], what: &str) -> Result<(), Failure> {
        eprintln!("/{} {what}", shown(path));
        Ok(())
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}
