//! The index of an image: one file that says, for each path of the merged tree, its inode and
//! where its bytes are in the layers' tars.

mod encode;
mod format;
mod reader;
mod tree;

use std::io;
use std::path::{Path, PathBuf};

use crate::DiffId;
use crate::store::Partial;
use crate::tar::LayerEntries;

pub(crate) use format::{InodeRecord, file_type};
pub(crate) use reader::Index;
pub use tree::MergeError;

/// Why an index was not built, or is not usable.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A layer contradicts those below it.
    #[error("layer {layer}, entry {path:?}: {cause}")]
    Merge {
        /// The layer.
        layer: DiffId,
        /// Path of the entry.
        path: String,
        /// What is wrong with it.
        cause: MergeError,
    },
    /// More records or longer strings than an index can number.
    #[error("the image is too large for an index")]
    TooLarge,
    /// The id is no 64 lower-case hex digits.
    #[error("{0:?} is no image id")]
    ImageId(String),
    /// The index could not be written.
    #[error("cannot write the index {path}: {cause}")]
    Write {
        /// The index.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The index could not be opened or mapped.
    #[error("cannot open the index {path}: {cause}")]
    Open {
        /// The index.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The file is no index of this version, or damaged.
    #[error("the index is unusable: {0}")]
    Damaged(&'static str),
    /// A layer's tar could not be opened.
    #[error("cannot open the layer {path}: {cause}")]
    Layer {
        /// The tar.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// A layer's tar has another length than when the index was built.
    #[error("the layer {path} has {found} bytes instead of {expected}")]
    LayerLength {
        /// The tar.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// Its length by the index.
        expected: u64,
    },
}

/// Merges the layers, the lowest first, and gives the bytes of the image's index.
pub fn build(layers: &[(DiffId, &LayerEntries)], image_id: &str) -> Result<Vec<u8>, IndexError> {
    let id = DiffId::from_hex(image_id).ok_or_else(|| IndexError::ImageId(image_id.into()))?;
    let mut tree = tree::Tree::new();
    for (number, (layer, entries)) in (0..).zip(layers) {
        tree.apply(number, entries).map_err(|(entry, cause)| IndexError::Merge {
            layer: *layer,
            path: lossy(&entry.path),
            cause,
        })?;
    }
    let layers = layers.iter().map(|(id, entries)| (*id, entries.tar_len));
    encode::encode(&tree, layers, id.as_bytes()).map_err(|encode::TooLarge| IndexError::TooLarge)
}

/// Writes an index so that after a crash at any point there is the whole of it or nothing of it.
///
/// The file is never changed afterwards: whoever has it mapped depends on that.
pub fn write(index: &[u8], path: &Path) -> Result<(), IndexError> {
    Partial::write(path, index).map_err(|cause| IndexError::Write { path: path.into(), cause })
}

/// CRC-32 of a file whose own checksum field is left out.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    let (before, rest) = bytes.split_at(format::CHECKSUM_AT.min(bytes.len()));
    crc.update(before);
    crc.update(rest.get(4..).unwrap_or_default());
    crc.finalize()
}

/// A path for a message.
fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned()
}
