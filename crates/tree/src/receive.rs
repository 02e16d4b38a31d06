//! Out of a tar, into a directory. The sender may be hostile: a node belongs to whoever is root on it.
//!
//! * Every name is looked up one component after the other, from a directory that is open, and never through a symlink:
//!   neither one that came in the tar nor one that somebody puts there meanwhile.
//! * A file is written under another name and gets its own when it is whole.
//! * Devices are not made, and not written to. Owners are not taken over; set-id bits only where [`Keep`] says so.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawMode, Timespec, Timestamps};
use wire::tar::{BLOCK, Decoder, Member, MemberKind, Next, TarError, padding};

use crate::News;

/// Bytes of content that are moved at once.
const PIECE: usize = 128 * 1024;

/// Permission bits that are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Those for reading, writing and executing: a node's programs are not to run with the rights of a user of the
    /// server.
    Permissions,
    /// Set-user-id, set-group-id and sticky, too.
    All,
}

/// Why not all was received. What was received until then is there; of a file that was under way, nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The sender's data end in the middle, or can not be read.
    #[error("what was sent ends too early")]
    Truncated,
    /// They can not be read.
    #[error("can not read what was sent: {0}")]
    Read(io::Error),
    /// They make no sense, or are refused.
    #[error("what was sent is refused: {0}")]
    Tar(TarError),
    /// Nothing was sent.
    #[error("nothing was sent")]
    Nothing,
    /// The files do not belong together.
    #[error("what was sent is refused: {0:?} is not below what was asked for")]
    Stray(String),
    /// A file can not be made.
    #[error("can not {doing} {}: {cause}", path.display())]
    Write {
        /// Verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Reason.
        cause: io::Error,
    },
}

impl From<TarError> for ReceiveError {
    // Not as its source: the message has it already.
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}

/// Receives what [`send`](crate::send()) wrote. If `destination` is a directory, what comes is put into it under its own
/// name, otherwise it gets that name. Gives back the number of files, directories and symlinks.
///
/// `asked_for` is the name that it must have at the sender's: a sender who may choose it would write a `.bashrc` where
/// somebody has asked for something else (CVE-2019-6111 was such a fault of scp's). `None` trusts the sender with it.
///
/// # Errors
/// See [`ReceiveError`].
pub fn receive(
    mut input: impl Read,
    destination: &Path,
    asked_for: Option<&OsStr>,
    keep: Keep,
    mut news: impl FnMut(News),
) -> Result<u64, ReceiveError> {
    let mut decoder = Decoder::default();
    let mut target: Option<Target> = None;
    let mut files = 0;
    loop {
        let mut block = [0; BLOCK];
        fill(&mut input, &mut block)?;
        match decoder.header(&block)? {
            Next::Records { len } => {
                let mut records = vec![0; len + padding(len as u64)];
                fill(&mut input, &mut records)?;
                decoder.records(&records[..len])?.into_iter().for_each(|total| news(News::Total(total)));
            }
            Next::Member(member) => {
                let target = match &mut target {
                    Some(target) => target,
                    target => target.insert(Target::find(destination, asked_for, &member, keep)?),
                };
                target.add(member, &mut input, &mut news)?;
                files += 1;
            }
            Next::Ending => {}
            Next::End => break,
        }
    }
    target.ok_or(ReceiveError::Nothing)?.finish()?;
    Ok(files)
}

fn fill(input: &mut impl Read, bytes: &mut [u8]) -> Result<(), ReceiveError> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ReceiveError::Truncated,
        _ => ReceiveError::Read(error),
    })
}

/// Where the files go.
struct Target {
    keep: Keep,
    /// Directory in which the first one is, and its path, for messages.
    parent: OwnedFd,
    path: PathBuf,
    /// What the first one is called in the tar, and what here.
    sent_as: Vec<u8>,
    name: OsString,
    /// The directory that was opened last: its components below `parent`.
    last: Option<(Vec<OsString>, OwnedFd)>,
    /// Directories that were made, with what they get when all is in them.
    made: Vec<(Vec<OsString>, Mode, Timestamps)>,
}

