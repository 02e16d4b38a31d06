//! The procedures that change something (RFC 1813 §3.3): WRITE, COMMIT, REMOVE, RMDIR, RENAME, LINK here, the others
//! beside.

use std::ffi::CStr;
use std::sync::atomic::Ordering::Relaxed;

use rustix::fs::{Access, AtFlags, CWD, Stat, linkat, renameat, unlinkat};
use rustix::io::Errno;
use wire::nfs3::{
    Change, FileAttr, FileType, Stable, Status, Wcc, WccAttr, Written, encode_changed, encode_committed, encode_linked,
    encode_renamed, encode_written,
};
use wire::xdr::Writer;

use super::attributes::file_attr;
use super::call::{Call, Failure, plain_name};
use super::object::Object;
use super::status::of_errno;

impl Call<'_> {
    /// Carries a change out and writes its results.
    pub(super) fn change(&self, change: &Change<'_>, out: &mut Writer) {
        self.counters.changes.fetch_add(1, Relaxed);
        match *change {
            Change::SetAttr { object, ref new, guard } => {
                let (status, wcc) = self.set_attributes(object, new, guard);
                encode_changed(out, status, &wcc);
            }
            Change::Write { file, offset, stable, data } => self.write(file, offset, stable, data, out),
            Change::Create { .. } | Change::MkDir { .. } | Change::SymLink { .. } | Change::MkNod { .. } => {
                self.create(change, out);
            }
            Change::Remove { dir, name } => self.remove(dir, name, AtFlags::empty(), out),
            Change::RmDir { dir, name } => self.remove(dir, name, AtFlags::REMOVEDIR, out),
            Change::Rename { from, to } => self.rename(from, to, out),
            Change::Link { file, dir, name } => self.link(file, dir, name, out),
            Change::Commit { file, .. } => self.commit(file, out),
        }
    }

    /// Changes one object, with what it was before and after. Nobody else changes it meanwhile, unless on the host itself.
    pub(super) fn alter<R>(
        &self,
        object: &Object,
        work: impl FnOnce(&Stat) -> Result<R, Status>,
    ) -> (Result<R, Status>, Wcc) {
        let _locked = self.dir.lock(object.stat.st_ino, object.stat.st_ino);
        self.alter_locked(object, work)
    }

    /// As [`alter`](Self::alter), where the lock of a directory is held already.
    pub(super) fn alter_locked<R>(
        &self,
        object: &Object,
        work: impl FnOnce(&Stat) -> Result<R, Status>,
    ) -> (Result<R, Status>, Wcc) {
        let before = match rustix::fs::fstat(&object.fd) {
            Ok(before) => before,
            Err(error) => return (Err(of_errno(error)), Wcc::default()),
        };
        let done = work(&before);
        let before = WccAttr::of(&file_attr(&before, self.dir.fsid()));
        (done, Wcc { before: Some(before), after: Some(self.attr_now(object)) })
    }

    /// Changes the names in a directory, which are on disk afterwards. `dots` is what `.` and `..` are refused with.
    pub(super) fn in_directory<R>(
        &self,
        dir: &Object,
        name: &[u8],
        dots: Status,
        work: impl FnOnce(&CStr) -> Result<R, Status>,
    ) -> (Result<R, Status>, Wcc) {
        let (done, wcc) = self.alter(dir, |_| {
            let name = plain_name(name, dots).map_err(of_errno)?;
            work(&name)
        });
        let synced = match done {
            // Something may have been made all the same; that is no promise.
            Err(_) => Ok(()),
            Ok(_) => self.sync(dir),
        };
        (done.and_then(|done| synced.map(|()| done)), wcc)
    }

    fn write(&self, file: &[u8], offset: u64, stable: Stable, data: &[u8], out: &mut Writer) {
        let file = match self.open(file) {
            Ok(file) => file,
            Err(status) => return encode_changed(out, status, &Wcc::default()),
        };
        let refused = |status, out: &mut Writer| {
            encode_changed(out, status, &Wcc { before: None, after: Some(self.attr_now(&file)) });
        };
        if !file.is_regular() {
            return refused(Status::Invalid, out);
        }
        let end = offset.saturating_add(data.len() as u64);
        if i64::try_from(end).is_err() {
            return refused(Status::TooBig, out);
        }
        // Blocks that the file has already may be written, however full the disk is.
        let has_all = end <= file.stat.st_size.cast_unsigned() && file.stat.st_blocks * 512 >= file.stat.st_size;
        if !has_all && !self.dir.tree.has_room(data.len() as u64) {
            return refused(Status::NoSpace, out);
        }
        // Read first: if it changes from here on, this write may be among what is lost.
        let verifier = self.dir.tree.verifier.load(Relaxed);
        let open = match self.open_to_write(&file) {
            Ok(open) => open,
            Err(error) => return refused(of_errno(error), out),
        };
        let (count, wcc) = self.alter(&file, |_| self.who.act(|| write_full(&open, data, offset)).map_err(of_errno));
        match count.and_then(|count| self.sync_written(&open, stable).map(|()| count)) {
            Ok(count) => encode_written(out, &wcc, &Written { count: count as u32, committed: stable, verifier }),
            Err(status) => encode_changed(out, status, &wcc),
        }
    }

    fn commit(&self, file: &[u8], out: &mut Writer) {
        let file = match self.open(file) {
            Ok(file) => file,
            Err(status) => return encode_changed(out, status, &Wcc::default()),
        };
        let synced = if file.is_regular() { self.sync(&file) } else { Err(Status::Invalid) };
        // Not before: the disk may have failed meanwhile, and another call have heard of it.
        let verifier = self.dir.tree.verifier.load(Relaxed);
        // Nothing is changed by it.
        let attr = self.attr_now(&file);
        let wcc = Wcc { before: Some(WccAttr::of(&attr)), after: Some(attr) };
        match synced {
            Ok(()) => encode_committed(out, &wcc, verifier),
            Err(status) => encode_changed(out, status, &wcc),
        }
    }

    fn remove(&self, dir: &[u8], name: &[u8], flags: AtFlags, out: &mut Writer) {
        let dir = match self.open_dir(dir) {
            Ok(dir) => dir,
            Err(Failure(status, after)) => return encode_changed(out, status, &Wcc { before: None, after }),
        };
        // RFC 1813 §3.3.13: `..` of a directory is not empty.
        let dots = if name == b".." && flags == AtFlags::REMOVEDIR { Status::Exists } else { Status::Invalid };
        let (done, wcc) = self.in_directory(&dir, name, dots, |name| {
            match self.who.act(|| unlinkat(&dir.fd, name, flags)) {
                Err(Errno::NOENT) if self.may_be_ours((dir.stat.st_mtime, dir.stat.st_mtime_nsec)) => Ok(()),
                // The name for "not empty" differs between systems.
                Err(Errno::EXIST) => Err(Status::NotEmpty),
                done => done.map_err(of_errno),
            }
        });
        encode_changed(out, done.err().unwrap_or(Status::Ok), &wcc);
    }

    fn rename(&self, from: (&[u8], &[u8]), to: (&[u8], &[u8]), out: &mut Writer) {
        let after = |dir: &Result<Object, Failure>| match dir {
            Ok(dir) => Some(self.attr_now(dir)),
            Err(Failure(_, attr)) => *attr,
        };
        let (old, new) = (self.open_dir(from.0), self.open_dir(to.0));
        let afters = [after(&old), after(&new)];
        let unchanged = |attr: Option<FileAttr>| Wcc { before: None, after: attr };
        let (old, new) = match (old, new) {
            (Ok(old), Ok(new)) => (old, new),
            (Err(Failure(status, _)), _) | (_, Err(Failure(status, _))) => {
                let [old, new] = afters.map(unchanged);
                return encode_renamed(out, status, &old, &new);
            }
        };
        let locked = self.dir.lock(old.stat.st_ino, new.stat.st_ino);
        let mut of_new = Wcc::default();
        let (done, of_old) = self.alter_locked(&old, |_| {
            let (done, wcc) = self.alter_locked(&new, |_| {
                let old_name = plain_name(from.1, Status::Invalid).map_err(of_errno)?;
                let new_name = plain_name(to.1, Status::Invalid).map_err(of_errno)?;
                match self.who.act(|| renameat(&old.fd, &*old_name, &new.fd, &*new_name)) {
                    Err(Errno::NOENT) if self.is_moved(&new, &new_name) => Ok(()),
                    // RFC 1813 §3.3.14: what is there has names in it.
                    Err(Errno::NOTEMPTY) => Err(Status::NotEmpty),
                    done => done.map_err(of_errno),
                }
            });
            of_new = wcc;
            done
        });
        drop(locked);
        let done = done.and_then(|()| {
            // First where it is now: a power cut in between may leave both names, but never none.
            self.sync(&new)?;
            if old.stat.st_ino == new.stat.st_ino { Ok(()) } else { self.sync(&old) }
        });
        encode_renamed(out, done.err().unwrap_or(Status::Ok), &of_old, &of_new);
    }

    fn link(&self, file: &[u8], dir: &[u8], name: &[u8], out: &mut Writer) {
        let file = self.open(file);
        let dir = self.open_dir(dir);
        let (file, dir) = match (file, dir) {
            (Ok(file), Ok(dir)) => (file, dir),
            (Err(status), dir) => {
                let after = dir.map_or_else(|Failure(_, attr)| attr, |dir| Some(self.attr_now(&dir)));
                return encode_linked(out, status, None, &Wcc { before: None, after });
            }
            (Ok(file), Err(Failure(status, after))) => {
                return encode_linked(out, status, Some(&self.attr_now(&file)), &Wcc { before: None, after });
            }
        };
        let (done, wcc) = self.in_directory(&dir, name, Status::Exists, |name| {
            if !self.dir.tree.has_room(0) {
                return Err(Status::NoSpace);
            }
            match self.make_link(&file, &dir, name) {
                Err(Errno::EXIST) if self.may_be_ours(file.changed()) && is_same(&dir, name, &file) => Ok(()),
                done => done.map_err(of_errno),
            }
        });
        // The number of names is the file's own.
        let done = done.and_then(|()| if file.is_regular() { self.sync(&file) } else { Ok(()) });
        encode_linked(out, done.err().unwrap_or(Status::Ok), Some(&self.attr_now(&file)), &wcc);
    }

    /// Whether a rename that was begun before may have been what has put this here.
    fn is_moved(&self, dir: &Object, name: &CStr) -> bool {
        self.begun.is_some() && Object::at(&dir.fd, name).is_ok_and(|there| self.may_be_ours(there.changed()))
    }

    fn make_link(&self, file: &Object, dir: &Object, name: &CStr) -> Result<(), Errno> {
        if file.kind() == FileType::Directory {
            return Err(Errno::PERM);
        }
        let link = || linkat(CWD, file.path(), &dir.fd, name, AtFlags::SYMLINK_FOLLOW);
        match self.who.act(link) {
            // Linux may forbid users of this machine links to what is not theirs (fs.protected_hardlinks, proc(5)). Whether
            // users of a node may make them, the node's kernel has decided; the directory's mode counts all the same.
            Err(Errno::PERM) if !self.who.owns(&file.stat) => {
                let may = Access::WRITE_OK | Access::EXEC_OK;
                match self.who.act(|| Ok(dir.allows(may)))? {
                    true => link(),
                    false => Err(Errno::ACCESS),
                }
            }
            done => done,
        }
    }
}

fn is_same(dir: &Object, name: &CStr, file: &Object) -> bool {
    Object::at(&dir.fd, name).is_ok_and(|there| there.stat.st_ino == file.stat.st_ino)
}

/// Writes all, or what there is room for.
fn write_full(file: &rustix::fd::OwnedFd, data: &[u8], offset: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while done < data.len() {
        match rustix::io::pwrite(file, &data[done..], offset + done as u64) {
            Ok(length) => done += length,
            Err(Errno::INTR) => {}
            // So much is written: the caller sends the rest again, and is told then.
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
