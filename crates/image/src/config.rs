//! An image's configuration: what it is built for, its layers in order, and WalT's labels.

use std::collections::HashMap;

use serde::Deserialize;

use crate::DiffId;
use crate::digest::{Digest, ImageDigest};
use crate::platform::Platform;

/// Server version that we answer as, for the label `walt.server.minversion`.
pub const SERVER_VERSION: u32 = 10;

/// What an image without the label `walt.server.minversion` asks for.
const DEFAULT_MIN_VERSION: u32 = 4;

/// Most layers that an image may have (docker itself stops at 127).
const MAX_LAYERS: usize = 512;

const MODELS: &str = "walt.node.models";
const MIN_VERSION: &str = "walt.server.minversion";
const PREFERRED_NAME: &str = "walt.image.preferred-name";

/// The parts of an image's configuration (OCI image spec, config.md) that we use.
#[derive(Debug, Clone)]
pub struct ImageConfig {
    /// What the image runs on.
    pub platform: Platform,
    /// When it was built, as written in it (RFC 3339).
    pub created: Option<String>,
    /// `config.Labels`.
    pub labels: HashMap<String, String>,
    /// Digests of the uncompressed layers, base first.
    pub diff_ids: Vec<DiffId>,
}

/// WalT's labels of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaltLabels {
    /// Node models that the image is for; at least one.
    pub models: Vec<String>,
    /// Least server version that it asks for.
    pub min_server_version: u32,
    /// The name it wishes to be given.
    pub preferred_name: Option<String>,
}

/// What the store knows about one of its images.
#[derive(Debug, Clone)]
pub struct ImageInfo {
    /// The image.
    pub digest: ImageDigest,
    /// What it runs on.
    pub platform: Platform,
    /// Node models that it is for; at least one.
    pub models: Vec<String>,
    /// All of its labels.
    pub labels: HashMap<String, String>,
    /// Least server version that it asks for.
    pub min_server_version: u32,
    /// The name it wishes to be given.
    pub preferred_name: Option<String>,
    /// When it was built, as written in it (RFC 3339).
    pub created: Option<String>,
    /// Its layers, base first: digest and size in bytes of the uncompressed tar.
    pub layers: Vec<(DiffId, u64)>,
    /// Sum of the layers' sizes in bytes.
    pub size: u64,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No JSON, or not of the expected form.
    #[error("its configuration is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// More layers than we accept.
    #[error("it has {0} layers, more than {MAX_LAYERS}")]
    TooManyLayers(usize),
    /// The manifest and the configuration do not list the same number of layers.
    #[error("the manifest lists {manifest} layers, the configuration {config}")]
    LayerCount {
        /// Layers in the manifest.
        manifest: usize,
        /// Layers in the configuration.
        config: usize,
    },
    /// The label `walt.node.models` is missing or empty.
    #[error("it is not a WalT image: label {MODELS} is missing")]
    NotWaltImage,
    /// The label `walt.node.models` has something in it that is no model name.
    #[error("label {MODELS} is malformed: `{0}`")]
    BadModels(String),
    /// The label `walt.server.minversion` is no number.
    #[error("label {MIN_VERSION} is not a number: `{0}`")]
    BadMinVersion(String),
    /// The image was made for a later server.
    #[error("it needs a server of version {0} or later; this one answers as {SERVER_VERSION}")]
    NeedsLaterServer(u32),
}

impl ImageConfig {
    /// Parses the JSON of a configuration blob.
    pub fn parse(json: &[u8]) -> Result<ImageConfig, ConfigError> {
        let raw: RawConfig = serde_json::from_slice(json)?;
        if raw.rootfs.diff_ids.len() > MAX_LAYERS {
            return Err(ConfigError::TooManyLayers(raw.rootfs.diff_ids.len()));
        }
        Ok(ImageConfig {
            platform: Platform {
                os: raw.os,
                architecture: raw.architecture,
                variant: raw.variant.filter(|v| !v.is_empty()),
            },
            created: raw.created,
            labels: raw.config.and_then(|c| c.labels).unwrap_or_default(),
            diff_ids: raw.rootfs.diff_ids.into_iter().map(DiffId::from).collect(),
        })
    }

