//! One layer on its way to the disk: two threads, so that two processors work on it.
//!
//! ```text
//! compressed bytes -> hash, decompress  =bounded channel=>  hash, scan, write -> sync, rename
//! ```

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::DiffId;
use crate::digest::{Digest, Hasher};
use crate::store::decompress::{Decompressor, Output};
use crate::store::partial::Partial;
use crate::store::{LayerError, Limits, Store};
use crate::tar::LayerScanner;

/// Bytes of one buffer between the threads: it stays in the processor's cache.
const BUFFER: usize = 256 << 10;
/// Buffers between the threads: enough that neither waits for a hiccup of the other.
const BUFFERS: usize = 16;

/// What a layer must turn out to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// Digest of the uncompressed tar.
    pub(crate) diff_id: DiffId,
    /// Digest and size of what comes, where a manifest says so.
    pub(crate) blob: Option<(Digest, u64)>,
}

impl Store {
    /// Stores one layer from its (compressed or plain) bytes. `image_bytes` is the sum of the uncompressed
    /// layers of the image so far; it is added to. Returns the size of the tar.
    ///
    /// Whatever fails, nothing of the layer stays.
    pub(crate) fn write_layer<B: AsRef<[u8]>>(
        &self,
        expected: Expected,
        image_bytes: &AtomicU64,
        chunks: impl Iterator<Item = Result<B, LayerError>>,
    ) -> Result<u64, LayerError> {
        let limits = &self.inner.limits;
        let (path, toc_path) = (self.layer_path(&expected.diff_id), self.toc_path(&expected.diff_id));
        let mut partial = Partial::create(path.clone()).map_err(storing(&path))?;
        let (to_writer, full) = sync_channel::<(Box<[u8]>, usize)>(BUFFERS);
        let (to_decoder, empty) = sync_channel::<Box<[u8]>>(BUFFERS);
        let written = thread::scope(|scope| {
            let writer = thread::Builder::new()
                .name("layer-write".to_owned())
                .spawn_scoped(scope, || write(&mut partial, &path, limits, image_bytes, full, to_decoder))
                .map_err(storing(&path))?;
            let decoded = decode(expected, limits, chunks, to_writer, empty);
            let written = match writer.join() {
                Ok(written) => written,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            // An error of the writer comes first: the decoder's is then only that nobody listens. A damaged
            // stream comes before what the scan makes of its stump.
            match (written, decoded) {
                (Err(LayerError::Tar(_)), Err(decoded)) if !is_writer_gone(&decoded) => Err(decoded),
                (Err(error), _) => Err(error),
                (Ok(_), Err(error)) => Err(error),
                (Ok(written), Ok(())) if written.diff_id != expected.diff_id => {
                    Err(LayerError::WrongDiffId { expected: expected.diff_id, found: written.diff_id })
                }
                (Ok(written), Ok(())) => Ok(written),
            }
        })
        .inspect_err(|_| {
            image_bytes.fetch_sub(partial.len(), Ordering::Relaxed);
        })?;
        // The list of contents first: a layer counts as there when its tar is.
        let mut toc = Partial::create(toc_path.clone()).map_err(storing(&toc_path))?;
        toc.append(&written.toc).and_then(|()| toc.publish()).map_err(storing(&toc_path))?;
        let size = partial.len();
        partial.publish().map_err(storing(&path))?;
        Ok(size)
    }
}

/// First thread: verifies and decompresses what comes.
fn decode<B: AsRef<[u8]>>(
    expected: Expected,
    limits: &Limits,
    chunks: impl Iterator<Item = Result<B, LayerError>>,
    to_writer: SyncSender<(Box<[u8]>, usize)>,
    empty: Receiver<Box<[u8]>>,
) -> Result<(), LayerError> {
    let mut out =
        Buffers { current: None, filled: 0, allocated: 0, to_writer, empty, limits, compressed: 0, uncompressed: 0 };
    let mut decompressor = Decompressor::new();
    let mut hasher = Hasher::new();
    for chunk in chunks {
        let chunk = chunk?;
        let chunk = chunk.as_ref();
        out.compressed += chunk.len() as u64;
        if let Some((_, size)) = expected.blob
            && out.compressed > size
        {
            return Err(LayerError::WrongSize { expected: size, found: out.compressed });
        }
        if expected.blob.is_some() {
            hasher.update(chunk);
        }
        decompressor.push(chunk, &mut out)?;
    }
    if let Some((digest, size)) = expected.blob {
        if out.compressed != size {
            return Err(LayerError::WrongSize { expected: size, found: out.compressed });
        }
        let found = hasher.finish();
        if found != digest {
            return Err(LayerError::WrongDigest { expected: digest, found });
        }
    }
    decompressor.finish(&mut out)?;
    out.flush()
}

/// Buffers that go round between the two threads.
struct Buffers<'a> {
    current: Option<Box<[u8]>>,
    filled: usize,
    allocated: usize,
    to_writer: SyncSender<(Box<[u8]>, usize)>,
    empty: Receiver<Box<[u8]>>,
    limits: &'a Limits,
    compressed: u64,
    uncompressed: u64,
}

