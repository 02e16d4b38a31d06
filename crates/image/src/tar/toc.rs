//! `layers/<diff_id>.toc`: a layer's entries, so that an index is built without reading tars again.
//!
//! Magic, CRC-32 of the rest, length of the tar, number of entries, the entries; little-endian,
//! numbers as LEB128. It is a cache of our own making: one that does not read is made anew.

use super::{DataRun, Entry, EntryKind, LayerEntries, MAX_ENTRIES, Xattr};
use crate::Timestamp;

const MAGIC: [u8; 8] = *b"WALTTC01";

/// The bytes are no table of contents of this version, or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the layer's table of contents is damaged or of another version")]
pub struct TocError;

impl LayerEntries {
    /// Compact form for `layers/<diff_id>.toc`.
    pub fn to_toc(&self) -> Vec<u8> {
        let mut out = Writer(Vec::from(MAGIC));
        out.0.extend([0; 4]);
        out.number(self.tar_len);
        out.number(self.entries.len() as u64);
        for entry in &self.entries {
            out.entry(entry);
        }
        let crc = crc32fast::hash(&out.0[12..]);
        out.0[8..12].copy_from_slice(&crc.to_le_bytes());
        out.0
    }

    /// Reads what [`to_toc`](Self::to_toc) wrote.
    pub fn from_toc(bytes: &[u8]) -> Result<Self, TocError> {
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(TocError)?;
        let (crc, body) = rest.split_first_chunk::<4>().ok_or(TocError)?;
        if *magic != MAGIC || crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(TocError);
        }
        Reader(body).layer().ok_or(TocError)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn numbers<T: Into<u64> + Copy>(&mut self, numbers: &[T]) {
        numbers.iter().for_each(|&number| self.number(number.into()));
    }

    fn entry(&mut self, entry: &Entry) {
        self.bytes(&entry.path);
        match &entry.kind {
            EntryKind::Regular { size, runs } => {
                self.numbers(&[0, *size, runs.len() as u64]);
                runs.iter().for_each(|run| self.numbers(&[run.offset, run.pos, run.len]));
            }
            EntryKind::Directory => self.number(1),
            EntryKind::Symlink(target) => {
                self.number(2);
                self.bytes(target);
            }
            EntryKind::HardLink(target) => {
                self.number(3);
                self.bytes(target);
            }
            EntryKind::BlockDevice(major, minor) => self.numbers(&[4, *major, *minor]),
            EntryKind::CharDevice(major, minor) => self.numbers(&[5, *major, *minor]),
            EntryKind::Fifo => self.number(6),
            EntryKind::Whiteout => self.number(7),
            EntryKind::Opaque => self.number(8),
        }
        self.numbers(&[entry.mode, entry.uid, entry.gid]);
        self.number(entry.mtime.secs.cast_unsigned());
        self.number(entry.mtime.nanos.into());
        self.number(entry.xattrs.len() as u64);
        for xattr in &entry.xattrs {
            self.bytes(&xattr.name);
            self.bytes(&xattr.value);
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn layer(mut self) -> Option<LayerEntries> {
        let tar_len = self.number()?;
        let count = self.count(MAX_ENTRIES)?;
        // Every list grows as its members are found to be there: a length alone allocates nothing.
        let entries = (0..count).map(|_| self.entry()).collect::<Option<_>>()?;
        self.0.is_empty().then_some(LayerEntries { entries, tar_len })
    }

    fn entry(&mut self) -> Option<Entry> {
        let path = self.bytes()?;
        let kind = match self.number()? {
            0 => {
                let size = self.number()?;
                let runs = self.count(usize::MAX)?;
                let run = |r: &mut Self| Some(DataRun { offset: r.number()?, pos: r.number()?, len: r.number()? });
                EntryKind::Regular { size, runs: (0..runs).map(|_| run(self)).collect::<Option<_>>()? }
            }
            1 => EntryKind::Directory,
            2 => EntryKind::Symlink(self.bytes()?),
            3 => EntryKind::HardLink(self.bytes()?),
            4 => EntryKind::BlockDevice(self.word()?, self.word()?),
            5 => EntryKind::CharDevice(self.word()?, self.word()?),
            6 => EntryKind::Fifo,
            7 => EntryKind::Whiteout,
            8 => EntryKind::Opaque,
            _ => return None,
        };
        let (mode, uid, gid) = (self.word()?, self.word()?, self.word()?);
        let mtime = Timestamp { secs: self.number()?.cast_signed(), nanos: self.word()? };
        let count = self.count(usize::MAX)?;
        let xattr = |r: &mut Self| Some(Xattr { name: r.bytes()?, value: r.bytes()? });
        let xattrs = (0..count).map(|_| xattr(self)).collect::<Option<_>>()?;
        Some(Entry { path, kind, mode, uid, gid, mtime, xattrs })
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn word(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn count(&mut self, limit: usize) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|&count| count <= limit)
    }

    fn bytes(&mut self) -> Option<Box<[u8]>> {
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes.into())
    }
}
