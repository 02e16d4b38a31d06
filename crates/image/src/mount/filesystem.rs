//! A view as the kernel's FUSE sees it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyXattr, Request,
};

use crate::{Attr, FileKind, Timestamp, View};

/// Content never changes, so the kernel may keep what it knows as long as it likes.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Largest read that is answered at once; the kernel asks for 1 MiB at most.
const MAX_READ: u32 = 4 << 20;

/// Answers from the view alone.
#[derive(Debug)]
pub(super) struct ViewFilesystem {
    view: Arc<View>,
}

impl ViewFilesystem {
    pub(super) fn new(view: Arc<View>) -> Self {
        Self { view }
    }

    fn attr(&self, ino: u64) -> Option<FileAttr> {
        self.view.attr(ino).map(|attr| file_attr(&attr))
    }
}

impl Filesystem for ViewFilesystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
        ];
        // Each by itself: what an old kernel lacks is only slower.
        for flag in wanted {
            let _ = config.add_capabilities(flag);
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.view.lookup(parent.0, name.as_bytes()).and_then(|ino| self.attr(ino)) {
            Some(attr) => reply.entry(&FOR_EVER, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino.0) {
            Some(attr) => reply.attr(&FOR_EVER, &attr),
            None => reply.error(Errno::ESTALE),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.view.readlink(ino.0) {
            Some(target) => reply.data(target),
            None => reply.error(Errno::EINVAL),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match flags.acc_mode() {
            fuser::OpenAccMode::O_RDONLY => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            _ => reply.error(Errno::EROFS),
        }
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buffer = vec![0; size.min(MAX_READ) as usize];
        match self.view.read_at(ino.0, offset, &mut buffer) {
            Ok(len) => reply.data(buffer.get(..len).unwrap_or_default()),
            Err(error) => {
                tracing::warn!(image = self.view.id(), ino = ino.0, offset, %error, "cannot read an image's file");
                reply.error(Errno::EIO);
            }
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(entries) = self.view.readdir(ino.0, offset) else { return reply.error(Errno::ENOTDIR) };
        for entry in entries {
            let name = OsStr::from_bytes(entry.name);
            if reply.add(INodeNo(entry.ino), entry.cookie, file_type(entry.kind), name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let Some(entries) = self.view.readdir(ino.0, offset) else { return reply.error(Errno::ENOTDIR) };
        for entry in entries {
            let Some(attr) = self.attr(entry.ino) else { break };
            let name = OsStr::from_bytes(entry.name);
            if reply.add(INodeNo(entry.ino), entry.cookie, name, &FOR_EVER, &attr, Generation(0)) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let blocks = self.view.total_bytes().div_ceil(4096);
        reply.statfs(blocks, 0, 0, self.view.inode_count(), 0, 4096, 255, 4096);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        match self.view.xattrs(ino.0).into_iter().find(|(own, _)| *own == name.as_bytes()) {
            Some((_, value)) => reply_xattr(value, size, reply),
            None => reply.error(Errno::ENODATA),
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let names: Vec<u8> = self.view.xattrs(ino.0).into_iter().flat_map(|(name, _)| [name, b"\0"].concat()).collect();
        reply_xattr(&names, size, reply);
    }
}

/// listxattr(2), getxattr(2): size 0 asks for the length.
fn reply_xattr(data: &[u8], size: u32, reply: ReplyXattr) {
    match u32::try_from(data.len()) {
        Ok(len) if size == 0 => reply.size(len),
        Ok(len) if len <= size => reply.data(data),
        _ => reply.error(Errno::ERANGE),
    }
}

fn file_attr(attr: &Attr) -> FileAttr {
    let time = system_time(attr.mtime);
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(attr.kind),
        // At most 0o7777.
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: device_number(attr.rdev),
        blksize: 4096,
        flags: 0,
    }
}

fn system_time(Timestamp { secs, nanos }: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(secs.unsigned_abs());
    let second = if secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    // A time that the system cannot express is no time worth keeping.
    second.and_then(|time| time.checked_add(Duration::from_nanos(nanos.into()))).unwrap_or(UNIX_EPOCH)
}

/// Linux's `new_encode_dev` (linux/kdev_t.h): 12 bits of major number, 20 of minor.
fn device_number((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12
}

fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
    }
}
