//! Files of the host as NFS says them.

use image::Timestamp;
use rustix::fs::{FileType as HostType, Stat, major, minor};
use wire::nfs3::{FileAttr, FileType};

use crate::nfs::attributes::time;

/// Attributes of a file in the file system `fsid`.
pub(super) fn file_attr(stat: &Stat, fsid: u64) -> FileAttr {
    let at = |secs: i64, nanos| time(Timestamp { secs, nanos: u32::try_from(nanos).unwrap_or(0) });
    let kind = file_type(stat);
    let is_device = matches!(kind, FileType::BlockDevice | FileType::CharDevice);
    FileAttr {
        kind,
        mode: stat.st_mode & 0o7777,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size.cast_unsigned(),
        used: stat.st_blocks.cast_unsigned() * 512,
        rdev: if is_device { (major(stat.st_rdev), minor(stat.st_rdev)) } else { (0, 0) },
        fsid,
        fileid: stat.st_ino,
        atime: at(stat.st_atime, stat.st_atime_nsec),
        mtime: at(stat.st_mtime, stat.st_mtime_nsec),
        ctime: at(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// Type of a file.
pub(super) fn file_type(stat: &Stat) -> FileType {
    match HostType::from_raw_mode(stat.st_mode) {
        HostType::Directory => FileType::Directory,
        HostType::Symlink => FileType::Symlink,
        HostType::BlockDevice => FileType::BlockDevice,
        HostType::CharacterDevice => FileType::CharDevice,
        HostType::Fifo => FileType::Fifo,
        HostType::Socket => FileType::Socket,
        HostType::RegularFile | HostType::Unknown => FileType::Regular,
    }
}
