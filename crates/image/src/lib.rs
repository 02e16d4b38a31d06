//! OS images: the registry client, the layer store, the index and the read-only view of an image.
//!
//! An image is a stack of uncompressed tars and an index over them (see ARCHITECTURE.md). Nothing
//! is ever unpacked onto the host.

pub mod archive;
pub mod config;
mod diff_id;
pub mod digest;
pub mod elf;
pub mod index;
mod layer_files;
pub mod mount;
pub mod platform;
mod programs;
pub mod reference;
pub mod registry;
pub mod server_layer;
pub mod store;
pub mod tar;
mod view;

pub use config::ImageInfo;
pub use diff_id::{DiffId, ParseDiffIdError};
pub use digest::{Digest, ImageDigest};
pub use layer_files::{AddLayerError, LayerFiles};
pub use platform::Platform;
pub use reference::Reference;
pub use registry::RegistrySettings;
pub use store::{PullError, PullProgress, Store};
pub use view::{Attr, DirEntry, Extent, FileKind, Ino, ROOT, ResolveError, Timestamp, View};
