//! Results of READDIR and READDIRPLUS, filled up to exactly what the caller has room for (RFC 1813 §3.3.16, §3.3.17).

use super::attributes::{decode_post_op, encode_post_op};
use super::{FileAttr, MAX_HANDLE, Status};
use crate::xdr::{Reader, Writer, XdrError, padding};

/// Bytes of `READDIR3resok` without entries: directory attributes, verifier, end of list, end of directory.
const FRAME: usize = 4 + FileAttr::SIZE + 8 + 4 + 4;

/// Writes the list, entry by entry, and refuses the one that does not fit any more.
#[derive(Debug)]
pub struct DirectoryWriter {
    start: usize,
    room: usize,
    directory_room: usize,
    entries: usize,
}

impl DirectoryWriter {
    /// Starts a result whose `READDIR3resok` (or `READDIRPLUS3resok`) takes at most `max_count` bytes,
    /// and whose names, numbers and cookies at most `dir_count`. READDIR has no such second bound.
    pub fn start(out: &mut Writer, dir: &FileAttr, max_count: u32, dir_count: Option<u32>) -> Self {
        let start = out.len();
        out.u32(Status::Ok as u32);
        encode_post_op(out, Some(dir));
        // Cookies are fixed by the file system's index and never become invalid: RFC 1813 §3.3.16 allows zero.
        out.u64(0);
        Self {
            start,
            room: (max_count as usize).saturating_sub(FRAME),
            directory_room: dir_count.map_or(usize::MAX, |count| count as usize),
            entries: 0,
        }
    }

    /// Adds an entry of READDIR; false if there is no room for it.
    pub fn entry(&mut self, out: &mut Writer, fileid: u64, name: &[u8], cookie: u64) -> bool {
        if !self.take(entry_size(name), entry_size(name)) {
            return false;
        }
        encode_entry(out, fileid, name, cookie);
        true
    }

    /// Whether an entry of READDIRPLUS with this name and a handle of `handle_size` bytes has room.
    ///
    /// Asked first, so that no attributes are fetched for an entry that won't be sent.
    pub fn plus_fits(&self, name: &[u8], handle_size: usize) -> bool {
        let size = entry_size(name);
        size <= self.directory_room && size + plus_size(handle_size) <= self.room
    }

    /// Adds an entry of READDIRPLUS; false if there is no room for it.
    pub fn plus_entry(&mut self, out: &mut Writer, name: &[u8], cookie: u64, attr: &FileAttr, handle: &[u8]) -> bool {
        let size = entry_size(name);
        if !self.take(size, size + plus_size(handle.len())) {
            return false;
        }
        encode_entry(out, attr.fileid, name, cookie);
        encode_post_op(out, Some(attr));
        out.bool(true);
        out.opaque(handle);
        true
    }

    /// Adds an entry of READDIRPLUS of which nothing more is said; false if there is no room for it.
    pub fn plus_name(&mut self, out: &mut Writer, fileid: u64, name: &[u8], cookie: u64) -> bool {
        let size = entry_size(name);
        if !self.take(size, size + 8) {
            return false;
        }
        encode_entry(out, fileid, name, cookie);
        out.bool(false);
        out.bool(false);
        true
    }

    /// Ends the result. `eof` says that nothing is left. When something is and no entry had room, the
    /// result becomes NFS3ERR_TOOSMALL, because an empty list would have the caller ask for ever.
    pub fn finish(self, out: &mut Writer, dir: &FileAttr, eof: bool) {
        if self.entries == 0 && !eof {
            out.truncate(self.start);
            out.u32(Status::TooSmall as u32);
            encode_post_op(out, Some(dir));
            return;
        }
        out.bool(false);
        out.bool(eof);
    }

    fn take(&mut self, directory: usize, all: usize) -> bool {
        if directory > self.directory_room || all > self.room {
            return false;
        }
        self.directory_room -= directory;
        self.room -= all;
        self.entries += 1;
        true
    }
}

/// Bytes of `entry3`: "there is one", fileid, name, cookie.
fn entry_size(name: &[u8]) -> usize {
    4 + 8 + 4 + name.len() + padding(name.len()) + 8
}

/// Bytes that `entryplus3` has beyond that: attributes and handle.
fn plus_size(handle: usize) -> usize {
    4 + FileAttr::SIZE + 4 + 4 + handle + padding(handle)
}

fn encode_entry(out: &mut Writer, fileid: u64, name: &[u8], cookie: u64) {
    out.bool(true);
    out.u64(fileid);
    out.opaque(name);
    out.u64(cookie);
}

/// One entry, as a client reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Number of the file.
    pub fileid: u64,
    /// Name.
    pub name: &'a [u8],
    /// Cookie that continues after it.
    pub cookie: u64,
    /// Attributes (READDIRPLUS).
    pub attr: Option<FileAttr>,
    /// Handle (READDIRPLUS).
    pub handle: Option<&'a [u8]>,
}

/// What follows the entries of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListingEnd {
    /// To be given back with the cookie that continues the listing.
    pub verifier: u64,
    /// Whether nothing is left of the directory.
    pub eof: bool,
}

