//! Images through the control API.

use image::Digest;
use image::tar::{TarAttr, TarWriter};

use crate::lab::{Lab, Running};

/// A docker-archive with one image of one file, made for `models` (no label without).
pub(crate) fn archive(name: &str, models: Option<&str>, content: &[u8]) -> Vec<u8> {
    let mut layer = TarWriter::new();
    for dir in ["bin", "etc", "proc", "sys", "dev", "run", "boot", "boot/pc-x86-64"] {
        layer.directory(dir.as_bytes(), TarAttr::mode(0o755));
    }
    layer.file(b"etc/motd", TarAttr::mode(0o640), content);
    layer.symlink(b"etc/link", TarAttr::mode(0o777), b"/etc/motd");
    layer.file(b"boot/pc-x86-64/start.ipxe", TarAttr::mode(0o644), b"#!ipxe\n");
    let layer = layer.finish();
    let labels = models.map(|models| serde_json::json!({"walt.node.models": models}));
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]},
    });
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut archive = TarWriter::new();
    archive.file(b"manifest.json", TarAttr::mode(0o644), manifest.to_string().as_bytes());
    archive.file(b"config.json", TarAttr::mode(0o644), config.to_string().as_bytes());
    archive.file(b"layer.tar", TarAttr::mode(0o644), &layer);
    archive.finish()
}

pub(crate) fn import(daemon: &Running, archive: &[u8], name: Option<&str>) -> (u16, String) {
    let query = name.map(|name| format!("?name={name}")).unwrap_or_default();
    let (status, body) = daemon.exchange("POST", &format!("/v1/images/import{query}"), archive);
    (status, String::from_utf8(body).unwrap())
}

/// Files and bytes below `layers/`.
fn layers(lab: &Lab) -> (usize, u64) {
    let entries = std::fs::read_dir(lab.dir.path().join("state/layers")).unwrap();
    let sizes: Vec<_> = entries.map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    (sizes.len(), sizes.iter().sum())
}

