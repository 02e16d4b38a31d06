//! On disk before it is answered (RFC 1813 §4.8: what is not asked for as UNSTABLE is stable when the reply is sent).

use std::sync::atomic::Ordering::Relaxed;

use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, fdatasync, fsync, syncfs};
use rustix::io::Errno;
use wire::nfs3::{FileType, Stable, Status};

use super::call::Call;
use super::object::Object;
use super::status::of_errno;

impl Call<'_> {
    /// What was written, and what is known of the file.
    pub(super) fn sync_written(&self, file: &OwnedFd, stable: Stable) -> Result<(), Status> {
        match stable {
            Stable::Unstable => Ok(()),
            Stable::Data => self.done(fdatasync(file)),
            Stable::File => self.done(fsync(file)),
        }
    }

    /// A file, or the names in a directory.
    pub(super) fn sync(&self, object: &Object) -> Result<(), Status> {
        match object.kind() {
            FileType::Regular | FileType::Directory => {
                let file = object.open(OFlags::RDONLY).map_err(of_errno)?;
                self.done(fsync(&file))
            }
            // Nobody can open one of these to ask for it: so all of the disk, which is rare enough.
            _ => self.done(syncfs(&self.dir.tree.base)),
        }
    }

    fn done(&self, synced: Result<(), Errno>) -> Result<(), Status> {
        self.counters.syncs.fetch_add(1, Relaxed);
        synced.map_err(|error| {
            // What the kernel could not write it may have dropped: clients that hold it must send it again.
            self.dir.lose_unstable();
            tracing::error!(directory = %self.dir.path().display(), %error, "what a node wrote did not reach the disk");
            of_errno(error)
        })
    }
}
