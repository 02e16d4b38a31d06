//! Images from archives, and into them: for machines that reach no registry.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use api::{Problem, ProblemKind};
use image::archive::Format;
use image::store::{Limits, Made, Source};
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
        recorded: impl FnOnce(BTreeMap<String, Vec<Pulled>>) -> R,
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
        let mut names: BTreeMap<String, Vec<(Platform, Pulled)>> = BTreeMap::new();
        for image in imported {
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
            let variants = names.entry(full).or_default();
            if variants.iter().any(|(platform, other)| *platform == image.platform && other.digest != digest) {
                let message = if name.is_some() {
                    "the archive holds several images, and one name was given".to_owned()
                } else {
                    format!("the archive holds several images called {text} for {}", image.platform)
                };
                return Err(refuse(message, Some("leave --name away: each keeps its own")));
            }
            // One image with two names, both of which were replaced by one.
            if variants.iter().any(|(platform, _)| *platform == image.platform) {
                continue;
            }
            variants.push((image.platform, Pulled { digest, models: info.models, source: Source::Plain }));
        }
        if names.is_empty() {
            return Err(refuse("the archive holds no image".to_owned(), None));
        }
        recorded(names.into_iter().map(|(name, variants)| (name, of_platforms(variants))).collect()).await
    }

    /// The image that was prepared as `image_id` with one more layer, the tar that was uploaded. Hold the store until it
    /// is recorded.
    ///
    /// # Errors
    /// The tar can not be used, or not be stored.
    pub async fn stack(&self, image_id: &str, upload: &Upload) -> Result<Pulled, Problem> {
        let refuse = |message: String| Problem {
            kind: ProblemKind::UnsuitableImage,
            message: format!("the changes can not become an image: {message}"),
            hint: None,
        };
        let (store, path, id) = (self.store.clone(), upload.path.clone(), image_id.to_owned());
        let now = jiff::Timestamp::from_second(super::now_ms() / 1000).unwrap_or_default().to_string();
        let task = tokio::task::spawn_blocking(move || {
            let made = Made { at: &now, by: "walt node save" };
            let digest = store.stack(&id, &path, &made).map_err(|error| error.to_string())?;
            let info = store.info(&digest).map_err(|error| error.to_string())?;
            Ok(Pulled { digest: digest.to_string(), models: info.models, source: Source::Plain })
        });
        task.await.unwrap_or_else(|panic| Err(panic.to_string())).map_err(refuse)
    }

    /// Keeps the configuration beside an image that a daemon before has prepared, which did not.
    pub async fn keep_config(&self, image_id: &str, digest: &str) {
        let Ok(digest) = digest.parse::<ImageDigest>() else { return };
        let (store, id) = (self.store.clone(), image_id.to_owned());
        // What comes next says what is missing.
        let _ = tokio::task::spawn_blocking(move || store.keep_config(&id, &digest)).await;
    }

    /// Writes an image, or its variants for several platforms, as an archive, in chunks; an error is the last one.
    pub fn export(&self, image: Exported, name: &str) -> mpsc::Receiver<io::Result<Vec<u8>>> {
        let (chunks, receiver) = mpsc::channel(4);
        let reference: Option<Reference> = name.parse().ok();
        let (store, name) = (self.store.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut out = io::BufWriter::with_capacity(CHUNK, Chunks { chunks: chunks.clone() });
            let written = match &image {
                Exported::One(digest, format) => store.export(digest, reference.as_ref(), *format, &mut out),
                Exported::Index(images) => store.export_index(images, reference.as_ref(), &mut out),
            };
            if let Err(error) = written {
                tracing::warn!(name, %error, "export of an image ended early");
                // The client has gone, or learns of it by a connection that breaks.
                let _ = chunks.blocking_send(Err(io::Error::other(error)));
            }
        });
        receiver
    }
}

/// What goes into an archive.
#[derive(Debug)]
pub enum Exported {
    /// One image.
    One(ImageDigest, Format),
    /// One for each platform, in OCI's format.
    Index(Vec<(ImageDigest, Platform)>),
}

/// The variants of one name, each with what it was chosen from: of an image for one platform alone, nothing.
fn of_platforms(variants: Vec<(Platform, Pulled)>) -> Vec<Pulled> {
    let offered: Vec<_> = variants.iter().map(|(platform, _)| platform.clone()).collect();
    if offered.len() == 1 {
        return variants.into_iter().map(|(_, pulled)| pulled).collect();
    }
    let chosen = |platform| Source::Index { offered: offered.clone(), chosen: Some(platform) };
    variants.into_iter().map(|(platform, pulled)| Pulled { source: chosen(platform), ..pulled }).collect()
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
    fn of_several_platforms_each_knows_the_others() {
        let pulled = |digest: &str| Pulled { digest: digest.into(), models: Vec::new(), source: Source::Plain };
        let (pc, board) = (Platform::amd64(), Platform::linux("arm64", None));
        assert_eq!(of_platforms(vec![(pc.clone(), pulled("1"))]), [pulled("1")]);
        let offered = vec![pc.clone(), board.clone()];
        let of = |digest, platform: &Platform| Pulled {
            source: Source::Index { offered: offered.clone(), chosen: Some(platform.clone()) },
            ..pulled(digest)
        };
        let variants = vec![(pc.clone(), pulled("1")), (board.clone(), pulled("2"))];
        assert_eq!(of_platforms(variants), [of("1", &pc), of("2", &board)]);
    }
}
