//! Where media are written: a file or a directory, complete or not at all.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use super::File;

/// What is written at once; a piece of zeros is left out, and the file has a hole there.
const PIECE: usize = 64 * 1024;

/// A medium can't be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// There is something already.
    #[error("{0:?} is there already")]
    Exists(PathBuf),
    /// A disk, not a file.
    #[error("{0:?} is a disk, not a file")]
    Disk(PathBuf),
    /// A directory, a terminal, a pipe.
    #[error("{0:?} is not a file")]
    NotAFile(PathBuf),
    /// Not a directory.
    #[error("{0:?} is not a directory")]
    NotADirectory(PathBuf),
    /// No file can be created there.
    #[error("can not write {path:?}")]
    Create {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Writing has failed; nothing was left behind.
    #[error("can not write {path:?}, and nothing of it is left")]
    Write {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

impl OutputError {
    /// What a person may do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists(_) => Some("--force writes over it".into()),
            Self::Disk(disk) => Some(format!(
                "write a file, and copy it: `dd if=FILE of={} bs=4M conv=fsync status=progress`",
                disk.display()
            )),
            Self::Create { source, .. } | Self::Write { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull => {
                    Some("the disk is full: free some of it, or name a file elsewhere".into())
                }
                io::ErrorKind::NotFound => Some("create its directory first".into()),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Some("name a file in a directory that you may write to".into())
                }
                _ => None,
            },
            Self::NotAFile(_) | Self::NotADirectory(_) => None,
        }
    }
}

/// A file that is being written. It gets its name by [`NewImage::finish`]; dropped before that, it vanishes.
#[derive(Debug)]
pub struct NewImage {
    path: PathBuf,
    file: NamedTempFile,
    replace: bool,
    listed: Listed,
}

/// Files that are being written, by their names for the time being.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all files that are being written, for a program that is about to be ended.
pub fn remove_unfinished() {
    for path in unfinished().iter() {
        // It may have got its name just now.
        let _ = fs::remove_file(path);
    }
}

/// The place of a file in that list.
#[derive(Debug)]
struct Listed(PathBuf);

impl Drop for Listed {
    fn drop(&mut self) {
        unfinished().remove(&self.0);
    }
}

