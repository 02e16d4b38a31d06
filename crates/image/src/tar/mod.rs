//! Layers' tars: what they hold and where, read as a stream.

mod entry;
mod scanner;

pub use entry::{DataRun, Entry, EntryKind, LayerEntries, Xattr};
pub use scanner::{LayerScanner, TarError};
