//! Whom a call is made for.

use rustix::io::Errno;
use sys::identity::{Identity, acting_as};
use wire::rpc::{Credential, UnixIdentity};

/// User and group of a caller who says nothing of themselves.
const NOBODY: u32 = 65_534;

/// The caller's identity on the host: the same numbers as on the node, root included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who(UnixIdentity);

impl Who {
    pub(super) fn new(credential: &Credential) -> Self {
        match credential {
            Credential::None => Self(UnixIdentity::new(NOBODY, NOBODY, &[])),
            Credential::Sys(identity) => Self(*identity),
        }
    }

    /// Runs `work` as the caller.
    pub(super) fn act<R>(&self, work: impl FnOnce() -> Result<R, Errno>) -> Result<R, Errno> {
        let identity = Identity { uid: self.0.uid, gid: self.0.gid, groups: self.0.groups() };
        match acting_as(identity, work) {
            Ok(result) => result,
            Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::PERM)),
        }
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.uid == 0
    }

    pub(super) fn owns(&self, stat: &rustix::fs::Stat) -> bool {
        self.0.uid == stat.st_uid
    }

    /// Whether the permission bits let the caller execute the file.
    pub(super) fn may_execute(&self, stat: &rustix::fs::Stat) -> bool {
        let class = match () {
            () if self.is_root() => 0o111,
            () if self.owns(stat) => 0o100,
            () if self.0.in_group(stat.st_gid) => 0o010,
            () => 0o001,
        };
        stat.st_mode & class != 0
    }
}
