//! SETATTR, and the attributes of what is made.

use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, chmod, chownat, ftruncate, utimensat,
};
use rustix::io::Errno;
use wire::nfs3::{FileType, NewAttributes, NewTime, Status, Time, Wcc};

use super::attributes::file_attr;
use super::call::Call;
use super::object::Object;
use super::status::of_errno;

impl Call<'_> {
    pub(super) fn set_attributes(&self, object: &[u8], new: &NewAttributes, guard: Option<Time>) -> (Status, Wcc) {
        let object = match self.open(object) {
            Ok(object) => object,
            Err(status) => return (status, Wcc::default()),
        };
        let (set, wcc) = self.alter(&object, |before| {
            // Our own change may be what the guard finds, if it was begun before.
            let changed = (before.st_ctime, before.st_ctime_nsec);
            if guard.is_some_and(|ctime| ctime != file_attr(before, self.dir.fsid()).ctime)
                && !self.may_be_ours(changed)
            {
                return Err(Status::NotSynchronised);
            }
            self.set(&object, new).map_err(of_errno)
        });
        // Also after a failure: some of it may have been done.
        let times = (wcc.before.map(|before| before.ctime), wcc.after.map(|after| after.ctime));
        let synced = if set.is_ok() || times.0 != times.1 { self.sync(&object) } else { Ok(()) };
        (set.and(synced).err().unwrap_or(Status::Ok), wcc)
    }

    fn set(&self, object: &Object, new: &NewAttributes) -> Result<(), Errno> {
        let times = timestamps(new)?;
        if let Some(size) = new.size {
            self.truncate(object, size)?;
        }
        if new.uid.is_some() || new.gid.is_some() {
            self.who.act(|| set_owner(&object.fd, new))?;
        }
        if let Some(mode) = new.mode {
            if object.kind() == FileType::Symlink {
                return Err(Errno::OPNOTSUPP);
            }
            self.who.act(|| chmod(object.path(), Mode::from_raw_mode(mode & 0o7777)))?;
        }
        match times {
            Some(times) => self.who.act(|| set_times(&object.fd, &times)),
            None => Ok(()),
        }
    }

    /// Makes a file longer or shorter. As with writing, its owner may, whatever its mode is by now.
    pub(super) fn truncate(&self, file: &Object, size: u64) -> Result<(), Errno> {
        match file.kind() {
            FileType::Regular => {}
            FileType::Directory => return Err(Errno::ISDIR),
            _ => return Err(Errno::INVAL),
        }
        if i64::try_from(size).is_err() {
            return Err(Errno::FBIG);
        }
        let open = self.open_to_write(file)?;
        self.who.act(|| ftruncate(&open, size))
    }

    /// RFC 1813 §4.4: an owner may write what they have open.
    pub(super) fn open_to_write(&self, file: &Object) -> Result<OwnedFd, Errno> {
        match self.who.act(|| file.open(OFlags::WRONLY)) {
            Err(Errno::ACCESS) if self.who.owns(&file.stat) => file.open(OFlags::WRONLY),
            opened => opened,
        }
    }

    /// Attributes of what has just been made, its mode apart; whether there were any. Who is not root has no say in owner
    /// and group.
    pub(super) fn set_made(&self, made: &Object, new: &NewAttributes) -> Result<bool, Errno> {
        let owned = self.who.is_root() && (new.uid.is_some() || new.gid.is_some());
        if owned {
            set_owner(&made.fd, new)?;
        }
        let times = timestamps(new)?;
        if let Some(times) = &times {
            set_times(&made.fd, times)?;
        }
        Ok(owned || times.is_some())
    }
}

fn set_owner(file: &OwnedFd, new: &NewAttributes) -> Result<(), Errno> {
    // -1 means "stays" to the kernel.
    let number = |id: Option<u32>| if id == Some(u32::MAX) { Err(Errno::INVAL) } else { Ok(id) };
    let (uid, gid) = (number(new.uid)?.map(Uid::from_raw), number(new.gid)?.map(Gid::from_raw));
    chownat(file, c"", uid, gid, AtFlags::EMPTY_PATH)
}

pub(super) fn set_times(file: &OwnedFd, times: &Timestamps) -> Result<(), Errno> {
    utimensat(file, c"", times, AtFlags::EMPTY_PATH)
}

/// Times as the kernel takes them; `None` if both stay.
fn timestamps(new: &NewAttributes) -> Result<Option<Timestamps>, Errno> {
    if (new.atime, new.mtime) == (NewTime::Keep, NewTime::Keep) {
        return Ok(None);
    }
    Ok(Some(Timestamps { last_access: timespec(new.atime)?, last_modification: timespec(new.mtime)? }))
}

fn timespec(time: NewTime) -> Result<Timespec, Errno> {
    Ok(match time {
        NewTime::Keep => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        NewTime::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        // Larger ones would mean something else to the kernel.
        NewTime::To(time) if time.nanos < 1_000_000_000 => {
            Timespec { tv_sec: i64::from(time.seconds), tv_nsec: i64::from(time.nanos) }
        }
        NewTime::To(_) => return Err(Errno::INVAL),
    })
}
