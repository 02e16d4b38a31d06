//! What the host's kernel says, as NFS says it.

use rustix::io::Errno;
use wire::nfs3::Status;

/// The status for an error of a system call.
pub(super) fn of_errno(error: Errno) -> Status {
    match error {
        Errno::PERM => Status::NotPermitted,
        Errno::NOENT => Status::NotFound,
        Errno::ACCESS => Status::Access,
        Errno::EXIST => Status::Exists,
        Errno::XDEV => Status::OtherFilesystem,
        Errno::NOTDIR => Status::NotDirectory,
        Errno::ISDIR => Status::IsDirectory,
        Errno::INVAL | Errno::BUSY | Errno::OVERFLOW | Errno::LOOP => Status::Invalid,
        Errno::FBIG => Status::TooBig,
        Errno::NOSPC => Status::NoSpace,
        Errno::ROFS => Status::ReadOnly,
        Errno::MLINK => Status::TooManyLinks,
        Errno::NAMETOOLONG => Status::NameTooLong,
        Errno::NOTEMPTY => Status::NotEmpty,
        Errno::DQUOT => Status::Quota,
        Errno::STALE => Status::Stale,
        Errno::OPNOTSUPP => Status::NotSupported,
        _ => Status::Io,
    }
}
