//! The layer store: layers as uncompressed tars, configurations, and what is built from them.
//!
//! ```text
//! lock                    held by the process that uses the store; holds its process id
//! layers/<hex>            uncompressed tar, named by its diff_id without `sha256:`, read-only
//! layers/<hex>.toc        what the tar holds, from the scan made while it was written
//! configs/<hex>.json      image configuration, verbatim; written last: an image that has it is complete
//! configs/<hex>.platform  what the image is really built for
//! images/<image_id>/      index and mount of an image with the server's layer; config.json, what it was made from
//! ```
//!
//! Everything is written to a hidden name first, synced, and renamed, so that a crash leaves whole files
//! or hidden ones, which [`Store::open`] removes.

mod decompress;
mod error;
mod garbage;
mod holds;
mod layer;
mod limits;
mod partial;
mod platform;
mod progress;
mod pull;
mod stack;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub(crate) use decompress::{Decompressor, Output};
pub use error::{InfoError, LayerError, OpenError, PullError, Retry};
pub use garbage::{CollectError, Collected};
pub use holds::Hold;
pub(crate) use layer::Expected;
pub use limits::Limits;
pub(crate) use partial::Partial;
pub use platform::PlatformError;
pub use progress::PullProgress;
pub use pull::{Pulled, Source};
pub use stack::{Made, StackError};

use crate::DiffId;
use crate::config::{ImageConfig, ImageInfo};
use crate::digest::ImageDigest;
use crate::store::holds::Holds;

/// A layer store, exclusively ours while it is open. Cheap to clone; all clones are one store.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    limits: Limits,
    holds: Holds,
    /// One lock a layer that is being taken in, so that it is fetched once.
    layer_locks: Mutex<HashMap<DiffId, Weak<tokio::sync::Mutex<()>>>>,
    /// Held locked; the kernel lets it go when the process ends, however it ends.
    _lock: File,
}

impl Store {
    /// Opens the store below the directory `root`, creating what is missing and removing what a
    /// crash left unfinished. Fails if another process has it open.
    pub fn open(root: impl Into<PathBuf>) -> Result<Store, OpenError> {
        Store::open_with(root, Limits::default())
    }

    /// As [`open`](Self::open), with other limits on what is accepted.
    pub fn open_with(root: impl Into<PathBuf>, limits: Limits) -> Result<Store, OpenError> {
        let root = root.into();
        fs::create_dir_all(&root).map_err(|source| OpenError::Create { path: root.clone(), source })?;
        let lock = lock(&root)?;
        for name in ["layers", "configs", "images"] {
            let dir = root.join(name);
            fs::create_dir_all(&dir).map_err(|source| OpenError::Create { path: dir.clone(), source })?;
            clean(&dir).map_err(|source| OpenError::Clean { path: dir, source })?;
        }
        let images = root.join("images");
        clean_images(&images).map_err(|source| OpenError::Clean { path: images, source })?;
        Ok(Store {
            inner: Arc::new(Inner {
                root,
                limits,
                holds: Holds::default(),
                layer_locks: Mutex::default(),
                _lock: lock,
            }),
        })
    }

    /// Directory that the store is in.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Keeps everything from garbage collection: from before a pull until its result is recorded.
    pub async fn hold(&self) -> Hold {
        self.inner.holds.hold().await
    }

    /// As [`hold`](Self::hold), blocking; not to be called on an async thread.
    pub fn hold_blocking(&self) -> Hold {
        self.inner.holds.hold_blocking()
    }

    /// Is the image there, with all of its layers?
    pub fn is_complete(&self, image: &ImageDigest) -> bool {
        self.info(image).is_ok()
    }

    /// What the image is; an error if it is not complete or no WalT image.
    pub fn info(&self, image: &ImageDigest) -> Result<ImageInfo, InfoError> {
        let config = self.config(image)?;
        let labels = config.walt_labels().map_err(|source| InfoError::Config { image: *image, source })?;
        let mut layers = Vec::with_capacity(config.diff_ids.len());
        for diff_id in &config.diff_ids {
            let size = self.layer_size(diff_id).ok_or(InfoError::MissingLayer { image: *image, layer: *diff_id })?;
            layers.push((*diff_id, size));
        }
        Ok(ImageInfo {
            digest: *image,
            platform: config.platform,
            models: labels.models,
            labels: config.labels,
            min_server_version: labels.min_server_version,
            preferred_name: labels.preferred_name,
            created: config.created,
            size: layers.iter().map(|(_, size)| size).sum(),
            layers,
        })
    }

    /// The image's configuration.
    pub fn config(&self, image: &ImageDigest) -> Result<ImageConfig, InfoError> {
        let path = self.config_path(image);
        let json = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => InfoError::NotThere { image: *image },
            _ => InfoError::Read { path, source },
        })?;
        ImageConfig::parse(&json).map_err(|source| InfoError::Config { image: *image, source })
    }

    /// File of a layer's uncompressed tar.
    pub fn layer_path(&self, diff_id: &DiffId) -> PathBuf {
        self.layers_dir().join(diff_id.hex())
    }

    /// File of what a layer's tar holds.
    pub fn toc_path(&self, diff_id: &DiffId) -> PathBuf {
        self.layers_dir().join(format!("{}.toc", diff_id.hex()))
    }

    /// Directory `layers`.
    pub fn layers_dir(&self) -> PathBuf {
        self.inner.root.join("layers")
    }

    /// What it accepts.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Directory `images`, with one directory an image id.
    pub fn images_dir(&self) -> PathBuf {
        self.inner.root.join("images")
    }

    /// Makes an image complete: all of its layers must be there.
    pub(crate) fn publish_config(&self, image: &ImageDigest, json: &[u8]) -> Result<(), (PathBuf, io::Error)> {
        let path = self.config_path(image);
        if !path.exists() {
            Partial::write(&path, json).map_err(|source| (path, source))?;
        }
        Ok(())
    }

    /// The lock that whoever takes in this layer must hold.
    pub(crate) fn layer_lock(&self, diff_id: DiffId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.inner.layer_locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(&diff_id).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(diff_id, Arc::downgrade(&lock));
        lock
    }

    pub(crate) fn config_path(&self, image: &ImageDigest) -> PathBuf {
        self.inner.root.join("configs").join(format!("{}.json", image.hex()))
    }

    /// Bytes of a layer that is complete.
    pub(crate) fn layer_size(&self, diff_id: &DiffId) -> Option<u64> {
        let size = fs::metadata(self.layer_path(diff_id)).ok().filter(fs::Metadata::is_file)?.len();
        self.toc_path(diff_id).is_file().then_some(size)
    }
}

/// Locks `root/lock`, which says who holds it.
fn lock(root: &Path) -> Result<File, OpenError> {
    let path = root.join("lock");
    let failed = |source| OpenError::Lock { path: path.clone(), source };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // The holder may be about to write it.
            let _ = (&mut file).take(20).read_to_string(&mut pid);
            return Err(OpenError::InUse { root: root.to_owned(), pid: pid.trim().parse().ok() });
        }
        Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

/// The same in the directory of each image. A mount in it that the last process left is not looked into.
fn clean_images(images: &Path) -> io::Result<()> {
    for entry in fs::read_dir(images)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            clean(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes what was being written when the last process ended.
fn clean(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(partial::PREFIX.as_bytes()) {
            continue;
        }
        tracing::info!(path = %entry.path().display(), "removing what was left unfinished");
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) }?;
    }
    Ok(())
}
