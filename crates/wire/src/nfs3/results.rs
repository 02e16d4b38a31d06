//! Results of the procedures other than READDIR and READDIRPLUS (RFC 1813 §3.3).
//!
//! The decoders give `Err(status)` inside of `Ok` when the server answered with an error.

use super::attributes::{decode_post_op, encode_post_op};
use super::{FileAttr, MAX_HANDLE, Status, Time};
use crate::xdr::{Reader, Writer, XdrError};

/// Most bytes of a symlink's target that a client of ours reads.
const MAX_TARGET: u32 = 65_536;

/// Writes GETATTR's result.
pub fn encode_attributes(out: &mut Writer, attr: &FileAttr) {
    out.u32(Status::Ok as u32);
    attr.encode(out);
}

/// Reads GETATTR's result.
pub fn decode_attributes(reader: &mut Reader<'_>) -> Result<Result<FileAttr, u32>, XdrError> {
    match reader.u32()? {
        0 => FileAttr::decode(reader).map(Ok),
        status => Ok(Err(status)),
    }
}

/// What LOOKUP found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupResult<'a> {
    /// Handle of the object.
    pub handle: &'a [u8],
    /// Its attributes.
    pub attr: Option<FileAttr>,
    /// The directory's attributes.
    pub dir: Option<FileAttr>,
}

/// Writes LOOKUP's result.
pub fn encode_lookup(out: &mut Writer, found: &LookupResult<'_>) {
    out.u32(Status::Ok as u32);
    out.opaque(found.handle);
    encode_post_op(out, found.attr.as_ref());
    encode_post_op(out, found.dir.as_ref());
}

/// Reads LOOKUP's result.
pub fn decode_lookup<'a>(reader: &mut Reader<'a>) -> Result<Result<LookupResult<'a>, u32>, XdrError> {
    match reader.u32()? {
        0 => Ok(Ok(LookupResult {
            handle: reader.opaque(MAX_HANDLE as u32)?,
            attr: decode_post_op(reader)?,
            dir: decode_post_op(reader)?,
        })),
        status => Ok(Err(status)),
    }
}

/// Writes ACCESS's result.
pub fn encode_access(out: &mut Writer, attr: &FileAttr, granted: u32) {
    out.u32(Status::Ok as u32);
    encode_post_op(out, Some(attr));
    out.u32(granted);
}

/// Reads ACCESS's result: the bits granted.
pub fn decode_access(reader: &mut Reader<'_>) -> Result<Result<u32, u32>, XdrError> {
    match reader.u32()? {
        0 => {
            decode_post_op(reader)?;
            reader.u32().map(Ok)
        }
        status => Ok(Err(status)),
    }
}

/// Writes READLINK's result.
pub fn encode_readlink(out: &mut Writer, attr: &FileAttr, target: &[u8]) {
    out.u32(Status::Ok as u32);
    encode_post_op(out, Some(attr));
    out.opaque(target);
}

/// Reads READLINK's result: the target.
pub fn decode_readlink<'a>(reader: &mut Reader<'a>) -> Result<Result<&'a [u8], u32>, XdrError> {
    match reader.u32()? {
        0 => {
            decode_post_op(reader)?;
            reader.opaque(MAX_TARGET).map(Ok)
        }
        status => Ok(Err(status)),
    }
}

/// READ's result up to its data, so that the data can be read straight into the reply.
///
/// `READ3resok` before the data has a fixed size when the attributes are there, as they always are here.
#[derive(Debug, Clone, Copy)]
pub struct ReadHeader;

impl ReadHeader {
    /// Bytes of the encoding, status included.
    pub const SIZE: usize = 4 + 4 + FileAttr::SIZE + 4 + 4 + 4;

    /// Writes the header for `count` bytes of data; these and their padding are to follow.
    pub fn encode(out: &mut Writer, attr: &FileAttr, count: u32, eof: bool) {
        out.u32(Status::Ok as u32);
        encode_post_op(out, Some(attr));
        out.u32(count);
        out.bool(eof);
        out.u32(count);
    }
}

/// Reads READ's result: the data and whether it ends the file.
pub fn decode_read<'a>(reader: &mut Reader<'a>) -> Result<Result<(&'a [u8], bool), u32>, XdrError> {
    match reader.u32()? {
        0 => {
            decode_post_op(reader)?;
            let _count = reader.u32()?;
            let eof = reader.bool()?;
            Ok(Ok((reader.opaque(u32::MAX)?, eof)))
        }
        status => Ok(Err(status)),
    }
}

/// What FSSTAT says of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsStat {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes that the caller can have.
    pub available_bytes: u64,
    /// Inodes in all.
    pub total_files: u64,
    /// Inodes that are free.
    pub free_files: u64,
    /// Inodes that the caller can have.
    pub available_files: u64,
    /// Seconds for which it is not expected to change.
    pub invariant_seconds: u32,
}

impl FsStat {
    /// Writes FSSTAT's result.
    pub fn encode(&self, out: &mut Writer, attr: &FileAttr) {
        out.u32(Status::Ok as u32);
        encode_post_op(out, Some(attr));
        let bytes = [self.total_bytes, self.free_bytes, self.available_bytes];
        let files = [self.total_files, self.free_files, self.available_files];
        for value in bytes.into_iter().chain(files) {
            out.u64(value);
        }
        out.u32(self.invariant_seconds);
    }
}

