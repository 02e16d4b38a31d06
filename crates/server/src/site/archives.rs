//! Images from archives, and into them: for machines that reach no registry.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use api::{ImageFormat, Problem, ProblemKind};
use image::archive::{Format, Imported};
use image::store::Limits;
use image::{ImageDigest, Platform, Reference};
use tokio::sync::mpsc;

use super::Images;
use crate::names;
use crate::registration::Pulled;

/// Bytes handed on at once.
const CHUNK: usize = 256 * 1024;

/// An archive on its way into the store: a file that goes away with this.
#[derive(Debug)]
pub struct Upload {
    /// Where it is.
    pub path: PathBuf,
    /// What it may ask of the disk.
    pub limits: Limits,
}

impl Drop for Upload {
    fn drop(&mut self) {
        // What remains is removed at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Images {
    /// A place for an archive that is about to be imported.
    pub fn upload(&self) -> Upload {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // The store removes what begins like this when it is opened.
        Upload { path: self.store.images_dir().join(format!(".partial-upload-{number}")), limits: *self.store.limits() }
    }

    /// Takes in the images of an archive; returns the full names that they are to get, and keeps
    /// garbage collection away until `recorded` has made these names known.
    ///
    /// # Errors
    /// The archive can not be used, or one of its images is none for WalT or has no name.
    pub async fn import<R: Future<Output = Result<(), Problem>>>(
        &self,
        upload: &Upload,
        name: Option<&str>,
        recorded: impl FnOnce(BTreeMap<String, Pulled>) -> R,
    ) -> Result<(), Problem> {
        let refuse = |message: String, hint: Option<&str>| Problem {
            kind: ProblemKind::UnsuitableImage,
            message,
            hint: hint.map(str::to_owned),
        };
        let _hold = self.store.hold().await;
        let (store, path) = (self.store.clone(), upload.path.clone());
        let task = tokio::task::spawn_blocking(move || store.import(&path));
        let imported = match task.await {
            Ok(Ok(imported)) => imported,
            // The name of our own file says nothing to the one who sent the archive.
            Ok(Err(error)) => return Err(refuse(strip(&error.to_string(), &upload.path), None)),
            Err(panic) => return Err(refuse(panic.to_string(), None)),
        };
        let mut names = BTreeMap::new();
        for image in best_platforms(imported) {
            let digest = image.digest.to_string();
            let store = self.store.clone();
            let info = tokio::task::spawn_blocking(move || store.info(&image.digest)).await;
            let info = match info {
                Ok(info) => info.map_err(|error| refuse(error.to_string(), None))?,
                Err(panic) => return Err(refuse(panic.to_string(), None)),
            };
            let text = name.or(image.name.as_deref()).or(info.preferred_name.as_deref());
            let text = text.ok_or_else(|| {
                refuse(format!("the archive gives image {digest} no name"), Some("give it one with --name"))
            })?;
            let full = names::full_image_name(text).map_err(|error| refuse(error.to_string(), None))?;
            let before = names.insert(full, Pulled { digest: digest.clone(), models: info.models });
            if name.is_some() && before.is_some_and(|before| before.digest != digest) {
                let message = "the archive holds several images, and one name was given".to_owned();
                return Err(refuse(message, Some("leave --name away: each keeps its own")));
            }
        }
        if names.is_empty() {
            return Err(refuse("the archive holds no image".to_owned(), None));
        }
        recorded(names).await
    }

    /// Writes an image as an archive, in chunks; an error is the last one.
    pub fn export(&self, digest: ImageDigest, name: &str, format: ImageFormat) -> mpsc::Receiver<io::Result<Vec<u8>>> {
        let (chunks, receiver) = mpsc::channel(4);
        let reference: Option<Reference> = name.parse().ok();
        let format = match format {
            ImageFormat::Oci => Format::OciArchive,
            ImageFormat::Docker => Format::DockerArchive,
        };
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            let mut out = io::BufWriter::with_capacity(CHUNK, Chunks { chunks: chunks.clone() });
            if let Err(error) = store.export(&digest, reference.as_ref(), format, &mut out) {
                tracing::warn!(%digest, %error, "export of an image ended early");
                // The client has gone, or learns of it by a connection that breaks.
                let _ = chunks.blocking_send(Err(io::Error::other(error)));
            }
        });
        receiver
    }
}

/// One image a name: of several platforms the one that runs on most nodes, 64-bit PCs first.
fn best_platforms(imported: Vec<Imported>) -> Vec<Imported> {
    let rank = |image: &Imported| Platform::amd64().rank(&image.platform);
    let mut best: Vec<Imported> = Vec::new();
    for image in imported {
        match best.iter_mut().find(|other| other.name.is_some() && other.name == image.name) {
            Some(other) if rank(&image) > rank(other) => *other = image,
            Some(_) => {}
            None => best.push(image),
        }
    }
    best
}

fn strip(text: &str, path: &Path) -> String {
    text.strip_prefix(&format!("{}: ", path.display())).unwrap_or(text).to_owned()
}

/// Writes into a channel.
struct Chunks {
    chunks: mpsc::Sender<io::Result<Vec<u8>>>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.chunks.blocking_send(Ok(bytes.to_vec()));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_platforms_a_pc_comes_first() {
        let image = |name: Option<&str>, architecture: &str| Imported {
            name: name.map(str::to_owned),
            digest: ImageDigest(image::Digest::of(architecture.as_bytes())),
            platform: Platform::linux(architecture, None),
        };
        let images = vec![
            image(Some("a"), "arm64"),
            image(Some("a"), "amd64"),
            image(Some("a"), "386"),
            image(Some("b"), "arm64"),
            image(None, "arm64"),
            image(None, "amd64"),
        ];
        let best: Vec<_> = best_platforms(images).into_iter().map(|i| (i.name, i.platform.architecture)).collect();
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(
            best,
            [(name("a"), "amd64".into()), (name("b"), "arm64".into()), (None, "arm64".into()), (None, "amd64".into())]
        );
    }
}