impl Target {
    fn find(destination: &Path, asked_for: Option<&OsStr>, first: &Member, keep: Keep) -> Result<Self, ReceiveError> {
        let failed = |doing, cause| ReceiveError::Write { doing, path: destination.to_owned(), cause };
        let sent_as = first.path[0].clone();
        if let Some(other) = asked_for.filter(|name| name.as_bytes() != sent_as) {
            return Err(ReceiveError::Stray(other.as_bytes().escape_ascii().to_string()));
        }
        let is_directory = fs::metadata(destination).map(|metadata| metadata.is_dir());
        let wants_directory = destination.as_os_str().as_bytes().ends_with(b"/");
        let (path, name) = match is_directory {
            Ok(true) => (destination.to_owned(), OsString::from_vec(sent_as.clone())),
            _ if wants_directory && first.kind != MemberKind::Directory => {
                return Err(failed("write to", io::Error::new(io::ErrorKind::NotADirectory, "it is no directory")));
            }
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed("find", cause)),
            _ => {
                let name = destination.file_name().ok_or_else(|| failed("write to", io::ErrorKind::NotFound.into()))?;
                let parent = destination.parent().filter(|parent| !parent.as_os_str().is_empty());
                (parent.unwrap_or(Path::new(".")).to_owned(), name.to_owned())
            }
        };
        let parent = rustix::fs::openat(CWD, &path, DIRECTORY, Mode::empty());
        let parent =
            parent.map_err(|cause| ReceiveError::Write { doing: "open", path: path.clone(), cause: cause.into() })?;
        Ok(Self { keep, parent, path, sent_as, name, last: None, made: Vec::new() })
    }

    fn add(&mut self, member: Member, input: &mut impl Read, news: &mut impl FnMut(News)) -> Result<(), ReceiveError> {
        let mut sent = member.path.into_iter();
        if sent.next().as_ref() != Some(&self.sent_as) {
            return Err(ReceiveError::Stray(self.sent_as.escape_ascii().to_string()));
        }
        let mut below: Vec<OsString> = vec![self.name.clone()];
        below.extend(sent.map(OsString::from_vec));
        // At least the one put there above.
        let name = below.pop().unwrap_or_default();
        let path = self.path_of(&below).join(&name);
        let failed = |doing| {
            let path = path.clone();
            move |cause: rustix::io::Errno| ReceiveError::Write { doing, path, cause: cause.into() }
        };
        let bits = if self.keep == Keep::All { 0o7777 } else { 0o777 };
        let mode = Mode::from_raw_mode(RawMode::from(member.mode & bits));
        let modified = Timespec { tv_sec: member.mtime.0, tv_nsec: member.mtime.1.into() };
        let times = Timestamps { last_access: modified, last_modification: modified };
        let keep_directory = self.last.as_ref().is_none_or(|(last, _)| *last != below);
        if keep_directory {
            let opened = self.open(&below)?;
            self.last = Some((below.clone(), opened));
        }
        let Some((_, parent)) = &self.last else { return Err(ReceiveError::Nothing) };
        match member.kind {
            MemberKind::Directory => {
                match rustix::fs::mkdirat(parent, &name, Mode::RWXU) {
                    Ok(()) => {
                        below.push(name);
                        self.made.push((below, mode, times));
                    }
                    // Of a directory that was there, mode and time are its owner's.
                    Err(rustix::io::Errno::EXIST) => {
                        rustix::fs::openat(parent, &name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
                            .map_err(failed("write a directory in the place of"))?;
                    }
                    Err(error) => return Err(failed("make")(error)),
                }
                Ok(())
            }
            MemberKind::Symlink(to) => {
                replaceable(parent, &name).map_err(failed("replace"))?;
                let partial = Partial::name(parent);
                rustix::fs::symlinkat(OsStr::from_bytes(&to), parent, &partial.name).map_err(failed("make"))?;
                rustix::fs::utimensat(parent, &partial.name, &times, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(failed("set the time of"))?;
                partial.publish(&name).map_err(failed("make"))
            }
            MemberKind::File { size } => {
                replaceable(parent, &name).map_err(failed("replace"))?;
                let partial = Partial::name(parent);
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(parent, &partial.name, flags, Mode::RUSR | Mode::WUSR);
                let mut file = File::from(file.map_err(failed("make"))?);
                let mut piece = vec![0; PIECE];
                let mut left = size;
                while left > 0 {
                    let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                    fill(input, &mut piece[..most])?;
                    file.write_all(&piece[..most]).map_err(|cause| ReceiveError::Write {
                        doing: "write",
                        path: path.clone(),
                        cause,
                    })?;
                    left -= most as u64;
                    news(News::Bytes(most as u64));
                }
                fill(input, &mut piece[..padding(size)])?;
                rustix::fs::fchmod(&file, mode).map_err(failed("set the mode of"))?;
                rustix::fs::futimens(&file, &times).map_err(failed("set the time of"))?;
                partial.publish(&name).map_err(failed("write"))
            }
        }
    }

    /// Directories get mode and time once nothing more is put into them.
    fn finish(self) -> Result<(), ReceiveError> {
        for (below, mode, times) in self.made.iter().rev() {
            let failed = |cause: rustix::io::Errno| ReceiveError::Write {
                doing: "set the mode of",
                path: self.path_of(below),
                cause: cause.into(),
            };
            let directory = self.open(below)?;
            rustix::fs::futimens(&directory, times)
                .and_then(|()| rustix::fs::fchmod(&directory, *mode))
                .map_err(failed)?;
        }
        Ok(())
    }

    /// The directory of these names, without following a symlink on the way.
    fn open(&self, below: &[OsString]) -> Result<OwnedFd, ReceiveError> {
        let open = |at: &OwnedFd, name: &OsStr| {
            rustix::fs::openat(at, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
                .map_err(|cause| ReceiveError::Write { doing: "open", path: self.path_of(below), cause: cause.into() })
        };
        let mut directory = open(&self.parent, OsStr::new("."))?;
        for name in below {
            directory = open(&directory, name)?;
        }
        Ok(directory)
    }

    fn path_of(&self, below: &[OsString]) -> PathBuf {
        below.iter().fold(self.path.clone(), |path, name| path.join(name))
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Nothing is put in the place of a device, a pipe or a socket.
fn replaceable(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink => Ok(()),
            FileType::Directory => Err(rustix::io::Errno::ISDIR),
            _ => Err(rustix::io::Errno::NODEV),
        },
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A name for a file that is not whole; removed unless it is published.
struct Partial<'a> {
    parent: &'a OwnedFd,
    name: String,
    published: bool,
}

impl<'a> Partial<'a> {
    fn name(parent: &'a OwnedFd) -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { parent, name: format!(".walt-partial-{}-{number}", std::process::id()), published: false }
    }

    fn publish(mut self, name: &OsStr) -> rustix::io::Result<()> {
        rustix::fs::renameat(self.parent, &self.name, self.parent, name)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        if !self.published {
            // It may never have been made.
            let _ = rustix::fs::unlinkat(self.parent, &self.name, AtFlags::empty());
        }
    }
}
