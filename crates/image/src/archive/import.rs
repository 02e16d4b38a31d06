//! From an archive into the store.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

use crate::DiffId;
use crate::archive::members::{Member, Members};
use crate::config::{ConfigError, ImageConfig};
use crate::digest::{Digest, ImageDigest};
use crate::platform::Platform;
use crate::registry::manifest::{Descriptor, Document, IndexEntry, MAX_DOCUMENT, ManifestError};
use crate::store::{Expected, LayerError, Partial, Store};

/// Most indexes within indexes.
const MAX_NESTING: usize = 4;

/// An image that was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its name in the archive, as written there.
    pub name: Option<String>,
    /// The image.
    pub digest: ImageDigest,
    /// What it runs on: an archive may hold one name for several platforms.
    pub platform: Platform,
}

/// Why an archive cannot be imported. Images of it that came before the bad one may be in the store; they are
/// garbage unless they are kept.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The archive cannot be read, decompressed or is no tar.
    #[error("{}: {source}", archive.display())]
    Open {
        /// The archive.
        archive: PathBuf,
        /// Why.
        source: LayerError,
    },
    /// It is a tar, but none that holds an image.
    #[error("{}: neither manifest.json (docker-archive) nor index.json (oci-archive) is in it", archive.display())]
    NotAnArchive {
        /// The archive.
        archive: PathBuf,
    },
    /// A file that another one names is missing.
    #[error("{}: `{member}` is missing", archive.display())]
    Missing {
        /// The archive.
        archive: PathBuf,
        /// Name of the file.
        member: String,
    },
    /// A file in it cannot be read or is malformed.
    #[error("{}: `{member}`: {cause}", archive.display())]
    Member {
        /// The archive.
        archive: PathBuf,
        /// Name of the file.
        member: String,
        /// Cause.
        cause: String,
    },
    /// A manifest or index in it cannot be used.
    #[error("{}: `{member}`: {source}", archive.display())]
    Manifest {
        /// The archive.
        archive: PathBuf,
        /// Name of the file.
        member: String,
        /// Why.
        source: ManifestError,
    },
    /// A configuration in it cannot be used.
    #[error("{}: image {image}: {source}", archive.display())]
    Config {
        /// The archive.
        archive: PathBuf,
        /// Name or digest.
        image: String,
        /// Why.
        source: ConfigError,
    },
    /// A layer cannot be used or stored.
    #[error("{}: image {image}: layer {layer}: {source}", archive.display())]
    Layer {
        /// The archive.
        archive: PathBuf,
        /// Name or digest.
        image: String,
        /// The layer's diff_id.
        layer: DiffId,
        /// Why.
        source: Box<LayerError>,
    },
    /// A configuration cannot be stored.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
}

impl Store {
    /// Takes in all images of an archive: a docker-archive or oci-archive tar, plain or compressed, or a
    /// directory in OCI image layout. Blocks; not to be called on an async thread.
    pub fn import(&self, archive: &Path) -> Result<Vec<Imported>, ImportError> {
        let _hold = self.hold_blocking();
        let members = Members::open(archive, || Partial::create(self.root().join("layers").join("archive")))
            .map_err(|source| ImportError::Open { archive: archive.to_owned(), source })?;
        let import = Import { store: self, archive, members };
        if import.members.get("manifest.json").is_some() {
            import.docker_archive()
        } else if import.members.get("index.json").is_some() {
            import.oci_archive()
        } else {
            Err(ImportError::NotAnArchive { archive: archive.to_owned() })
        }
    }
}

struct Import<'a> {
    store: &'a Store,
    archive: &'a Path,
    members: Members,
}

/// A layer as it stands in the archive.
struct Layer {
    member: Member,
    blob: Option<(Digest, u64)>,
}

/// One image of `manifest.json` (docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format").
#[derive(Deserialize)]
struct DockerImage {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    names: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Option<Vec<String>>,
}