#[test]
fn an_archive_is_imported_looked_into_exported_and_removed() {
    let lab = Lab::new();
    let daemon = lab.start(&[]);
    let (status, body) = import(&daemon, &archive("lab/one:1", Some("pc-x86-64"), b"hello\n"), None);
    assert!(status == 200 && body.contains(r#"{"event":"done","text":"imported: docker.io/lab/one:1"}"#), "{body}");
    let (_, body) = daemon.request("GET", "/v1/images", "");
    assert!(body.contains("pc-x86-64") && body.contains(r#""status":"present""#), "{body}");

    let (_, body) = daemon.request("GET", "/v1/images/content?image=one:1&path=/etc/link", "");
    assert_eq!(body, "hello\n");
    let (_, body) = daemon.request("GET", "/v1/images/files?image=one:1&path=/etc", "");
    assert!(body.contains(r#""name":"motd","kind":"file","mode":416,"#), "{body}");
    let (_, body) = daemon.request("GET", "/v1/images/files?image=one:1&path=/bin", "");
    assert!(body.contains("walt-init"), "the server's own layer is part of it: {body}");
    for path in ["/etc/none", "/etc/motd/x"] {
        let (status, body) = daemon.request("GET", &format!("/v1/images/files?image=one:1&path={path}"), "");
        assert!(status == 404 && body.contains(path), "{body}");
    }
    let (status, body) = daemon.request("GET", "/v1/images/content?image=one:1&path=/etc", "");
    assert!(status == 404 && body.contains("is a directory"), "{body}");

    for format in ["oci", "docker"] {
        let (status, exported) = daemon.exchange("GET", &format!("/v1/images/export?image=one:1&format={format}"), b"");
        assert_eq!(status, 200);
        let (status, body) = import(&daemon, &exported, Some(&format!("lab/{format}")));
        assert!(status == 200 && body.contains(&format!("docker.io/lab/{format}:latest")), "{body}");
    }
    let (_, body) = daemon.request("GET", "/v1/images", "");
    let images: serde_json::Value = serde_json::from_str(&body).unwrap();
    let digests: std::collections::BTreeSet<_> =
        images.as_array().unwrap().iter().map(|i| i["digest"].as_str()).collect();
    assert_eq!((images.as_array().unwrap().len(), digests.len()), (3, 1), "three names, one image: {body}");

    for name in ["one:1", "lab/oci", "lab/docker"] {
        assert_eq!(daemon.request("DELETE", &format!("/v1/images?image={name}"), "").0, 200);
    }
    lab.wait_until("the layers are gone", || layers(&lab).0 == 0);
}

#[test]
fn what_is_no_image_for_walt_is_refused_with_its_reason() {
    let lab = Lab::new();
    let daemon = lab.start(&[]);
    let good = archive("lab/one:1", Some("pc-x86-64"), b"hello\n");
    let mut damaged = good.clone();
    let at = good.windows(6).position(|window| window == b"hello\n").unwrap();
    damaged[at] ^= 1;
    for (archive, word) in [
        (archive("lab/one:1", None, b""), "walt.node.models"),
        (damaged, "digest"),
        (good[..good.len() / 2].to_vec(), ""),
        (b"hello, I am no tar".to_vec(), ""),
        (Vec::new(), ""),
    ] {
        let (status, body) = import(&daemon, &archive, None);
        assert!(status == 422 && body.contains(word), "{status} {body}");
        assert!(!body.contains(".partial-upload"), "the sender knows no such file: {body}");
    }
    assert_eq!(daemon.request("GET", "/v1/images", "").1, "[]");
    let left = std::fs::read_dir(lab.dir.path().join("state/images")).unwrap().count();
    assert_eq!(left, 0, "nothing is left of what was sent");
}

#[test]
fn an_archive_on_its_way_in_leaves_free_what_is_to_be_left_free() {
    let lab = Lab::new();
    let config = lab.dir.path().join("server.toml");
    // 16 TiB: more than any disk of a test has.
    std::fs::write(&config, "[images]\nkeep_free_mib = 16777216\n").unwrap();
    let daemon = lab.start(&["--config", config.to_str().unwrap()]);
    let (status, body) = import(&daemon, &archive("lab/one:1", Some("pc-x86-64"), b"1"), None);
    assert!(status == 500 && body.contains("images.keep_free_mib"), "{status} {body}");
    let left = std::fs::read_dir(lab.dir.path().join("state/images")).unwrap().count();
    assert_eq!(left, 0, "nothing is left of what was sent");
}

#[test]
fn a_node_is_switched_to_another_image_and_keeps_its_own_on_failure() {
    let lab = Lab::new();
    let daemon = lab.start(&[]);
    let node = || -> serde_json::Value {
        serde_json::from_str(&daemon.request("GET", "/v1/nodes/node-00ab01", "").1).unwrap()
    };
    let boot =
        |image: &str| daemon.request("POST", "/v1/nodes/node-00ab01/boot", &format!(r#"{{"image": "{image}"}}"#));
    import(&daemon, &archive("waltplatform/pc-x86-64-default:latest", Some("pc-x86-64"), b"1"), None);
    import(&daemon, &archive("lab/two", Some("rpi-3-b,pc-x86-64"), b"2"), None);
    import(&daemon, &archive("lab/pi", Some("rpi-3-b"), b"3"), None);
    daemon.register_node();
    lab.wait_until("the default image is served", || node()["registration"]["status"] == "ready");
    let first = node()["image_id"].clone();

    let (status, body) = boot("two");
    assert!(status == 200 && body.contains("boots docker.io/lab/two:latest from now on"), "{body}");
    let second = node()["image_id"].clone();
    assert_ne!(first, second);
    let links = lab.dir.path().join("state/nodes/10.9.8.7");
    let target = format!("../../images/{}/fs", second.as_str().unwrap());
    lab.wait_until("the link follows", || {
        std::fs::read_link(links.join("fs")).is_ok_and(|now| now.to_str() == Some(&target))
    });

    let (status, body) = boot("pi");
    assert!(status == 422 && body.contains("is not made for a pc-x86-64, but for rpi-3-b"), "{body}");
    assert_eq!(node()["image_id"], second);
    let (status, body) = boot("default");
    assert!(status == 200, "{body}");
    assert_eq!(node()["image_id"], first, "the same content has the same id");
}

#[test]
fn a_registry_that_is_down_is_told_and_what_was_served_goes_on() {
    let lab = Lab::new();
    let daemon = lab.start(&[]);
    let (status, body) = daemon.request("POST", "/v1/images/clone?image=127.0.0.1:1/lab/one", "");
    assert_eq!(status, 200, "{body}");
    let last = body.lines().last().unwrap();
    assert!(last.contains(r#""event":"failed""#) && last.contains("127.0.0.1:1"), "{body}");
    let (_, body) = daemon.request("GET", "/v1/images", "");
    assert!(body.contains(r#""status":"failed""#), "{body}");
}
