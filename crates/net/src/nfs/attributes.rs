//! Inode records as NFS says them.

use image::{Attr, FileKind, Timestamp};
use wire::nfs3::{FileAttr, FileType, Time};

/// Attributes of an inode of the file system `fsid`.
pub(super) fn file_attr(attr: &Attr, fsid: u64) -> FileAttr {
    let time = time(attr.mtime);
    FileAttr {
        kind: file_type(attr.kind),
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        size: attr.size,
        used: attr.size.div_ceil(4096).saturating_mul(4096),
        rdev: attr.rdev,
        fsid,
        fileid: attr.ino,
        // The content never changes, so nothing but the modification time has happened to it.
        atime: time,
        mtime: time,
        ctime: time,
    }
}

fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::Regular,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::Fifo => FileType::Fifo,
        FileKind::Socket => FileType::Socket,
    }
}

/// RFC 1813 §2.5 `nfstime3` has unsigned 32-bit seconds: what is before 1970 or after 2106 is moved there.
pub(super) fn time(time: Timestamp) -> Time {
    match u32::try_from(time.secs) {
        Ok(seconds) => Time { seconds, nanos: time.nanos },
        Err(_) if time.secs < 0 => Time::default(),
        Err(_) => Time { seconds: u32::MAX, nanos: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_beyond_nfs_are_clamped() {
        assert_eq!(time(Timestamp { secs: -5, nanos: 9 }), Time::default());
        assert_eq!(time(Timestamp { secs: 1 << 33, nanos: 9 }), Time { seconds: u32::MAX, nanos: 0 });
        assert_eq!(time(Timestamp { secs: 3_000_000_000, nanos: 9 }), Time { seconds: 3_000_000_000, nanos: 9 });
    }
}
