//! Images of several platforms, and what images are really built for.

use std::collections::HashSet;
use std::fs::{self, File};
use std::process::Command;

use serde_json::json;
use walt_image::server_layer::Base;
use walt_image::store::Source;
use walt_image::tar::{TarAttr, TarWriter};
use walt_image::{ImageDigest, LayerFiles, Platform, Store};

use crate::layout::{Layout, TestImage, noise};
use crate::server::{Registry, files, reference, settings, store};

fn built_for(architecture: &'static str, layer: Vec<u8>) -> TestImage {
    TestImage { architecture, ..TestImage::new(vec![layer]) }
}

fn arm(variant: &str) -> Platform {
    Platform::linux("arm", Some(variant))
}

/// What a board with a 64-bit ARM processor runs, the best first.
fn board() -> [Platform; 3] {
    [Platform::linux("arm64", Some("v8")), arm("v7"), arm("v6")]
}

/// A registry with the index `multi`: for PCs, for 32-bit ARM of two variants, and an attestation.
fn with_index(images: &[&TestImage], variants: &[&str]) -> Registry {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::create(dir.path());
    let mut manifests: Vec<_> = images.iter().map(|image| layout.image(image)).collect();
    for (manifest, variant) in manifests.iter_mut().zip(variants).filter(|(_, variant)| !variant.is_empty()) {
        manifest["platform"]["variant"] = json!(variant);
    }
    let mut attestation = layout.image(&TestImage { labels: json!({}), ..TestImage::new(vec![]) });
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    manifests.push(attestation);
    layout.index(manifests, "latest");
    layout.finish();
    registry.push(dir.path(), "multi", "latest", &["--all"]);
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_that_is_offered_is_taken_from_an_index() {
    // The configuration of the one for ARM lies; the index tells.
    let [pc, v6] = [built_for("amd64", noise(1, 100)), built_for("amd64", noise(2, 100))];
    let v7 = built_for("arm", noise(3, 100));
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::create(dir.path());
    let mut manifests: Vec<_> = [&pc, &v6, &v7].into_iter().map(|image| layout.image(image)).collect();
    manifests[1]["platform"] = json!({"os": "linux", "architecture": "arm", "variant": "v6"});
    manifests[2]["platform"]["variant"] = json!("v7");
    layout.index(manifests, "latest");
    layout.finish();
    registry.push(dir.path(), "multi", "latest", &["--all"]);
    let (_dir, store) = store();
    let name = reference(registry.address, "multi");
    let offered = vec![Platform::amd64(), arm("v6"), arm("v7")];
    for (wanted, image, chosen) in [
        (&board()[..], &v7, arm("v7")),
        (&[arm("v6")], &v6, arm("v6")),
        (&[Platform::amd64(), Platform::linux("386", None)], &pc, Platform::amd64()),
    ] {
        let pulled = store.pull_best(&name, wanted, &settings(), |_| ()).await.unwrap();
        assert_eq!(pulled.digest, image.digest(), "{chosen}");
        assert_eq!(pulled.source, Source::Index { offered: offered.clone(), chosen: Some(chosen) });
    }
    let error = store.pull_best(&name, &[Platform::linux("386", None)], &settings(), |_| ()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("not available for linux/386, only for linux/amd64, linux/arm/v6, linux/arm/v7"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_choice_nothing_is_refused() {
    let image = built_for("amd64", noise(1, 100));
    let registry = with_index(&[&image], &[""]);
    registry.push_image("plain", &image, &[]);
    let (_dir, store) = store();
    for name in ["multi", "plain"] {
        for wanted in [&board()[..], &[Platform::amd64()]] {
            let pulled =
                store.pull_best(&reference(registry.address, name), wanted, &settings(), |_| ()).await.unwrap();
            assert_eq!((pulled.digest, pulled.source), (image.digest(), Source::Plain), "{name}");
        }
    }
    assert_eq!(files(&store, "layers").len(), 2, "one layer with its list of contents");
}

/// A tar with a program for `machine` (ELF) behind the links that Debian has.
fn system(class: u8, machine: u16) -> Vec<u8> {
    let mut program = vec![0; 64];
    program[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1]);
    program[16] = 3;
    program[18..20].copy_from_slice(&machine.to_le_bytes());
    let mut tar = TarWriter::new();
    tar.symlink(b"sbin", TarAttr::mode(0o777), b"usr/sbin");
    tar.symlink(b"usr/sbin/init", TarAttr::mode(0o777), b"/lib/systemd/systemd");
    tar.file(b"lib/systemd/systemd", TarAttr::mode(0o755), &program);
    // On the server it would be a program of another machine, or nothing.
    tar.symlink(b"bin/sh", TarAttr::mode(0o777), b"/usr/bin/true");
    tar.finish()
}

fn platform(store: &Store, image: &ImageDigest) -> String {
    let info = store.info(image).unwrap();
    let layers = LayerFiles::new(store.layers_dir());
    let base = Base::new(&layers, info.layers.iter().map(|(layer, _)| *layer));
    store.platform(image, &base).unwrap().to_string()
}

fn import(store: &Store, image: &TestImage) -> ImageDigest {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::create(dir.path());
    let manifest = layout.image(image);
    layout.tag(manifest, "x");
    layout.finish();
    store.import(dir.path()).unwrap()[0].digest
}

#[test]
fn programs_tell_what_an_image_is_built_for() {
    let (_dir, store) = store();
    let file = |path: &str, content: &[u8]| {
        let mut tar = TarWriter::new();
        tar.file(path.as_bytes(), TarAttr::mode(0o755), content);
        tar.finish()
    };
    let script = file("sbin/init", b"#!/bin/sh\n");
    let elf = |machine: u16| {
        let mut program = system(2, machine);
        let at = program.windows(4).position(|window| window == b"\x7fELF").unwrap();
        program.drain(..at);
        program.truncate(64);
        program
    };
    for (said, layers, expected) in [
        ("amd64", vec![system(2, 183)], "linux/arm64"),
        ("amd64", vec![system(1, 40)], "linux/arm"),
        ("arm", vec![system(1, 40)], "linux/arm"),
        ("arm64", vec![system(2, 243)], "linux/riscv64"),
        // A script and a shell; neither, but a loader; nothing at all.
        ("amd64", vec![script.clone(), file("bin/sh", &elf(183))], "linux/arm64"),
        ("arm64", vec![script.clone(), file("lib64/ld-linux-x86-64.so.2", &elf(62))], "linux/amd64"),
        ("arm64", vec![script], "linux/arm64"),
        ("s390x", vec![noise(1, 10)], "linux/s390x"),
    ] {
        let image = TestImage { architecture: said, ..TestImage::new(layers) };
        let digest = import(&store, &image);
        assert_eq!(platform(&store, &digest), expected, "{said}");
    }
}

#[test]
fn a_variant_that_says_how_fast_programs_run_is_not_what_they_are_built_for() {
    let (_dir, store) = store();
    for (class, machine, architecture, variant, expected) in [
        (2, 62, "amd64", "v2", "linux/amd64"),
        (2, 183, "arm64", "v9", "linux/arm64"),
        // Of 32-bit ARM it says what they need.
        (1, 40, "arm", "v6", "linux/arm/v6"),
    ] {
        let image = TestImage { variant: Some(variant), ..built_for(architecture, system(class, machine)) };
        let digest = import(&store, &image);
        assert_eq!(platform(&store, &digest), expected);
    }
}

#[test]
fn what_was_found_out_is_kept_as_long_as_the_image() {
    let (dir, store) = store();
    let digest = import(&store, &built_for("amd64", system(2, 183)));
    assert_eq!(platform(&store, &digest), "linux/arm64");
    let note = dir.path().join(format!("configs/{}.platform", digest.hex()));
    assert_eq!(fs::read_to_string(&note).unwrap(), "2 linux/arm64\n");
    // Read back, unless another way of looking wrote it, or it is damaged.
    for (text, expected) in [("2 linux/386\n", "linux/386"), ("1 linux/386\n", "linux/arm64"), ("2", "linux/arm64")] {
        fs::write(&note, text).unwrap();
        assert_eq!(platform(&store, &digest), expected, "{text}");
    }
    store.collect_garbage(&HashSet::from([digest]), &HashSet::new(), |_| ()).unwrap();
    assert!(note.exists());
    store.collect_garbage(&HashSet::new(), &HashSet::new(), |_| ()).unwrap();
    assert!(files(&store, "configs").is_empty(), "{:?}", files(&store, "configs"));
}

#[test]
fn several_platforms_go_out_as_one_archive_and_come_back() {
    let shared = noise(1, 1000);
    let mut pc = built_for("amd64", shared.clone());
    pc.layers.push(noise(2, 100));
    let mut board = built_for("arm", shared);
    board.layers.push(noise(3, 100));
    let (dir, store) = store();
    let images = [(import(&store, &pc), Platform::amd64()), (import(&store, &board), arm("v7"))];
    let path = dir.path().join("multi.tar");
    let name: walt_image::Reference = "lab/multi:1".parse().unwrap();
    store.export_index(&images, Some(&name), File::create(&path).unwrap()).unwrap();
    // Another reader takes both, and verifies them; the layer that both have is there once.
    let copy = dir.path().join("copy");
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "-q", "--all"])
        .arg(format!("oci-archive:{}:{name}", path.display()))
        .arg(format!("oci:{}:x", copy.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = Command::new("tar").arg("tf").arg(&path).output().unwrap();
    // Two manifests, two configurations, an index, three layers.
    assert_eq!(String::from_utf8(listed.stdout).unwrap().matches("blobs/sha256/").count(), 8);
    for source in [&path, &copy] {
        let (_dir, second) = crate::server::store();
        let imported = second.import(source).unwrap();
        let found: Vec<_> = imported.iter().map(|i| (i.digest, i.platform.to_string())).collect();
        let expected: Vec<_> = images.iter().map(|(digest, platform)| (*digest, platform.to_string())).collect();
        assert_eq!(found, expected, "{}", source.display());
    }
}
