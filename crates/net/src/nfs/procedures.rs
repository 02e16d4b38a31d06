//! The procedures of NFS version 3 (RFC 1813 §3.3), each a function of the file system alone.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use image::{Attr, FileKind, Ino};
use wire::nfs3::{
    Arguments, DirectoryWriter, FileAttr, FsInfo, FsStat, LookupResult, MAX_NAME, PathConf, ReadHeader, Status,
    encode_access, encode_attributes, encode_lookup, encode_post_op, encode_readlink, encode_wcc,
};
use wire::rpc::Credential;
use wire::xdr::Writer;

use super::attributes::file_attr;
use super::content::{self, Content};
use super::dispatch::{Caller, Transport};
use super::filesystem::{Exporter, Filesystem};
use super::handle::{self, FileHandle};
use super::{Counters, HandleKey, permission};

/// Largest WRITE that is announced, in bytes: it will be refused, but its record must be taken in.
pub(super) const WRITE_SIZE: u32 = 32 << 10;

/// One call's view of the file systems.
pub(super) struct Files<'a, E> {
    pub(super) exporter: &'a E,
    pub(super) key: &'a HandleKey,
    pub(super) counters: &'a Counters,
    pub(super) caller: Caller,
    pub(super) credential: &'a Credential,
}

/// What a procedure leaves to be done.
pub(super) enum Rest<Fs> {
    /// The results are not written: the data is not in memory.
    Wait(Read<Fs>),
    /// The results are written up to the data, which is in memory.
    Data(Content<Fs>),
}

/// A checked READ: `offset + count` is within the file.
#[derive(Debug)]
pub(super) struct Read<Fs> {
    pub(super) fs: Arc<Fs>,
    pub(super) attr: Attr,
    pub(super) offset: u64,
    pub(super) count: u32,
}

impl<Fs> Read<Fs> {
    /// Whether nothing of the file is left after it.
    pub(super) fn reaches_end(&self) -> bool {
        self.offset.saturating_add(u64::from(self.count)) >= self.attr.size
    }
}

/// An object that the caller's handle leads to.
struct Object<Fs> {
    fs: Arc<Fs>,
    fsid: u64,
    attr: Attr,
    wire: FileAttr,
}

/// Why a procedure fails, with the attributes that its failure carries.
struct Failure(Status, Option<FileAttr>);

impl<Fs> Object<Fs> {
    fn fail(&self, status: Status) -> Failure {
        Failure(status, Some(self.wire))
    }

    fn must_be_dir(&self) -> Result<(), Failure> {
        if self.attr.kind == FileKind::Directory { Ok(()) } else { Err(self.fail(Status::NotDirectory)) }
    }
}

