//! Maps of sparse files: GNU's four ways of writing them.

use super::number::{decimal, header_number};
use super::{BLOCK, DataRun, TarErrorReason};

/// Runs (offset, length) of a sparse file, as listed in the tar.
pub(super) type Map = Vec<(u64, u64)>;

/// Adds the runs of an old GNU header or of an extension block: 24 bytes each, ended by a blank one.
pub(super) fn push_old_gnu(fields: &[u8], map: &mut Map) -> Result<(), TarErrorReason> {
    for field in fields.chunks_exact(24) {
        if field[0] == 0 {
            break;
        }
        let number = |field| header_number(field).and_then(|n| u64::try_from(n).ok()).ok_or(TarErrorReason::Sparse);
        map.push((number(&field[..12])?, number(&field[12..])?));
    }
    Ok(())
}

/// The runs in an old GNU extension block, and whether another block follows.
pub(super) fn old_gnu_extension(block: &[u8; BLOCK]) -> (&[u8], bool) {
    (&block[..504], block[504] != 0)
}

/// `GNU.sparse.map` of PAX format 0.1: `offset,length,offset,length…`.
pub(super) fn parse_pax_map(value: &[u8]) -> Result<Map, TarErrorReason> {
    if value.is_empty() {
        return Ok(Map::new());
    }
    let numbers = value.split(|&b| b == b',').map(decimal).collect::<Option<Vec<_>>>().ok_or(TarErrorReason::Sparse)?;
    pairs(&numbers)
}

/// (offset, length) pairs of a flat list, as format 0.0 and 1.0 give it.
pub(super) fn pairs(numbers: &[u64]) -> Result<Map, TarErrorReason> {
    let pairs = numbers.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(TarErrorReason::Sparse);
    }
    Ok(pairs.map(|pair| (pair[0], pair[1])).collect())
}

/// The map of PAX format 1.0: decimal numbers, one a line, in blocks before the file's data.
#[derive(Debug, Default)]
pub(super) struct MapReader {
    digits: Vec<u8>,
    count: Option<usize>,
    numbers: Vec<u64>,
}

impl MapReader {
    /// Takes a block; gives the map once it is complete. At most `max_runs` runs are kept.
    pub(super) fn push(&mut self, block: &[u8; BLOCK], max_runs: usize) -> Result<Option<Map>, TarErrorReason> {
        for &byte in block {
            if byte != b'\n' {
                self.digits.push(byte);
                // 2^64 has 20 digits.
                if self.digits.len() > 20 {
                    return Err(TarErrorReason::Sparse);
                }
                continue;
            }
            let number = decimal(&self.digits).ok_or(TarErrorReason::Sparse)?;
            self.digits.clear();
            match self.count {
                None => {
                    let count = usize::try_from(number).ok().filter(|&count| count <= max_runs);
                    self.count = Some(count.ok_or(TarErrorReason::Sparse)?);
                }
                Some(_) => self.numbers.push(number),
            }
            if self.count.is_some_and(|count| self.numbers.len() >= 2 * count) {
                return pairs(&self.numbers).map(Some);
            }
        }
        Ok(None)
    }
}

/// Places the runs in the tar: one after the other from `pos` on, `stored` bytes together.
pub(super) fn place(map: &[(u64, u64)], size: u64, pos: u64, stored: u64) -> Result<Vec<DataRun>, TarErrorReason> {
    let mut runs = Vec::with_capacity(map.len());
    let (mut file_end, mut used) = (0u64, 0u64);
    for &(offset, len) in map {
        let end = offset.checked_add(len).filter(|&end| end <= size).ok_or(TarErrorReason::Sparse)?;
        if offset < file_end {
            return Err(TarErrorReason::Sparse);
        }
        if len > 0 {
            runs.push(DataRun { offset, pos: pos.checked_add(used).ok_or(TarErrorReason::Sparse)?, len });
        }
        used = used.checked_add(len).ok_or(TarErrorReason::Sparse)?;
        file_end = end;
    }
    // Bytes that no run claims would be content that nobody ever sees: a map that lies.
    if used == stored { Ok(runs) } else { Err(TarErrorReason::Sparse) }
}
