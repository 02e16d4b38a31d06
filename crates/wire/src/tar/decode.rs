//! Reading files on their way to or from a node. The peer may be hostile: a node is its user's.

use super::BLOCK;

/// Record of the total, in a global header.
pub(super) const TOTAL: &[u8] = b"WALT.total";

/// Longest extended header in bytes: a path and a link target of the longest kind that Linux has.
const MAX_RECORDS: usize = 32 * 1024;
/// Longest path in bytes (Linux: `PATH_MAX` is 4096 for one call; a tree may be deeper).
const MAX_PATH: usize = 16 * 1024;
/// Longest target of a symlink in bytes (Linux: `PATH_MAX`).
const MAX_TARGET: usize = 4096;

/// Why a tar is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// No header where one must be.
    #[error("damaged: a header's checksum is wrong")]
    Checksum,
    /// A field that can not be read.
    #[error("damaged: {0} can not be read")]
    Field(&'static str),
    /// It would lead out of the directory that it is for, or has no name.
    #[error("it holds a file called {0:?}, which is refused")]
    Path(String),
    /// Neither file, nor directory, nor symlink.
    #[error("{0:?} is neither a file nor a directory nor a symlink")]
    Kind(String),
}

/// What a block begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// So many bytes for [`Decoder::records`], up to the end of a block.
    Records {
        /// Bytes.
        len: usize,
    },
    /// A file; its content follows, if it has any, up to the end of a block.
    Member(Member),
    /// The first block of the end.
    Ending,
    /// The end.
    End,
}

impl Next {
    /// The file, if it is one.
    pub fn member(&self) -> Option<&Member> {
        if let Self::Member(member) = self { Some(member) } else { None }
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Components of its path, at least one: names without slash or NUL, neither `.` nor `..`.
    pub path: Vec<Vec<u8>>,
    /// Kind.
    pub kind: MemberKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Modification time: seconds since 1970 and nanoseconds, below 10^9.
    pub mtime: (i64, u32),
}

/// Kind of a [`Member`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// Regular file.
    File {
        /// Bytes.
        size: u64,
    },
    /// Directory.
    Directory,
    /// Symlink to this, which may be anything without NUL.
    Symlink(Vec<u8>),
}

/// Reads a tar block by block.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The records that are read next are global ones.
    global: bool,
    ending: bool,
    next: Records,
}

/// What an extended header says of the entry that follows.
#[derive(Debug, Default)]
struct Records {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<(i64, u32)>,
}

impl Decoder {
    /// Takes a block where a header must be.
    ///
    /// # Errors
    /// See [`TarError`]; nothing that follows can be read.
    pub fn header(&mut self, block: &[u8; BLOCK]) -> Result<Next, TarError> {
        if block.iter().all(|&byte| byte == 0) {
            return Ok(if std::mem::replace(&mut self.ending, true) { Next::End } else { Next::Ending });
        }
        if self.ending || !checksum_holds(block) {
            return Err(TarError::Checksum);
        }
        let size = octal(&block[124..136]).ok_or(TarError::Field("a size"))?;
        match block[156] {
            flag @ (b'x' | b'g') => {
                self.global = flag == b'g';
                let len = usize::try_from(size).ok().filter(|len| *len <= MAX_RECORDS);
                Ok(Next::Records { len: len.ok_or(TarError::Field("an extended header"))? })
            }
            flag => member(std::mem::take(&mut self.next), block, flag, size).map(Next::Member),
        }
    }

    /// Takes the records of an extended header. Gives how many bytes of content come in all, if that is what it tells.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn records(&mut self, mut bytes: &[u8]) -> Result<Option<u64>, TarError> {
        const BAD: TarError = TarError::Field("an extended header");
        let mut total = None;
        while !bytes.is_empty() {
            let space = bytes.iter().position(|&b| b == b' ').ok_or(BAD)?;
            let len = usize::try_from(decimal(&bytes[..space]).ok_or(BAD)?).map_err(|_| BAD)?;
            let (record, rest) = bytes.split_at_checked(len).ok_or(BAD)?;
            let record = record.get(space + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or(BAD)?;
            let equals = record.iter().position(|&b| b == b'=').ok_or(BAD)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match (key, self.global) {
                (TOTAL, true) => total = Some(decimal(value).ok_or(BAD)?),
                (b"path", false) => self.next.path = Some(value.to_vec()),
                (b"linkpath", false) => self.next.target = Some(value.to_vec()),
                (b"size", false) => self.next.size = Some(decimal(value).ok_or(BAD)?),
                (b"mtime", false) => self.next.mtime = Some(pax_time(value).ok_or(BAD)?),
                // Owners and attributes are not taken over.
                _ => {}
            }
            bytes = rest;
        }
        Ok(total)
    }
}

