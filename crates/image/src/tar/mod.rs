//! Layers' tars: what they hold and where, read as a stream.
//!
//! Formats: v7, POSIX ustar, POSIX pax (with the records of GNU tar, star, libarchive), GNU (long
//! names, base-256 numbers, sparse files), star.

mod entry;
mod error;
mod header;
mod number;
mod path;
mod pax;
mod scanner;
mod sparse;
mod toc;
mod writer;

pub use entry::{DataRun, Entry, EntryKind, LayerEntries, Xattr};
pub use error::{TarError, TarErrorReason};
pub use scanner::LayerScanner;
pub use toc::TocError;
pub use writer::{TarAttr, TarWriter};

/// Size of a tar block.
const BLOCK: usize = 512;
/// Largest PAX or GNU long name header. Linux's largest attribute value is 64 KiB.
const MAX_METADATA: u64 = 1 << 20;
/// Most entries of one layer.
const MAX_ENTRIES: usize = 2 << 20;
/// Most bytes that the entries of one layer may take in memory.
const MAX_TOTAL: usize = 256 << 20;
/// Longest path, as `PATH_MAX` without its NUL; also the longest symlink target.
const MAX_PATH: usize = 4095;
