//! From the store into an archive.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::DiffId;
use crate::config::ImageInfo;
use crate::digest::{Digest, ImageDigest};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{InfoError, Store};

/// Form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// What `docker save` writes and `docker load` reads.
    DockerArchive,
    /// An OCI image layout in a tar.
    OciArchive,
}

/// Why an image cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It is not in the store.
    #[error(transparent)]
    Info(#[from] InfoError),
    /// A file of the store cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("cannot write the archive: {0}")]
    Write(io::Error),
}

impl Store {
    /// Writes an image as a tar, under `name` if there is one. The same image gives the same bytes; its layers
    /// are not compressed. Blocks.
    pub fn export(
        &self,
        image: &ImageDigest,
        name: Option<&Reference>,
        format: Format,
        out: impl Write,
    ) -> Result<(), ExportError> {
        let _hold = self.hold_blocking();
        let image = self.exported(image)?;
        let mut archive = Archive { store: self, out, written: HashSet::new() };
        match format {
            Format::DockerArchive => archive.docker(&image, name),
            Format::OciArchive => archive.oci(&image, name),
        }?;
        archive.end()
    }

    /// Writes images of several platforms as one OCI archive, under one name. Blocks.
    pub fn export_index(
        &self,
        images: &[(ImageDigest, Platform)],
        name: Option<&Reference>,
        out: impl Write,
    ) -> Result<(), ExportError> {
        let _hold = self.hold_blocking();
        let images = images.iter().map(|(image, platform)| Ok((self.exported(image)?, platform)));
        let images = images.collect::<Result<Vec<_>, ExportError>>()?;
        let mut archive = Archive { store: self, out, written: HashSet::new() };
        archive.oci_index(&images, name)?;
        archive.end()
    }

    fn exported(&self, image: &ImageDigest) -> Result<Exported, ExportError> {
        let info = self.info(image)?;
        let path = self.config_path(image);
        let config = fs::read(&path).map_err(|source| ExportError::Read { path, source })?;
        Ok(Exported { info, config })
    }
}

/// An image on its way out, and its configuration as it came.
struct Exported {
    info: ImageInfo,
    config: Vec<u8>,
}

struct Archive<'a, W> {
    store: &'a Store,
    out: W,
    /// Blobs and layers that are in it: each is written once.
    written: HashSet<String>,
}

