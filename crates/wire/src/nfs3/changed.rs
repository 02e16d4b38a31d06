//! Results of the procedures that change something (RFC 1813 §3.3): their codecs.
//!
//! Both outcomes of such a call carry weak cache consistency data, so the decoders give the status beside it.

use super::attributes::{WccAttr, decode_post_op, encode_post_op};
use super::changes::Stable;
use super::{FileAttr, MAX_HANDLE, Status};
use crate::xdr::{Reader, Writer, XdrError};

/// `wcc_data`: an object before and after a call. `before` is `None` where it was not read in one step with the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wcc {
    /// Before.
    pub before: Option<WccAttr>,
    /// After.
    pub after: Option<FileAttr>,
}

impl Wcc {
    /// Writes it.
    pub fn encode(&self, out: &mut Writer) {
        out.bool(self.before.is_some());
        if let Some(before) = &self.before {
            before.encode(out);
        }
        encode_post_op(out, self.after.as_ref());
    }

    /// Reads it.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        let before = if reader.bool()? { Some(WccAttr::decode(reader)?) } else { None };
        Ok(Self { before, after: decode_post_op(reader)? })
    }
}

/// Writes the result of SETATTR, REMOVE and RMDIR, and of every other change of one object that failed.
pub fn encode_changed(out: &mut Writer, status: Status, wcc: &Wcc) {
    out.u32(status as u32);
    wcc.encode(out);
}

/// Reads what [`encode_changed`] writes.
pub fn decode_changed(reader: &mut Reader<'_>) -> Result<(u32, Wcc), XdrError> {
    Ok((reader.u32()?, Wcc::decode(reader)?))
}

/// `WRITE3resok` without its `wcc_data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes.
    pub count: u32,
    /// What has been waited for.
    pub committed: Stable,
    /// Write verifier of the server: another one means that what was not committed may be lost.
    pub verifier: u64,
}

/// Writes WRITE's result.
pub fn encode_written(out: &mut Writer, wcc: &Wcc, written: &Written) {
    encode_changed(out, Status::Ok, wcc);
    out.u32(written.count);
    out.u32(written.committed as u32);
    out.u64(written.verifier);
}

/// Reads WRITE's result.
pub fn decode_written(reader: &mut Reader<'_>) -> Result<(Result<Written, u32>, Wcc), XdrError> {
    let (status, wcc) = decode_changed(reader)?;
    if status != 0 {
        return Ok((Err(status), wcc));
    }
    let written = Written { count: reader.u32()?, committed: Stable::decode(reader)?, verifier: reader.u64()? };
    Ok((Ok(written), wcc))
}

/// Writes COMMIT's result.
pub fn encode_committed(out: &mut Writer, wcc: &Wcc, verifier: u64) {
    encode_changed(out, Status::Ok, wcc);
    out.u64(verifier);
}

/// Reads COMMIT's result: the write verifier.
pub fn decode_committed(reader: &mut Reader<'_>) -> Result<(Result<u64, u32>, Wcc), XdrError> {
    let (status, wcc) = decode_changed(reader)?;
    Ok((if status == 0 { Ok(reader.u64()?) } else { Err(status) }, wcc))
}

/// Writes the result of CREATE, MKDIR, SYMLINK and MKNOD: the new object, and its directory.
pub fn encode_created(out: &mut Writer, handle: Option<&[u8]>, attr: Option<&FileAttr>, dir: &Wcc) {
    out.u32(Status::Ok as u32);
    out.bool(handle.is_some());
    if let Some(handle) = handle {
        out.opaque(handle);
    }
    encode_post_op(out, attr);
    dir.encode(out);
}

/// A new object as its maker is told of it: handle and attributes.
pub type Created<'a> = (Option<&'a [u8]>, Option<FileAttr>);

/// Reads the result of CREATE, MKDIR, SYMLINK and MKNOD.
pub fn decode_created<'a>(reader: &mut Reader<'a>) -> Result<(Result<Created<'a>, u32>, Wcc), XdrError> {
    match reader.u32()? {
        0 => {
            let handle = if reader.bool()? { Some(reader.opaque(MAX_HANDLE as u32)?) } else { None };
            let attr = decode_post_op(reader)?;
            Ok((Ok((handle, attr)), Wcc::decode(reader)?))
        }
        status => Ok((Err(status), Wcc::decode(reader)?)),
    }
}

/// Writes RENAME's result.
pub fn encode_renamed(out: &mut Writer, status: Status, from: &Wcc, to: &Wcc) {
    out.u32(status as u32);
    from.encode(out);
    to.encode(out);
}

/// Reads RENAME's result.
pub fn decode_renamed(reader: &mut Reader<'_>) -> Result<(u32, Wcc, Wcc), XdrError> {
    Ok((reader.u32()?, Wcc::decode(reader)?, Wcc::decode(reader)?))
}

/// Writes LINK's result.
pub fn encode_linked(out: &mut Writer, status: Status, file: Option<&FileAttr>, dir: &Wcc) {
    out.u32(status as u32);
    encode_post_op(out, file);
    dir.encode(out);
}

/// Reads LINK's result.
pub fn decode_linked(reader: &mut Reader<'_>) -> Result<(u32, Option<FileAttr>, Wcc), XdrError> {
    Ok((reader.u32()?, decode_post_op(reader)?, Wcc::decode(reader)?))
}

#[cfg(test)]
mod tests {
    use super::super::attributes::tests::SAMPLE;
    use super::*;

    #[test]
    fn results_of_changes_are_read_as_written() {
        let wcc = Wcc { before: Some(WccAttr::of(&SAMPLE)), after: Some(SAMPLE) };
        let half = Wcc { before: None, after: Some(SAMPLE) };
        let mut out = Writer::new();
        encode_changed(&mut out, Status::NotEmpty, &half);
        assert_eq!(decode_changed(&mut Reader::new(out.bytes())), Ok((66, half)));
        assert_eq!(decode_written(&mut Reader::new(out.bytes())), Ok((Err(66), half)));
        assert_eq!(decode_committed(&mut Reader::new(out.bytes())), Ok((Err(66), half)));
        assert_eq!(decode_created(&mut Reader::new(out.bytes())), Ok((Err(66), half)));
        out.clear();
        let written = Written { count: 5, committed: Stable::Data, verifier: 7 << 32 };
        encode_written(&mut out, &wcc, &written);
        assert_eq!(decode_written(&mut Reader::new(out.bytes())), Ok((Ok(written), wcc)));
        out.clear();
        encode_committed(&mut out, &wcc, 9);
        assert_eq!(decode_committed(&mut Reader::new(out.bytes())), Ok((Ok(9), wcc)));
        out.clear();
        encode_created(&mut out, Some(b"handle"), Some(&SAMPLE), &wcc);
        let created: Created<'_> = (Some(b"handle"), Some(SAMPLE));
        assert_eq!(decode_created(&mut Reader::new(out.bytes())), Ok((Ok(created), wcc)));
        out.clear();
        encode_renamed(&mut out, Status::Ok, &wcc, &half);
        assert_eq!(decode_renamed(&mut Reader::new(out.bytes())), Ok((0, wcc, half)));
        out.clear();
        encode_linked(&mut out, Status::Exists, Some(&SAMPLE), &wcc);
        assert_eq!(decode_linked(&mut Reader::new(out.bytes())), Ok((17, Some(SAMPLE), wcc)));
    }
}
