//! Files that appear whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Start of the names of files that are not whole yet.
pub(crate) const PREFIX: &str = ".partial-";

/// A file under a hidden name, removed unless it is published.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    target: PathBuf,
    file: File,
    len: u64,
    published: bool,
}

impl Partial {
    /// Starts what will be `target`, in the same directory.
    pub(crate) fn create(target: PathBuf) -> io::Result<Partial> {
        // Two writers of one target write the same: each has a file of its own until it is whole.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        loop {
            let path = target.with_file_name(format!("{PREFIX}{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Partial { path, target, file, len: 0, published: false }),
                // A process that crashed left it, and nobody has opened the store since.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes all of `target` at once.
    pub(crate) fn write(target: &Path, content: &[u8]) -> io::Result<()> {
        let mut partial = Partial::create(target.to_owned())?;
        partial.append(content)?;
        partial.publish()
    }

    /// Bytes appended so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// The file is whole: makes it durable, read-only, and gives it its name.
    pub(crate) fn publish(mut self) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(0o444))?;
        self.file.sync_all()?;
        fs::rename(&self.path, &self.target)?;
        self.published = true;
        match self.target.parent() {
            Some(dir) => sync_dir(dir),
            None => Ok(()),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove an unfinished file");
        }
    }
}

/// Makes renames in `dir` durable.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stays_of_what_is_not_published() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a");
        let mut partial = Partial::create(target.clone()).unwrap();
        partial.append(b"x").unwrap();
        assert!(!target.exists());
        drop(partial);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut partial = Partial::create(target.clone()).unwrap();
        partial.append(b"xy").unwrap();
        assert_eq!(partial.len(), 2);
        partial.publish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"xy");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_left_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a");
        // Other tests count on at the same time, but not so fast.
        let next = Partial::create(target.clone()).unwrap();
        let number: u64 = next.path().to_str().unwrap().rsplit('-').next().unwrap().parse().unwrap();
        for number in number + 1..number + 100 {
            fs::write(dir.path().join(format!("{PREFIX}a-{number}")), "half").unwrap();
        }
        Partial::write(&target, b"whole").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"whole");
    }
}