impl<E: Exporter> Files<'_, E> {
    /// Writes the results, all of them unless there is a rest.
    pub(super) fn answer(&self, arguments: &Arguments<'_>, out: &mut Writer) -> Option<Rest<E::Fs>> {
        let start = out.len();
        let result = match *arguments {
            Arguments::Null => Ok(()),
            Arguments::GetAttr { object } => {
                match self.open(object) {
                    Ok(object) => encode_attributes(out, &object.wire),
                    // RFC 1813 §3.3.1: the only failure without attributes after it.
                    Err(Failure(status, _)) => out.u32(status as u32),
                }
                return None;
            }
            Arguments::Lookup { dir, name } => self.lookup(dir, name, out),
            Arguments::Access { object, wanted } => self.access(object, wanted, out),
            Arguments::ReadLink { link } => self.readlink(link, out),
            Arguments::Read { file, offset, count } => match self.read(file, offset, count, out) {
                Ok(None) => Ok(()),
                Ok(rest) => return rest,
                Err(failure) => Err(failure),
            },
            Arguments::ReadDir { dir, cookie, count, verifier: _ } => self.readdir(dir, cookie, count, out),
            Arguments::ReadDirPlus { dir, cookie, dir_count, max_count, verifier: _ } => {
                self.readdirplus(dir, cookie, dir_count, max_count, out)
            }
            Arguments::FsStat { object } => self.fsstat(object, out),
            Arguments::FsInfo { object } => self.fsinfo(object, out),
            Arguments::PathConf { object } => self.pathconf(object, out),
            Arguments::Modify { .. } | Arguments::Rename { .. } | Arguments::Link { .. } => {
                self.refuse_change(arguments, out);
                Ok(())
            }
        };
        if let Err(Failure(status, attr)) = result {
            out.truncate(start);
            out.u32(status as u32);
            encode_post_op(out, attr.as_ref());
        }
        None
    }

    fn lookup(&self, dir: &[u8], name: &[u8], out: &mut Writer) -> Result<(), Failure> {
        let dir = self.open(dir)?;
        dir.must_be_dir()?;
        if !permission::may_search(&dir.attr, self.credential) {
            return Err(dir.fail(Status::Access));
        }
        if name.len() > MAX_NAME as usize {
            return Err(dir.fail(Status::NameTooLong));
        }
        let ino = dir.fs.lookup(dir.attr.ino, name).ok_or_else(|| dir.fail(Status::NotFound))?;
        let attr = dir.fs.attr(ino).ok_or_else(|| dir.fail(Status::ServerFault))?;
        let handle = self.sign(dir.fsid, ino);
        let found = LookupResult { handle: &handle, attr: Some(file_attr(&attr, dir.fsid)), dir: Some(dir.wire) };
        encode_lookup(out, &found);
        Ok(())
    }

    fn access(&self, object: &[u8], wanted: u32, out: &mut Writer) -> Result<(), Failure> {
        let object = self.open(object)?;
        encode_access(out, &object.wire, wanted & permission::granted(&object.attr, self.credential));
        Ok(())
    }

    fn readlink(&self, link: &[u8], out: &mut Writer) -> Result<(), Failure> {
        let link = self.open(link)?;
        let target = link.fs.readlink(link.attr.ino).ok_or_else(|| link.fail(Status::Invalid))?;
        encode_readlink(out, &link.wire, target);
        Ok(())
    }

    fn read(&self, file: &[u8], offset: u64, count: u32, out: &mut Writer) -> Result<Option<Rest<E::Fs>>, Failure> {
        let file = self.open(file)?;
        match file.attr.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(file.fail(Status::IsDirectory)),
            _ => return Err(file.fail(Status::Invalid)),
        }
        if !permission::may_read(&file.attr, self.credential) {
            return Err(file.fail(Status::Access));
        }
        let left = file.attr.size.saturating_sub(offset);
        let count = count.min(self.caller.transport.read_size()).min(u32::try_from(left).unwrap_or(u32::MAX));
        let read = Read { fs: file.fs, attr: file.attr, offset, count };
        let start = out.len();
        ReadHeader::encode(out, &file.wire, count, read.reaches_end());
        self.counters.bytes_read.fetch_add(u64::from(count), Relaxed);
        if self.caller.transport == Transport::Tcp && count >= content::SMALLEST && content::is_cached(&read) {
            return Ok(Some(Rest::Data(Content { read })));
        }
        if count > 0 {
            let room = out.room(count as usize);
            match read.fs.try_read_at(read.attr.ino, offset, room) {
                Ok(Some(length)) if length == count as usize => {}
                Ok(None) => {
                    out.truncate(start);
                    return Ok(Some(Rest::Wait(read)));
                }
                // An index that promises more than its layers hold is a broken store: an error, not a short file.
                Ok(Some(_)) | Err(_) => return Err(Failure(Status::Io, Some(file.wire))),
            }
            out.pad(count as usize);
        }
        Ok(None)
    }

    fn readdir(&self, dir: &[u8], cookie: u64, count: u32, out: &mut Writer) -> Result<(), Failure> {
        let dir = self.open_listing(dir)?;
        let count = count.min(self.caller.transport.dir_size());
        let entries = dir.fs.readdir(dir.attr.ino, cookie).ok_or_else(|| dir.fail(Status::NotDirectory))?;
        let mut list = DirectoryWriter::start(out, &dir.wire, count, None);
        let mut eof = true;
        for entry in entries {
            if !list.entry(out, entry.ino, entry.name, entry.cookie) {
                eof = false;
                break;
            }
        }
        list.finish(out, &dir.wire, eof);
        Ok(())
    }

    fn readdirplus(
        &self,
        dir: &[u8],
        cookie: u64,
        dir_count: u32,
        max_count: u32,
        out: &mut Writer,
    ) -> Result<(), Failure> {
        let dir = self.open_listing(dir)?;
        let max_count = max_count.min(self.caller.transport.dir_size());
        let entries = dir.fs.readdir(dir.attr.ino, cookie).ok_or_else(|| dir.fail(Status::NotDirectory))?;
        let mut list = DirectoryWriter::start(out, &dir.wire, max_count, Some(dir_count));
        let mut eof = true;
        for entry in entries {
            if !list.plus_fits(entry.name, handle::SIZE) {
                eof = false;
                break;
            }
            let attr = dir.fs.attr(entry.ino).ok_or_else(|| dir.fail(Status::ServerFault))?;
            let handle = self.sign(dir.fsid, entry.ino);
            list.plus_entry(out, entry.name, entry.cookie, &file_attr(&attr, dir.fsid), &handle);
        }
        list.finish(out, &dir.wire, eof);
        Ok(())
    }

    fn fsstat(&self, object: &[u8], out: &mut Writer) -> Result<(), Failure> {
        let object = self.open(object)?;
        // New content is a new file system: this one never changes.
        let stat = FsStat {
            total_bytes: object.fs.total_bytes(),
            free_bytes: 0,
            available_bytes: 0,
            total_files: object.fs.inode_count(),
            free_files: 0,
            available_files: 0,
            invariant_seconds: u32::MAX,
        };
        stat.encode(out, &object.wire);
        Ok(())
    }

    fn fsinfo(&self, object: &[u8], out: &mut Writer) -> Result<(), Failure> {
        let object = self.open(object)?;
        let transport = self.caller.transport;
        let info = FsInfo {
            read_size: transport.read_size(),
            write_size: WRITE_SIZE,
            dir_size: transport.dir_size(),
            can_set_time: false,
        };
        info.encode(out, &object.wire);
        Ok(())
    }

    fn pathconf(&self, object: &[u8], out: &mut Writer) -> Result<(), Failure> {
        let object = self.open(object)?;
        PathConf { link_max: u32::MAX, name_max: MAX_NAME }.encode(out, &object.wire);
        Ok(())
    }

    /// NFS3ERR_ROFS with the attributes that the procedure's failure carries, or what is wrong with the handle.
    fn refuse_change(&self, arguments: &Arguments<'_>, out: &mut Writer) {
        let split = |handle| match self.open(handle) {
            Ok(object) => (Status::ReadOnly, Some(object.wire)),
            Err(Failure(status, attr)) => (status, attr),
        };
        let worse = |one, other| if one == Status::ReadOnly { other } else { one };
        match *arguments {
            Arguments::Rename { from, to } => {
                let ((from_status, from), (to_status, to)) = (split(from), split(to));
                out.u32(worse(from_status, to_status) as u32);
                encode_wcc(out, from.as_ref());
                encode_wcc(out, to.as_ref());
            }
            Arguments::Link { file, dir } => {
                let ((file_status, file), (dir_status, dir)) = (split(file), split(dir));
                out.u32(worse(file_status, dir_status) as u32);
                encode_post_op(out, file.as_ref());
                encode_wcc(out, dir.as_ref());
            }
            Arguments::Modify { object, .. } => {
                let (status, attr) = split(object);
                out.u32(status as u32);
                encode_wcc(out, attr.as_ref());
            }
            _ => {}
        }
    }

    /// The directory to be listed.
    fn open_listing(&self, dir: &[u8]) -> Result<Object<E::Fs>, Failure> {
        let dir = self.open(dir)?;
        dir.must_be_dir()?;
        if !permission::may_list(&dir.attr, self.credential) {
            return Err(dir.fail(Status::Access));
        }
        Ok(dir)
    }

    /// The object that a handle names, if it is a handle of ours into a file system of the caller's.
    fn open(&self, handle: &[u8]) -> Result<Object<E::Fs>, Failure> {
        let Some(handle) = FileHandle::verify(handle, self.key) else {
            self.counters.bad_handles.fetch_add(1, Relaxed);
            return Err(Failure(Status::BadHandle, None));
        };
        let found = self.exporter.filesystem(self.caller.ip, handle.fsid);
        match found.and_then(|fs| fs.attr(handle.ino).map(|attr| (fs, attr))) {
            Some((fs, attr)) => Ok(Object { fs, fsid: handle.fsid, attr, wire: file_attr(&attr, handle.fsid) }),
            None => {
                self.counters.stale_handles.fetch_add(1, Relaxed);
                Err(Failure(Status::Stale, None))
            }
        }
    }

    fn sign(&self, fsid: u64, ino: Ino) -> [u8; handle::SIZE] {
        FileHandle { fsid, ino }.sign(self.key)
    }
}