impl NewImage {
    /// Begins a file that will be at `path`. With `replace`, a file that is there is replaced.
    ///
    /// # Errors
    /// When something is there that may not be replaced, or the directory can not be written to.
    pub fn create(path: &Path, replace: bool) -> Result<Self, OutputError> {
        match fs::metadata(path) {
            Ok(found) if found.file_type().is_block_device() => return Err(OutputError::Disk(path.to_owned())),
            Ok(found) if !found.is_file() => return Err(OutputError::NotAFile(path.to_owned())),
            Ok(_) if !replace => return Err(OutputError::Exists(path.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(OutputError::Create { path: path.to_owned(), source }),
        }
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .prefix(".walt-media-")
            // As any file: the umask decides.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory)
            .map_err(|source| OutputError::Create { path: path.to_owned(), source: plain(source) })?;
        let listed = Listed(file.path().to_owned());
        unfinished().insert(listed.0.clone());
        Ok(Self { path: path.to_owned(), file, replace, listed })
    }

    /// Writes the whole content; `progress` hears how many bytes are done.
    ///
    /// # Errors
    /// When the disk is full, or fails.
    pub fn write(&mut self, content: &[u8], mut progress: impl FnMut(u64)) -> Result<(), OutputError> {
        let mut write = || {
            let file = self.file.as_file_mut();
            file.set_len(content.len() as u64)?;
            for (number, piece) in content.chunks(PIECE).enumerate() {
                let at = (number * PIECE) as u64;
                if piece.iter().any(|byte| *byte != 0) {
                    file.seek(SeekFrom::Start(at))?;
                    file.write_all(piece)?;
                }
                progress(at + piece.len() as u64);
            }
            file.sync_all()
        };
        write().map_err(|source| OutputError::Write { path: self.path.clone(), source })
    }

    /// The file under its name for the time being, for programs that go on with it.
    pub fn unfinished(&self) -> &Path {
        self.file.path()
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When something has come there meanwhile, or the disk fails.
    pub fn finish(self) -> Result<(), OutputError> {
        let Self { path, file, replace, listed } = self;
        let sync = file.as_file().sync_all();
        let named = sync.and_then(|()| {
            if replace { file.persist(&path) } else { file.persist_noclobber(&path) }.map_err(|error| error.error)
        });
        drop(listed);
        match named {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(OutputError::Exists(path)),
            Err(source) => Err(OutputError::Write { path, source }),
        }
    }
}

/// Writes the files of a medium into the directory `path`, which is created if it is not there. With `replace`, files
/// of these names are replaced; others stay.
///
/// # Errors
/// When a file is there that may not be replaced, or something can not be written: then what was written is removed. The
/// files get their names once all are on the disk; only if that fails halfway are some of them new and some as before.
pub fn write_directory(path: &Path, files: &[File], replace: bool) -> Result<(), OutputError> {
    let mut created = Vec::new();
    let result = write_files(path, files, replace, &mut created);
    if result.is_err() {
        for path in created.iter().rev() {
            // Directories that hold something of others stay: remove_dir fails then.
            let _ = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        }
    }
    result
}

fn write_files(path: &Path, files: &[File], replace: bool, created: &mut Vec<PathBuf>) -> Result<(), OutputError> {
    if fs::metadata(path).is_ok_and(|found| !found.is_dir()) {
        return Err(OutputError::NotADirectory(path.to_owned()));
    }
    let targets: Vec<_> = files.iter().map(|file| path.join(&file.path)).collect();
    if let (false, Some(there)) = (replace, targets.iter().find(|target| target.exists())) {
        return Err(OutputError::Exists(there.clone()));
    }
    let mut written = Vec::new();
    for (File { content, .. }, target) in files.iter().zip(&targets) {
        let directory = target.parent().unwrap_or(path);
        // The outermost that is missing first.
        let missing: Vec<_> = directory
            .ancestors()
            .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists())
            .collect();
        for directory in missing.into_iter().rev() {
            fs::create_dir(directory).map_err(|source| OutputError::Create { path: directory.to_owned(), source })?;
            created.push(directory.to_owned());
        }
        let mut file = NewImage::create(target, replace)?;
        file.write(content, |_| {})?;
        written.push(file);
    }
    for (file, target) in written.into_iter().zip(targets) {
        let existed = target.exists();
        file.finish()?;
        if !existed {
            created.push(target);
        }
    }
    Ok(())
}

/// The cause without tempfile's own name for the file ("... at path ..."), which means nothing to anybody.
fn plain(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((cause, _)) => io::Error::new(error.kind(), cause.to_owned()),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_when_it_is_complete_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("card.img");
        let mut content = vec![0; 3 * PIECE + 17];
        content[2 * PIECE + 5] = 9;
        let mut image = NewImage::create(&path, false).unwrap();
        let mut done = 0;
        image.write(&content, |bytes| done = bytes).unwrap();
        assert_eq!(done, content.len() as u64);
        assert!(!path.exists());
        image.finish().unwrap();
        assert!(fs::read(&path).unwrap() == content);
        assert_eq!(names(directory.path()), ["card.img"]);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o600, 0o600);
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut image = NewImage::create(&directory.path().join("card.img"), false).unwrap();
        image.write(&[1; 100], |_| {}).unwrap();
        drop(image);
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn what_is_there_stays_unless_it_may_be_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("card.img");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(NewImage::create(&path, false), Err(OutputError::Exists(_))));
        let mut image = NewImage::create(&path, true).unwrap();
        image.write(b"new", |_| {}).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        image.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        // It came while ours was written.
        let late = directory.path().join("late");
        let image = NewImage::create(&late, false).unwrap();
        fs::write(&late, "precious").unwrap();
        assert!(matches!(image.finish(), Err(OutputError::Exists(_))));
        assert_eq!(fs::read(&late).unwrap(), b"precious");
        assert_eq!(names(directory.path()), ["card.img", "late"]);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(NewImage::create(directory.path(), true), Err(OutputError::NotAFile(_))));
        assert!(matches!(NewImage::create(Path::new("/dev/null"), true), Err(OutputError::NotAFile(_))));
        let nowhere = NewImage::create(&directory.path().join("a/b"), false).unwrap_err();
        assert_eq!(nowhere.hint().unwrap(), "create its directory first");
        let OutputError::Create { source, .. } = &nowhere else { panic!("{nowhere}") };
        assert_eq!(source.to_string(), "No such file or directory (os error 2)");
    }

    #[test]
    fn a_directory_gets_all_files_or_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/firmware");
        let files = [File::new("a", "1"), File::new("overlays/b", "2")];
        write_directory(&path, &files, false).unwrap();
        assert_eq!(fs::read(path.join("overlays/b")).unwrap(), b"2");
        assert!(matches!(write_directory(&path, &files, false), Err(OutputError::Exists(_))));
        write_directory(&path, &files, true).unwrap();
        // The second file can not be created: its directory is a file.
        let other = directory.path().join("other");
        let broken = [File::new("a", "1"), File::new("a/b", "2")];
        write_directory(&other, &broken, false).unwrap_err();
        assert!(!other.exists());
    }

    #[test]
    fn files_that_are_replaced_are_all_new_or_all_old() {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &str, content: &[u8]| File { path: path.into(), content: content.to_vec() };
        write_directory(root.path(), &[file("a", b"old"), file("b", b"old")], false).unwrap();
        // The last one can not be written: there is a directory.
        fs::create_dir(root.path().join("c")).unwrap();
        let files = [file("a", b"new"), file("b", b"new"), file("c", b"new")];
        assert!(write_directory(root.path(), &files, true).is_err());
        assert_eq!(["a", "b"].map(|name| fs::read(root.path().join(name)).unwrap()), [b"old", b"old"]);
        assert_eq!(names(root.path()), ["a", "b", "c"]);
    }
}
