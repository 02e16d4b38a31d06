//! Images as files, for machines without a registry: what `docker save` and `skopeo` write, and what they read.

mod export;
mod import;
mod members;

pub use export::{ExportError, Format};
pub use import::{ImportError, Imported};
