//! Where other people's pieces are found.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::card_name;

/// A directory with firmware: the root below which Debian's packages are installed or unpacked (raspi-firmware,
/// u-boot-rpi, linux-image-*), or one that has the files side by side, by the names that they have on a card.
#[derive(Debug, Clone)]
pub struct Firmware {
    root: PathBuf,
    /// Directories with device trees, the newest Linux first.
    device_trees: Vec<PathBuf>,
}

/// A piece that is there can't be read.
#[derive(Debug, thiserror::Error)]
#[error("can not read {path:?}")]
pub struct FirmwareError {
    /// The file or directory.
    pub path: PathBuf,
    /// Cause.
    pub source: io::Error,
}

impl Firmware {
    /// Looks what is in `root`.
    ///
    /// # Errors
    /// When it is no directory that can be read.
    pub fn find(root: &Path) -> Result<Self, FirmwareError> {
        fs::read_dir(root).map_err(|source| FirmwareError { path: root.to_owned(), source })?;
        Ok(Self { root: root.to_owned(), device_trees: device_trees(root) })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file of the boards' own firmware.
    pub(super) fn own(&self, name: &str) -> Result<Option<Vec<u8>>, FirmwareError> {
        first(&[self.root.join(name), self.root.join("usr/lib/raspi-firmware").join(name)])
    }

    /// A build of U-Boot.
    pub(super) fn uboot(&self, build: &str) -> Result<Option<Vec<u8>>, FirmwareError> {
        let package = self.root.join("usr/lib/u-boot").join(build).join("u-boot.bin");
        first(&[self.root.join(card_name(build)), package])
    }

    /// A device tree.
    pub(super) fn device_tree(&self, name: &str) -> Result<Option<Vec<u8>>, FirmwareError> {
        let mut places = vec![self.root.join(name)];
        places.extend(self.device_trees.iter().map(|directory| directory.join(name)));
        first(&places)
    }
}

/// `usr/lib/linux-image-*`, and `broadcom` below: there 64-bit Linux has them, and 32-bit Linux since 6.5.
fn device_trees(root: &Path) -> Vec<PathBuf> {
    let mut images: Vec<_> = fs::read_dir(root.join("usr/lib"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("linux-image-"))
        .map(|entry| entry.path())
        .collect();
    images.sort_by_key(|path| std::cmp::Reverse(version(path)));
    images.into_iter().flat_map(|image| [image.join("broadcom"), image]).collect()
}

/// The numbers in a path's last part: 6.1.0-9 is older than 6.1.0-50.
fn version(path: &Path) -> Vec<u64> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn first(places: &[PathBuf]) -> Result<Option<Vec<u8>>, FirmwareError> {
    for path in places {
        match fs::read(path) {
            Ok(content) => return Ok(Some(content)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(source) => return Err(FirmwareError { path: path.clone(), source }),
        }
    }
    Ok(None)
}
