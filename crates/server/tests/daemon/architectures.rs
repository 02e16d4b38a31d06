//! Images for several architectures, and machines that are not supported.

use image::Digest;
use image::tar::{TarAttr, TarWriter};
use serde_json::{Value, json};

use crate::images::import;
use crate::lab::{Lab, Running};

/// `e_machine` of an ELF header (System V ABI, "Machine Information"), and whether it has 64 bits.
const X86_64: (u16, u8) = (62, 2);
const AARCH64: (u16, u8) = (183, 2);
const ARM: (u16, u8) = (40, 1);
const RISCV: (u16, u8) = (243, 2);

/// The models that the images of these tests declare.
const MODELS: &str = "pc-x86-64,rpi-4-b";

/// A layer whose `/sbin/init` is a program for `machine`.
fn layer((machine, class): (u16, u8)) -> Vec<u8> {
    let mut program = vec![0; 64];
    program[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1]);
    program[16] = 2;
    program[18..20].copy_from_slice(&machine.to_le_bytes());
    let mut layer = TarWriter::new();
    for dir in ["bin", "sbin", "etc", "proc", "sys", "dev", "run", "boot"] {
        layer.directory(dir.as_bytes(), TarAttr::mode(0o755));
    }
    layer.file(b"sbin/init", TarAttr::mode(0o755), &program);
    layer.file(b"etc/machine", TarAttr::mode(0o644), machine.to_string().as_bytes());
    layer.finish()
}