/// What FSINFO says of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsInfo {
    /// Largest READ, and the one to be preferred, in bytes.
    pub read_size: u32,
    /// Largest WRITE, in bytes.
    pub write_size: u32,
    /// Size of READDIR to be preferred, in bytes.
    pub dir_size: u32,
    /// Whether SETATTR can set times.
    pub can_set_time: bool,
}

impl FsInfo {
    /// FSF3_LINK | FSF3_SYMLINK | FSF3_HOMOGENEOUS.
    const PROPERTIES: u32 = 0x01 | 0x02 | 0x08;
    /// FSF3_CANSETTIME.
    const CAN_SET_TIME: u32 = 0x10;
    /// Sizes are best a multiple of this.
    const MULTIPLE: u32 = 4096;

    /// Writes FSINFO's result.
    pub fn encode(&self, out: &mut Writer, attr: &FileAttr) {
        out.u32(Status::Ok as u32);
        encode_post_op(out, Some(attr));
        for size in [self.read_size, self.write_size] {
            out.u32(size);
            out.u32(size);
            out.u32(Self::MULTIPLE);
        }
        out.u32(self.dir_size);
        out.u64(i64::MAX as u64);
        let resolution = Time { seconds: 0, nanos: 1 };
        out.u32(resolution.seconds);
        out.u32(resolution.nanos);
        out.u32(Self::PROPERTIES | if self.can_set_time { Self::CAN_SET_TIME } else { 0 });
    }
}

/// What PATHCONF says: the same for every object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathConf {
    /// Most names that a file may have.
    pub link_max: u32,
    /// Longest name, in bytes.
    pub name_max: u32,
}

impl PathConf {
    /// Writes PATHCONF's result: names are never cut, only root may give files away, case counts.
    pub fn encode(&self, out: &mut Writer, attr: &FileAttr) {
        out.u32(Status::Ok as u32);
        encode_post_op(out, Some(attr));
        out.u32(self.link_max);
        out.u32(self.name_max);
        let (no_trunc, chown_restricted, case_insensitive, case_preserving) = (true, true, false, true);
        for flag in [no_trunc, chown_restricted, case_insensitive, case_preserving] {
            out.bool(flag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::attributes::tests::SAMPLE;
    use super::*;

    #[test]
    fn results_are_read_as_written() {
        let mut out = Writer::new();
        encode_attributes(&mut out, &SAMPLE);
        assert_eq!(decode_attributes(&mut Reader::new(out.bytes())), Ok(Ok(SAMPLE)));

        out.clear();
        let found = LookupResult { handle: &[1, 2, 3], attr: Some(SAMPLE), dir: None };
        encode_lookup(&mut out, &found);
        assert_eq!(decode_lookup(&mut Reader::new(out.bytes())), Ok(Ok(found)));

        out.clear();
        encode_access(&mut out, &SAMPLE, 0x23);
        assert_eq!(decode_access(&mut Reader::new(out.bytes())), Ok(Ok(0x23)));

        out.clear();
        encode_readlink(&mut out, &SAMPLE, b"usr/bin");
        assert_eq!(decode_readlink(&mut Reader::new(out.bytes())), Ok(Ok(&b"usr/bin"[..])));

        out.clear();
        ReadHeader::encode(&mut out, &SAMPLE, 3, true);
        assert_eq!(out.len(), ReadHeader::SIZE);
        out.fixed(b"abc");
        assert_eq!(decode_read(&mut Reader::new(out.bytes())), Ok(Ok((&b"abc"[..], true))));
    }

    #[test]
    fn an_error_status_is_a_result_of_its_own() {
        let mut out = Writer::new();
        out.u32(Status::Stale as u32);
        assert_eq!(decode_attributes(&mut Reader::new(out.bytes())), Ok(Err(70)));
        assert_eq!(decode_lookup(&mut Reader::new(out.bytes())), Ok(Err(70)));
        assert_eq!(decode_read(&mut Reader::new(out.bytes())), Ok(Err(70)));
    }

    #[test]
    fn rfc1813_sections_3_3_18_to_20_sizes() {
        let mut out = Writer::new();
        let attr = 4 + 4 + FileAttr::SIZE;
        let stat = FsStat {
            total_bytes: 1,
            free_bytes: 2,
            available_bytes: 3,
            total_files: 4,
            free_files: 5,
            available_files: 6,
            invariant_seconds: 7,
        };
        stat.encode(&mut out, &SAMPLE);
        assert_eq!(out.len(), attr + 6 * 8 + 4);
        out.clear();
        FsInfo { read_size: 1, write_size: 2, dir_size: 3, can_set_time: true }.encode(&mut out, &SAMPLE);
        assert_eq!(out.len(), attr + 7 * 4 + 8 + 8 + 4);
        out.clear();
        PathConf { link_max: 1, name_max: 2 }.encode(&mut out, &SAMPLE);
        assert_eq!(out.len(), attr + 6 * 4);
    }
}
