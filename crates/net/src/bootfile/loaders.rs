//! The server's own files, below `pxe/`: network bootloaders and our first-stage script.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::BootFile;

/// Bootloaders of the `ipxe` packages that are served if they are there: an allow-list, so that
/// whatever else lies in that directory stays there.
const NAMES: [&str; 8] = [
    "undionly.kpxe",
    "undionly.kkpxe",
    "ipxe.pxe",
    "ipxe.efi",
    "snp.efi",
    "snponly.efi",
    "ipxe-arm64.efi",
    "snponly-arm64.efi",
];

/// Largest bootloader, in bytes. iPXE's are below 1.2 MB; more is a mistake in the configuration.
const MAX_SIZE: u64 = 8 << 20;

/// The files below `pxe/`, in memory.
#[derive(Debug)]
pub struct Loaders {
    files: HashMap<String, BootFile>,
}

/// Why the bootloaders could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not one of the files is there.
    #[error("no network bootloader in {}: install the package `ipxe`, or name another directory", .0.display())]
    NoneFound(PathBuf),
    /// One is there, but cannot be read.
    #[error("cannot read the network bootloader {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// One is larger than any bootloader.
    #[error("{} is too large for a network bootloader (limit {MAX_SIZE} bytes)", .0.display())]
    TooLarge(PathBuf),
}

impl Loaders {
    /// Reads the bootloaders that `directory` holds, and adds `walt.ipxe`.
    pub fn load(directory: &Path) -> Result<Self, LoadError> {
        let mut files = Vec::new();
        for name in NAMES {
            let path = directory.join(name);
            // Symlinks are followed: Debian's package has some, and the directory is the administrator's.
            match File::open(&path).and_then(read_bounded) {
                Ok(Some(bytes)) => files.push((name, bytes)),
                Ok(None) => return Err(LoadError::TooLarge(path)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(LoadError::Read { path, source }),
            }
        }
        if files.is_empty() {
            return Err(LoadError::NoneFound(directory.to_owned()));
        }
        Ok(Self::from_files(files))
    }

    /// Serves these (name, content), and `walt.ipxe`.
    pub fn from_files<'a>(files: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Self {
        let first_stage = ("walt.ipxe", boot::FIRST_STAGE.as_bytes().to_vec());
        let all = files.into_iter().chain([first_stage]);
        Self { files: all.map(|(name, bytes)| (name.to_owned(), BootFile::from_bytes(bytes))).collect() }
    }

    /// The file of this name.
    pub fn get(&self, name: &str) -> Option<BootFile> {
        self.files.get(name).cloned()
    }

    /// Every name, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }
}

fn read_bounded(file: File) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_SIZE).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allow_list_is_all_that_is_served() {
        let directory = std::env::temp_dir().join(format!("walt-loaders-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        assert!(matches!(Loaders::load(&directory), Err(LoadError::NoneFound(_))));
        std::fs::write(directory.join("undionly.kpxe"), b"bios").unwrap();
        std::fs::write(directory.join("secret"), b"no").unwrap();
        let loaders = Loaders::load(&directory).unwrap();
        let mut names: Vec<_> = loaders.names().collect();
        names.sort_unstable();
        assert_eq!(names, ["undionly.kpxe", "walt.ipxe"]);
        assert_eq!(loaders.get("walt.ipxe").unwrap().size(), boot::FIRST_STAGE.len() as u64);
        File::create(directory.join("ipxe.efi")).unwrap().set_len(MAX_SIZE + 1).unwrap();
        assert!(matches!(Loaders::load(&directory), Err(LoadError::TooLarge(_))));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
