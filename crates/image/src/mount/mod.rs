//! Mounts of views on the server (FUSE), so that people and tools can look into images.
//!
//! Nothing depends on them: where FUSE is not to be had, nodes are served all the same.

mod filesystem;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use rustix::mount::UnmountFlags;

use crate::View;
use filesystem::ViewFilesystem;

/// Threads that answer the kernel for one mount: a read that waits for the disk holds up one.
const THREADS: usize = 2;
/// Start of the source of our mounts in the mount table; the image id follows.
const SOURCE: &str = "walt-image-";

/// Why an image could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel has no FUSE, or this process may not see it.
    #[error("cannot mount {path}: there is no /dev/fuse")]
    NoFuse {
        /// Where it was to be mounted.
        path: PathBuf,
    },
    /// The mount point cannot be made.
    #[error("cannot create the mount point {path}: {cause}")]
    MountPoint {
        /// The mount point.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Mounting failed.
    #[error("cannot mount {path}: {cause}")]
    Mount {
        /// Where it was to be mounted.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

/// The mounts at `images/<image_id>/fs`.
#[derive(Debug)]
pub struct Mounts {
    images: PathBuf,
    /// Locked while one is mounted or taken away: of two at one path, only the upper one could be taken away by it.
    mounted: Mutex<HashMap<String, Mount>>,
}

impl Mounts {
    /// No mounts yet below the directory `images`.
    pub fn new(images: impl Into<PathBuf>) -> Self {
        Self { images: images.into(), mounted: Mutex::default() }
    }

    /// Where this image is, or would be, mounted.
    pub fn path(&self, image_id: &str) -> PathBuf {
        self.images.join(image_id).join("fs")
    }

    /// Mounts an image; does nothing if it is mounted. Blocks while another one is mounted or taken away.
    pub fn mount(&self, view: &Arc<View>) -> Result<(), MountError> {
        let mut mounted = self.mounted();
        if !mounted.contains_key(view.id()) {
            let mount = Mount::new(view.clone(), &self.path(view.id()))?;
            mounted.insert(view.id().to_owned(), mount);
        }
        Ok(())
    }

    /// Takes an image's mount away. Who is in it keeps it until leaving.
    pub fn unmount(&self, image_id: &str) {
        self.mounted().remove(image_id);
    }

    /// Detaches what a server that did not end well has left mounted; gives the mount points.
    ///
    /// To be called before the first mount, by the one process that uses the directory.
    pub fn clean_stale(&self) -> io::Result<Vec<PathBuf>> {
        let images = match self.images.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            images => images?,
        };
        let mut stale = fuse_mounts_below(&fs::read("/proc/self/mountinfo")?, &images);
        // A mount over a mount is listed after it and has to go first.
        stale.reverse();
        for path in &stale {
            rustix::mount::unmount(path, UnmountFlags::DETACH)?;
        }
        Ok(stale)
    }

    fn mounted(&self) -> MutexGuard<'_, HashMap<String, Mount>> {
        // Whatever panics under this lock has not touched the table.
        self.mounted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One mounted view; unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    session: Option<BackgroundSession>,
}

impl Mount {
    /// Mounts `view` at `path`, which is created.
    pub fn new(view: Arc<View>, path: &Path) -> Result<Self, MountError> {
        fs::create_dir_all(path).map_err(|cause| MountError::MountPoint { path: path.into(), cause })?;
        let mut config = Config::default();
        // An image's setuid programs and device nodes are for nodes: on the server they are to be
        // looked at, not to be used.
        config.mount_options = vec![
            MountOption::RO,
            MountOption::NoSuid,
            MountOption::NoDev,
            MountOption::NoAtime,
            MountOption::DefaultPermissions,
            MountOption::FSName(format!("{SOURCE}{}", view.id().get(..12).unwrap_or_default())),
        ];
        config.acl = SessionACL::All;
        config.n_threads = Some(THREADS);
        config.clone_fd = true;
        match fuser::spawn_mount(ViewFilesystem::new(view), path, &config) {
            Ok(session) => Ok(Self { path: path.into(), session: Some(session) }),
            Err(_) if !Path::new("/dev/fuse").exists() => Err(MountError::NoFuse { path: path.into() }),
            Err(cause) => Err(MountError::Mount { path: path.into(), cause }),
        }
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Detached, so that a shell that stands in it does not keep it in the way; the session's
        // threads end when the last one has left.
        if let Err(error) = rustix::mount::unmount(&self.path, UnmountFlags::DETACH) {
            tracing::debug!(path = %self.path.display(), %error, "left to fuser to unmount");
        }
        drop(self.session.take());
    }
}

/// Mount points of our FUSE mounts below `directory`, in the order of the mount table
/// (proc_pid_mountinfo(5)).
fn fuse_mounts_below(mountinfo: &[u8], directory: &Path) -> Vec<PathBuf> {
    mountinfo
        .split(|&b| b == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|&b| b == b' ');
            let path = unescape(fields.nth(4)?);
            // Optional fields end with a lone dash; type and source follow.
            fields.by_ref().find(|field| field == b"-")?;
            let is_ours = fields.next()?.starts_with(b"fuse") && fields.next()?.starts_with(SOURCE.as_bytes());
            (is_ours && path != directory && path.starts_with(directory)).then_some(path)
        })
        .collect()
}

/// Undoes `\040` and its like.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = |digits: &[u8; 3]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        match after.first_chunk().filter(|_| byte == b'\\').and_then(octal) {
            Some(escaped) => {
                path.push(escaped);
                rest = &after[3..];
            }
            None => {
                path.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_mounts_are_told_from_others() {
        let table = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            40 22 0:50 / /srv/i\\040m/a/fs ro,nosuid,nodev - fuse walt-image-5a ro\n\
            41 22 0:51 / /srv/i\\040m/b/fs ro shared:7 master:2 - fuse walt-image-5a ro\n\
            42 22 0:52 / /srv/i\\040m/c/fs ro - fuse.sshfs x ro\n\
            43 22 0:53 / /srv/other/fs ro - fuse walt-image-5a ro\n\
            44 22 0:54 / /srv/i\\040m ro - fuse walt-image-5a ro\n\
            garbage\n\n";
        let found = fuse_mounts_below(table, Path::new("/srv/i m"));
        assert_eq!(found, [Path::new("/srv/i m/a/fs"), Path::new("/srv/i m/b/fs")]);
    }
}