impl Import<'_> {
    fn docker_archive(&self) -> Result<Vec<Imported>, ImportError> {
        let json = self.document("manifest.json")?;
        let images: Vec<DockerImage> =
            serde_json::from_slice(&json).map_err(|e| self.bad_member("manifest.json", e))?;
        let mut imported = Vec::new();
        for image in images {
            let config = self.document(&image.config)?;
            let names = image.names.unwrap_or_default();
            let shown = names.first().unwrap_or(&image.config).clone();
            let layers = image
                .layers
                .unwrap_or_default()
                .iter()
                .map(|name| Ok(Layer { member: self.member(name)?, blob: None }))
                .collect::<Result<Vec<_>, ImportError>>()?;
            let (digest, platform) = self.image(&shown, &config, &layers)?;
            let entry = |name| Imported { name, digest, platform: platform.clone() };
            if names.is_empty() {
                imported.push(entry(None));
            }
            imported.extend(names.into_iter().map(|name| entry(Some(name))));
        }
        Ok(imported)
    }

    fn oci_archive(&self) -> Result<Vec<Imported>, ImportError> {
        let json = self.document("index.json")?;
        let entries = match self.parse("index.json", &json)? {
            Document::Index(entries) => entries,
            Document::Manifest(_) => return Err(self.bad_member("index.json", "it is a manifest")),
        };
        let mut imported = Vec::new();
        for entry in entries {
            let name = entry.name.clone();
            self.oci_entry(&entry, name.as_deref(), MAX_NESTING, &mut imported)?;
        }
        Ok(imported)
    }

    fn oci_entry(
        &self,
        entry: &IndexEntry,
        name: Option<&str>,
        depth: usize,
        imported: &mut Vec<Imported>,
    ) -> Result<(), ImportError> {
        // Such as a builder's attestation, whose platform is `unknown/unknown`.
        if entry.platform.as_ref().is_some_and(|p| p.os != "linux") {
            return Ok(());
        }
        let file = blob_name(&entry.descriptor);
        let json = self.document(&file)?;
        if Digest::of(&json) != entry.descriptor.digest {
            return Err(self.bad_member(&file, "its digest is another than its name"));
        }
        match self.parse(&file, &json)? {
            Document::Index(_) if depth == 0 => Err(self.bad_member(&file, "indexes nested too deep")),
            Document::Index(entries) => {
                entries.iter().try_for_each(|entry| self.oci_entry(entry, name, depth - 1, imported))
            }
            Document::Manifest(manifest) => {
                let config_file = blob_name(&manifest.config);
                let config = self.document(&config_file)?;
                if Digest::of(&config) != manifest.config.digest {
                    return Err(self.bad_member(&config_file, "its digest is another than its name"));
                }
                let layers = manifest
                    .layers
                    .iter()
                    .map(|d| Ok(Layer { member: self.member(&blob_name(d))?, blob: Some((d.digest, d.size)) }))
                    .collect::<Result<Vec<_>, ImportError>>()?;
                let shown = name.map_or_else(|| manifest.config.digest.to_string(), str::to_owned);
                let (digest, platform) = self.image(&shown, &config, &layers)?;
                // The index's word, where it has one: that is what it was chosen by.
                let platform = entry.platform.clone().unwrap_or(platform);
                imported.push(Imported { name: name.map(str::to_owned), digest, platform });
                Ok(())
            }
        }
    }

    /// Takes in one image.
    fn image(&self, shown: &str, json: &[u8], layers: &[Layer]) -> Result<(ImageDigest, Platform), ImportError> {
        let bad = |source| ImportError::Config { archive: self.archive.to_owned(), image: shown.to_owned(), source };
        let config = ImageConfig::parse(json).map_err(bad)?;
        config.walt_labels().map_err(bad)?;
        if config.diff_ids.len() != layers.len() {
            return Err(bad(ConfigError::LayerCount { manifest: layers.len(), config: config.diff_ids.len() }));
        }
        let image_bytes = AtomicU64::new(0);
        for (diff_id, layer) in config.diff_ids.iter().zip(layers) {
            let lock = self.store.layer_lock(*diff_id);
            let _alone = lock.blocking_lock();
            if let Some(size) = self.store.layer_size(diff_id) {
                image_bytes.fetch_add(size, Ordering::Relaxed);
                continue;
            }
            let expected = Expected { diff_id: *diff_id, blob: layer.blob };
            self.store.write_layer(expected, &image_bytes, layer.member.chunks()).map_err(|source| {
                ImportError::Layer {
                    archive: self.archive.to_owned(),
                    image: shown.to_owned(),
                    layer: *diff_id,
                    source: Box::new(source),
                }
            })?;
        }
        let image = ImageDigest(Digest::of(json));
        self.store.publish_config(&image, json).map_err(|(path, source)| ImportError::Write { path, source })?;
        Ok((image, config.platform))
    }

    fn parse(&self, member: &str, json: &[u8]) -> Result<Document, ImportError> {
        Document::parse(json, None).map_err(|source| ImportError::Manifest {
            archive: self.archive.to_owned(),
            member: member.to_owned(),
            source,
        })
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, ImportError> {
        self.member(name)?.read(MAX_DOCUMENT).map_err(|e| self.bad_member(name, e))
    }

    fn member(&self, name: &str) -> Result<Member, ImportError> {
        let missing = || ImportError::Missing { archive: self.archive.to_owned(), member: shorten(name) };
        self.members.get(name).ok_or_else(missing)
    }

    fn bad_member(&self, name: &str, cause: impl ToString) -> ImportError {
        ImportError::Member { archive: self.archive.to_owned(), member: shorten(name), cause: cause.to_string() }
    }
}

/// OCI image layout, "Blobs".
fn blob_name(descriptor: &Descriptor) -> String {
    format!("blobs/sha256/{}", descriptor.digest.hex())
}

fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}
