//! The layers' tars, each opened once however many images are made of it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::DiffId;
use crate::index::IndexError;
use crate::store::Partial;
use crate::tar::{LayerEntries, LayerScanner, TarError};

/// Why a layer could not be added.
#[derive(Debug, thiserror::Error)]
pub enum AddLayerError {
    /// It is not a tar that an image can be made of.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// It could not be read.
    #[error("cannot read the layer {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// It could not be written.
    #[error("cannot write the layer {path}: {cause}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

/// The directory `layers/`, and the tars in it that are open.
#[derive(Debug)]
pub struct LayerFiles {
    directory: PathBuf,
    open: Mutex<HashMap<DiffId, Weak<File>>>,
}

impl LayerFiles {
    /// The tars in `directory`, named by the hex digits of their digest.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), open: Mutex::default() }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the tar of this layer is, or would be.
    pub fn path(&self, layer: DiffId) -> PathBuf {
        self.directory.join(layer.hex())
    }

    /// Adds a layer that is at hand as a whole, with its table of contents; does nothing to one
    /// that is there.
    pub fn add(&self, tar: &[u8]) -> Result<(DiffId, LayerEntries), AddLayerError> {
        let mut digest = [0; 32];
        digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, tar).as_ref());
        let layer = DiffId::from_bytes(digest);
        let mut scanner = LayerScanner::new();
        scanner.push(tar)?;
        let entries = scanner.finish()?;
        for (path, content) in [(self.toc_path(layer), &entries.to_toc()[..]), (self.path(layer), tar)] {
            let is_there = path.metadata().is_ok_and(|m| m.len() == content.len() as u64);
            if !is_there {
                Partial::write(&path, content).map_err(|cause| AddLayerError::Write { path, cause })?;
            }
        }
        Ok((layer, entries))
    }

    /// Where the table of contents of this layer is, or would be.
    pub fn toc_path(&self, layer: DiffId) -> PathBuf {
        self.path(layer).with_extension("toc")
    }

    /// What a layer's tar holds: from its table of contents, or, where that is missing, damaged or
    /// of an older version, from the tar itself.
    pub fn entries(&self, layer: DiffId) -> Result<LayerEntries, AddLayerError> {
        if let Some(entries) =
            std::fs::read(self.toc_path(layer)).ok().and_then(|toc| LayerEntries::from_toc(&toc).ok())
        {
            return Ok(entries);
        }
        let path = self.path(layer);
        let read = |cause| AddLayerError::Read { path: path.clone(), cause };
        let mut tar = File::open(&path).map_err(read)?;
        let mut scanner = LayerScanner::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match io::Read::read(&mut tar, &mut buffer).map_err(read)? {
                0 => break,
                len => scanner.push(buffer.get(..len).unwrap_or_default())?,
            }
        }
        let entries = scanner.finish()?;
        let path = self.toc_path(layer);
        Partial::write(&path, &entries.to_toc()).map_err(|cause| AddLayerError::Write { path, cause })?;
        Ok(entries)
    }

    /// Opens a layer's tar, which must have `expected` bytes.
    pub(crate) fn open(&self, layer: DiffId, expected: u64) -> Result<Arc<File>, IndexError> {
        if let Some(file) = self.lock().get(&layer).and_then(Weak::upgrade) {
            return Ok(file);
        }
        let path = self.path(layer);
        let open = |cause| IndexError::Layer { path: path.clone(), cause };
        let file = Arc::new(File::open(&path).map_err(open)?);
        let found = file.metadata().map_err(open)?.len();
        if found != expected {
            return Err(IndexError::LayerLength { path, found, expected });
        }
        let mut files = self.lock();
        files.retain(|_, file| file.strong_count() > 0);
        files.insert(layer, Arc::downgrade(&file));
        Ok(file)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<DiffId, Weak<File>>> {
        // A panic under this lock can only be one in `HashMap`: the table stays usable.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
