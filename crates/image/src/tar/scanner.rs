//! The streaming parser.

use super::header::Header;
use super::path::{Name, classify, normalise};
use super::pax::{Records, Sparse, xattr_cost};
use super::sparse::{self, Map, MapReader};
use super::{
    BLOCK, DataRun, Entry, EntryKind, LayerEntries, MAX_ENTRIES, MAX_METADATA, MAX_PATH, MAX_TOTAL, TarError,
    TarErrorReason,
};
use crate::Timestamp;

/// Reads a layer's uncompressed tar while it is being written: [`push`](Self::push) each piece,
/// in any sizes, then [`finish`](Self::finish).
///
/// Memory is bounded whatever the tar says: by its number of entries and the sum of names, link
/// targets, extended attributes and sparse maps.
#[derive(Debug)]
pub struct LayerScanner {
    /// Offset of the next byte in the tar.
    pos: u64,
    /// Bytes of file content to pass over.
    skip: u64,
    block: [u8; BLOCK],
    filled: usize,
    state: State,
    /// What extended headers have said for the next entry.
    pending: Pending,
    global: Records,
    entries: Vec<Entry>,
    /// Bytes that `entries` takes.
    cost: usize,
    failed: Option<TarError>,
}

#[derive(Debug)]
enum State {
    /// A header comes next; whether a block of zeros has just been read.
    Header { after_zeros: bool },
    /// An extended header's text.
    Metadata { kind: Metadata, left: usize, text: Vec<u8> },
    /// More of an old GNU sparse map.
    SparseExtension { file: SparseFile, map: Map },
    /// The sparse map before a file's data (PAX 1.0).
    SparseMap { file: SparseFile, reader: MapReader },
    /// Behind the end mark: nothing of it counts.
    End,
}

#[derive(Debug, Clone, Copy)]
enum Metadata {
    Pax,
    Global,
    LongName,
    LongLink,
}

/// A sparse file whose map is being read.
#[derive(Debug)]
struct SparseFile {
    entry: Entry,
    size: u64,
    /// Bytes in the tar, of a map there included.
    stored: u64,
}

#[derive(Debug, Default)]
struct Pending {
    /// Where the first extended header stands.
    pos: Option<u64>,
    pax: Records,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Default for LayerScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl LayerScanner {
    /// At the first byte of a tar.
    pub fn new() -> Self {
        Self {
            pos: 0,
            skip: 0,
            block: [0; BLOCK],
            filled: 0,
            state: State::Header { after_zeros: false },
            pending: Pending::default(),
            global: Records::default(),
            entries: Vec::new(),
            cost: 0,
            failed: None,
        }
    }

    /// Takes the next bytes of the tar. After an error every further call fails with the same.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        while !bytes.is_empty() {
            if let State::End = self.state {
                self.pos += bytes.len() as u64;
                return Ok(());
            }
            if self.skip > 0 {
                let len = usize::try_from(self.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
                bytes = &bytes[len..];
                self.skip -= len as u64;
                self.pos += len as u64;
                continue;
            }
            let (piece, rest) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
            self.block[self.filled..self.filled + piece.len()].copy_from_slice(piece);
            self.filled += piece.len();
            self.pos += piece.len() as u64;
            bytes = rest;
            if self.filled == BLOCK {
                self.filled = 0;
                let block = self.block;
                self.take_block(&block).map_err(|reason| self.fail(&block, reason))?;
            }
        }
        Ok(())
    }

