//! What all procedures need: the objects that handles name, and the form of their failures.

use std::ffi::CString;
use std::sync::Arc;

use rustix::io::Errno;
use sys::file_handle::FileHandle;
use wire::nfs3::{FileAttr, FileType, MAX_NAME, Status};

use super::attributes::file_attr;
use super::object::Object;
use super::replies::Time;
use super::status::of_errno;
use super::who::Who;
use super::{HostDirectory, HostHandle};
use crate::nfs::{Counters, HandleKey, Transport};

/// Directories that are gone up through at most, from one to the top of what is served.
const DEPTH: usize = 4096;

/// One call into a directory.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) dir: &'a Arc<HostDirectory>,
    pub(super) key: &'a HandleKey,
    pub(super) counters: &'a Counters,
    pub(super) who: Who,
    pub(super) transport: Transport,
    /// The same call was begun at this time and its end is not known: the server was killed in between. What it would have
    /// done may be done already.
    pub(super) begun: Option<Time>,
}

/// Why a procedure fails, with the attributes that its failure carries.
pub(super) struct Failure(pub(super) Status, pub(super) Option<FileAttr>);

impl Call<'_> {
    /// The file that a handle names, if it is one into this directory.
    pub(super) fn open(&self, handle: &[u8]) -> Result<Object, Status> {
        let handle = HostHandle::verify(handle, self.key).ok_or(Status::BadHandle)?;
        if handle.fsid != self.dir.fsid() {
            return Err(Status::Stale);
        }
        let opened = handle.file.open_path(&self.dir.tree.base).map_err(|error| {
            // Whatever else the kernel says of a handle that was good once: it is not any more.
            match Errno::from_io_error(&error) {
                Some(error @ (Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::PERM)) => of_errno(error),
                _ => Status::Stale,
            }
        })?;
        Object::new(opened).map_err(of_errno)
    }

    /// As [`open`](Self::open), for a directory.
    pub(super) fn open_dir(&self, handle: &[u8]) -> Result<Object, Failure> {
        let dir = self.open(handle).map_err(|status| Failure(status, None))?;
        if dir.kind() == FileType::Directory { Ok(dir) } else { Err(self.fail(&dir, Status::NotDirectory)) }
    }

    /// The object of this name in a directory, as the caller finds it.
    pub(super) fn find(&self, dir: &Object, name: &[u8]) -> Result<Object, Status> {
        match name {
            b".." if dir.stat.st_ino == self.dir.root_ino => self.who.act(|| Object::at(&dir.fd, c".")),
            b".." => self.who.act(|| Object::at(&dir.fd, c"..")).and_then(|up| self.within(up)),
            b"." => self.who.act(|| Object::at(&dir.fd, c".")),
            name => plain_name(name, Status::Invalid).and_then(|name| self.who.act(|| Object::at(&dir.fd, &*name))),
        }
        .map_err(of_errno)
    }

    /// `object` if the directory that is served is above it. Somebody on the host may have moved a directory out: whoever
    /// holds a handle of it must not find the way up from there.
    fn within(&self, object: Object) -> Result<Object, Errno> {
        let mut above = None;
        for _ in 0..DEPTH {
            let at: &Object = above.as_ref().unwrap_or(&object);
            if at.stat.st_ino == self.dir.root_ino {
                return Ok(object);
            }
            let next = Object::at(&at.fd, c"..")?;
            if next.stat.st_ino == at.stat.st_ino {
                break;
            }
            above = Some(next);
        }
        Err(Errno::ACCESS)
    }

    /// Whether the time of a file (seconds, nanoseconds) may be that of this very call, done by a server before us.
    pub(super) fn may_be_ours(&self, (secs, nanos): (i64, u64)) -> bool {
        self.begun.is_some_and(|begun| {
            let begun = (begun / 1_000_000_000, begun % 1_000_000_000);
            let secs = u64::try_from(secs).unwrap_or(0);
            // Some file systems keep whole seconds.
            (secs, nanos) >= begun || (secs == begun.0 && nanos == 0)
        })
    }

    pub(super) fn attr(&self, object: &Object) -> FileAttr {
        file_attr(&object.stat, self.dir.fsid())
    }

    /// Attributes as they are now; those from before if they can't be had.
    pub(super) fn attr_now(&self, object: &Object) -> FileAttr {
        file_attr(&rustix::fs::fstat(&object.fd).unwrap_or(object.stat), self.dir.fsid())
    }

    pub(super) fn sign(&self, object: &Object) -> Result<Vec<u8>, Status> {
        let file = FileHandle::of(&object.fd).map_err(|_| Status::ServerFault)?;
        Ok(HostHandle { fsid: self.dir.fsid(), file }.sign(self.key))
    }

    pub(super) fn fail(&self, object: &Object, status: Status) -> Failure {
        Failure(status, Some(self.attr_now(object)))
    }
}

/// A name for a system call; `dots` is what is said of `.` and `..`.
pub(super) fn plain_name(name: &[u8], dots: Status) -> Result<CString, Errno> {
    if name == b"." || name == b".." {
        return Err(if dots == Status::Exists { Errno::EXIST } else { Errno::INVAL });
    }
    if name.len() > MAX_NAME as usize {
        return Err(Errno::NAMETOOLONG);
    }
    if name.is_empty() || name.contains(&b'/') {
        return Err(Errno::INVAL);
    }
    CString::new(name).map_err(|_| Errno::INVAL)
}
