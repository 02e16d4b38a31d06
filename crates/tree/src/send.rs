//! A file or a directory into a tar.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use wire::tar::{Entry, Kind};

use crate::News;
use crate::stream::{Missing, TarStream};

/// Why nothing, or not all, was sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// What is to be sent is not there, or can not be read.
    #[error("can not read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Reason.
        cause: io::Error,
    },
    /// The receiver has gone.
    #[error("the other end takes no more: {0}")]
    Write(io::Error),
}

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sent {
    /// Files, directories and symlinks.
    pub files: u64,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

/// Most complaints that are kept.
const MOST_COMPLAINTS: usize = 100;

/// Bytes of content below `source`.
pub fn total(source: &Path) -> u64 {
    let Ok(metadata) = fs::metadata(source) else { return 0 };
    if !metadata.is_dir() {
        return if metadata.is_file() { metadata.len() } else { 0 };
    }
    let (mut sum, mut directories) = (0u64, vec![source.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                Ok(metadata) if metadata.is_file() => sum = sum.saturating_add(metadata.len()),
                _ => {}
            }
        }
    }
    sum
}

/// Writes the file or directory `source`, under its last name, with modes and times. Symlinks below it are sent as
/// symlinks. What can not be read, and what is neither file, nor directory, nor symlink, is left out and told.
///
/// # Errors
/// Nothing is there, or a file became shorter while it was read: the tar has no end then, and the receiver knows.
pub fn send(source: &Path, out: impl Write, mut news: impl FnMut(News)) -> Result<Sent, SendError> {
    let read = |cause| SendError::Read { path: source.to_owned(), cause };
    // What is named may be a symlink, and is meant to be what that leads to; its own name is what it is called.
    let metadata = fs::metadata(source).map_err(read)?;
    let name = match source.file_name() {
        Some(name) => name.as_bytes().to_vec(),
        // `.` and `..`.
        None => {
            let real = fs::canonicalize(source).map_err(read)?;
            real.file_name().map_or_else(|| b"root".to_vec(), |name| name.as_bytes().to_vec())
        }
    };
    let mut sending = Sending { tar: TarStream::new(out), sent: Sent::default(), news: &mut news };
    let bytes = total(source);
    (sending.news)(News::Total(bytes));
    sending.tar.total(bytes).map_err(SendError::Write)?;
    sending.object(source, &name, &metadata)?;
    if sending.sent.files == 0 {
        let why = sending.sent.left_out.pop().unwrap_or_default();
        return Err(read(io::Error::other(why)));
    }
    let Sending { tar, sent, .. } = sending;
    tar.end().map_err(SendError::Write)?;
    Ok(sent)
}

struct Sending<'a, W> {
    tar: TarStream<W>,
    sent: Sent,
    news: &'a mut dyn FnMut(News),
}

impl<W: Write> Sending<'_, W> {
    fn object(&mut self, path: &Path, name: &[u8], metadata: &Metadata) -> Result<(), SendError> {
        let kind = metadata.file_type();
        let entry = |kind| Entry {
            path: name,
            kind,
            mode: metadata.mode() & 0o7777,
            uid: 0,
            gid: 0,
            // Below 10^9.
            mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
            xattrs: &[],
        };
        if kind.is_dir() {
            let names = match children(path) {
                Ok(names) => names,
                Err(cause) => return self.leave_out(path, &cause.to_string()),
            };
            self.entry(&entry(Kind::Directory))?;
            for child in names {
                let below = path.join(&child);
                let name = [name, b"/", child.as_bytes()].concat();
                match fs::symlink_metadata(&below) {
                    Ok(metadata) => self.object(&below, &name, &metadata)?,
                    Err(cause) => self.leave_out(&below, &cause.to_string())?,
                }
            }
            return Ok(());
        }
        if kind.is_symlink() {
            return match fs::read_link(path) {
                Ok(target) => self.entry(&entry(Kind::Symlink(target.as_os_str().as_bytes()))),
                Err(cause) => self.leave_out(path, &cause.to_string()),
            };
        }
        if !kind.is_file() {
            let what = match kind {
                kind if kind.is_fifo() => "a named pipe",
                kind if kind.is_socket() => "a socket",
                _ => "a device",
            };
            return self.leave_out(path, &format!("it is {what}"));
        }
        // A name may have become a pipe meanwhile, which must not hold us up.
        let opened = open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (now, mut file) = match opened {
            Ok((now, file)) if now.is_file() => (now, file),
            Ok(_) => return self.leave_out(path, "it is no file any more"),
            Err(cause) => return self.leave_out(path, &cause.to_string()),
        };
        let size = now.len();
        self.entry(&entry(Kind::File { size }))?;
        let news = &mut self.news;
        let moved = self.tar.content(&mut file, size, Missing::Fails, |bytes| news(News::Bytes(bytes)));
        moved.map_err(|cause| match cause.kind() {
            io::ErrorKind::BrokenPipe => SendError::Write(cause),
            _ => SendError::Read { path: path.to_owned(), cause },
        })?;
        self.tar.pad(size).map_err(SendError::Write)
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), SendError> {
        self.sent.files += 1;
        self.tar.entry(entry).map_err(SendError::Write)
    }

    fn leave_out(&mut self, path: &Path, why: &str) -> Result<(), SendError> {
        if self.sent.left_out.len() < MOST_COMPLAINTS {
            self.sent.left_out.push(format!("{}: {why}", path.display()));
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    // The bits are those of open(2), which takes an int. The name at the top may be a symlink.
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)
}

/// Names in a directory, in an order that is always the same.
fn children(path: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
