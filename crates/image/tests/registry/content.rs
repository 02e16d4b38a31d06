//! Layers that are not what they should be.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use walt_image::config::ConfigError;
use walt_image::store::{LayerError, Limits};
use walt_image::{Platform, PullError, Store};

use crate::layout::{Layout, TestImage, gzip, noise};
use crate::server::{Registry, files, reference, settings, store};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Pushes an image whose only layer's blob is `blob`, whatever the configuration says.
fn push_with_blob(registry: &Registry, image: &TestImage, blob: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::create(dir.path());
    let layer = layout.blob(LAYER, blob);
    let manifest = layout.manifest(image, vec![layer]);
    layout.tag(manifest, "latest");
    layout.finish();
    registry.push(dir.path(), "a", "latest", &[]);
}

async fn refusal(store: &Store, registry: &Registry) -> LayerError {
    match store.pull(&reference(registry.address, "a"), &Platform::amd64(), &settings(), |_| ()).await {
        Err(PullError::Layer { source, .. }) => {
            assert!(files(store, "layers").is_empty(), "{:?}", files(store, "layers"));
            assert!(files(store, "configs").is_empty());
            *source
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tar_than_the_configuration_promises() {
    let registry = Registry::start();
    push_with_blob(&registry, &TestImage::new(vec![noise(1, 1000)]), &gzip(&noise(2, 1000)));
    let (_dir, store) = store();
    assert!(matches!(refusal(&store, &registry).await, LayerError::WrongDiffId { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_layer_with_a_digest_of_its_own() {
    let registry = Registry::start();
    let tar = noise(1, 100_000);
    let whole = gzip(&tar);
    push_with_blob(&registry, &TestImage::new(vec![tar]), &whole[..whole.len() / 2]);
    let (_dir, store) = store();
    assert!(matches!(refusal(&store, &registry).await, LayerError::Decompress(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tar_at_all() {
    let registry = Registry::start();
    let text = b"this is no tar".repeat(1000);
    push_with_blob(&registry, &TestImage::new(vec![text.clone()]), &gzip(&text));
    let (_dir, store) = store();
    assert!(matches!(refusal(&store, &registry).await, LayerError::Tar(_)));
}

/// 10 GiB of zeros behind gzip (10 MB) or zstd (1 MB), as many members or frames: quick to make.
fn bombs() -> [Vec<u8>; 2] {
    let zeros = vec![0; 64 << 20];
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&zeros).unwrap();
    [encoder.finish().unwrap().repeat(160), zstd::encode_all(&zeros[..], 3).unwrap().repeat(160)]
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_gigabytes_of_zeros() {
    // The head of a tar with one file of 10 GiB, then zeros; the limits are those of every day.
    let registry = Registry::start();
    let head = {
        let mut tar = noise(1, 0);
        tar.truncate(1024);
        tar[512 + 124..512 + 136].copy_from_slice(b"\x80\0\0\0\0\0\0\x02\x80\0\0\0");
        tar[512 + 148..512 + 156].copy_from_slice(b"        ");
        let sum: u32 = tar[512..1024].iter().map(|b| u32::from(*b)).sum();
        tar[512 + 148..512 + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar
    };
    let heads = [gzip(&head), zstd::encode_all(&head[..], 3).unwrap()];
    for (packed_head, zeros) in heads.into_iter().zip(bombs()) {
        let blob = [packed_head, zeros].concat();
        assert!(blob.len() < 11 << 20, "{}", blob.len());
        push_with_blob(&registry, &TestImage::new(vec![head.clone()]), &blob);
        let (_dir, store) = store();
        let error = refusal(&store, &registry).await;
        assert!(matches!(error, LayerError::Bomb { uncompressed, .. } if uncompressed < 2 << 30), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_limits_allow() {
    let registry = Registry::start();
    let tar = noise(1, 3_000_000);
    push_with_blob(&registry, &TestImage::new(vec![tar.clone()]), &gzip(&tar));
    let limits = Limits { max_layer: 1_000_000, ..Limits::default() };
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_with(dir.path(), limits).unwrap();
    assert!(matches!(refusal(&store, &registry).await, LayerError::TooLarge { limit: 1_000_000 }));
    drop(store);
    let store = Store::open_with(dir.path(), Limits { max_image: 2_000_000, ..Limits::default() }).unwrap();
    assert!(matches!(refusal(&store, &registry).await, LayerError::TooLarge { limit: 2_000_000 }));
    drop(store);
    let store = Store::open_with(dir.path(), Limits { reserve: u64::MAX, ..Limits::default() }).unwrap();
    assert!(matches!(refusal(&store, &registry).await, LayerError::DiskFull { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_layers_come_from_the_registry_or_not_at_all() {
    let registry = Registry::start();
    let image = TestImage::new(vec![noise(1, 1000)]);
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path());
    let mut layer = layout.blob(LAYER, &gzip(&image.layers[0]));
    layer["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".into();
    // Whoever follows this one reads a file of the host, or meets nobody.
    layer["urls"] = json!(["file:///etc/passwd", "http://127.0.0.1:9/layer"]);
    let manifest = layout.manifest(&image, vec![layer]);
    let manifest = fs::read(blob_path(dir.path(), &manifest)).unwrap();
    let proxy = crate::proxy::Proxy::start("127.0.0.1:9".parse().unwrap(), move |request| {
        use crate::proxy::Action::Reply;
        if request.path.contains("/manifests/") {
            return Reply("200 OK", vec![], String::from_utf8(manifest.clone()).unwrap());
        }
        let found =
            request.path.rsplit(':').next().and_then(|hex| fs::read(dir.path().join("blobs/sha256").join(hex)).ok());
        match found.and_then(|bytes| String::from_utf8(bytes).ok()) {
            Some(config) => Reply("200 OK", vec![], config),
            None if request.path.ends_with("/v2/") => Reply("200 OK", vec![], String::new()),
            // The layer: never served.
            None => Reply("404 Not Found", vec![], String::new()),
        }
    });
    drop(registry);
    let (_dir, store) = store();
    let error = store.pull(&reference(proxy.address, "a"), &Platform::amd64(), &settings(), |_| ()).await.unwrap_err();
    assert!(matches!(error, PullError::NotFound { .. }), "{error}");
}

fn blob_path(layout: &Path, descriptor: &serde_json::Value) -> std::path::PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    layout.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_missing_from_the_manifest() {
    let registry = Registry::start();
    let image = TestImage::new(vec![noise(1, 100), noise(2, 100)]);
    push_with_blob(&registry, &image, &gzip(&image.layers[0]));
    let (_dir, store) = store();
    let error =
        store.pull(&reference(registry.address, "a"), &Platform::amd64(), &settings(), |_| ()).await.unwrap_err();
    assert!(
        matches!(error, PullError::Config { source: ConfigError::LayerCount { manifest: 1, config: 2 }, .. }),
        "{error}"
    );
}
