//! A file, open by its path alone.

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{
    Access, AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat, StatxFlags, accessat, fstat, open, openat2, statx,
};
use rustix::io::Errno;
use wire::nfs3::FileType;

use super::attributes::file_type;

/// Nothing but a name in this very directory: no mount point, no symlink, no way out.
const PLAIN: ResolveFlags = ResolveFlags::NO_XDEV.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A file and what it was like when it was opened.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) fd: OwnedFd,
    pub(super) stat: Stat,
}

impl Object {
    pub(super) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        Ok(Self { stat: fstat(&fd)?, fd })
    }

    /// The file of this name in a directory; a symlink is that itself. As whoever the thread acts for, who must be allowed
    /// to search the directory.
    pub(super) fn at(dir: &OwnedFd, name: impl rustix::path::Arg) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self::new(openat2(dir, name, flags, Mode::empty(), PLAIN)?)
    }

    pub(super) fn kind(&self) -> FileType {
        file_type(&self.stat)
    }

    pub(super) fn is_regular(&self) -> bool {
        self.kind() == FileType::Regular
    }

    /// When it was last changed in any way.
    pub(super) fn changed(&self) -> (i64, u64) {
        (self.stat.st_ctime, self.stat.st_ctime_nsec)
    }

    /// When it was made; where the file system does not say, when it was last changed.
    pub(super) fn made(&self) -> (i64, u64) {
        match statx(&self.fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME) {
            Ok(stat) if StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME) => {
                (stat.stx_btime.tv_sec, u64::from(stat.stx_btime.tv_nsec))
            }
            _ => self.changed(),
        }
    }

    /// Opens the file itself, as whoever the thread acts for. Not for devices and pipes: to open them is to use them.
    pub(super) fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        if !matches!(self.kind(), FileType::Regular | FileType::Directory) {
            return Err(Errno::INVAL);
        }
        open(self.path(), flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK, Mode::empty())
    }

    /// Whether whoever the thread acts for may do this.
    pub(super) fn allows(&self, access: Access) -> bool {
        accessat(CWD, self.path(), access, AtFlags::EACCESS).is_ok()
    }

    /// A path that leads to this very file and nowhere else, as long as it is open (proc(5): a "magic link").
    pub(super) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }
}