impl<W: Write> Archive<'_, W> {
    fn docker(&mut self, image: &Exported, name: Option<&Reference>) -> Result<(), ExportError> {
        let Exported { info, config } = image;
        let config_name = format!("{}.json", info.digest.hex());
        let layer_name = |id: &DiffId| format!("{}.tar", id.hex());
        let layers: Vec<String> = info.layers.iter().map(|(id, _)| layer_name(id)).collect();
        // docker refuses names by digest here.
        let names: Vec<String> = name
            .filter(|n| n.digest().is_none())
            .map(|n| if n.registry() == crate::reference::DOCKER_HUB { n.familiar() } else { n.to_string() })
            .into_iter()
            .collect();
        let manifest = json!([{"Config": config_name, "RepoTags": names, "Layers": layers}]);
        self.file("manifest.json", manifest.to_string().as_bytes())?;
        self.file(&config_name, config)?;
        self.layers(info, layer_name)
    }

    fn oci(&mut self, image: &Exported, name: Option<&Reference>) -> Result<(), ExportError> {
        let manifest = manifest(image);
        let mut entry = descriptor(MANIFEST, &manifest);
        if let Some(name) = name {
            entry["annotations"] = json!({REF_NAME: name.to_string()});
        }
        self.layout(&entry)?;
        self.blob(&manifest)?;
        self.blob(&image.config)?;
        self.layers(&image.info, blob_name)
    }

    /// One index within the layout's own: to a reader of the archive it is one image of several platforms.
    fn oci_index(&mut self, images: &[(Exported, &Platform)], name: Option<&Reference>) -> Result<(), ExportError> {
        let manifests: Vec<_> = images.iter().map(|(image, _)| manifest(image)).collect();
        let entries = manifests.iter().zip(images).map(|(manifest, (_, platform))| {
            let mut entry = descriptor(MANIFEST, manifest);
            entry["platform"] = json!({"os": platform.os, "architecture": platform.architecture});
            if let Some(variant) = &platform.variant {
                entry["platform"]["variant"] = json!(variant);
            }
            entry
        });
        let entries: Vec<_> = entries.collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string().into_bytes();
        let mut entry = descriptor(INDEX, &index);
        if let Some(name) = name {
            entry["annotations"] = json!({REF_NAME: name.to_string()});
        }
        self.layout(&entry)?;
        self.blob(&index)?;
        for ((image, _), manifest) in images.iter().zip(&manifests) {
            self.blob(manifest)?;
            self.blob(&image.config)?;
            self.layers(&image.info, blob_name)?;
        }
        Ok(())
    }

    fn layout(&mut self, entry: &Value) -> Result<(), ExportError> {
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        self.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.file("index.json", index.to_string().as_bytes())
    }

    fn blob(&mut self, content: &[u8]) -> Result<(), ExportError> {
        let name = format!("blobs/sha256/{}", Digest::of(content).hex());
        if self.written.insert(name.clone()) { self.file(&name, content) } else { Ok(()) }
    }

    fn layers(&mut self, info: &ImageInfo, name: impl Fn(&DiffId) -> String) -> Result<(), ExportError> {
        for (id, size) in &info.layers {
            let name = name(id);
            if !self.written.insert(name.clone()) {
                continue;
            }
            let path = self.store.layer_path(id);
            let read = |source| ExportError::Read { path: path.clone(), source };
            let mut file = File::open(&path).map_err(read)?;
            self.header(&name, *size)?;
            let copied = io::copy(&mut file, &mut self.out).map_err(ExportError::Write)?;
            if copied != *size {
                return Err(read(io::ErrorKind::UnexpectedEof.into()));
            }
            self.pad(*size)?;
        }
        Ok(())
    }

    fn file(&mut self, name: &str, content: &[u8]) -> Result<(), ExportError> {
        self.header(name, content.len() as u64)?;
        self.out.write_all(content).map_err(ExportError::Write)?;
        self.pad(content.len() as u64)
    }

    /// POSIX pax(1), "ustar Interchange Format": two records of zeros end an archive.
    fn end(&mut self) -> Result<(), ExportError> {
        self.out.write_all(&[0; 1024]).and_then(|()| self.out.flush()).map_err(ExportError::Write)
    }

    fn header(&mut self, name: &str, size: u64) -> Result<(), ExportError> {
        self.out.write_all(&header(name, size)).map_err(ExportError::Write)
    }

    fn pad(&mut self, size: u64) -> Result<(), ExportError> {
        let padding = (512 - size % 512) % 512;
        self.out.write_all(&[0; 512][..padding as usize]).map_err(ExportError::Write)
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image spec, annotations.md: the name of an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

fn manifest(image: &Exported) -> Vec<u8> {
    let layer = |(id, size): &(DiffId, u64)| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": id.to_string(), "size": size});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": image.info.digest.to_string(),
            "size": image.config.len(),
        },
        "layers": image.info.layers.iter().map(layer).collect::<Vec<_>>(),
    });
    manifest.to_string().into_bytes()
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(content).to_string(), "size": content.len()})
}

/// OCI image layout, "Blobs".
fn blob_name(id: &DiffId) -> String {
    format!("blobs/sha256/{}", id.hex())
}

/// POSIX pax(1), "ustar Interchange Format": owner root, mode 0644, time 0, so that all exports are the same.
/// `name` has at most 100 bytes.
fn header(name: &str, size: u64) -> [u8; 512] {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    if size < 1 << 33 {
        header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    } else {
        // GNU tar's base-256 form: what does not fit into eleven octal digits.
        header[124] = 0x80;
        header[128..136].copy_from_slice(&size.to_be_bytes());
    }
    header[136..148].copy_from_slice(b"00000000000\0");
    header[148..156].fill(b' ');
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
