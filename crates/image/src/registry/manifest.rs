//! Manifests and indexes: parsed strictly, because a stranger wrote them.

use serde::Deserialize;

use crate::digest::Digest;
use crate::platform::Platform;

/// Largest manifest, index or configuration that is read, in bytes (OCI distribution spec,
/// "Pushing manifests": registries should accept 4 MiB).
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// What we ask a registry for, in its `Accept` header.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// Most entries of an index, and most layers of a manifest.
const MAX_ENTRIES: usize = 1024;

/// What a manifest or an index says about another document or blob (OCI image spec, descriptor.md).
/// The field `urls` is left out on purpose: nothing is ever fetched from where a manifest points.
#[derive(Debug, Clone, Deserialize)]
pub struct Descriptor {
    /// Type of what is described.
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// One variant in an index.
#[derive(Debug, Clone)]
pub struct IndexEntry {
    /// The manifest (or a nested index).
    pub descriptor: Descriptor,
    /// What it is built for, if the index says so.
    pub platform: Option<Platform>,
    /// Annotation `org.opencontainers.image.ref.name`: a name in an archive.
    pub name: Option<String>,
}

/// Manifest of one image.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Configuration blob.
    pub config: Descriptor,
    /// Layer blobs, base first.
    pub layers: Vec<Descriptor>,
}

/// What a registry answers when asked for a manifest.
#[derive(Debug, Clone)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several images, one a platform.
    Index(Vec<IndexEntry>),
}

/// Why a manifest or an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No JSON, or not of the expected form.
    #[error("malformed manifest: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Version 2, schema 1: given up by docker itself; its layers have no verifiable order.
    #[error("the manifest has the obsolete schema 1; push the image again with a current tool")]
    Schema1,
    /// Something else than an image, such as a signature or a chart.
    #[error("media type `{0}` is no container image")]
    NotAnImage(String),
    /// Fields of an index and of a manifest in one document: two readers could see two images in it.
    #[error("the document is a manifest and an index at once")]
    Ambiguous,
    /// Too many entries.
    #[error("the manifest has {0} entries, more than {MAX_ENTRIES}")]
    TooManyEntries(usize),
    /// Too large a configuration.
    #[error("the configuration has {0} bytes, more than {MAX_DOCUMENT}")]
    ConfigTooLarge(u64),
    /// A layer of a kind that we do not know (encrypted, WebAssembly, ...).
    #[error("media type `{0}` is no layer that can be read")]
    UnknownLayer(String),
}

impl Document {
    /// Parses a manifest or an index. `content_type` is the registry's word for it, used when the
    /// document does not name its own type.
    pub fn parse(json: &[u8], content_type: Option<&str>) -> Result<Document, ManifestError> {
        let raw: RawDocument = serde_json::from_slice(json)?;
        if raw.schema_version == 1 {
            return Err(ManifestError::Schema1);
        }
        if raw.manifests.is_some() && (raw.layers.is_some() || raw.config.is_some()) {
            return Err(ManifestError::Ambiguous);
        }
        let said = raw.media_type.as_deref().or(content_type.map(|c| c.split(';').next().unwrap_or(c).trim()));
        let kind = match said {
            Some(
                "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json",
            ) => Kind::Index,
            Some(
                "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json",
            ) => Kind::Manifest,
            // Nothing said, or the general type that simple file servers say: the fields tell.
            None | Some("" | "application/json" | "application/octet-stream" | "text/plain") => {
                if raw.manifests.is_some() { Kind::Index } else { Kind::Manifest }
            }
            Some(t) if t.starts_with("application/vnd.docker.distribution.manifest.v1+") => {
                return Err(ManifestError::Schema1);
            }
            Some(other) => return Err(ManifestError::NotAnImage(shorten(other))),
        };
        match kind {
            Kind::Index => index(raw.manifests.ok_or_else(|| missing("manifests"))?),
            Kind::Manifest => {
                let config = raw.config.ok_or_else(|| missing("config"))?;
                manifest(config, raw.layers.ok_or_else(|| missing("layers"))?)
            }
        }
    }
}