/// A docker-archive with images of one name: what the configuration of each says that it is for, and what it is.
fn archive(name: &str, images: &[(&str, (u16, u8))]) -> Vec<u8> {
    let mut archive = TarWriter::new();
    let mut manifests = Vec::new();
    for (n, (architecture, machine)) in images.iter().enumerate() {
        let layer = layer(*machine);
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Labels": {"walt.node.models": MODELS}},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]},
        });
        let [config_name, layer_name] = [format!("{n}.json"), format!("{n}.tar")];
        archive.file(config_name.as_bytes(), TarAttr::mode(0o644), config.to_string().as_bytes());
        archive.file(layer_name.as_bytes(), TarAttr::mode(0o644), &layer);
        manifests.push(json!({"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}));
    }
    archive.file(b"manifest.json", TarAttr::mode(0o644), json!(manifests).to_string().as_bytes());
    archive.finish()
}

/// A lab with agents for PCs and for boards.
fn lab() -> Lab {
    let lab = Lab::new();
    std::fs::create_dir_all(lab.dir.path().join("agent/aarch64")).unwrap();
    std::fs::write(lab.dir.path().join("agent/aarch64/walt-node"), "not really, but for ARM").unwrap();
    lab
}

fn json(daemon: &Running, path: &str) -> Value {
    serde_json::from_str(&daemon.request("GET", path, "").1).unwrap()
}

fn boot(daemon: &Running, node: &str, image: &str) -> String {
    daemon.request("POST", &format!("/v1/nodes/{node}/boot"), &json!({"image": image}).to_string()).1
}

/// Ids of the images that the PC and the board are served.
fn served(daemon: &Running) -> [Value; 2] {
    ["node-00ab01", "node-00ab02"].map(|node| json(daemon, &format!("/v1/nodes/{node}"))["image_id"].clone())
}

/// The platforms of the images of one name, and the nodes that boot each.
fn variants(daemon: &Running, name: &str) -> Vec<(Value, Value)> {
    let images = json(daemon, "/v1/images");
    let named = images.as_array().unwrap().iter().filter(|image| image["name"] == name);
    let mut variants: Vec<_> = named.map(|one| (one["platform"].clone(), one["nodes"].clone())).collect();
    variants.sort_by_key(|(platform, _)| platform.to_string());
    variants
}

#[test]
fn a_pc_and_a_board_boot_the_same_name_before_and_after_a_restart() {
    let lab = lab();
    let mut daemon = lab.start(&[]);
    daemon.register("01", "pc-x86-64");
    daemon.register("02", "rpi-4-b");
    let both = archive("lab/both:1", &[("amd64", X86_64), ("arm64", AARCH64)]);
    let (status, body) = import(&daemon, &both, None);
    assert!(status == 200 && body.contains("imported: docker.io/lab/both:1"), "{body}");
    for node in ["node-00ab01", "node-00ab02"] {
        let body = boot(&daemon, node, "lab/both:1");
        assert!(body.contains("boots docker.io/lab/both:1 from now on"), "{body}");
    }
    let before = served(&daemon);
    assert!(before[0].is_string() && before[1].is_string() && before[0] != before[1], "{before:?}");

    let expected = [(json!("linux/amd64"), json!(["node-00ab01"])), (json!("linux/arm64/v8"), json!(["node-00ab02"]))];
    assert_eq!(variants(&daemon, "docker.io/lab/both:1"), expected);
    daemon.signal("TERM");
    assert!(daemon.child.wait().unwrap().success());
    let daemon = lab.start(&[]);
    for node in ["node-00ab01", "node-00ab02"] {
        lab.wait_until("it is ready again", || {
            json(&daemon, &format!("/v1/nodes/{node}"))["registration"]["status"] == "ready"
        });
    }
    // The interface of the new daemon has another MAC, which is in the server's layer: the ids are others.
    let after = served(&daemon);
    assert!(after[0] != after[1] && after[0] != before[1] && after[1] != before[0], "{after:?}");
    assert_eq!(variants(&daemon, "docker.io/lab/both:1"), expected);

    // A format for one alone must say which.
    let (status, body) = daemon.request("GET", "/v1/images/export?image=both:1&format=docker", "");
    assert!(status == 400 && body.contains("--platform"), "{status} {body}");
    for (platform, status, word) in [("arm/v7", 404, "linux/amd64, linux/arm64/v8"), ("pdp11", 400, "arm/v7")] {
        let path = format!("/v1/images/export?image=both:1&platform={platform}");
        let (found, body) = daemon.request("GET", &path, "");
        assert!(found == status && body.contains(word), "{found} {body}");
    }
    // All of it goes out in one archive, and one of it in another.
    for (query, platforms) in [("", &["linux/amd64", "linux/arm64/v8"][..]), ("&platform=arm64", &["linux/arm64/v8"])] {
        let (status, exported) = daemon.exchange("GET", &format!("/v1/images/export?image=both:1{query}"), b"");
        assert_eq!(status, 200);
        let (_, body) = import(&daemon, &exported, Some("lab/again:1"));
        assert!(body.contains("imported"), "{body}");
        let found = variants(&daemon, "docker.io/lab/again:1");
        assert_eq!(found.iter().map(|(platform, _)| platform).collect::<Vec<_>>(), platforms);
    }
}

#[test]
fn the_programs_of_an_image_count_and_not_its_manifest() {
    let lab = lab();
    let daemon = lab.start(&[]);
    daemon.register("01", "pc-x86-64");
    daemon.register("02", "rpi-4-b");
    import(&daemon, &archive("lab/lies:1", &[("amd64", AARCH64)]), None);
    let body = boot(&daemon, "node-00ab01", "lab/lies:1");
    for word in ["docker.io/lab/lies:1", "aarch64", "pc-x86-64"] {
        assert!(body.contains(word), "{word}: {body}");
    }
    let body = boot(&daemon, "node-00ab02", "lab/lies:1");
    assert!(body.contains("from now on"), "{body}");

    // No agent: which image, what it is built for, where the agent would be, and what to do.
    let (_, body) = import(&daemon, &archive("lab/v7:1", &[("amd64", ARM)]), None);
    let words = ["docker.io/lab/v7:1", "armv7l", "agent/armv7l/walt-node", "agent/armv6l/walt-node", "./x agents"];
    for word in words.into_iter().chain(["agent_dir"]) {
        assert!(body.contains(word), "{word}: {body}");
    }
    let (_, body) = import(&daemon, &archive("lab/v:1", &[("amd64", RISCV)]), None);
    assert!(body.contains("docker.io/lab/v:1") && body.contains("riscv64"), "{body}");
}

#[test]
fn a_board_that_is_not_supported_is_shown_by_its_name() {
    let lab = lab();
    let daemon = lab.start(&[]);
    daemon.register("03", "unknown-Toaster_9");
    assert_eq!(json(&daemon, "/v1/nodes"), json!([]));
    let all = json(&daemon, "/v1/nodes?all=true");
    let [board] = &all.as_array().unwrap()[..] else { panic!("not one device: {all}") };
    assert_eq!(board["kind"], "unsupported");
    assert_eq!((&board["board"], &board["name"]), (&json!("toaster-9"), &json!("unknown-00ab03")));
    assert_eq!((board.get("model"), board.get("image"), json(&daemon, "/v1/images")), (None, None, json!([])));
    let trace = json(&daemon, "/v1/nodes/unknown-00ab03/trace").to_string();
    assert!(trace.contains("no model is known for the board toaster-9"), "{trace}");
    let body = boot(&daemon, "unknown-00ab03", "default");
    assert!(body.contains("is not a node: no model is known for its board, toaster-9"), "{body}");
}
