//! Nodes that are taken and given back, and what saving one refuses.

use crate::images::{archive, import};
use crate::lab::Lab;

#[test]
fn a_node_is_taken_and_given_back() {
    let lab = Lab::new();
    let daemon = lab.start(&[]);
    let node = |daemon: &crate::lab::Running| -> serde_json::Value {
        serde_json::from_str(&daemon.request("GET", "/v1/nodes/node-00ab01", "").1).unwrap()
    };
    daemon.register_node();
    let (status, body) = daemon.request("POST", "/v1/nodes/node-00ab01/acquire", "");
    assert!(status == 404 && body.contains("has not arrived yet"), "{status} {body}");
    import(&daemon, &archive("waltplatform/pc-x86-64-default:latest", Some("pc-x86-64"), b"1"), None);
    lab.wait_until("the default image is served", || node(&daemon)["registration"]["status"] == "ready");
    let served = node(&daemon)["image_id"].clone();
    assert_eq!((node(&daemon)["free"].as_bool(), node(&daemon).get("owner").cloned()), (Some(true), None));

    let (status, body) = daemon.request("POST", "/v1/nodes/node-00ab01/acquire", "");
    assert!(status == 200 && body.contains("boots docker.io/root/pc-x86-64-default:latest from now on"), "{body}");
    let taken = node(&daemon);
    assert_eq!((taken["owner"].as_str(), &taken["image_id"]), (Some("root"), &served), "the same content");
    // Both names outlive the daemon.
    std::thread::sleep(std::time::Duration::from_millis(500));
    drop(daemon);
    let daemon = lab.start(&[]);
    assert_eq!(node(&daemon)["owner"].as_str(), Some("root"));
    let (status, body) = daemon.request("POST", "/v1/nodes/node-00ab01/boot", r#"{"image": "default"}"#);
    assert!(status == 200 && node(&daemon)["free"] == true, "{body}");
    let (_, images) = daemon.request("GET", "/v1/images", "");
    assert!(images.contains("root/pc-x86-64-default") && images.contains("waltplatform/pc-x86-64-default"), "{images}");

    let (status, body) = daemon.request("POST", "/v1/images/save?node=node-00ab01&name=mine", "");
    assert!(status == 502 && body.contains("has not mounted any image"), "{status} {body}");
    let (status, body) = daemon.request("POST", "/v1/images/save?node=node-00ab01&name=pc-x86-64-default", "");
    assert!(status == 409 && body.contains("--force"), "{status} {body}");
    let (status, body) = daemon.request("POST", "/v1/images/save?node=node-00ab01&name=Mine", "");
    assert!(status == 400, "{status} {body}");
    let left = std::fs::read_dir(lab.dir.path().join("state/images")).unwrap();
    assert!(left.flatten().all(|entry| !entry.file_name().to_string_lossy().starts_with('.')), "nothing is left");
}