    /// The tar is complete.
    ///
    /// A tar may end without the two blocks of zeros, as some writers do, but not within an entry.
    pub fn finish(mut self) -> Result<LayerEntries, TarError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.state {
            State::End => {}
            State::Header { .. } if self.skip == 0 && self.filled == 0 => {
                if self.pending.pos.is_some() {
                    return Err(self.fail(&[0; BLOCK], TarErrorReason::StrayMetadata));
                }
            }
            _ => {
                let path = self.entries.last().map(|e| shorten(&e.path)).unwrap_or_default();
                return Err(TarError { pos: self.pos, path, reason: TarErrorReason::Truncated });
            }
        }
        Ok(LayerEntries { entries: self.entries, tar_len: self.pos })
    }

    fn fail(&mut self, block: &[u8; BLOCK], reason: TarErrorReason) -> TarError {
        let pos = self.pending.pos.unwrap_or(self.pos.saturating_sub(BLOCK as u64));
        let path = match (&self.state, &self.pending) {
            (State::SparseExtension { file, .. } | State::SparseMap { file, .. }, _) => shorten(&file.entry.path),
            (_, Pending { pax: Records { path: Some(path), .. }, .. }) | (_, Pending { long_name: Some(path), .. }) => {
                shorten(path)
            }
            (State::Header { .. }, _) => Header::parse(block).map(|h| shorten(&h.name())).unwrap_or_default(),
            _ => String::new(),
        };
        let error = TarError { pos, path, reason };
        self.failed = Some(error.clone());
        error
    }

    fn take_block(&mut self, block: &[u8; BLOCK]) -> Result<(), TarErrorReason> {
        match std::mem::replace(&mut self.state, State::Header { after_zeros: false }) {
            State::Header { after_zeros } => self.take_header(block, after_zeros),
            State::Metadata { kind, left, mut text } => {
                let (text_here, padding) = block.split_at(left.min(BLOCK));
                text.extend(text_here);
                if padding.is_empty() && left > BLOCK {
                    self.state = State::Metadata { kind, left: left - BLOCK, text };
                    return Ok(());
                }
                self.take_metadata(kind, text)
            }
            State::SparseExtension { file, mut map } => {
                let (runs, more) = sparse::old_gnu_extension(block);
                sparse::push_old_gnu(runs, &mut map)?;
                if more {
                    self.charge_runs(map.len())?;
                    self.state = State::SparseExtension { file, map };
                    return Ok(());
                }
                self.take_sparse(file, &map)
            }
            State::SparseMap { mut file, mut reader } => {
                file.stored = file.stored.checked_sub(BLOCK as u64).ok_or(TarErrorReason::Sparse)?;
                let max_runs = (MAX_TOTAL - self.cost) / size_of::<DataRun>();
                match reader.push(block, max_runs)? {
                    Some(map) => self.take_sparse(file, &map),
                    None => {
                        self.state = State::SparseMap { file, reader };
                        Ok(())
                    }
                }
            }
            State::End => {
                self.state = State::End;
                Ok(())
            }
        }
    }

    fn take_header(&mut self, block: &[u8; BLOCK], after_zeros: bool) -> Result<(), TarErrorReason> {
        if block.iter().all(|&byte| byte == 0) {
            if self.pending.pos.is_some() {
                return Err(TarErrorReason::StrayMetadata);
            }
            self.state = if after_zeros { State::End } else { State::Header { after_zeros: true } };
            return Ok(());
        }
        if after_zeros {
            return Err(TarErrorReason::LoneZeroBlock);
        }
        let header = Header::parse(block)?;
        let kind = match header.type_flag() {
            b'x' => Metadata::Pax,
            b'g' => Metadata::Global,
            b'L' => Metadata::LongName,
            b'K' => Metadata::LongLink,
            // A GNU volume label names nothing.
            b'V' => return self.skip_padded(header.size()?),
            _ => return self.take_entry(&header),
        };
        let left = header.size()?;
        if left > MAX_METADATA {
            return Err(TarErrorReason::MetadataSize(left));
        }
        if !matches!(kind, Metadata::Global) {
            self.pending.pos.get_or_insert(self.pos - BLOCK as u64);
        }
        // At most MAX_METADATA, and it grows with what is really there.
        match usize::try_from(left) {
            Ok(left @ 1..) => self.state = State::Metadata { kind, left, text: Vec::new() },
            _ => self.take_metadata(kind, Vec::new())?,
        }
        Ok(())
    }

    fn take_metadata(&mut self, kind: Metadata, mut text: Vec<u8>) -> Result<(), TarErrorReason> {
        match kind {
            Metadata::Pax => self.pending.pax.parse(&text),
            Metadata::Global => self.global.parse_global(&text),
            Metadata::LongName | Metadata::LongLink => {
                text.truncate(text.iter().position(|&b| b == 0).unwrap_or(text.len()));
                match kind {
                    Metadata::LongName => self.pending.long_name = Some(text),
                    _ => self.pending.long_link = Some(text),
                }
                Ok(())
            }
        }
    }

    fn take_entry(&mut self, header: &Header<'_>) -> Result<(), TarErrorReason> {
        // `fail` names the entry by these, so they are taken only once all is well.
        let mut pax = self.pending.pax.clone().or(&self.global);
        let pax_sparse = pax.take_sparse()?;
        let raw_name = pax.path.or_else(|| self.pending.long_name.clone()).unwrap_or_else(|| header.name());
        let stored = match pax.size {
            Some(size) => i64::try_from(size).map(|_| size).map_err(|_| TarErrorReason::Number("size"))?,
            None => header.size()?,
        };
        let link =
            pax.link_path.or_else(|| self.pending.long_link.clone()).unwrap_or_else(|| header.link_name().into());
        // Old tars have no type for directories: their names end in a slash.
        let type_flag = match header.type_flag() {
            0 | b'0' | b'7' if raw_name.ends_with(b"/") => b'5',
            0 | b'7' => b'0',
            other => other,
        };
        let name = classify(&raw_name)?;
        let kind = match (&name, type_flag) {
            (Name::AufsMetadata, _) => None,
            (Name::Whiteout(_), _) => Some(EntryKind::Whiteout),
            (Name::Opaque(_), _) => Some(EntryKind::Opaque),
            (Name::Object(_), b'0' | b'S') => Some(EntryKind::Regular { size: stored, runs: Vec::new() }),
            (Name::Object(_), b'1') => Some(EntryKind::HardLink(link_target(&link).and_then(|_| normalise(&link))?)),
            (Name::Object(_), b'2') => Some(EntryKind::Symlink(link_target(&link)?.into())),
            (Name::Object(_), b'3') => {
                header.device().map(|(major, minor)| Some(EntryKind::CharDevice(major, minor)))?
            }
            (Name::Object(_), b'4') => {
                header.device().map(|(major, minor)| Some(EntryKind::BlockDevice(major, minor)))?
            }
            (Name::Object(_), b'5') => Some(EntryKind::Directory),
            (Name::Object(_), b'6') => Some(EntryKind::Fifo),
            (Name::Object(_), other) => return Err(TarErrorReason::TypeFlag(other)),
        };
        // Links, devices, directories and pipes have no data whatever their size field says, as
        // other readers have it.
        let data = if matches!(header.type_flag(), b'1'..=b'6') { 0 } else { stored };
        let (Name::Object(path) | Name::Whiteout(path) | Name::Opaque(path)) = name else {
            self.pending = Pending::default();
            return self.skip_padded(data);
        };
        let kind = kind.ok_or(TarErrorReason::Whiteout)?;
        if path.is_empty() && !matches!(kind, EntryKind::Directory | EntryKind::Opaque) {
            return Err(TarErrorReason::RootNotADirectory);
        }
        let entry = Entry {
            path,
            kind,
            mode: header.mode()?,
            uid: pax.uid.map_or_else(|| header.uid(), Ok)?,
            gid: pax.gid.map_or_else(|| header.gid(), Ok)?,
            mtime: match pax.mtime {
                Some(mtime) => mtime,
                None => Timestamp { secs: header.mtime()?, nanos: 0 },
            },
            xattrs: pax.xattrs,
        };
        if !matches!(entry.kind, EntryKind::Regular { .. }) {
            self.push_entry(entry)?;
            return self.skip_padded(data);
        }
        match pax_sparse {
            Some(Sparse::Map { size, map }) => self.take_sparse(SparseFile { entry, size, stored }, &map),
            Some(Sparse::InData { size }) => {
                let file = SparseFile { entry, size, stored };
                self.state = State::SparseMap { file, reader: MapReader::default() };
                Ok(())
            }
            None if type_flag == b'S' => {
                let sparse = header.sparse()?;
                let mut map = Map::new();
                sparse::push_old_gnu(sparse.runs, &mut map)?;
                let file = SparseFile { entry, size: sparse.real_size, stored };
                if sparse.is_extended {
                    self.state = State::SparseExtension { file, map };
                    return Ok(());
                }
                self.take_sparse(file, &map)
            }
            None => self.take_sparse(SparseFile { entry, size: stored, stored }, &[(0, stored)]),
        }
    }

    /// A regular file whose map is known, at its first data byte.
    fn take_sparse(&mut self, file: SparseFile, map: &[(u64, u64)]) -> Result<(), TarErrorReason> {
        let SparseFile { mut entry, size, stored } = file;
        let runs = sparse::place(map, size, self.pos, stored)?;
        entry.kind = EntryKind::Regular { size, runs };
        self.push_entry(entry)?;
        self.skip_padded(stored)
    }

    fn push_entry(&mut self, entry: Entry) -> Result<(), TarErrorReason> {
        if self.entries.len() >= MAX_ENTRIES {
            return Err(TarErrorReason::TooManyEntries);
        }
        let kind_cost = match &entry.kind {
            EntryKind::Regular { runs, .. } => runs.len() * size_of::<DataRun>(),
            EntryKind::Symlink(target) | EntryKind::HardLink(target) => target.len(),
            _ => 0,
        };
        self.cost += size_of::<Entry>() + entry.path.len() + kind_cost + xattr_cost(&entry.xattrs);
        self.charge_runs(0)?;
        self.entries.push(entry);
        self.pending = Pending::default();
        Ok(())
    }

    /// Whether what is kept, and `runs` more of a map, is within bounds.
    fn charge_runs(&self, runs: usize) -> Result<(), TarErrorReason> {
        if self.cost + runs * size_of::<DataRun>() > MAX_TOTAL { Err(TarErrorReason::TooMuchMetadata) } else { Ok(()) }
    }

    fn skip_padded(&mut self, len: u64) -> Result<(), TarErrorReason> {
        // An end that cannot be numbered cannot be reached either.
        let padded = len.checked_next_multiple_of(BLOCK as u64).ok_or(TarErrorReason::Number("size"))?;
        self.pos.checked_add(padded).ok_or(TarErrorReason::Number("size"))?;
        self.skip = padded;
        Ok(())
    }
}

fn link_target(target: &[u8]) -> Result<&[u8], TarErrorReason> {
    if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) {
        return Err(TarErrorReason::LinkTarget);
    }
    Ok(target)
}

fn shorten(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned()
}
