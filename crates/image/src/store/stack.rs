//! One more layer on an image that is there: what a node has changed becomes an image.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use serde_json::{Value, json};

use crate::DiffId;
use crate::config::{ConfigError, ImageConfig};
use crate::digest::{Digest, Hasher, ImageDigest};
use crate::store::partial::Partial;
use crate::store::{Expected, LayerError, Store};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Name, in the directory of an image id, of the configuration that it was prepared from.
const CONFIG: &str = "config.json";

/// Why there is no new image. Nothing of it stays but, at most, a layer that is garbage.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The image below is not known any more.
    #[error("cannot read the configuration of image {image_id}: {source}")]
    Base {
        /// Image id.
        image_id: String,
        /// Cause.
        source: io::Error,
    },
    /// The configuration of the image below, or the new one, cannot be used.
    #[error("image {image_id}: {source}")]
    Config {
        /// Image id.
        image_id: String,
        /// Why.
        source: ConfigError,
    },
    /// The layer cannot be used or stored.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The configuration cannot be stored.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// What a new image tells of its making (OCI image spec, config.md, "history").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made<'a> {
    /// When (RFC 3339).
    pub at: &'a str,
    /// By which command.
    pub by: &'a str,
}

impl Store {
    /// Keeps the configuration of `image` beside what was prepared from it under `image_id`, for as long as that is
    /// there: a node may run what has no name any more.
    pub fn keep_config(&self, image_id: &str, image: &ImageDigest) -> io::Result<()> {
        let path = self.images_dir().join(image_id).join(CONFIG);
        if path.exists() {
            return Ok(());
        }
        Partial::write(&path, &std::fs::read(self.config_path(image))?)
    }

    /// The image that is what was prepared as `image_id`, without the server's own layer, and on top of it the
    /// uncompressed tar in the file `layer`. Hold the store meanwhile. Blocks.
    pub fn stack(&self, image_id: &str, layer: &Path, made: &Made<'_>) -> Result<ImageDigest, StackError> {
        let path = self.images_dir().join(image_id).join(CONFIG);
        let base = std::fs::read(&path).map_err(|source| StackError::Base { image_id: image_id.to_owned(), source })?;
        let diff_id = diff_id(layer)?;
        let bad = |source| StackError::Config { image_id: image_id.to_owned(), source };
        let json = with_layer(&base, &diff_id, made).map_err(bad)?;
        let config = ImageConfig::parse(&json).map_err(bad)?;
        config.walt_labels().map_err(bad)?;
        let lock = self.layer_lock(diff_id);
        let alone = lock.blocking_lock();
        if self.layer_size(&diff_id).is_none() {
            let others = config.diff_ids.iter().filter_map(|diff_id| self.layer_size(diff_id)).sum();
            self.write_layer(Expected { diff_id, blob: None }, &AtomicU64::new(others), pieces(layer))?;
        }
        drop(alone);
        let image = ImageDigest(Digest::of(&json));
        self.publish_config(&image, &json).map_err(|(path, source)| StackError::Write { path, source })?;
        Ok(image)
    }
}

/// The configuration `base` with one more layer.
fn with_layer(base: &[u8], diff_id: &DiffId, made: &Made<'_>) -> Result<Vec<u8>, ConfigError> {
    // Parsed before, so that what is indexed below is there.
    ImageConfig::parse(base)?;
    let mut config: Value = serde_json::from_slice(base)?;
    config["created"] = json!(made.at);
    if let Some(layers) = config["rootfs"]["diff_ids"].as_array_mut() {
        layers.push(json!(diff_id.to_string()));
    }
    // Where an image has a history, each layer has an entry in it.
    if let Some(history) = config.get_mut("history").and_then(Value::as_array_mut).filter(|all| !all.is_empty()) {
        history.push(json!({ "created": made.at, "created_by": made.by }));
    }
    Ok(serde_json::to_vec(&config)?)
}

fn diff_id(path: &Path) -> Result<DiffId, LayerError> {
    let mut hasher = Hasher::new();
    for piece in pieces(path) {
        hasher.update(&piece?);
    }
    Ok(DiffId::from(hasher.finish()))
}

