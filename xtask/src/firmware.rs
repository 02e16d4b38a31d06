//! The firmware of boards, as a user of `walt media sd` has it: Debian's packages, unpacked and not installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use boot::Architecture;

use crate::debian::{Packages, SUITE};
use crate::image::cache_directory;

/// The firmware itself, U-Boot, and Linux for its device trees: what `walt media sd` advises to get for the 64-bit boards.
const PACKAGES: [&str; 3] = ["raspi-firmware", "u-boot-rpi", "linux-image-arm64"];

/// What the kernel's package has beside device trees: most of its size.
const NOT_NEEDED: [&str; 3] = ["boot", "lib/modules", "usr/share"];

/// The directory with all of it, for `--firmware`. It is fetched once, which a lab has no way to do.
pub(crate) fn tree() -> Result<PathBuf> {
    let cache = cache_directory()?;
    let tree = cache.join(format!("firmware-{SUITE}"));
    let lock = File::create(cache.join("firmware.lock"))?;
    lock.lock().context("cannot lock the firmware's cache")?;
    if tree.exists() {
        return Ok(tree);
    }
    // Under another name until it is complete.
    let new = cache.join(format!("firmware-{SUITE}-new"));
    remove(&new)?;
    Packages::of(Architecture::Aarch64)?.unpack(&PACKAGES, &new)?;
    for directory in NOT_NEEDED {
        remove(&new.join(directory))?;
    }
    fs::rename(&new, &tree).with_context(|| format!("cannot name {tree:?}"))?;
    Ok(tree)
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {directory:?}"))
        }
        _ => Ok(()),
    }
}
