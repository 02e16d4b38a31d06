//! A disk that a pull fills up.

use std::path::Path;
use std::process::Command;

use crate::images::{archive, import};
use crate::lab::Lab;

/// Registry that the daemon pulls from.
const REGISTRY: &str = "127.0.0.1:5000";

/// Bytes that no compression makes smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len / 8).flat_map(|_| next()).collect()
}

/// Commands that start a registry, which ends with the daemon, push `archive` to it as `name`, and make the state
/// directory a disk of `megabytes`.
fn prepare(lab: &Lab, archive: &Path, name: &str, megabytes: u32) -> String {
    let [configuration, data, state] = ["registry.yml", "registry", "state"].map(|name| lab.dir.path().join(name));
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {REGISTRY:?}}}\n",
        data.display()
    );
    std::fs::write(&configuration, text).unwrap();
    std::fs::create_dir_all(&state).unwrap();
    format!(
        "setpriv --pdeathsig KILL docker-registry serve {} >/dev/null 2>&1 &
         until curl -s http://{REGISTRY}/v2/ >/dev/null; do sleep 0.05; done;
         skopeo copy -q --insecure-policy --dest-tls-verify=false docker-archive:{} docker://{name} &&
         mount -t tmpfs -o size={megabytes}m state {};",
        configuration.display(),
        archive.display(),
        state.display()
    )
}

#[test]
fn a_pull_that_fills_the_disk_is_told_and_the_old_image_goes_on() {
    let lab = Lab::new();
    let [large, config] = ["large.tar", "server.toml"].map(|name| lab.dir.path().join(name));
    std::fs::write(&large, archive("lab/large:1", Some("pc-x86-64"), &noise(16 << 20))).unwrap();
    let name = format!("{REGISTRY}/lab/large:1");
    let text = format!(
        "[registries]\ninsecure = [{REGISTRY:?}]\n[images]\nkeep_free_mib = 0\n[images.default]\npc-x86-64 = {name:?}\n"
    );
    std::fs::write(&config, text).unwrap();
    let daemon = lab.start_after(&prepare(&lab, &large, &name, 8), &["--config", config.to_str().unwrap()]);
    let node = || -> serde_json::Value {
        serde_json::from_str(&daemon.request("GET", "/v1/nodes/node-00ab01", "").1).unwrap()
    };
    // The daemon's mounts are its own.
    let state = format!("/proc/{}/root{}", daemon.child.id(), lab.dir.path().join("state").display());
    let files = || {
        let output = Command::new("find").arg(&state).args(["-xdev", "-name", ".partial*"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };

    daemon.register_node();
    lab.wait_until("it is told", || node()["registration"]["status"] == "failed");
    let told = node()["registration"].clone();
    let cause = told["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("no space left on the disk of") && cause.contains(&name), "{told}");
    assert_eq!(files(), "");

    // A small one fits, and is served on while the large one fails again.
    import(&daemon, &archive("lab/small:1", Some("pc-x86-64"), b"small"), None);
    let (status, body) = daemon.request("POST", "/v1/nodes/node-00ab01/boot", r#"{"image": "lab/small:1"}"#);
    assert_eq!(status, 200, "{body}");
    let (_, body) = daemon.request("POST", &format!("/v1/images/clone?image={name}"), "");
    assert!(body.lines().last().is_some_and(|last| last.contains("no space left")), "{body}");
    assert_eq!(node()["registration"]["status"], "ready");
    let served = format!("{state}/images/{}/fs/etc/motd", node()["image_id"].as_str().unwrap());
    assert_eq!(std::fs::read_to_string(served).unwrap(), "small");
    assert_eq!(files(), "");
    let layers = std::fs::read_dir(Path::new(&state).join("layers")).unwrap().count();
    assert_eq!(layers, 4, "the small image's layer and the server's, each with its table of contents");
}
