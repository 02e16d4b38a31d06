//! The procedures that change nothing (RFC 1813 §3.3).

use rustix::fs::{Access, OFlags, fstatvfs, readlinkat};
use rustix::io::Errno;
use wire::nfs3::{
    Arguments, FileType, FsInfo, FsStat, LookupResult, PathConf, ReadHeader, Status, access, encode_access,
    encode_attributes, encode_lookup, encode_post_op, encode_readlink,
};
use wire::xdr::Writer;

use super::WRITE_SIZE;
use super::call::{Call, Failure};
use super::object::Object;
use super::status::of_errno;
use super::tree::files_reserve;
use crate::nfs::{Transport, procedures};

impl Call<'_> {
    /// Writes the results.
    pub(super) fn read_only(&self, arguments: &Arguments<'_>, out: &mut Writer) {
        let start = out.len();
        let result = match *arguments {
            Arguments::GetAttr { object } => {
                match self.open(object) {
                    Ok(object) => encode_attributes(out, &self.attr(&object)),
                    // RFC 1813 §3.3.1: the only failure without attributes after it.
                    Err(status) => out.u32(status as u32),
                }
                return;
            }
            Arguments::Lookup { dir, name } => self.lookup(dir, name, out),
            Arguments::Access { object, wanted } => self.access(object, wanted, out),
            Arguments::ReadLink { link } => self.readlink(link, out),
            Arguments::Read { file, offset, count } => self.read(file, offset, count, out),
            Arguments::ReadDir { dir, cookie, count, verifier: _ } => self.readdir(dir, cookie, count, out),
            Arguments::ReadDirPlus { dir, cookie, dir_count, max_count, verifier: _ } => {
                self.readdirplus(dir, cookie, dir_count, max_count, out)
            }
            Arguments::FsStat { object } => self.fsstat(object, out),
            Arguments::FsInfo { object } => self.fsinfo(object, out),
            Arguments::PathConf { object } => self.pathconf(object, out),
            // Has no handle, and so never comes here; and changes are read as such.
            Arguments::Null | Arguments::Modify { .. } | Arguments::Rename { .. } | Arguments::Link { .. } => Ok(()),
        };
        if let Err(Failure(status, attr)) = result {
            out.truncate(start);
            out.u32(status as u32);
            encode_post_op(out, attr.as_ref());
        }
    }

    fn open_any(&self, handle: &[u8]) -> Result<Object, Failure> {
        self.open(handle).map_err(|status| Failure(status, None))
    }

    fn lookup(&self, dir: &[u8], name: &[u8], out: &mut Writer) -> Result<(), Failure> {
        let dir = self.open_dir(dir)?;
        let found = self.find(&dir, name).map_err(|status| self.fail(&dir, status))?;
        let handle = self.sign(&found).map_err(|status| self.fail(&dir, status))?;
        let found = LookupResult { handle: &handle, attr: Some(self.attr(&found)), dir: Some(self.attr(&dir)) };
        encode_lookup(out, &found);
        Ok(())
    }

    fn access(&self, object: &[u8], wanted: u32, out: &mut Writer) -> Result<(), Failure> {
        let object = self.open_any(object)?;
        let is_dir = object.kind() == FileType::Directory;
        let (mut read, mut write, mut execute) = (false, false, false);
        let asked = self.who.act(|| {
            read = object.allows(Access::READ_OK);
            write = object.allows(Access::WRITE_OK);
            execute = object.allows(Access::EXEC_OK);
            Ok(())
        });
        asked.map_err(|error| self.fail(&object, of_errno(error)))?;
        if object.is_regular() && self.dir.tree.no_exec {
            execute = self.who.may_execute(&object.stat);
        }
        let mut granted = 0;
        if read {
            granted |= access::READ;
        }
        if is_dir && execute {
            granted |= access::LOOKUP | access::EXECUTE;
        }
        // To change what is in a directory is to write it and to find things in it.
        if write && (!is_dir || execute) {
            granted |= access::MODIFY | access::EXTEND | if is_dir { access::DELETE } else { 0 };
        }
        if !is_dir && execute {
            granted |= access::EXECUTE;
        }
        encode_access(out, &self.attr(&object), wanted & granted);
        Ok(())
    }

    fn readlink(&self, link: &[u8], out: &mut Writer) -> Result<(), Failure> {
        let link = self.open_any(link)?;
        if link.kind() != FileType::Symlink {
            return Err(self.fail(&link, Status::Invalid));
        }
        let target = readlinkat(&link.fd, c"", Vec::new()).map_err(|error| self.fail(&link, of_errno(error)))?;
        encode_readlink(out, &self.attr(&link), target.as_bytes());
        Ok(())
    }

    fn read(&self, file: &[u8], offset: u64, count: u32, out: &mut Writer) -> Result<(), Failure> {
        let file = self.open_any(file)?;
        match file.kind() {
            FileType::Regular => {}
            FileType::Directory => return Err(self.fail(&file, Status::IsDirectory)),
            _ => return Err(self.fail(&file, Status::Invalid)),
        }
        let failed = |error| self.fail(&file, of_errno(error));
        let content = self.open_to_read(&file).map_err(failed)?;
        let attr = self.attr(&file);
        let left = attr.size.saturating_sub(offset);
        let count = count.min(self.transport.read_size()).min(u32::try_from(left).unwrap_or(u32::MAX));
        let start = out.len();
        ReadHeader::encode(out, &attr, count, offset.saturating_add(u64::from(count)) >= attr.size);
        let room = out.room(count as usize);
        let length = read_full(&content, room, offset).map_err(failed)?;
        if length < room.len() {
            // It has become shorter meanwhile.
            let data = room[..length].to_vec();
            out.truncate(start);
            ReadHeader::encode(out, &self.attr_now(&file), length as u32, true);
            out.raw(&data);
        }
        out.pad(length);
        self.counters.bytes_read.fetch_add(length as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    /// RFC 1813 §4.4: an owner may read what they have open, whatever its mode is by now, and who may run a program may
    /// read it.
    fn open_to_read(&self, file: &Object) -> Result<rustix::fd::OwnedFd, Errno> {
        let runs = || self.who.act(|| Ok(file.allows(Access::EXEC_OK))) == Ok(true);
        match self.who.act(|| file.open(OFlags::RDONLY)) {
            Err(Errno::ACCESS) if self.who.owns(&file.stat) || runs() => file.open(OFlags::RDONLY),
            opened => opened,
        }
    }

    fn fsstat(&self, object: &[u8], out: &mut Writer) -> Result<(), Failure> {
        let object = self.open_any(object)?;
        let stat = fstatvfs(&self.dir.tree.base).map_err(|error| self.fail(&object, of_errno(error)))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        let reserve = self.dir.tree.reserve();
        let stat = FsStat {
            total_bytes: bytes(stat.f_blocks),
            free_bytes: bytes(stat.f_bfree).saturating_sub(reserve),
            available_bytes: bytes(stat.f_bavail).saturating_sub(reserve),
            total_files: stat.f_files,
            free_files: stat.f_ffree.saturating_sub(files_reserve(stat.f_files)),
            available_files: stat.f_favail.saturating_sub(files_reserve(stat.f_files)),
            invariant_seconds: 0,
        };
        stat.encode(out, &self.attr(&object));
        Ok(())
    }

    fn fsinfo(&self, object: &[u8], out: &mut Writer) -> Result<(), Failure> {
        let object = self.open_any(object)?;
        let info = FsInfo {
            read_size: self.transport.read_size(),
            write_size: match self.transport {
                Transport::Tcp => WRITE_SIZE,
                Transport::Udp => procedures::WRITE_SIZE,
            },
            dir_size: self.transport.dir_size(),
            can_set_time: true,
        };
        info.encode(out, &self.attr(&object));
        Ok(())
    }

    fn pathconf(&self, object: &[u8], out: &mut Writer) -> Result<(), Failure> {
        let object = self.open_any(object)?;
        let stat = fstatvfs(&self.dir.tree.base).map_err(|error| self.fail(&object, of_errno(error)))?;
        let name_max = u32::try_from(stat.f_namemax).unwrap_or(u32::MAX);
        PathConf { link_max: self.dir.tree.link_max, name_max }.encode(out, &self.attr(&object));
        Ok(())
    }
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &rustix::fd::OwnedFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pread(file, &mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(length) => done += length,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
