//! What a pull brings, from a registry in good order.

use std::fs;
use std::sync::Mutex;

use serde_json::json;
use walt_image::{Platform, PullError, PullProgress, Store};

use crate::layout::{Layout, TestImage, noise};
use crate::server::{Registry, files, reference, settings, store};

fn check_layers(store: &Store, image: &TestImage) {
    for (diff_id, tar) in image.diff_ids().iter().zip(&image.layers) {
        assert!(fs::read(store.layer_path(diff_id)).unwrap() == *tar, "layer {diff_id}");
        assert!(store.toc_path(diff_id).is_file());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_zstd_and_plain_layers_of_both_manifest_forms() {
    let registry = Registry::start();
    let image = TestImage::new(vec![noise(1, 300_000), noise(2, 10), noise(3, 1_000_000)]);
    let forms: [(&str, &[&str]); 4] = [
        ("oci", &[]),
        ("docker", &["--format", "v2s2"]),
        ("zstd", &["--dest-compress-format", "zstd", "--dest-compress"]),
        ("plain", &["--dest-decompress"]),
    ];
    for (name, options) in forms {
        registry.push_image(name, &image, options);
        let (_dir, store) = store();
        let progress = Mutex::new(Vec::new());
        let pulled = store
            .pull(&reference(registry.address, name), &Platform::amd64(), &settings(), |p| {
                progress.lock().unwrap().push(p)
            })
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let info = store.info(&pulled).unwrap();
        assert_eq!(info.layers.iter().map(|(d, _)| *d).collect::<Vec<_>>(), image.diff_ids(), "{name}");
        assert_eq!(info.models, ["pc-x86-64"]);
        assert_eq!(info.size, image.layers.iter().map(|l| l.len() as u64).sum::<u64>());
        check_layers(&store, &image);
        let progress = progress.into_inner().unwrap();
        assert!(matches!(progress[0], PullProgress::Resolved { layers: 3, missing: 3, bytes } if bytes > 1000));
        let done = progress.iter().filter(|p| matches!(p, PullProgress::LayerDone { .. })).count();
        assert_eq!(done, 3, "{name}");
        let whole = progress.iter().any(|p| matches!(p, PullProgress::Bytes { done, total } if done == total));
        assert!(whole, "{name}: the last report says that all is there");
        // The configuration is kept verbatim, whatever the transport did with the manifest.
        assert_eq!(pulled, image.digest(), "{name}");
        assert_eq!(
            fs::read(store.root().join("configs").join(format!("{}.json", pulled.hex()))).unwrap(),
            image.config()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_chooses_from_an_index() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::create(dir.path());
    let pc = TestImage::new(vec![noise(1, 100)]);
    let arm = TestImage { architecture: "arm64", ..TestImage::new(vec![noise(2, 100)]) };
    let manifests = vec![layout.image(&pc), layout.image(&arm)];
    layout.index(manifests, "latest");
    layout.finish();
    registry.push(dir.path(), "multi", "latest", &["--all"]);
    let (_dir, store) = store();
    let name = reference(registry.address, "multi");
    let pull = |platform| {
        let (store, name) = (&store, &name);
        async move { store.pull(name, &platform, &settings(), |_| ()).await }
    };
    assert_eq!(pull(Platform::amd64()).await.unwrap(), pc.digest());
    assert_eq!(pull(Platform::linux("arm64", None)).await.unwrap(), arm.digest());
    let error = pull(Platform::linux("riscv64", None)).await.unwrap_err();
    assert!(matches!(&error, PullError::NoSuchPlatform { offered, .. } if offered.len() == 2), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_fetched_again() {
    let registry = Registry::start();
    let base = noise(1, 200_000);
    let first = TestImage::new(vec![base.clone(), noise(2, 1000)]);
    let second = TestImage::new(vec![base, noise(3, 1000)]);
    registry.push_image("first", &first, &[]);
    registry.push_image("second", &second, &[]);
    let (_dir, store) = store();
    store.pull(&reference(registry.address, "first"), &Platform::amd64(), &settings(), |_| ()).await.unwrap();
    let missing = Mutex::new(None);
    let note = |p| {
        if let PullProgress::Resolved { missing: n, .. } = p {
            *missing.lock().unwrap() = Some(n);
        }
    };
    store.pull(&reference(registry.address, "second"), &Platform::amd64(), &settings(), note).await.unwrap();
    assert_eq!(*missing.lock().unwrap(), Some(1));
    assert_eq!(files(&store, "layers").len(), 2 * 3, "three layers, each with its list of contents");
    store.pull(&reference(registry.address, "second"), &Platform::amd64(), &settings(), note).await.unwrap();
    assert_eq!(*missing.lock().unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_for_nobody_is_refused_before_its_layers_are_fetched() {
    let registry = Registry::start();
    let bare = TestImage { labels: json!({}), ..TestImage::new(vec![noise(1, 100)]) };
    let later = TestImage {
        labels: json!({"walt.node.models": "pc-x86-64", "walt.server.minversion": "99"}),
        ..TestImage::new(vec![noise(1, 100)])
    };
    registry.push_image("bare", &bare, &[]);
    registry.push_image("later", &later, &[]);
    let (_dir, store) = store();
    for (name, words) in [("bare", "not a WalT image"), ("later", "version 99")] {
        let error =
            store.pull(&reference(registry.address, name), &Platform::amd64(), &settings(), |_| ()).await.unwrap_err();
        assert!(matches!(error, PullError::Config { .. }) && error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(files(&store, "layers").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_in_the_name_is_binding() {
    let registry = Registry::start();
    let image = TestImage::new(vec![noise(1, 100)]);
    registry.push_image("a", &image, &[]);
    let (_dir, store) = store();
    let unknown = format!("{}/a@sha256:{}", registry.address, "00".repeat(32)).parse().unwrap();
    let error = store.pull(&unknown, &Platform::amd64(), &settings(), |_| ()).await.unwrap_err();
    assert!(matches!(error, PullError::NotFound { .. }), "{error}");
    let error =
        store.pull(&reference(registry.address, "none"), &Platform::amd64(), &settings(), |_| ()).await.unwrap_err();
    assert!(matches!(error, PullError::NotFound { .. }), "{error}");
}
