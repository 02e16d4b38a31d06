//! From the store into an archive.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::json;

use crate::DiffId;
use crate::config::ImageInfo;
use crate::digest::{Digest, ImageDigest};
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
        let info = self.info(image)?;
        let config_path = self.config_path(image);
        let config = fs::read(&config_path).map_err(|source| ExportError::Read { path: config_path, source })?;
        let mut archive = Archive { store: self, out };
        match format {
            Format::DockerArchive => archive.docker(&info, name, &config),
            Format::OciArchive => archive.oci(&info, name, &config),
        }?;
        // POSIX pax(1), "ustar Interchange Format": two records of zeros end an archive.
        archive.out.write_all(&[0; 1024]).and_then(|()| archive.out.flush()).map_err(ExportError::Write)
    }
}

struct Archive<'a, W> {
    store: &'a Store,
    out: W,
}

impl<W: Write> Archive<'_, W> {
    fn docker(&mut self, info: &ImageInfo, name: Option<&Reference>, config: &[u8]) -> Result<(), ExportError> {
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

    fn oci(&mut self, info: &ImageInfo, name: Option<&Reference>, config: &[u8]) -> Result<(), ExportError> {
        let blob = |digest: Digest| format!("blobs/sha256/{}", digest.hex());
        let layers: Vec<_> = info
            .layers
            .iter()
            .map(|(id, size)| {
                json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": id.to_string(), "size": size})
            })
            .collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": info.digest.to_string(),
                "size": config.len(),
            },
            "layers": layers,
        })
        .to_string();
        let digest = Digest::of(manifest.as_bytes());
        let mut entry = json!({"mediaType": media_type, "digest": digest.to_string(), "size": manifest.len()});
        if let Some(name) = name {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": name.to_string()});
        }
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        self.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.file("index.json", index.to_string().as_bytes())?;
        self.file(&blob(digest), manifest.as_bytes())?;
        self.file(&blob(info.digest.0), config)?;
        self.layers(info, |id| format!("blobs/sha256/{}", id.hex()))
    }

    fn layers(&mut self, info: &ImageInfo, name: impl Fn(&DiffId) -> String) -> Result<(), ExportError> {
        let mut written = Vec::new();
        for (id, size) in &info.layers {
            if written.contains(id) {
                continue;
            }
            written.push(*id);
            let path = self.store.layer_path(id);
            let read = |source| ExportError::Read { path: path.clone(), source };
            let mut file = File::open(&path).map_err(read)?;
            self.header(&name(id), *size)?;
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

    fn header(&mut self, name: &str, size: u64) -> Result<(), ExportError> {
        self.out.write_all(&header(name, size)).map_err(ExportError::Write)
    }

    fn pad(&mut self, size: u64) -> Result<(), ExportError> {
        let padding = (512 - size % 512) % 512;
        self.out.write_all(&[0; 512][..padding as usize]).map_err(ExportError::Write)
    }
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
