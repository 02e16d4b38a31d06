//! Content of files that goes from the page cache into a connection without being copied here.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::AsFd;

use image::Extent;
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use wire::xdr::padding;

use super::filesystem::Filesystem;
use super::procedures::Read;

/// Reads below this many bytes are copied: one system call fewer, and few bytes.
pub(super) const SMALLEST: u32 = 32 << 10;
/// Distance at which [`is_cached`] looks: no more than what Linux reads ahead at once, and so what it keeps or drops.
const PROBE: u64 = 64 << 10;
/// Zeros for holes and padding.
static ZEROS: [u8; 4096] = [0; 4096];

/// The data of a READ, which follows the part of the reply that is written already.
#[derive(Debug)]
pub struct Content<Fs> {
    pub(super) read: Read<Fs>,
}

impl<Fs: Filesystem> Content<Fs> {
    /// Bytes of data, before padding.
    pub fn len(&self) -> u32 {
        self.read.count
    }

    /// Whether there is no data; never so.
    pub fn is_empty(&self) -> bool {
        self.read.count == 0
    }

    /// Where the bytes are.
    pub fn extents(&self) -> impl Iterator<Item = Extent<'_>> + Send {
        self.read.fs.extents(self.read.attr.ino, self.read.offset, u64::from(self.read.count))
    }

    /// Sends the data with its padding.
    pub(super) async fn send(&self, stream: &TcpStream) -> io::Result<()> {
        let mut sent = 0;
        for extent in self.extents() {
            let (Extent::Data { len, .. } | Extent::Hole { len }) = extent;
            match extent {
                Extent::Data { file, pos, len } => send_file(stream, file, pos, len).await?,
                Extent::Hole { len } => send_zeros(stream, len).await?,
            }
            sent += len;
        }
        if sent != u64::from(self.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        send_zeros(stream, padding(self.len() as usize) as u64).await
    }
}

/// Whether the data of a read is in the page cache, as far as samples tell, and is there at all.
///
/// What a sample misses costs one thread a short wait for the disk.
pub(super) fn is_cached<Fs: Filesystem>(read: &Read<Fs>) -> bool {
    let mut left = u64::from(read.count);
    for extent in read.fs.extents(read.attr.ino, read.offset, left) {
        let (Extent::Data { len, .. } | Extent::Hole { len }) = extent;
        left = left.saturating_sub(len);
        let Extent::Data { file, pos, len } = extent else { continue };
        let last = pos + (len - 1);
        if !(pos..last).step_by(PROBE as usize).chain([last]).all(|at| byte_is_cached(file, at)) {
            return false;
        }
    }
    left == 0
}

fn byte_is_cached(file: &File, at: u64) -> bool {
    let mut byte = [0];
    matches!(rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT), Ok(1))
}

/// Sends bytes that more is to follow at once, so that they don't make a segment of their own.
pub(super) async fn send_more(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = when_writable(stream, || rustix::net::send(stream.as_fd(), bytes, SendFlags::MORE)).await?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

async fn send_file(stream: &TcpStream, file: &File, mut pos: u64, mut len: u64) -> io::Result<()> {
    while len > 0 {
        let count = usize::try_from(len).unwrap_or(usize::MAX);
        let sent = when_writable(stream, || rustix::fs::sendfile(stream.as_fd(), file, Some(&mut pos), count)).await?;
        if sent == 0 {
            // Shorter than the index says.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        len -= sent as u64;
    }
    Ok(())
}

async fn send_zeros(stream: &TcpStream, mut len: u64) -> io::Result<()> {
    while len > 0 {
        let zeros = &ZEROS[..usize::try_from(len).unwrap_or(usize::MAX).min(ZEROS.len())];
        len -= when_writable(stream, || rustix::net::send(stream.as_fd(), zeros, SendFlags::empty())).await? as u64;
    }
    Ok(())
}

/// Calls `send` until it does not say that the socket is full.
async fn when_writable(stream: &TcpStream, mut send: impl FnMut() -> Result<usize, Errno>) -> io::Result<usize> {
    loop {
        match stream.try_io(Interest::WRITABLE, || Ok(send()?)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
