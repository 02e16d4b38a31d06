//! READDIR and READDIRPLUS.
//!
//! The cookie after an entry is the position that the host's file system gives it (`d_off`), which ext4, XFS and btrfs
//! keep while entries come and go.

use std::mem::MaybeUninit;

use rustix::fs::{OFlags, RawDir, SeekFrom, seek};
use rustix::io::Errno;
use wire::nfs3::{DirectoryWriter, MAX_HANDLE, Status};
use wire::xdr::Writer;

use super::call::{Call, Failure};
use super::object::Object;
use super::status::of_errno;

/// Bytes of entries that are taken from the kernel at once.
const BUFFER: usize = 16 << 10;

impl Call<'_> {
    pub(super) fn readdir(&self, dir: &[u8], cookie: u64, count: u32, out: &mut Writer) -> Result<(), Failure> {
        let dir = self.open_dir(dir)?;
        let attr = self.attr(&dir);
        let mut list = DirectoryWriter::start(out, &attr, count.min(self.transport.dir_size()), None);
        let eof = self.each(&dir, cookie, |fileid, name, cookie| list.entry(out, fileid, name, cookie))?;
        list.finish(out, &attr, eof);
        Ok(())
    }

    pub(super) fn readdirplus(
        &self,
        dir: &[u8],
        cookie: u64,
        dir_count: u32,
        max_count: u32,
        out: &mut Writer,
    ) -> Result<(), Failure> {
        let dir = self.open_dir(dir)?;
        let attr = self.attr(&dir);
        let max_count = max_count.min(self.transport.dir_size());
        let mut list = DirectoryWriter::start(out, &attr, max_count, Some(dir_count));
        let eof = self.each(&dir, cookie, |fileid, name, cookie| {
            if !list.plus_fits(name, MAX_HANDLE) {
                return false;
            }
            // Nobody needs handles of these, and `..` may lead out of what is served.
            let is_dots = name == b"." || name == b"..";
            let found = if is_dots { None } else { Object::at(&dir.fd, name).ok() };
            let found = found.and_then(|object| Some((self.attr(&object), self.sign(&object).ok()?)));
            match found {
                Some((attr, handle)) => list.plus_entry(out, name, cookie, &attr, &handle),
                None => list.plus_name(out, fileid, name, cookie),
            }
        })?;
        list.finish(out, &attr, eof);
        Ok(())
    }

    /// Calls `take` with number, name and cookie of each entry after `cookie`, until it says that it has no room; whether
    /// there is nothing more.
    fn each(&self, dir: &Object, cookie: u64, mut take: impl FnMut(u64, &[u8], u64) -> bool) -> Result<bool, Failure> {
        let failed = |error| self.fail(dir, of_errno(error));
        let open = self.who.act(|| dir.open(OFlags::RDONLY | OFlags::DIRECTORY)).map_err(failed)?;
        if cookie != 0 {
            let bad_cookie =
                |error| self.fail(dir, if error == Errno::INVAL { Status::BadCookie } else { of_errno(error) });
            seek(&open, SeekFrom::Start(cookie)).map_err(bad_cookie)?;
        }
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut entries = RawDir::new(&open, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            // What is above is none of the caller's business.
            let is_top = name == b".." && dir.stat.st_ino == self.dir.root_ino;
            let fileid = if is_top { dir.stat.st_ino } else { entry.ino() };
            if !take(fileid, name, entry.next_entry_cookie()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
