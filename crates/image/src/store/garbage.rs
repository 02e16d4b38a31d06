//! Removing what no name and no node uses.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::DiffId;
use crate::digest::{Digest, ImageDigest};
use crate::index::Index;
use crate::store::{InfoError, Store};

/// What garbage collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Nothing was looked at, because somebody is at work on an image: try again later.
    pub deferred: bool,
    /// Images (configurations) removed.
    pub images: usize,
    /// Layers removed.
    pub layers: usize,
    /// Image ids (index and mount) removed.
    pub ids: usize,
    /// Bytes of the removed layers.
    pub bytes: u64,
}

/// Garbage collection stopped; what it had removed until then is gone, all that is in use is there.
#[derive(Debug, thiserror::Error)]
#[error("garbage collection: cannot {what} {}: {source}", path.display())]
pub struct CollectError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Store {
    /// Removes images that are not in `keep_images`, image ids that are not in `keep_ids`, and all layers that
    /// neither of the remaining ones need.
    ///
    /// `unmount` is called for each image id to be removed; one that is still mounted afterwards, because
    /// somebody is in it, stays until the next time. Blocks on the disk.
    pub fn collect_garbage(
        &self,
        keep_images: &HashSet<ImageDigest>,
        keep_ids: &HashSet<String>,
        unmount: impl Fn(&str),
    ) -> Result<Collected, CollectError> {
        let Some(_alone) = self.inner.holds.exclude() else {
            return Ok(Collected { deferred: true, ..Collected::default() });
        };
        let mut collected = Collected::default();
        for (id, path) in named_by_hex(&self.images_dir(), "")? {
            if !keep_ids.contains(&id.hex()) {
                unmount(&id.hex());
                collected.ids += usize::from(remove_id(&path)?);
            }
        }
        for (digest, path) in named_by_hex(&self.inner.root.join("configs"), ".json")? {
            if !keep_images.contains(&ImageDigest(digest)) {
                remove(&path)?;
                remove(&path.with_extension("platform"))?;
                collected.images += 1;
            }
        }
        let Some(needed) = self.needed_layers() else { return Ok(collected) };
        for (layer, path) in named_by_hex(&self.layers_dir(), "")? {
            if !needed.contains(&DiffId::from(layer)) {
                collected.bytes += fs::metadata(&path).map_or(0, |m| m.len());
                remove(&path)?;
                collected.layers += 1;
            }
        }
        for (layer, path) in named_by_hex(&self.layers_dir(), ".toc")? {
            if !needed.contains(&DiffId::from(layer)) {
                remove(&path)?;
            }
        }
        tracing::info!(?collected, "garbage collected");
        Ok(collected)
    }

    /// Layers of all images and image ids in the store; `None` if one of those cannot tell its own: then
    /// every layer may be needed.
    fn needed_layers(&self) -> Option<HashSet<DiffId>> {
        let mut needed = HashSet::new();
        for (digest, _) in named_by_hex(&self.inner.root.join("configs"), ".json").ok()? {
            match self.config(&ImageDigest(digest)) {
                Ok(config) => needed.extend(config.diff_ids),
                Err(InfoError::NotThere { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, "no layer is removed because of it");
                    return None;
                }
            }
        }
        for (_, path) in named_by_hex(&self.images_dir(), "").ok()? {
            let index = path.join("index");
            // Without an index, it is what a crash left of a preparation or a removal.
            if !index.exists() {
                continue;
            }
            match Index::open(&index) {
                Ok(index) => needed.extend(index.layers().map(|(layer, _)| layer)),
                Err(error) => {
                    tracing::warn!(%error, "no layer is removed because of it");
                    return None;
                }
            }
        }
        Some(needed)
    }
}

/// Entries of `dir` whose names are 64 hex digits and `suffix`; all others are none of ours.
fn named_by_hex(dir: &Path, suffix: &str) -> Result<Vec<(Digest, PathBuf)>, CollectError> {
    let failed = |source| CollectError { what: "read", path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let hex = name.to_str().and_then(|name| name.strip_suffix(suffix));
        found.extend(hex.and_then(Digest::from_hex).map(|digest| (digest, entry.path())));
    }
    Ok(found)
}

/// Removes the directory of an image id; false if its mount is still there.
fn remove_id(path: &Path) -> Result<bool, CollectError> {
    let mount_point = path.join("fs");
    // rmdir(2) fails on a mount point: so nothing below it can be reached by what follows.
    match fs::remove_dir(&mount_point) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::info!(path = %mount_point.display(), %error, "still mounted");
            return Ok(false);
        }
    }
    fs::remove_dir_all(path).map_err(|source| CollectError { what: "remove", path: path.to_owned(), source })?;
    Ok(true)
}

fn remove(path: &Path) -> Result<(), CollectError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|source| CollectError { what: "remove", path: path.to_owned(), source }),
    }
}
