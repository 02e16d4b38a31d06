//! From the layers of a pulled image and the server's files to a view that can be served.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ServerFiles, ServerLayerError, render};
use crate::digest::ImageDigest;
use crate::index::{self, IndexError};
use crate::layer_files::AddLayerError;
use crate::tar::LayerEntries;
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

/// An image as it came, without the server's layer: merged when it is first looked into, and then once.
#[derive(Debug)]
pub struct Base<'a> {
    layers: &'a LayerFiles,
    ids: Vec<DiffId>,
    merged: OnceCell<Merged>,
}

#[derive(Debug)]
struct Merged {
    entries: Vec<LayerEntries>,
    view: View,
}

impl<'a> Base<'a> {
    /// The image of these layers, the lowest first.
    pub fn new(layers: &'a LayerFiles, ids: impl IntoIterator<Item = DiffId>) -> Self {
        Self { layers, ids: ids.into_iter().collect(), merged: OnceCell::new() }
    }

    /// What is in it. Blocks on the disk.
    pub fn view(&self) -> Result<&View, PrepareError> {
        Ok(&self.merged()?.view)
    }

    fn merged(&self) -> Result<&Merged, PrepareError> {
        /// It is never served.
        const NO_ID: &str = "0000000000000000000000000000000000000000000000000000000000000000";
        if let Some(merged) = self.merged.get() {
            return Ok(merged);
        }
        let entries = |&layer| self.layers.entries(layer).map_err(|cause| PrepareError::Layer { layer, cause });
        let entries = self.ids.iter().map(entries).collect::<Result<Vec<_>, _>>()?;
        let stack: Vec<_> = self.ids.iter().copied().zip(&entries).collect();
        let view = View::from_index(index::build(&stack, NO_ID)?, self.layers)?;
        Ok(self.merged.get_or_init(|| Merged { entries, view }))
    }
}

/// Opens the image that consists of `base` and the server's files;
/// first makes what is missing of it.
///
/// It may be cut off at any point and called again: the server's layer and the index get their
/// names when they are complete. Blocks on the disk.
pub fn prepare(
    images: &Path,
    config: &ImageDigest,
    base: &Base<'_>,
    files: &ServerFiles,
) -> Result<Arc<View>, PrepareError> {
    let (image_id, layers) = (files.image_id(config), base.layers);
    let directory = images.join(&image_id);
    let path = directory.join("index");
    if path.exists() {
        match View::open(&path, layers) {
            Ok(view) => return Ok(Arc::new(view)),
            Err(error) => tracing::warn!(image_id, %error, "the image's index is made anew"),
        }
    }
    let merged = base.merged()?;
    let mut stack: Vec<_> = base.ids.iter().copied().zip(&merged.entries).collect();
    let tar = render(&merged.view, files, &image_id)?;
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
