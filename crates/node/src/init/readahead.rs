//! Readahead of the NFS root.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{major, minor};

use crate::failure::{Doing as _, Failure};
use crate::settings::Settings;

/// KiB read ahead of a sequential reader. The kernel's own default for NFS is often 128 KiB, whatever
/// rsize says; with one rsize (1 MiB) ahead, a large file is read with the server always busy.
const READAHEAD_KIB: u32 = 1024;

/// Raises the readahead of the share that is `/`.
pub(super) fn raise(settings: &Settings) -> Result<String, Failure> {
    if settings.share.is_none() {
        return Ok("left alone: the root is not on NFS".into());
    }
    let device = fs::metadata("/").doing(|| "look at /".into())?.dev();
    let file = format!("/sys/class/bdi/{}:{}/read_ahead_kb", major(device), minor(device));
    let before = fs::read_to_string(&file).doing(|| format!("read {file}"))?;
    let before = before.trim();
    if before.parse().is_ok_and(|kib: u32| kib >= READAHEAD_KIB) {
        return Ok(format!("{before} KiB"));
    }
    fs::write(&file, READAHEAD_KIB.to_string()).doing(|| format!("write {READAHEAD_KIB} to {file}"))?;
    Ok(format!("{before} -> {READAHEAD_KIB} KiB"))
}