    /// WalT's labels; an error if this is no image for a WalT node, or none for this server.
    pub fn walt_labels(&self) -> Result<WaltLabels, ConfigError> {
        let label = |name: &str| self.labels.get(name).map(|v| v.trim()).filter(|v| !v.is_empty());
        let models: Vec<String> =
            label(MODELS).ok_or(ConfigError::NotWaltImage)?.split(',').map(|m| m.trim().to_owned()).collect();
        // A model's name becomes part of paths (`/boot/<model>/`).
        let valid = |m: &str| {
            !m.is_empty() && m.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        };
        if let Some(bad) = models.iter().find(|m| !valid(m)) {
            return Err(ConfigError::BadModels(bad.chars().take(100).collect()));
        }
        let min_server_version = match label(MIN_VERSION) {
            None => DEFAULT_MIN_VERSION,
            Some(text) => text.parse().map_err(|_| ConfigError::BadMinVersion(text.chars().take(100).collect()))?,
        };
        if min_server_version > SERVER_VERSION {
            return Err(ConfigError::NeedsLaterServer(min_server_version));
        }
        Ok(WaltLabels { models, min_server_version, preferred_name: label(PREFERRED_NAME).map(str::to_owned) })
    }
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default = "linux")]
    os: String,
    architecture: String,
    variant: Option<String>,
    created: Option<String>,
    config: Option<RawRuntime>,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRuntime {
    #[serde(rename = "Labels")]
    labels: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct RawRootfs {
    diff_ids: Vec<Digest>,
}

fn linux() -> String {
    "linux".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_labels(labels: &str) -> Result<WaltLabels, ConfigError> {
        let json = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Labels":{labels}}},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        );
        ImageConfig::parse(json.as_bytes()).unwrap().walt_labels()
    }

    #[test]
    fn reads_the_labels() {
        let labels = with_labels(r#"{"walt.node.models":"pc-x86-64, rpi-b","walt.image.preferred-name":"x"}"#).unwrap();
        assert_eq!(labels.models, ["pc-x86-64", "rpi-b"]);
        assert_eq!(labels.min_server_version, 4);
        assert_eq!(labels.preferred_name.as_deref(), Some("x"));
    }

    #[test]
    fn names_what_is_wrong_with_a_label() {
        assert!(matches!(with_labels("null"), Err(ConfigError::NotWaltImage)));
        assert!(matches!(with_labels(r#"{"walt.node.models":" "}"#), Err(ConfigError::NotWaltImage)));
        assert!(matches!(with_labels(r#"{"walt.node.models":"a,../b"}"#), Err(ConfigError::BadModels(_))));
        let versions = |v: &str| with_labels(&format!(r#"{{"walt.node.models":"a","walt.server.minversion":"{v}"}}"#));
        assert_eq!(versions("10").unwrap().min_server_version, 10);
        assert!(matches!(versions("11"), Err(ConfigError::NeedsLaterServer(11))));
        assert!(matches!(versions("x"), Err(ConfigError::BadMinVersion(_))));
    }

    #[test]
    fn refuses_a_malformed_configuration() {
        for json in ["", "[]", "{}", r#"{"architecture":"amd64","rootfs":{"diff_ids":["sha256:00"]}}"#] {
            assert!(matches!(ImageConfig::parse(json.as_bytes()), Err(ConfigError::Malformed(_))), "{json}");
        }
        let many = vec![format!("\"{}\"", Digest::of(b"")); MAX_LAYERS + 1].join(",");
        let json = format!(r#"{{"architecture":"amd64","rootfs":{{"diff_ids":[{many}]}}}}"#);
        assert!(matches!(ImageConfig::parse(json.as_bytes()), Err(ConfigError::TooManyLayers(_))));
    }
}
