//! OS images: the registry client, the layer store, the index and the read-only view of an image.
//!
//! An image is a stack of uncompressed tars and an index over them (see ARCHITECTURE.md). Nothing
//! is ever unpacked onto the host.

mod diff_id;
pub mod tar;
mod view;

pub use diff_id::{DiffId, ParseDiffIdError};
pub use view::{Attr, DirEntry, Extent, FileKind, Ino, ROOT, ResolveError, Timestamp, View};
