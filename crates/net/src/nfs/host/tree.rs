//! The directory that holds all directories to be served, and one of those.

use std::hash::Hasher as _;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{Mode, OFlags, StatVfsMountFlags, fstat, fstatvfs, fsync, mkdirat, open, openat};
use siphasher::sip::SipHasher24;
use sys::file_handle::FileHandle;

use super::replies::Replies;

/// Locks of a directory: two files share one now and then, which costs a short wait.
const LOCKS: usize = 64;
/// Where the answers to retransmitted calls are kept, beside the directories that they belong to.
const REPLIES: &str = ".replies";

/// A place on the host's disk for directories that are served read-write.
#[derive(Debug)]
pub struct HostTree {
    /// Any file of the file system, for what is opened by handle.
    pub(super) base: OwnedFd,
    path: PathBuf,
    device: u64,
    reserve: u64,
    pub(super) verifier: AtomicU64,
    pub(super) link_max: u32,
    /// The host runs no program from there, whatever permissions say: nodes do.
    pub(super) no_exec: bool,
}

/// A directory can not be served.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// It can't be made.
    #[error("can not make directory {path}: {cause}")]
    Create {
        /// Directory.
        path: PathBuf,
        /// Reason.
        cause: io::Error,
    },
    /// It can't be opened.
    #[error("can not open directory {path}: {cause}")]
    Open {
        /// Directory.
        path: PathBuf,
        /// Reason.
        cause: io::Error,
    },
    /// Its file system has no handles, or we may not use them.
    #[error(
        "files below {path} have no handles that last ({cause}): nodes need them. The directory has to be on a file \
         system such as ext4, XFS or btrfs (not on overlay, nor in a container without CAP_DAC_READ_SEARCH)"
    )]
    Handles {
        /// Directory.
        path: PathBuf,
        /// Reason.
        cause: io::Error,
    },
    /// Another file system begins in there.
    #[error("another file system is mounted on {path}: mount it on the directory of all nodes, or nowhere below that")]
    Mounted {
        /// Directory.
        path: PathBuf,
    },
    /// The name is none for a directory.
    #[error("{0:?} can not be the name of a directory")]
    Name(String),
}

/// One part of so many of the disk's files is left for others: a node could make empty ones until there are no more.
const FILES_RESERVED: u64 = 20;
/// At least so many.
const MIN_FILES: u64 = 1000;

/// Files that are left free for others, of a disk that can hold `total`.
pub(super) fn files_reserve(total: u64) -> u64 {
    (total / FILES_RESERVED).max(MIN_FILES)
}

