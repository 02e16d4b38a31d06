//! XDR (RFC 4506): the encoding below ONC-RPC, MOUNT and NFS.

/// The bytes are no valid encoding of what was to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XdrError {
    /// The item goes on beyond the end of the message.
    #[error("message ends within an item")]
    Truncated,
    /// A variable-length item is longer than its declaration allows.
    #[error("{length} bytes where at most {limit} are allowed")]
    TooLong {
        /// Length that the message claims, in bytes or elements.
        length: u32,
        /// Most that the declaration allows.
        limit: u32,
    },
    /// An enumeration or a boolean holds a value that it does not have.
    #[error("value {0} is not one of its type's")]
    BadValue(u32),
}

/// Number of bytes with which `length` is padded to a multiple of four (RFC 4506 §3).
pub const fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

/// Reads items one after the other from a message; nothing is copied.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `message`.
    pub const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Bytes not read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Unsigned integer (RFC 4506 §4.2).
    pub fn u32(&mut self) -> Result<u32, XdrError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(XdrError::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// Unsigned hyper integer (RFC 4506 §4.5).
    pub fn u64(&mut self) -> Result<u64, XdrError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(XdrError::Truncated)?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*bytes))
    }

    /// Boolean (RFC 4506 §4.4): 0 or 1, nothing else.
    pub fn bool(&mut self) -> Result<bool, XdrError> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(XdrError::BadValue(other)),
        }
    }

    /// Fixed-length opaque data (RFC 4506 §4.9). Padding is skipped, whatever it holds.
    pub fn fixed(&mut self, length: usize) -> Result<&'a [u8], XdrError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(XdrError::Truncated)?;
        self.rest = rest.get(padding(length)..).ok_or(XdrError::Truncated)?;
        Ok(bytes)
    }

    /// Fixed-length opaque data of a length known at compile time.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], XdrError> {
        let bytes = self.fixed(N)?;
        bytes.try_into().map_err(|_| XdrError::Truncated)
    }

    /// Variable-length opaque data or string of at most `limit` bytes (RFC 4506 §4.10, §4.11).
    pub fn opaque(&mut self, limit: u32) -> Result<&'a [u8], XdrError> {
        let length = self.u32()?;
        if length > limit {
            return Err(XdrError::TooLong { length, limit });
        }
        self.fixed(length as usize)
    }
}

/// Writes items one after the other into a buffer that it keeps.
///
/// The buffer is never shrunk and what was once written in it is not cleared, so that room for a
/// megabyte of file content costs no `memset` when the writer is used again.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
    length: usize,
}

impl Writer {
    /// An empty writer.
    pub const fn new() -> Self {
        Self { buffer: Vec::new(), length: 0 }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes of memory that the writer holds.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// What has been written.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// Forgets what was written after the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Forgets everything; the memory is kept.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// `length` more bytes for the caller to fill in. They hold stale data until then.
    pub fn room(&mut self, length: usize) -> &mut [u8] {
        let start = self.length;
        let end = start + length;
        if end > self.buffer.len() {
            self.buffer.resize(end, 0);
        }
        self.length = end;
        &mut self.buffer[start..end]
    }

    /// Bytes as they are, without length or padding.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
    }

    /// Unsigned integer.
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    /// Unsigned hyper integer.
    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }

    /// Boolean.
    pub fn bool(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// Zero bytes up to the next multiple of four after an item of `length` bytes.
    pub fn pad(&mut self, length: usize) {
        self.room(padding(length)).fill(0);
    }

    /// Fixed-length opaque data.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.raw(bytes);
        self.pad(bytes.len());
    }

    /// Variable-length opaque data or string. More than 4 GiB is cut off.
    pub fn opaque(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.u32(length);
        self.fixed(&bytes[..length as usize]);
    }

    /// Replaces the integer at `position`, which must have been written before.
    pub fn set_u32(&mut self, position: usize, value: u32) {
        debug_assert!(position + 4 <= self.length, "only what was written can be replaced");
        if let Some(bytes) = self.buffer.get_mut(position..position + 4) {
            bytes.copy_from_slice(&value.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc4506_items_survive_the_round_trip() {
        let mut out = Writer::new();
        out.u32(7);
        out.u64(u64::MAX - 1);
        out.bool(true);
        out.opaque(b"hello");
        out.fixed(&[1, 2, 3]);
        assert_eq!(out.len(), 4 + 8 + 4 + (4 + 8) + 4);
        let mut read = Reader::new(out.bytes());
        assert_eq!(read.u32(), Ok(7));
        assert_eq!(read.u64(), Ok(u64::MAX - 1));
        assert_eq!(read.bool(), Ok(true));
        assert_eq!(read.opaque(5), Ok(&b"hello"[..]));
        assert_eq!(read.array(), Ok([1, 2, 3]));
        assert!(read.rest().is_empty());
    }

    #[test]
    fn lengths_are_checked_before_anything_is_taken() {
        let mut long = Reader::new(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(long.opaque(64), Err(XdrError::TooLong { length: u32::MAX, limit: 64 }));
        assert_eq!(Reader::new(&[0, 0, 0, 8, 1, 2]).opaque(64), Err(XdrError::Truncated));
        // The content is there but its padding is not.
        assert_eq!(Reader::new(&[0, 0, 0, 1, 1, 0, 0]).opaque(64), Err(XdrError::Truncated));
        assert_eq!(Reader::new(&[0, 0, 0]).u32(), Err(XdrError::Truncated));
        assert_eq!(Reader::new(&[0, 0, 0, 2]).bool(), Err(XdrError::BadValue(2)));
    }

    #[test]
    fn a_writer_used_again_holds_only_what_was_written_since() {
        let mut out = Writer::new();
        out.opaque(b"long enough to leave something behind");
        out.clear();
        out.opaque(b"x");
        assert_eq!(out.bytes(), [0, 0, 0, 1, b'x', 0, 0, 0]);
        out.set_u32(0, 2);
        assert_eq!(out.bytes()[..4], [0, 0, 0, 2]);
    }
}