/// Reads a result of READDIRPLUS (`plus`) or READDIR, calling `each` for every entry.
pub fn decode_directory<'a>(
    reader: &mut Reader<'a>,
    plus: bool,
    mut each: impl FnMut(Entry<'a>),
) -> Result<Result<ListingEnd, u32>, XdrError> {
    match reader.u32()? {
        0 => {}
        status => return Ok(Err(status)),
    }
    decode_post_op(reader)?;
    let verifier = reader.u64()?;
    while reader.bool()? {
        let (fileid, name, cookie) = (reader.u64()?, reader.opaque(u32::MAX)?, reader.u64()?);
        let (mut attr, mut handle) = (None, None);
        if plus {
            attr = decode_post_op(reader)?;
            handle = if reader.bool()? { Some(reader.opaque(MAX_HANDLE as u32)?) } else { None };
        }
        each(Entry { fileid, name, cookie, attr, handle });
    }
    Ok(Ok(ListingEnd { verifier, eof: reader.bool()? }))
}

#[cfg(test)]
mod tests {
    use super::super::attributes::tests::SAMPLE;
    use super::*;

    const NAMES: [&[u8]; 4] = [b".", b"..", b"etc", b"lost+found"];

    /// Names listed and `eof`, or the status.
    type Listed = Result<(Vec<Vec<u8>>, bool), u32>;

    /// Lists NAMES with these bounds: the result's size without status, and what it holds.
    fn list(plus: bool, max_count: u32, dir_count: Option<u32>) -> (usize, Listed) {
        let mut out = Writer::new();
        let mut writer = DirectoryWriter::start(&mut out, &SAMPLE, max_count, dir_count);
        let mut eof = true;
        for (index, name) in NAMES.into_iter().enumerate() {
            let cookie = index as u64 + 1;
            let added = match plus {
                true => {
                    let fits = writer.plus_fits(name, 28);
                    assert_eq!(writer.plus_entry(&mut out, name, cookie, &SAMPLE, &[1; 28]), fits);
                    fits
                }
                false => writer.entry(&mut out, 5, name, cookie),
            };
            if !added {
                eof = false;
                break;
            }
        }
        writer.finish(&mut out, &SAMPLE, eof);
        let mut names = Vec::new();
        let result = decode_directory(&mut Reader::new(out.bytes()), plus, |entry| names.push(entry.name.to_vec()));
        (out.len() - 4, result.unwrap().map(|end| (names, end.eof)))
    }

    #[test]
    fn rfc1813_section_3_3_16_count_bounds_the_whole_result_exactly() {
        let (whole, result) = list(false, 4096, None);
        assert_eq!(result.unwrap().0, NAMES);
        for count in 0..whole as u32 + 8 {
            let (size, result) = list(false, count, None);
            match result {
                Ok((names, eof)) => {
                    assert!(size <= count as usize, "{size} bytes where {count} are allowed");
                    assert_eq!(eof, names.len() == NAMES.len());
                    assert_eq!(eof, count as usize >= whole);
                }
                Err(status) => {
                    assert_eq!(status, Status::TooSmall as u32);
                    assert!((count as usize) < FRAME + entry_size(b"."), "{count} bytes are enough for an entry");
                }
            }
        }
    }

    #[test]
    fn rfc1813_section_3_3_17_both_counts_bound_the_result_exactly() {
        let (whole, result) = list(true, 4096, Some(4096));
        assert_eq!(result.unwrap(), (NAMES.map(<[u8]>::to_vec).to_vec(), true));
        for count in 0..whole as u32 + 8 {
            if let (size, Ok((names, _))) = list(true, count, Some(4096)) {
                assert!(size <= count as usize);
                // One more would not have had room.
                let next = NAMES.get(names.len()).map_or(0, |name| entry_size(name) + plus_size(28));
                assert!(next == 0 || size + next > count as usize);
            }
        }
        // Of some, no more is said than the name.
        let mut out = Writer::new();
        let mut writer = DirectoryWriter::start(&mut out, &SAMPLE, (FRAME + entry_size(b".") + 8) as u32, Some(4096));
        assert!(writer.plus_name(&mut out, 5, b".", 1) && !writer.plus_name(&mut out, 6, b"..", 2));
        writer.finish(&mut out, &SAMPLE, false);
        assert_eq!(out.len() - 4, FRAME + entry_size(b".") + 8);
        let mut entries = Vec::new();
        decode_directory(&mut Reader::new(out.bytes()), true, |entry| entries.push(entry)).unwrap().unwrap();
        assert_eq!(entries, [Entry { fileid: 5, name: b".", cookie: 1, attr: None, handle: None }]);
        let two = entry_size(b".") + entry_size(b"..");
        assert_eq!(list(true, 4096, Some(two as u32)).1.unwrap().0.len(), 2);
        assert_eq!(list(true, 4096, Some(two as u32 - 1)).1.unwrap().0.len(), 1);
        assert_eq!(list(true, 4096, Some(8)).1, Err(Status::TooSmall as u32));
    }
}
