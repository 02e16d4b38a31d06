//! Images written by hand as OCI image layouts, so that every byte of them can be wrong.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use walt_image::tar::{TarAttr, TarWriter};
use walt_image::{DiffId, Digest, ImageDigest};

/// An image to be.
pub(crate) struct TestImage {
    pub(crate) architecture: &'static str,
    pub(crate) variant: Option<&'static str>,
    pub(crate) labels: Value,
    /// Uncompressed tars, base first.
    pub(crate) layers: Vec<Vec<u8>>,
}

impl TestImage {
    pub(crate) fn new(layers: Vec<Vec<u8>>) -> TestImage {
        TestImage { architecture: "amd64", variant: None, labels: json!({"walt.node.models": "pc-x86-64"}), layers }
    }

    pub(crate) fn diff_ids(&self) -> Vec<DiffId> {
        self.layers.iter().map(|tar| DiffId::from(Digest::of(tar))).collect()
    }

    pub(crate) fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self.diff_ids().iter().map(DiffId::to_string).collect();
        let mut config = json!({
            "architecture": self.architecture, "os": "linux", "created": "2024-01-01T00:00:00Z",
            "config": {"Labels": self.labels},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        if let Some(variant) = self.variant {
            config["variant"] = variant.into();
        }
        config.to_string().into_bytes()
    }

    pub(crate) fn digest(&self) -> ImageDigest {
        ImageDigest(Digest::of(&self.config()))
    }
}

/// A tar with one file of `len` bytes that do not compress well, different for each `seed`.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    // xorshift64*: every run is the same.
    let mut state = seed.wrapping_mul(2_685_821_657_736_338_717) | 1;
    let content: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state >> 33) as u8
    })
    .take(len)
    .collect();
    let mut tar = TarWriter::new();
    tar.directory(b"data", TarAttr::mode(0o755));
    tar.file(format!("data/{seed}").as_bytes(), TarAttr::mode(0o644), &content);
    tar.finish()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An OCI image layout with one tag an image; several images under one tag become a multi-platform index.
pub(crate) struct Layout<'a> {
    dir: &'a Path,
    entries: Vec<Value>,
}

impl<'a> Layout<'a> {
    pub(crate) fn create(dir: &'a Path) -> Layout<'a> {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout { dir, entries: Vec::new() }
    }

    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.dir.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    }

    /// Writes the image's blobs; the descriptor of its manifest.
    pub(crate) fn image(&self, image: &TestImage) -> Value {
        let layers: Vec<Value> = image
            .layers
            .iter()
            .map(|tar| self.blob("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(tar)))
            .collect();
        self.manifest(image, layers)
    }

    /// As [`image`](Self::image), with layers that need not be those of the configuration.
    pub(crate) fn manifest(&self, image: &TestImage, layers: Vec<Value>) -> Value {
        let config = self.blob("application/vnd.oci.image.config.v1+json", &image.config());
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
        let mut descriptor = self.blob(media_type, manifest.to_string().as_bytes());
        descriptor["platform"] = json!({"os": "linux", "architecture": image.architecture});
        descriptor
    }

    pub(crate) fn tag(&mut self, mut descriptor: Value, tag: &str) {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.entries.push(descriptor);
    }

    pub(crate) fn index(&mut self, manifests: Vec<Value>, tag: &str) {
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
        let descriptor = self.blob(media_type, index.to_string().as_bytes());
        self.tag(descriptor, tag);
    }

    pub(crate) fn finish(self) {
        let index = json!({"schemaVersion": 2, "manifests": self.entries});
        fs::write(self.dir.join("index.json"), index.to_string()).unwrap();
    }
}