/// The content of a file.
fn pieces(path: &Path) -> impl Iterator<Item = Result<Vec<u8>, LayerError>> + '_ {
    let failed = move |source| LayerError::Read { path: path.to_owned(), source };
    let mut file = None;
    let mut ended = false;
    std::iter::from_fn(move || {
        if std::mem::take(&mut ended) {
            return None;
        }
        let opened = match file.take().map_or_else(|| File::open(path), Ok) {
            Ok(opened) => file.insert(opened),
            Err(error) => {
                ended = true;
                return Some(Err(failed(error)));
            }
        };
        let mut piece = vec![0; PIECE];
        match opened.read(&mut piece) {
            Ok(0) => None,
            Ok(len) => {
                piece.truncate(len);
                Some(Ok(piece))
            }
            Err(error) => {
                ended = true;
                Some(Err(failed(error)))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{TarAttr, TarWriter};

    const MADE: Made<'_> = Made { at: "2026-01-02T03:04:05Z", by: "walt node save" };

    fn base(history: &str) -> Vec<u8> {
        let labels = r#""config":{"Env":["A=b"],"Labels":{"walt.node.models":"pc-x86-64"}}"#;
        let rootfs = format!(r#""rootfs":{{"type":"layers","diff_ids":["{}"]}}"#, Digest::of(b"1"));
        format!(r#"{{"architecture":"amd64","os":"linux",{labels},{rootfs}{history}}}"#).into_bytes()
    }

    #[test]
    fn a_layer_goes_on_top_and_all_else_stays() {
        let diff_id = DiffId::from(Digest::of(b"2"));
        let with = |history: &str| -> Value {
            serde_json::from_slice(&with_layer(&base(history), &diff_id, &MADE).unwrap()).unwrap()
        };
        let config = with(r#","history":[{"created_by":"x"},{"created_by":"y","empty_layer":true}]"#);
        assert_eq!(config["rootfs"]["diff_ids"][1], json!(diff_id.to_string()));
        assert_eq!(config["config"]["Env"][0], json!("A=b"));
        assert_eq!(config["history"].as_array().unwrap().len(), 3);
        assert_eq!(config["history"][2]["created_by"], json!("walt node save"));
        assert_eq!(config["created"], json!(MADE.at));
        assert_eq!(with("").get("history"), None);
        assert_eq!(with(r#","history":[]"#)["history"], json!([]));
        assert!(with_layer(b"{}", &diff_id, &MADE).is_err());
    }

    #[test]
    fn an_image_is_complete_and_a_bad_layer_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let base_layer = TarWriter::new().finish();
        let base_digest = Digest::of(&base_layer);
        let expected = Expected { diff_id: base_digest.into(), blob: None };
        store.write_layer(expected, &AtomicU64::new(0), [Ok(base_layer)].into_iter()).unwrap();
        let json = String::from_utf8(base("")).unwrap();
        let json = json.replace(&Digest::of(b"1").to_string(), &base_digest.to_string());
        let image = ImageDigest(Digest::of(json.as_bytes()));
        store.publish_config(&image, json.as_bytes()).unwrap();
        std::fs::create_dir(store.images_dir().join("id")).unwrap();
        store.keep_config("id", &image).unwrap();
        // As garbage collection does once the name is gone.
        std::fs::remove_file(store.config_path(&image)).unwrap();

        let tar = directory.path().join("tar");
        let mut writer = TarWriter::new();
        writer.file(b"new", TarAttr::mode(0o644), b"content");
        std::fs::write(&tar, writer.finish()).unwrap();
        let stacked = store.stack("id", &tar, &MADE).unwrap();
        let info = store.info(&stacked).unwrap();
        assert_eq!((info.layers.len(), info.models), (2, vec!["pc-x86-64".to_owned()]));
        assert_eq!(store.stack("id", &tar, &MADE).unwrap(), stacked, "the same again is the same");

        let layers = || std::fs::read_dir(store.layers_dir()).unwrap().count();
        let before = layers();
        std::fs::write(&tar, [b'x'; 1024]).unwrap();
        assert!(matches!(store.stack("id", &tar, &MADE), Err(StackError::Layer(LayerError::Tar(_)))));
        assert!(matches!(store.stack("other", &tar, &MADE), Err(StackError::Base { .. })));
        assert_eq!(layers(), before);
    }
}