enum Kind {
    Index,
    Manifest,
}

fn index(entries: Vec<RawEntry>) -> Result<Document, ManifestError> {
    if entries.len() > MAX_ENTRIES {
        return Err(ManifestError::TooManyEntries(entries.len()));
    }
    let entries = entries.into_iter().map(|e| IndexEntry {
        descriptor: e.descriptor,
        platform: e.platform.map(|p| Platform {
            os: p.os,
            architecture: p.architecture,
            variant: p.variant.filter(|v| !v.is_empty()),
        }),
        name: e.annotations.and_then(|a| a.name),
    });
    Ok(Document::Index(entries.collect()))
}

fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<Document, ManifestError> {
    if layers.len() > MAX_ENTRIES {
        return Err(ManifestError::TooManyEntries(layers.len()));
    }
    const CONFIGS: [&str; 3] =
        ["", "application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
    if !CONFIGS.contains(&config.media_type.as_str()) {
        return Err(ManifestError::NotAnImage(shorten(&config.media_type)));
    }
    if config.size > MAX_DOCUMENT {
        return Err(ManifestError::ConfigTooLarge(config.size));
    }
    if let Some(layer) = layers.iter().find(|l| !is_layer(&l.media_type)) {
        return Err(ManifestError::UnknownLayer(shorten(&layer.media_type)));
    }
    Ok(Document::Manifest(Manifest { config, layers }))
}

/// How a layer is compressed is read from its first bytes, not from here: tools mislabel it.
fn is_layer(media_type: &str) -> bool {
    const STEMS: [&str; 4] = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    const ENDINGS: [&str; 5] = ["", "+gzip", "+zstd", ".gzip", ".zstd"];
    STEMS.iter().any(|s| media_type.strip_prefix(s).is_some_and(|ending| ENDINGS.contains(&ending)))
}

/// The entry of an index that suits the first of `platforms` best, or else the second, and so on.
///
/// An entry that does not say what it is for is taken only if no other one fits.
pub fn choose<'a>(entries: &'a [IndexEntry], platforms: &[Platform]) -> Option<&'a IndexEntry> {
    let best = |platform: &Platform| {
        let rank = |e: &IndexEntry| platform.rank(e.platform.as_ref()?);
        // The first of equals, as the specification asks (image-index.md).
        entries.iter().rev().filter_map(|e| rank(e).map(|r| (r, e))).max_by_key(|(r, _)| *r).map(|(_, e)| e)
    };
    platforms.iter().find_map(best).or_else(|| entries.iter().find(|e| e.platform.is_none()))
}

fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}

fn missing(field: &'static str) -> ManifestError {
    ManifestError::Malformed(serde::de::Error::missing_field(field))
}

#[derive(Deserialize)]
struct RawDocument {
    #[serde(rename = "schemaVersion", default)]
    schema_version: u32,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<RawEntry>>,
}

#[derive(Deserialize)]
struct RawEntry {
    #[serde(flatten)]
    descriptor: Descriptor,
    platform: Option<RawPlatform>,
    annotations: Option<RawAnnotations>,
}

#[derive(Deserialize)]
struct RawPlatform {
    architecture: String,
    os: String,
    variant: Option<String>,
}

