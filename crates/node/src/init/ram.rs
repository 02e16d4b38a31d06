//! The agent's own file system in RAM, from which its long-lived services run.
//!
//! Its root is all that the services see (they are chrooted to it), so that none of their pages,
//! descriptors or directories is on NFS: when the server is gone they still work.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};
use rustix::mount::{MountFlags, mount};

use crate::failure::{Doing as _, Failure};

/// Name of the binary in that file system.
pub(super) const PROGRAM: &str = "/walt-node";

/// Below `/run`, which is a tmpfs by now and moves into the union with all that is mounted in it.
const DIRECTORY: &str = "/run/walt";

/// Device nodes that the services use: `/dev/null` for children, the others to say something.
/// Numbers from Documentation/admin-guide/devices.txt.
const DEVICES: [(&str, u32, u32); 3] = [("null", 1, 3), ("kmsg", 1, 11), ("console", 5, 1)];

/// The file system, mounted and filled.
#[derive(Debug)]
pub(super) struct Ram {
    size: u64,
}

impl Ram {
    pub(super) fn create() -> Result<Self, Failure> {
        fs::create_dir_all(DIRECTORY).doing(|| format!("make directory {DIRECTORY}"))?;
        // A file system of its own, because `/run` may be `noexec` and `nodev`.
        mount("walt", DIRECTORY, "tmpfs", MountFlags::NOSUID, c"mode=0755,size=16m")
            .doing(|| format!("mount tmpfs on {DIRECTORY}"))?;
        let size = Self::copy_program().doing(|| format!("copy /proc/self/exe to {DIRECTORY}{PROGRAM}"))?;
        Self::make_devices().doing(|| format!("make device nodes in {DIRECTORY}/dev"))?;
        Ok(Self { size })
    }

    /// Bytes of the program.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Where it is mounted.
    pub(super) fn directory(&self) -> PathBuf {
        PathBuf::from(DIRECTORY)
    }

    /// The directory, open, to be a child's root.
    pub(super) fn open(&self) -> Result<rustix::fd::OwnedFd, Failure> {
        rustix::fs::open(DIRECTORY, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .doing(|| format!("open {DIRECTORY}"))
    }

    fn copy_program() -> io::Result<u64> {
        let target = Path::new(DIRECTORY).join(PROGRAM.trim_start_matches('/'));
        let size = io::copy(&mut File::open("/proc/self/exe")?, &mut File::create(&target)?)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
        Ok(size)
    }

    fn make_devices() -> io::Result<()> {
        let directory = Path::new(DIRECTORY).join("dev");
        fs::create_dir(&directory)?;
        for (name, major, minor) in DEVICES {
            let path = directory.join(name);
            mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, makedev(major, minor))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(if name == "null" { 0o666 } else { 0o600 }))?;
        }
        Ok(())
    }
}
