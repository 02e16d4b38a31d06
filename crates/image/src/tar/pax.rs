//! PAX extended headers (POSIX.1-2017 pax, "pax Extended Header").

use super::number::{decimal, pax_time};
use super::sparse::{self, Map};
use super::{TarErrorReason, Xattr};
use crate::Timestamp;

/// Linux's limits: `XATTR_NAME_MAX`, `XATTR_SIZE_MAX`.
const MAX_XATTR_NAME: usize = 255;
const MAX_XATTR_VALUE: usize = 65536;
/// Attributes of one entry; the search for duplicates is linear.
const MAX_XATTRS: usize = 1024;

/// What extended headers say of the entry that follows.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: Vec<Xattr>,
    sparse: SparseRecords,
}

#[derive(Debug, Clone, Default)]
struct SparseRecords {
    /// The file's own name; `path` is then one made up for old extractors.
    name: Option<Vec<u8>>,
    major: Option<u64>,
    real_size: Option<u64>,
    /// Format 0.0: offsets and lengths in turn.
    numbers: Vec<u64>,
    /// Format 0.1.
    map: Option<Map>,
}

/// How a sparse file is described.
#[derive(Debug)]
pub(super) enum Sparse {
    /// By records: formats 0.0 and 0.1.
    Map { size: u64, map: Map },
    /// By blocks before the data: format 1.0.
    InData { size: u64 },
}

impl Records {
    /// Adds the records of one `x` header; a later record replaces an earlier one.
    pub(super) fn parse(&mut self, bytes: &[u8]) -> Result<(), TarErrorReason> {
        for_each_record(bytes, |key, value| self.set(key, value))
    }

    /// Adds the records of a `g` header, which hold for all entries that follow. What describes
    /// one file's name or data cannot be right for all.
    pub(super) fn parse_global(&mut self, bytes: &[u8]) -> Result<(), TarErrorReason> {
        for_each_record(bytes, |key, value| {
            if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
                return Err(TarErrorReason::GlobalRecord(lossy(key)));
            }
            self.set(key, value)
        })
    }

    /// These records, and those of `global` where these say nothing.
    pub(super) fn or(mut self, global: &Self) -> Self {
        self.uid = self.uid.or(global.uid);
        self.gid = self.gid.or(global.gid);
        self.mtime = self.mtime.or(global.mtime);
        for xattr in &global.xattrs {
            if !self.xattrs.iter().any(|own| own.name == xattr.name) {
                self.xattrs.push(xattr.clone());
            }
        }
        self
    }

    /// How the entry is sparse, if it is.
    pub(super) fn take_sparse(&mut self) -> Result<Option<Sparse>, TarErrorReason> {
        let SparseRecords { name, major, real_size, numbers, map } = std::mem::take(&mut self.sparse);
        self.path = name.or(self.path.take());
        let size = |size: Option<u64>| size.filter(|&s| i64::try_from(s).is_ok()).ok_or(TarErrorReason::Sparse);
        match (major, map) {
            (Some(1), _) => Ok(Some(Sparse::InData { size: size(real_size)? })),
            (None | Some(0), Some(map)) => Ok(Some(Sparse::Map { size: size(real_size)?, map })),
            (None | Some(0), None) if real_size.is_some() => {
                Ok(Some(Sparse::Map { size: size(real_size)?, map: sparse::pairs(&numbers)? }))
            }
            (None, None) => Ok(None),
            _ => Err(TarErrorReason::Sparse),
        }
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarErrorReason> {
        // "An empty value deletes": what was there before the extended headers holds.
        let number = |what| match value {
            b"" => Ok(None),
            _ => decimal(value).map(Some).ok_or(TarErrorReason::Number(what)),
        };
        let id = |what| match number(what)?.map(u32::try_from) {
            None => Ok(None),
            Some(Ok(id)) => Ok(Some(id)),
            Some(Err(_)) => Err(TarErrorReason::Number(what)),
        };
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link_path = text(),
            b"size" => self.size = number("size")?,
            b"uid" => self.uid = id("uid")?,
            b"gid" => self.gid = id("gid")?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(pax_time(value).ok_or(TarErrorReason::Number("mtime"))?),
            b"GNU.sparse.name" => self.sparse.name = text(),
            b"GNU.sparse.major" => self.sparse.major = number("sparse format")?,
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.real_size = number("size")?,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                // Each offset is followed by its length.
                if self.sparse.numbers.len() % 2 != usize::from(key == b"GNU.sparse.numbytes") {
                    return Err(TarErrorReason::Sparse);
                }
                self.sparse.numbers.push(decimal(value).ok_or(TarErrorReason::Sparse)?);
            }
            b"GNU.sparse.map" => self.sparse.map = Some(sparse::parse_pax_map(value)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.set_xattr(name.into(), value.into())?;
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let bad = || TarErrorReason::Xattr(lossy(name));
                    let decoded = percent_decode(name).ok_or_else(bad)?;
                    // Where both forms are given, SCHILY's is the exact one.
                    if !self.xattrs.iter().any(|xattr| *xattr.name == *decoded) {
                        self.set_xattr(decoded.into(), base64_decode(value).ok_or_else(bad)?.into())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn set_xattr(&mut self, name: Box<[u8]>, value: Box<[u8]>) -> Result<(), TarErrorReason> {
        if name.is_empty() || name.len() > MAX_XATTR_NAME || name.contains(&0) || value.len() > MAX_XATTR_VALUE {
            return Err(TarErrorReason::Xattr(lossy(&name)));
        }
        if let Some(xattr) = self.xattrs.iter_mut().find(|xattr| xattr.name == name) {
            xattr.value = value;
        } else if self.xattrs.len() < MAX_XATTRS {
            self.xattrs.push(Xattr { name, value });
        } else {
            return Err(TarErrorReason::Xattr(lossy(&name)));
        }
        Ok(())
    }
}

/// Bytes that attributes take in memory.
pub(super) fn xattr_cost(xattrs: &[Xattr]) -> usize {
    xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len() + size_of::<Xattr>()).sum()
}

/// Calls `each` with every `LENGTH KEY=VALUE\n`; the length counts the whole record.
fn for_each_record(
    mut bytes: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), TarErrorReason>,
) -> Result<(), TarErrorReason> {
    while !bytes.is_empty() {
        let (key, value, rest) = split_record(bytes).ok_or(TarErrorReason::Pax)?;
        each(key, value)?;
        bytes = rest;
    }
    Ok(())
}

fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|&b| b == b' ')?;
    let len = usize::try_from(decimal(&bytes[..space])?).ok()?;
    let (record, rest) = bytes.split_at_checked(len)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&b| b == b'=').filter(|&at| at > 0)?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
}

fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            let [high, low] = [digits[0], digits[1]].map(|digit| char::from(digit).to_digit(16));
            out.push(u8::try_from(high? * 16 + low?).ok()?);
            rest = after;
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

/// Base64 as libarchive writes it: standard alphabet, padding left out.
fn base64_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut held) = (0u32, 0);
    for &symbol in text.iter().take_while(|&&b| b != b'=') {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            // What is left over never has more than 6 bits, so this is one byte.
            out.push(u8::try_from(bits >> held).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    Some(out)
}