#[derive(Deserialize)]
struct RawAnnotations {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    name: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":7,"urls":["http://evil/"]}}"#, Digest::of(b"x"))
    }

    fn image(media_type: &str, config: &str, layer: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{},"layers":[{}]}}"#,
            descriptor(config),
            descriptor(layer)
        )
    }

    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
    const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

    #[test]
    fn reads_both_manifest_forms() {
        let docker = image(
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        );
        for json in [docker, image(OCI, OCI_CONFIG, OCI_LAYER)] {
            let Document::Manifest(manifest) = Document::parse(json.as_bytes(), None).unwrap() else { panic!() };
            assert_eq!(manifest.layers.len(), 1);
            assert_eq!(manifest.config.size, 7);
        }
    }

    #[test]
    fn the_registrys_word_counts_when_the_document_has_none() {
        let json = image(OCI, OCI_CONFIG, OCI_LAYER).replace(&format!(r#""mediaType":"{OCI}","#), "");
        let typed = format!("{OCI}; charset=utf-8");
        assert!(matches!(Document::parse(json.as_bytes(), Some(&typed)), Ok(Document::Manifest(_))));
        assert!(matches!(Document::parse(json.as_bytes(), None), Ok(Document::Manifest(_))));
        let chart = Document::parse(json.as_bytes(), Some("application/vnd.cncf.helm.chart"));
        assert!(matches!(chart, Err(ManifestError::NotAnImage(_))));
    }

    #[test]
    fn refuses_what_is_no_image() {
        let refused = |json: &str| Document::parse(json.as_bytes(), None).unwrap_err();
        assert!(matches!(refused(""), ManifestError::Malformed(_)));
        assert!(matches!(refused("{}"), ManifestError::Malformed(_)));
        assert!(matches!(refused(r#"{"schemaVersion":1,"fsLayers":[]}"#), ManifestError::Schema1));
        assert!(matches!(refused(&image(OCI, "application/x", OCI_LAYER)), ManifestError::NotAnImage(_)));
        let encrypted = format!("{OCI_LAYER}+encrypted");
        assert!(matches!(refused(&image(OCI, OCI_CONFIG, &encrypted)), ManifestError::UnknownLayer(_)));
        let both = image(OCI, OCI_CONFIG, OCI_LAYER).replace("\"layers\"", "\"manifests\":[],\"layers\"");
        assert!(matches!(refused(&both), ManifestError::Ambiguous));
        let huge = image(OCI, OCI_CONFIG, OCI_LAYER).replacen("\"size\":7", "\"size\":9999999", 1);
        assert!(matches!(refused(&huge), ManifestError::ConfigTooLarge(_)));
        let negative = image(OCI, OCI_CONFIG, OCI_LAYER).replace("\"size\":7", "\"size\":-7");
        assert!(matches!(refused(&negative), ManifestError::Malformed(_)));
    }

    fn entry(architecture: &str, variant: &str, content: &[u8]) -> String {
        format!(
            r#"{{"digest":"{}","size":1,"platform":{{"architecture":"{architecture}","os":"linux","variant":"{variant}"}}}}"#,
            Digest::of(content)
        )
    }

    #[test]
    fn chooses_by_platform() {
        let entries =
            [entry("amd64", "", b"pc"), entry("arm", "v6", b"6"), entry("arm", "v7", b"7"), entry("arm64", "", b"8")];
        let json = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        let Document::Index(entries) = Document::parse(json.as_bytes(), None).unwrap() else { panic!() };
        let chosen = |p: Platform| choose(&entries, &[p]).map(|e| e.descriptor.digest);
        assert_eq!(chosen(Platform::amd64()), Some(Digest::of(b"pc")));
        assert_eq!(chosen(Platform::linux("arm", Some("v6"))), Some(Digest::of(b"6")));
        assert_eq!(chosen(Platform::linux("arm", Some("v7"))), Some(Digest::of(b"7")));
        assert_eq!(chosen(Platform::linux("arm64", None)), Some(Digest::of(b"8")));
        assert_eq!(chosen(Platform::linux("386", None)), None);
        // Of several, the first that is offered.
        let listed = |list: &[Platform]| choose(&entries, list).map(|e| e.descriptor.digest);
        let [x86, v6, v7] =
            [("386", None), ("arm", Some("v6")), ("arm", Some("v7"))].map(|(a, v)| Platform::linux(a, v));
        assert_eq!(listed(&[x86.clone(), v7.clone(), Platform::amd64()]), Some(Digest::of(b"7")));
        assert_eq!(listed(&[v6, v7]), Some(Digest::of(b"6")));
        assert_eq!(listed(&[x86, Platform::linux("riscv64", None)]), None);
        assert_eq!(listed(&[]), None);
    }
}
