//! From the layers of a pulled image and the server's files to a view that can be served.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ServerFiles, ServerLayerError, render};
use crate::digest::ImageDigest;
use crate::index::{self, IndexError};
use crate::layer_files::AddLayerError;
use crate::{DiffId, LayerFiles, View};

/// Why an image cannot be made ready to be served.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A layer cannot be read, or the server's cannot be written.
    #[error("layer {layer}: {cause}")]
    Layer {
        /// The layer.
        layer: DiffId,
        /// What is wrong with it.
        cause: AddLayerError,
    },
    /// The layers do not fit together.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The server's layer cannot be made for this image.
    #[error(transparent)]
    ServerLayer(#[from] ServerLayerError),
    /// The server's layer cannot be stored.
    #[error("cannot store the server's layer: {0}")]
    Store(AddLayerError),
    /// The image's directory cannot be made.
    #[error("cannot create {path}: {cause}")]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

/// Opens the image that consists of `base` (layers, the lowest first) and the server's files;
/// first makes what is missing of it.
///
/// It may be cut off at any point and called again: the server's layer and the index get their
/// names when they are complete. Blocks on the disk.
pub fn prepare(
    layers: &LayerFiles,
    images: &Path,
    config: &ImageDigest,
    base: &[DiffId],
    files: &ServerFiles,
) -> Result<Arc<View>, PrepareError> {
    let image_id = files.image_id(config);
    let directory = images.join(&image_id);
    let path = directory.join("index");
    if path.exists() {
        match View::open(&path, layers) {
            Ok(view) => return Ok(Arc::new(view)),
            Err(error) => tracing::warn!(image_id, %error, "the image's index is made anew"),
        }
    }
    let base = base
        .iter()
        .map(|&layer| Ok((layer, layers.entries(layer).map_err(|cause| PrepareError::Layer { layer, cause })?)))
        .collect::<Result<Vec<_>, PrepareError>>()?;
    let mut stack: Vec<_> = base.iter().map(|(layer, entries)| (*layer, entries)).collect();
    let below = View::from_index(index::build(&stack, &image_id)?, layers)?;
    let tar = render(&below, files, &image_id)?;
    let (layer, entries) = layers.add(&tar).map_err(PrepareError::Store)?;
    stack.push((layer, &entries));
    let bytes = index::build(&stack, &image_id)?;
    create_durably(&directory, images).map_err(|cause| PrepareError::Create { path: directory.clone(), cause })?;
    index::write(&bytes, &path)?;
    Ok(Arc::new(View::open(&path, layers)?))
}

fn create_durably(directory: &Path, parent: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    File::open(parent)?.sync_all()
}
