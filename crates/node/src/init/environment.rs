//! The file systems of the kernel that every program expects.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use rustix::mount::{MountFlags, mount};

use crate::console;
use crate::failure::{Doing as _, Failure};

/// One file system to mount where it is missing.
struct KernelFileSystem {
    kind: &'static str,
    point: &'static str,
    flags: MountFlags,
    options: &'static std::ffi::CStr,
}

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Flags and options are those that systemd would use, which keeps what it finds mounted.
const KERNEL_FILE_SYSTEMS: [KernelFileSystem; 4] = [
    KernelFileSystem { kind: "proc", point: "/proc", flags: SAFE, options: c"" },
    KernelFileSystem { kind: "sysfs", point: "/sys", flags: SAFE, options: c"" },
    KernelFileSystem { kind: "devtmpfs", point: "/dev", flags: MountFlags::NOSUID, options: c"mode=0755" },
    KernelFileSystem {
        kind: "tmpfs",
        point: "/run",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        options: c"mode=0755",
    },
];

/// Mounts what is missing of `/proc`, `/sys`, `/dev` and `/run`.
pub(super) fn mount_kernel_filesystems() -> Result<String, Failure> {
    let mut mounted = Vec::new();
    for system in &KERNEL_FILE_SYSTEMS {
        if is_mount_point(system.point) {
            continue;
        }
        mount(system.kind, system.point, system.kind, system.flags, system.options)
            .doing(|| format!("mount {} on {}", system.kind, system.point))?;
        mounted.push(system.point);
    }
    console::adopt();
    if mounted.is_empty() { Ok("all there".into()) } else { Ok(format!("mounted {}", mounted.join(" "))) }
}

/// Whether another file system than the root's is there. (`/proc/self/mountinfo` would say so by name, but before
/// `/proc` is mounted there is none, and the kernel writes names that it fails to read as `xxx`.)
fn is_mount_point(path: &str) -> bool {
    let device = |path: &str| fs::metadata(path).map(|metadata| metadata.dev());
    device(path).is_ok_and(|there| device("/").is_ok_and(|root| root != there))
}
