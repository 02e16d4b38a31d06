//! The tmpfs that takes what is written on the node.

use std::fs;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use crate::failure::{Doing as _, Failure};

/// Where it is until the union is `/`. Not visible afterwards: a change behind the overlay's back has undefined results.
pub(super) const LAYER: &str = "/run/walt-layer";

/// Where it is looked at for the moment that it takes to open it.
const VIEW: &str = "/run/walt-layer-view";

/// Mounts it. Gives the directory of what has changed, open, to be looked at and not written to: `walt node save` reads
/// it (`walt-changes`), long after its last name is gone.
pub(super) fn mount_layer() -> Result<OwnedFd, Failure> {
    for directory in [LAYER, VIEW] {
        fs::create_dir(directory).doing(|| format!("make directory {directory}"))?;
    }
    // Half of the memory is tmpfs's own limit, and a sensible one.
    mount("walt-layer", LAYER, "tmpfs", MountFlags::empty(), c"mode=0755")
        .doing(|| format!("mount tmpfs on {LAYER}"))?;
    for name in ["upper", "work"] {
        fs::create_dir(Path::new(LAYER).join(name)).doing(|| format!("make directory {LAYER}/{name}"))?;
    }
    mount_bind(LAYER, VIEW).doing(|| format!("mount {LAYER} on {VIEW}"))?;
    let opened = mount_remount(VIEW, MountFlags::RDONLY | MountFlags::BIND, c"")
        .and_then(|()| rustix::fs::open(format!("{VIEW}/upper"), DIRECTORY, Mode::empty()))
        .doing(|| format!("open {VIEW}/upper for reading alone"));
    // The mount lives on in what was opened.
    unmount(VIEW, UnmountFlags::DETACH).doing(|| format!("unmount {VIEW}"))?;
    fs::remove_dir(VIEW).doing(|| format!("remove {VIEW}"))?;
    opened
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