impl Buffers<'_> {
    fn flush(&mut self) -> Result<(), LayerError> {
        let Some(buffer) = self.current.take() else { return Ok(()) };
        self.to_writer.send((buffer, std::mem::take(&mut self.filled))).map_err(|_| writer_gone())?;
        let limits = self.limits;
        let ratio_limit = self.compressed.saturating_mul(limits.max_ratio);
        if self.uncompressed > limits.bomb_size && self.uncompressed > ratio_limit {
            return Err(LayerError::Bomb { compressed: self.compressed, uncompressed: self.uncompressed });
        }
        if self.uncompressed > limits.max_layer {
            return Err(LayerError::TooLarge { limit: limits.max_layer });
        }
        Ok(())
    }
}

impl Output for Buffers<'_> {
    fn space(&mut self) -> Result<&mut [u8], LayerError> {
        if self.filled == BUFFER {
            self.flush()?;
        }
        let buffer = match self.current.take() {
            Some(buffer) => buffer,
            None if self.allocated < BUFFERS => {
                self.allocated += 1;
                vec![0; BUFFER].into_boxed_slice()
            }
            None => self.empty.recv().map_err(|_| writer_gone())?,
        };
        let buffer = self.current.insert(buffer);
        Ok(&mut buffer[self.filled..])
    }

    fn advance(&mut self, len: usize) -> Result<(), LayerError> {
        self.filled += len;
        self.uncompressed += len as u64;
        Ok(())
    }
}

const WRITER_GONE: &str = "the writer ended";

/// Never seen by anybody: the writer ends early only with an error of its own, which is reported instead.
fn writer_gone() -> LayerError {
    LayerError::Decompress(WRITER_GONE.to_owned())
}

fn is_writer_gone(error: &LayerError) -> bool {
    matches!(error, LayerError::Decompress(text) if text == WRITER_GONE)
}

/// What the second thread found out about the tar.
struct Written {
    diff_id: DiffId,
    toc: Vec<u8>,
}

/// Second thread: hashes, scans and writes the tar.
fn write(
    partial: &mut Partial,
    path: &Path,
    limits: &Limits,
    image_bytes: &AtomicU64,
    full: Receiver<(Box<[u8]>, usize)>,
    to_decoder: SyncSender<Box<[u8]>>,
) -> Result<Written, LayerError> {
    let mut hasher = Hasher::new();
    let mut scanner = LayerScanner::new();
    let mut next_check = 0;
    for (buffer, len) in full {
        let bytes = &buffer[..len];
        if partial.len() >= next_check {
            if !limits.have_room(partial.file()).map_err(storing(path))? {
                return Err(LayerError::DiskFull { path: path.to_owned() });
            }
            next_check = partial.len() + Limits::LOOK_EVERY;
        }
        partial.append(bytes).map_err(storing(path))?;
        if image_bytes.fetch_add(len as u64, Ordering::Relaxed) > limits.max_image {
            return Err(LayerError::TooLarge { limit: limits.max_image });
        }
        hasher.update(bytes);
        scanner.push(bytes).map_err(|e| LayerError::Tar(e.to_string()))?;
        // The decoder may have ended already; its buffers are then freed here.
        let _ = to_decoder.try_send(buffer);
    }
    let diff_id = DiffId::from(hasher.finish());
    let entries = scanner.finish().map_err(|e| LayerError::Tar(e.to_string()))?;
    Ok(Written { diff_id, toc: entries.to_toc() })
}

/// Names the file that could not be written.
fn storing(path: &Path) -> impl Fn(io::Error) -> LayerError {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LayerError::DiskFull { path: path.to_owned() },
        _ => LayerError::Write { path: path.to_owned(), source },
    }
}
