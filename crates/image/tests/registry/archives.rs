//! Archives, as skopeo writes and reads them.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use walt_image::archive::{Format, ImportError};
use walt_image::store::LayerError;
use walt_image::{Digest, ImageDigest, Store};

use crate::layout::{Layout, TestImage, gzip, noise};
use crate::server::{files, store};

fn image() -> TestImage {
    TestImage::new(vec![noise(1, 300_000), noise(2, 10), noise(3, 70_000)])
}

fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo").arg("--insecure-policy").args(arguments).output().expect("skopeo is needed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn layout(dir: &Path, image: &TestImage) {
    let mut layout = Layout::create(dir);
    let manifest = layout.image(image);
    layout.tag(manifest, "lab:1");
    layout.finish();
}

fn check(store: &Store, image: &TestImage) {
    let info = store.info(&image.digest()).unwrap();
    assert_eq!(info.layers.iter().map(|(d, _)| *d).collect::<Vec<_>>(), image.diff_ids());
    for (diff_id, tar) in image.diff_ids().iter().zip(&image.layers) {
        assert!(fs::read(store.layer_path(diff_id)).unwrap() == *tar);
    }
    assert_eq!(files(store, "layers").len(), 2 * image.layers.len(), "{:?}", files(store, "layers"));
}

#[test]
fn imports_what_skopeo_writes() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("layout");
    let image = image();
    layout(&source, &image);
    let from = format!("oci:{}:lab:1", source.display());
    let path = |name: &str| dir.path().join(name);
    skopeo(&["copy", "-q", &from, &format!("docker-archive:{}:lab:1", path("docker.tar").display())]);
    skopeo(&["copy", "-q", &from, &format!("oci-archive:{}:lab:1", path("oci.tar").display())]);
    let zstd = ["copy", "-q", "--dest-compress", "--dest-compress-format", "zstd", &from];
    skopeo(&[&zstd[..], &[&format!("oci-archive:{}:lab:1", path("oci-zstd.tar").display())]].concat());
    let whole = fs::read(path("docker.tar")).unwrap();
    fs::write(path("docker.tar.gz"), gzip(&whole)).unwrap();
    fs::write(path("oci.tar.zst"), zstd::encode_all(&fs::read(path("oci.tar")).unwrap()[..], 1).unwrap()).unwrap();
    for name in ["docker.tar", "docker.tar.gz", "oci.tar", "oci-zstd.tar", "oci.tar.zst", "layout"] {
        let (_dir, store) = store();
        let imported = store.import(&path(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(imported.len(), 1, "{name}");
        assert_eq!(imported[0].digest, image.digest(), "{name}");
        let expected = if name.starts_with("docker") { "docker.io/library/lab:1" } else { "lab:1" };
        assert_eq!(imported[0].name.as_deref(), Some(expected), "{name}");
        check(&store, &image);
    }
}

#[test]
fn exports_what_skopeo_reads() {
    let dir = tempfile::tempdir().unwrap();
    let image = image();
    layout(&dir.path().join("layout"), &image);
    let (_dir, store) = store();
    store.import(&dir.path().join("layout")).unwrap();
    let name = "registry.example:5000/team/lab:1".parse().unwrap();
    for (format, transport) in [(Format::DockerArchive, "docker-archive"), (Format::OciArchive, "oci-archive")] {
        let path = dir.path().join(transport);
        store.export(&image.digest(), Some(&name), format, File::create(&path).unwrap()).unwrap();
        let mut again = Vec::new();
        store.export(&image.digest(), Some(&name), format, &mut again).unwrap();
        assert!(fs::read(&path).unwrap() == again, "{transport}: two exports are the same");
        // skopeo verifies digests while it copies; the configuration must come out as it was.
        let copy = dir.path().join(format!("{transport}-copy"));
        skopeo(&["copy", "-q", &format!("{transport}:{}:{name}", path.display()), &format!("dir:{}", copy.display())]);
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(copy.join("manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest["config"]["digest"], image.digest().to_string(), "{transport}");
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 3);
        let (_dir, second) = crate::server::store();
        let imported = second.import(&path).unwrap();
        assert_eq!(imported[0].name.as_deref(), Some("registry.example:5000/team/lab:1"));
        check(&second, &image);
    }
    let unknown = ImageDigest(Digest::of(b""));
    assert!(store.export(&unknown, None, Format::OciArchive, std::io::sink()).is_err());
}

#[test]
fn one_name_for_several_platforms() {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::create(dir.path());
    let pc = TestImage::new(vec![noise(1, 100)]);
    let arm = TestImage { architecture: "arm64", ..TestImage::new(vec![noise(2, 100)]) };
    let mut attestation = layout.image(&TestImage { labels: serde_json::json!({}), ..TestImage::new(vec![]) });
    attestation["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
    let manifests = vec![layout.image(&pc), layout.image(&arm), attestation];
    layout.index(manifests, "both");
    layout.finish();
    let (_dir, store) = store();
    let imported = store.import(dir.path()).unwrap();
    let found: Vec<_> =
        imported.iter().map(|i| (i.name.as_deref(), i.digest, i.platform.architecture.as_str())).collect();
    assert_eq!(found, [(Some("both"), pc.digest(), "amd64"), (Some("both"), arm.digest(), "arm64")]);
}

#[test]
fn bad_archives_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (_dir, store) = store();
    let import = |name: &str| store.import(&dir.path().join(name)).unwrap_err();

    let error = import("missing.tar");
    assert!(matches!(error, ImportError::Open { .. }) && error.to_string().contains("missing.tar"), "{error}");

    fs::write(dir.path().join("text"), "no tar").unwrap();
    assert!(matches!(import("text"), ImportError::Open { .. }));

    fs::write(dir.path().join("other.tar"), noise(1, 10)).unwrap();
    assert!(matches!(import("other.tar"), ImportError::NotAnArchive { .. }));

    let image = image();
    layout(&dir.path().join("damaged"), &image);
    let layer = dir.path().join("damaged/blobs/sha256").join(Digest::of(&gzip(&image.layers[0])).hex());
    let mut bytes = fs::read(&layer).unwrap();
    let last = bytes.len() - 1;
    bytes.truncate(last);
    fs::write(&layer, &bytes).unwrap();
    let error = import("damaged");
    assert!(
        matches!(&error, ImportError::Layer { source, .. } if matches!(**source, LayerError::WrongSize { .. })),
        "{error}"
    );
    fs::remove_file(&layer).unwrap();
    assert!(matches!(import("damaged"), ImportError::Missing { .. }));

    // A manifest that names files outside of the layout.
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("manifest.json"), r#"[{"Config":"../text","RepoTags":null,"Layers":[]}]"#).unwrap();
    assert!(matches!(import("outside"), ImportError::Missing { .. }));

    let bare = TestImage { labels: serde_json::json!({}), ..TestImage::new(vec![noise(1, 10)]) };
    layout(&dir.path().join("bare"), &bare);
    let error = import("bare");
    assert!(matches!(error, ImportError::Config { .. }) && error.to_string().contains("not a WalT image"), "{error}");
    assert!(files(&store, "configs").is_empty() && files(&store, "layers").is_empty(), "{:?}", files(&store, "layers"));
}
