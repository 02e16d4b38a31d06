//! CREATE, MKDIR, SYMLINK and MKNOD.

use std::ffi::{CStr, CString};

use rustix::fd::OwnedFd;
use rustix::fs::{
    FileType as HostType, Mode, OFlags, Timespec, Timestamps, makedev, mkdirat, mknodat, openat, symlinkat,
};
use rustix::io::Errno;
use wire::nfs3::{Change, CreateHow, FileType, NewAttributes, Node, Status, Wcc, encode_changed, encode_created};
use wire::xdr::Writer;

use super::call::{Call, Failure};
use super::object::Object;
use super::set::set_times;
use super::status::of_errno;

/// What is made.
#[derive(Clone, Copy)]
enum Made<'a> {
    File(CreateHow),
    Directory(NewAttributes),
    Symlink(NewAttributes, &'a [u8]),
    Node(Node),
}

impl Call<'_> {
    /// Carries out one of the four, and writes its results.
    pub(super) fn create(&self, change: &Change<'_>, out: &mut Writer) {
        let (dir, name, made) = match *change {
            Change::Create { dir, name, how } => (dir, name, Made::File(how)),
            Change::MkDir { dir, name, new } => (dir, name, Made::Directory(new)),
            Change::SymLink { dir, name, new, target } => (dir, name, Made::Symlink(new, target)),
            Change::MkNod { dir, name, node } => (dir, name, Made::Node(node)),
            _ => return,
        };
        let dir = match self.open_dir(dir) {
            Ok(dir) => dir,
            Err(Failure(status, after)) => return encode_changed(out, status, &Wcc { before: None, after }),
        };
        let (made, wcc) = self.in_directory(&dir, name, Status::Exists, |name| self.make(&dir, name, made));
        // Not under the directory's lock.
        let made = made.and_then(|made| if made.1 { self.sync(&made.0).map(|()| made) } else { Ok(made) });
        match made {
            Ok((object, _)) => {
                encode_created(out, self.sign(&object).ok().as_deref(), Some(&self.attr_now(&object)), &wcc);
            }
            Err(status) => encode_changed(out, status, &wcc),
        }
    }

    /// Makes it. Also returned is whether the directory, which will be synced, does not tell all of it.
    fn make(&self, dir: &Object, name: &CStr, made: Made<'_>) -> Result<(Object, bool), Status> {
        if !self.dir.tree.has_room(0) {
            // What is there already may be opened, and emptied.
            return match made {
                Made::File(how) if Object::at(&dir.fd, name).is_ok() => self.is_there(dir, name, how),
                _ => Err(Status::NoSpace),
            };
        }
        match made {
            Made::File(how) => self.make_file(dir, name, how),
            Made::Directory(new) => {
                let mode = Mode::from_raw_mode(new.mode.unwrap_or(0) & 0o7777);
                let make = |dir: &OwnedFd| mkdirat(dir, name, mode);
                Ok((self.make_other(dir, name, FileType::Directory, &new, make)?.0, true))
            }
            Made::Symlink(new, target) => {
                let target = CString::new(target).map_err(|_| Status::Invalid)?;
                self.make_other(dir, name, FileType::Symlink, &new, |dir| symlinkat(&*target, dir, name))
            }
            Made::Node(Node::Bad) => Err(Status::BadType),
            Made::Node(Node::Pipe(kind, new)) => self.make_node(dir, name, kind, &new, 0),
            Made::Node(Node::Device(kind, new, (major, minor))) => {
                self.make_node(dir, name, kind, &new, makedev(major, minor))
            }
        }
    }

    fn make_node(
        &self,
        dir: &Object,
        name: &CStr,
        kind: FileType,
        new: &NewAttributes,
        device: u64,
    ) -> Result<(Object, bool), Status> {
        let mode = Mode::from_raw_mode(new.mode.unwrap_or(0) & 0o7777);
        let host_kind = match kind {
            FileType::BlockDevice => HostType::BlockDevice,
            FileType::CharDevice => HostType::CharacterDevice,
            FileType::Socket => HostType::Socket,
            _ => HostType::Fifo,
        };
        self.make_other(dir, name, kind, new, |dir| mknodat(dir, name, host_kind, mode, device))
    }

    /// Makes something that is not opened by making it.
    fn make_other(
        &self,
        dir: &Object,
        name: &CStr,
        kind: FileType,
        new: &NewAttributes,
        make: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Result<(Object, bool), Status> {
        match self.who.act(|| make(&dir.fd)) {
            Ok(()) => {
                let object = Object::at(&dir.fd, name).map_err(of_errno)?;
                let set = self.set_made(&object, new).map_err(of_errno)?;
                Ok((object, set))
            }
            Err(Errno::EXIST) if self.begun.is_some() => {
                let there = Object::at(&dir.fd, name).map_err(of_errno)?;
                let is_ours = there.kind() == kind && self.may_be_ours(there.made());
                if is_ours { Ok((there, true)) } else { Err(Status::Exists) }
            }
            Err(error) => Err(of_errno(error)),
        }
    }

    fn make_file(&self, dir: &Object, name: &CStr, how: CreateHow) -> Result<(Object, bool), Status> {
        let new = match how {
            CreateHow::Unchecked(new) | CreateHow::Guarded(new) => new,
            // SETATTR follows with the mode: until then it is nobody's.
            CreateHow::Exclusive(_) => NewAttributes::default(),
        };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(new.mode.unwrap_or(0) & 0o7777);
        match self.who.act(|| openat(&dir.fd, name, flags | OFlags::NOCTTY, mode)) {
            Ok(file) => {
                let file = Object::new(file).map_err(of_errno)?;
                let size = new.size.filter(|size| *size > 0);
                let set = match how {
                    CreateHow::Exclusive(verifier) => set_times(&file.fd, &times_of(verifier)),
                    _ => size
                        .map_or(Ok(()), |size| self.truncate(&file, size))
                        .and_then(|()| self.set_made(&file, &new).map(drop)),
                };
                set.map_err(of_errno)?;
                Ok((file, true))
            }
            Err(Errno::EXIST) => self.is_there(dir, name, how),
            Err(error) => Err(of_errno(error)),
        }
    }

    /// The name is taken, which is an error or not.
    fn is_there(&self, dir: &Object, name: &CStr, how: CreateHow) -> Result<(Object, bool), Status> {
        let there = self.who.act(|| Object::at(&dir.fd, name)).map_err(of_errno)?;
        // What was done by a server before us may not be on disk.
        let mut changed = true;
        let is_ours = match how {
            CreateHow::Unchecked(new) => {
                changed = false;
                if let (Some(size), true) = (new.size, there.is_regular()) {
                    let (cut, _) = self.alter_locked(&there, |_| self.truncate(&there, size).map_err(of_errno));
                    cut?;
                    changed = true;
                }
                true
            }
            CreateHow::Guarded(_) => there.is_regular() && self.may_be_ours(there.made()),
            CreateHow::Exclusive(verifier) => {
                let Timestamps { last_access, last_modification } = times_of(verifier);
                let same = (there.stat.st_atime, there.stat.st_mtime) == (last_access.tv_sec, last_modification.tv_sec)
                    && (there.stat.st_atime_nsec, there.stat.st_mtime_nsec) == (0, 0);
                there.is_regular() && there.stat.st_size == 0 && (same || self.may_be_ours(there.made()))
            }
        };
        if is_ours { Ok((there, changed)) } else { Err(Status::Exists) }
    }
}

/// RFC 1813 §3.3.8: the verifier is kept with the file, where a restart does not lose it. The two times are that place:
/// the SETATTR that follows an exclusive CREATE sets them right.
fn times_of(verifier: u64) -> Timestamps {
    let time = |half: u64| Timespec { tv_sec: (half & 0x7fff_ffff).cast_signed(), tv_nsec: 0 };
    Timestamps { last_access: time(verifier >> 32), last_modification: time(verifier & 0xffff_ffff) }
}