fn member(records: Records, block: &[u8; BLOCK], flag: u8, size: u64) -> Result<Member, TarError> {
    let mut path = records.path.unwrap_or_else(|| until_nul(&block[..100]).to_vec());
    // Many tools end the names of directories so.
    if flag == b'5' && path.ends_with(b"/") {
        path.pop();
    }
    let shown = || path.escape_ascii().to_string().chars().take(200).collect::<String>();
    let parts: Vec<Vec<u8>> = path.split(|&b| b == b'/').map(<[u8]>::to_vec).collect();
    let is_name = |part: &Vec<u8>| !matches!(&part[..], b"" | b"." | b"..") && !part.contains(&0) && part.len() <= 255;
    if path.len() > MAX_PATH || !parts.iter().all(is_name) {
        return Err(TarError::Path(shown()));
    }
    let kind = match flag {
        b'0' => MemberKind::File { size: records.size.unwrap_or(size) },
        b'5' => MemberKind::Directory,
        b'2' => {
            let target = records.target.unwrap_or_else(|| until_nul(&block[157..257]).to_vec());
            if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
                return Err(TarError::Field("the target of a symlink"));
            }
            MemberKind::Symlink(target)
        }
        _ => return Err(TarError::Kind(shown())),
    };
    let mode = octal(&block[100..108]).ok_or(TarError::Field("a mode"))?;
    let secs = octal(&block[136..148]).and_then(|secs| i64::try_from(secs).ok());
    let mtime = records.mtime.or(secs.map(|secs| (secs, 0))).ok_or(TarError::Field("a time"))?;
    // Twelve bits.
    Ok(Member { path: parts, kind, mode: (mode & 0o7777) as u32, mtime })
}

/// POSIX.1-2017 pax: the sum of all bytes, its own field taken as spaces.
fn checksum_holds(block: &[u8; BLOCK]) -> bool {
    let field = 148..156;
    let sum: u64 = block.iter().enumerate().map(|(n, &b)| u64::from(if field.contains(&n) { b' ' } else { b })).sum();
    octal(&block[field]) == Some(sum)
}

fn octal(field: &[u8]) -> Option<u64> {
    let digits = field.trim_ascii_end();
    let digits = &digits[..digits.iter().position(|&b| b == 0).unwrap_or(digits.len())];
    // At most eleven digits, so it fits.
    let digit = |number: u64, &byte: &u8| (b'0'..=b'7').contains(&byte).then(|| number * 8 + u64::from(byte - b'0'));
    if digits.is_empty() || digits.len() > 12 { None } else { digits.iter().try_fold(0, digit) }
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with a fraction, which counts up from the second below.
fn pax_time(text: &[u8]) -> Option<(i64, u32)> {
    let (is_negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let point = digits.iter().position(|&b| b == b'.');
    let secs = i64::try_from(decimal(&digits[..point.unwrap_or(digits.len())])?).ok()?;
    let fraction = point.map_or(&b""[..], |at| &digits[at + 1..]);
    let mut nanos = 0u32;
    for at in 0..9 {
        let digit = fraction.get(at).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return None;
        }
        nanos = nanos * 10 + u32::from(digit - b'0');
    }
    match (is_negative, nanos) {
        (false, _) => Some((secs, nanos)),
        (true, 0) => Some((-secs, 0)),
        // -1.25 is -2 s and 0.75 s.
        (true, _) => Some((-secs - 1, 1_000_000_000 - nanos)),
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&b| b == 0).unwrap_or(field.len())]
}
