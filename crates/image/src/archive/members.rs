//! The files in an archive, found without unpacking it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::store::{Decompressor, LayerError, Output, Partial};
use crate::tar::{EntryKind, LayerEntries, LayerScanner};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// Links that are followed to a file (old `docker save` links equal layers).
const MAX_LINKS: usize = 8;

/// A file in an archive or a directory.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    file: Arc<File>,
    path: PathBuf,
    offset: u64,
    pub(crate) size: u64,
}

impl Member {
    /// The whole of it, if it is not larger than `limit` bytes.
    pub(crate) fn read(&self, limit: u64) -> io::Result<Vec<u8>> {
        if self.size > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
        }
        let mut bytes = vec![0; self.size as usize];
        self.file.read_exact_at(&mut bytes, self.offset)?;
        Ok(bytes)
    }

    /// The whole of it in pieces.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Result<Vec<u8>, LayerError>> + '_ {
        let mut done = 0;
        std::iter::from_fn(move || {
            let len = (self.size - done).min(PIECE as u64);
            if len == 0 {
                return None;
            }
            let mut bytes = vec![0; len as usize];
            let read = self.file.read_exact_at(&mut bytes, self.offset + done);
            done += len;
            Some(read.map(|()| bytes).map_err(|source| LayerError::Read { path: self.path.clone(), source }))
        })
    }
}

/// Where an image's files are.
pub(crate) enum Members {
    /// An OCI image layout that is a directory.
    Directory(PathBuf),
    /// A tar.
    Archive { file: Arc<File>, path: PathBuf, files: HashMap<Vec<u8>, Found>, _temporary: Option<Partial> },
}

/// What a name in an archive leads to.
pub(crate) enum Found {
    File { offset: u64, size: u64 },
    Link(Vec<u8>),
}

impl Members {
    /// Opens a directory or a tar, plain or compressed; a compressed one is decompressed into `temporary` first.
    pub(crate) fn open(path: &Path, temporary: impl FnOnce() -> io::Result<Partial>) -> Result<Members, LayerError> {
        let failed = |source| LayerError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Ok(Members::Directory(path.to_owned()));
        }
        let mut magic = [0; 4];
        let is_compressed = file.read_exact_at(&mut magic, 0).is_ok() && Decompressor::is_compressed(magic);
        let mut scan = Scan { scanner: LayerScanner::new(), copy: None, buffer: vec![0; PIECE] };
        if is_compressed {
            scan.copy = Some(temporary().map_err(failed)?);
        }
        let mut decompressor = Decompressor::new();
        let mut input = vec![0; PIECE];
        let mut reader = &file;
        loop {
            let len = reader.read(&mut input).map_err(failed)?;
            if len == 0 {
                break;
            }
            if is_compressed { decompressor.push(&input[..len], &mut scan) } else { scan.take(&input[..len]) }?;
        }
        if is_compressed {
            decompressor.finish(&mut scan)?;
        }
        let entries = scan.scanner.finish().map_err(|e| LayerError::Tar(e.to_string()))?;
        let file = match &scan.copy {
            Some(copy) => File::open(copy.path()).map_err(failed)?,
            None => file,
        };
        let (file, path) = (Arc::new(file), path.to_owned());
        Ok(Members::Archive { file, path, files: files_of(entries), _temporary: scan.copy })
    }

    /// The file of this name (components joined by `/`).
    pub(crate) fn get(&self, name: &str) -> Option<Member> {
        match self {
            Members::Directory(root) => {
                // Names come from inside of the archive.
                let is_safe = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
                let path = root.join(name);
                let file = File::open(&path).ok().filter(|_| is_safe)?;
                let metadata = file.metadata().ok()?;
                let size = metadata.len();
                metadata.is_file().then(|| Member { file: Arc::new(file), path, offset: 0, size })
            }
            Members::Archive { file, path, files, .. } => {
                let mut name = name.as_bytes();
                for _ in 0..MAX_LINKS {
                    match files.get(name)? {
                        Found::Link(target) => name = target,
                        Found::File { offset, size } => {
                            let (file, path) = (file.clone(), path.clone());
                            return Some(Member { file, path, offset: *offset, size: *size });
                        }
                    }
                }
                None
            }
        }
    }
}

/// The scan of an archive that may have to be kept in uncompressed form.
struct Scan {
    scanner: LayerScanner,
    copy: Option<Partial>,
    buffer: Vec<u8>,
}

impl Scan {
    fn take(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.scanner.push(bytes).map_err(|e| LayerError::Tar(e.to_string()))
    }
}

impl Output for Scan {
    fn space(&mut self) -> Result<&mut [u8], LayerError> {
        Ok(&mut self.buffer)
    }

    fn advance(&mut self, len: usize) -> Result<(), LayerError> {
        let bytes = &self.buffer[..len];
        if let Some(copy) = &mut self.copy {
            copy.append(bytes).map_err(|source| LayerError::Write { path: copy.path().to_owned(), source })?;
        }
        self.scanner.push(bytes).map_err(|e| LayerError::Tar(e.to_string()))
    }
}

fn files_of(entries: LayerEntries) -> HashMap<Vec<u8>, Found> {
    let mut files = HashMap::new();
    for entry in entries.entries {
        let found = match entry.kind {
            EntryKind::Regular { size: 0, .. } => Found::File { offset: 0, size: 0 },
            // A sparse member is nothing that any tool writes here.
            EntryKind::Regular { size, runs } => match runs[..] {
                [run] if run.len == size => Found::File { offset: run.pos, size },
                _ => continue,
            },
            EntryKind::HardLink(target) => Found::Link(target.into_vec()),
            EntryKind::Symlink(target) => Found::Link(relative_to(&entry.path, &target)),
            _ => continue,
        };
        files.insert(entry.path.into_vec(), found);
    }
    files
}

/// Where a symlink at `path` leads, within the archive.
fn relative_to(path: &[u8], target: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    parts.pop();
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_within_the_archive() {
        assert_eq!(relative_to(b"a/layer.tar", b"../b/layer.tar"), b"b/layer.tar");
        assert_eq!(relative_to(b"a", b"../../b"), b"b");
        assert_eq!(relative_to(b"a/b", b"./c"), b"a/c");
    }
}