impl HostTree {
    /// Opens the directory, for root alone, and makes it if it is not there. `reserve` is what is left free on its disk, in
    /// bytes; `verifier` the write verifier, which no earlier start must have had. Blocks.
    ///
    /// # Errors
    /// It can't be had, or its file system can't be served.
    pub fn open(path: &Path, reserve: u64, verifier: u64) -> Result<Arc<Self>, HostError> {
        let owned = || path.to_owned();
        let mut builder = std::fs::DirBuilder::new();
        if let Err(cause) = builder.mode(0o700).create(path)
            && cause.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(HostError::Create { path: owned(), cause });
        }
        // What nodes keep there (programs that are setuid, devices) is nothing for users of this machine.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
            .map_err(|cause| HostError::Open { path: owned(), cause })?;
        let failed = |cause: rustix::io::Errno| HostError::Open { path: owned(), cause: cause.into() };
        let base = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        let handles = |cause| HostError::Handles { path: owned(), cause };
        // Tried for good: what fails here would fail at every call of every node.
        FileHandle::of(&base).map_err(handles)?.open_path(&base).map_err(handles)?;
        let device = fstat(&base).map_err(failed)?.st_dev;
        let no_exec = fstatvfs(&base).map_err(failed)?.f_flag.contains(StatVfsMountFlags::NOEXEC);
        let link_max = sys::file_handle::max_links(&base).unwrap_or(u32::MAX);
        let verifier = AtomicU64::new(verifier);
        Ok(Arc::new(Self { base, path: owned(), device, reserve, verifier, link_max, no_exec }))
    }

    /// The directory `name` of the node `node`, made if it is not there. Blocks.
    ///
    /// # Errors
    /// It can't be had.
    pub fn directory(self: &Arc<Self>, node: &str, name: &str) -> Result<Arc<HostDirectory>, HostError> {
        let of_node = self.enter(&self.base, &self.path, node, 0o700)?;
        let path = self.path.join(node);
        let own = self.enter(&of_node, &path, name, 0o755)?;
        let path = path.join(name);
        let root = FileHandle::of(&own).map_err(|cause| HostError::Handles { path: path.clone(), cause })?;
        let stat = fstat(&own).map_err(|cause| HostError::Open { path: path.clone(), cause: cause.into() })?;
        if stat.st_dev != self.device {
            return Err(HostError::Mounted { path });
        }
        // Of its name alone: the same after a restart, and for every server. (Handles say the kind of file system
        // beside it, so that an image with the same number would be no harm.)
        let mut fsid = SipHasher24::new();
        fsid.write(b"walt persist\0");
        fsid.write(node.as_bytes());
        fsid.write(b"/");
        fsid.write(name.as_bytes());
        Ok(Arc::new(HostDirectory {
            tree: Arc::clone(self),
            replies_at: self.path.join(node).join(REPLIES).join(name),
            path,
            name: name.to_owned(),
            fsid: fsid.finish(),
            root,
            root_ino: stat.st_ino,
            locks: std::array::from_fn(|_| Mutex::new(())),
            replies: OnceLock::new(),
        }))
    }

    /// Names of the directories that the node may have had when a server before us ended: those that were
    /// [marked](HostDirectory::mark) and not [let go](HostTree::let_go). Blocks.
    pub fn in_use(&self, node: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path.join(node).join(REPLIES));
        let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name().into_string());
        names.filter_map(Result::ok).collect()
    }

    /// The node has this directory no more: what was kept for calls that it might have sent again is removed. Blocks.
    pub fn let_go(&self, node: &str, name: &str) {
        let path = self.path.join(node).join(REPLIES).join(name);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "can not remove what was kept of answers");
        }
    }

    /// Whether `bytes` more may be written, without touching the reserve.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        let stat = fstatvfs(&self.base);
        stat.is_ok_and(|stat| {
            let bytes_left = stat.f_bavail.saturating_mul(stat.f_frsize) >= self.reserve.saturating_add(bytes);
            // Some file systems have no fixed number of files, and say 0.
            let files_left = stat.f_files == 0 || stat.f_favail >= files_reserve(stat.f_files);
            bytes_left && files_left
        })
    }

    /// Bytes that are left free for others.
    pub(super) fn reserve(&self) -> u64 {
        self.reserve
    }

    fn enter(&self, parent: &OwnedFd, path: &Path, name: &str, mode: u32) -> Result<OwnedFd, HostError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.:".contains(&b);
        if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.bytes().all(plain) {
            return Err(HostError::Name(name.to_owned()));
        }
        let failed = |cause: rustix::io::Errno| HostError::Create { path: path.join(name), cause: cause.into() };
        match mkdirat(parent, name, Mode::from_raw_mode(mode)) {
            // Made, and there after a power cut, before anybody puts something in it.
            Ok(()) => fsync(parent).map_err(failed)?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(parent, name, flags, Mode::empty())
            .map_err(|cause| HostError::Open { path: path.join(name), cause: cause.into() })
    }
}

/// One directory that is served to one node.
#[derive(Debug)]
pub struct HostDirectory {
    pub(super) tree: Arc<HostTree>,
    path: PathBuf,
    name: String,
    fsid: u64,
    root: FileHandle,
    pub(super) root_ino: u64,
    locks: [Mutex<()>; LOCKS],
    replies: OnceLock<Option<Replies>>,
    replies_at: PathBuf,
}

impl HostDirectory {
    /// Number of it as a file system.
    pub fn fsid(&self) -> u64 {
        self.fsid
    }

    /// Its name: that of the user whom it is for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is on the host.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node may have it, also for the server after us: see [`HostTree::in_use`]. Blocks.
    pub fn mark(&self) {
        self.replies();
    }

    /// Handle of the directory itself.
    pub(in crate::nfs) fn root(&self) -> super::HostHandle {
        super::HostHandle { fsid: self.fsid, file: self.root }
    }

    /// The answers that were given, or `None` if they can't be kept: then a call sent again is done again.
    pub(super) fn replies(&self) -> Option<&Replies> {
        let open = || match Replies::open(&self.replies_at) {
            Ok(replies) => Some(replies),
            Err(error) => {
                tracing::error!(path = %self.replies_at.display(), %error, "can not keep answers for calls sent again");
                None
            }
        };
        self.replies.get_or_init(open).as_ref()
    }

    /// Keeps others from changing these two files (which may be the same): so that what is seen before and after a change
    /// shows this change and no other. Held over the change itself, as the kernel holds its own lock of the inode, and not
    /// while waiting for the disk.
    pub(super) fn lock(&self, one: u64, other: u64) -> Locked<'_> {
        let index = |ino: u64| usize::try_from(ino % LOCKS as u64).unwrap_or(0);
        let (first, second) = (index(one).min(index(other)), index(one).max(index(other)));
        // Nothing but system calls is done under them.
        let take = |at: usize| self.locks[at].lock().unwrap_or_else(PoisonError::into_inner);
        Locked { _first: take(first), _second: (first != second).then(|| take(second)) }
    }

    /// A verifier that tells clients to send again what was not committed: the disk has failed us.
    pub(super) fn lose_unstable(&self) {
        self.tree.verifier.fetch_add(1, Relaxed);
    }
}

/// Holds the locks of two files.
pub(super) struct Locked<'a> {
    _first: MutexGuard<'a, ()>,
    _second: Option<MutexGuard<'a, ()>>,
}
