//! Writes a tar, entry by entry.

use std::io::{self, Read, Write};

use wire::tar::{END, Entry, encode, encode_total, padding};

/// Bytes of content that are moved at once.
const PIECE: usize = 128 * 1024;

/// What becomes of a file that is shorter than its header says, because it has changed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// An error: the tar ends here, and whoever reads it drops the file.
    Fails,
    /// Zeros take the place of what is missing.
    IsZeros,
}

/// A tar that is being written.
#[derive(Debug)]
pub struct TarStream<W> {
    out: W,
}

impl<W: Write> TarStream<W> {
    /// A tar that goes to `out`, in pieces of a useful size.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Tells how many bytes of content will come.
    ///
    /// # Errors
    /// Writing failed.
    pub fn total(&mut self, bytes: u64) -> io::Result<()> {
        self.out.write_all(&encode_total(bytes))
    }

    /// An entry without content.
    ///
    /// # Errors
    /// Writing failed.
    pub fn entry(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        self.out.write_all(&encode(entry))
    }

    /// `len` bytes of content of the entry before. `whole` says that the entry ends with them. Gives back how many bytes
    /// were missing in `source`.
    ///
    /// # Errors
    /// Reading or writing failed; `UnexpectedEof` if something is missing that must not.
    pub fn content(
        &mut self,
        source: &mut impl Read,
        len: u64,
        missing: Missing,
        mut moved: impl FnMut(u64),
    ) -> io::Result<u64> {
        let mut piece = vec![0; PIECE];
        let mut left = len;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let read = source.read(&mut piece[..most])?;
            if read == 0 {
                break;
            }
            self.out.write_all(&piece[..read])?;
            left -= read as u64;
            moved(read as u64);
        }
        let short = left;
        if short > 0 && missing == Missing::Fails {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read"));
        }
        piece.fill(0);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            self.out.write_all(&piece[..most])?;
            left -= most as u64;
        }
        Ok(short)
    }

    /// Fills the last block of an entry with `len` bytes of content.
    ///
    /// # Errors
    /// Writing failed.
    pub fn pad(&mut self, len: u64) -> io::Result<()> {
        self.out.write_all(&END[..padding(len)])
    }

    /// The end of the tar.
    ///
    /// # Errors
    /// Writing failed.
    pub fn end(mut self) -> io::Result<W> {
        self.out.write_all(&END)?;
        self.out.flush()?;
        Ok(self.out)
    }
}
