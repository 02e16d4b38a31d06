//! The daemon as a process, in a network of its own (needs root, as the daemon does).

mod architectures;
mod devices;
mod dns;
mod full_disk;
mod images;
mod lab;
mod logs;
mod nat;
mod network;
mod ownership;
mod ssh;
mod web;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lab::{Lab, Running, stderr};

#[test]
fn it_stops_cleanly_when_asked_to() {
    let lab = Lab::new();
    for signal in ["TERM", "INT"] {
        let mut daemon = lab.start(&[]);
        daemon.signal(signal);
        assert!(daemon.child.wait().unwrap().success(), "SIG{signal}");
        assert!(!daemon.socket.exists());
    }
}

#[test]
fn it_keeps_no_privilege_that_it_does_not_need() {
    let lab = Lab::new();
    let daemon = lab.start(&[]);
    let tasks = format!("/proc/{}/task", daemon.child.id());
    // A thread gives up privileges by itself before it does anything else; it may not have come to that yet.
    let mut privileged = Vec::new();
    for _ in 0..100 {
        privileged =
            std::fs::read_dir(&tasks).unwrap().filter_map(|task| privilege_of(&task.unwrap().path())).collect();
        if privileged.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{privileged:?}");
}

/// What the thread may still do that no thread of the daemon may, if anything.
fn privilege_of(task: &Path) -> Option<String> {
    // The thread may have ended.
    let status = std::fs::read_to_string(task.join("status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    // capabilities(7): SYS_MODULE is 16, SYS_PTRACE 19.
    let forbidden = (1 << 16) | (1 << 19);
    let keeps = |set: &&str| u64::from_str_radix(&field(set), 16).unwrap() & forbidden != 0;
    let kept: Vec<_> = ["CapEff:", "CapPrm:", "CapBnd:"].into_iter().filter(keeps).collect();
    (!kept.is_empty() || field("NoNewPrivs:") != "1").then(|| format!("{} {kept:?}", field("Name:")))
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let lab = Lab::new();
    let _first = lab.start(&[]);
    let second = lab.run("true;", &[]);
    assert!(!second.status.success());
    assert!(stderr(&second).contains("in use by another server (process"), "{}", stderr(&second));
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let lab = Lab::new();
    let holder = "import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if sys.argv[1] == 'udp' else socket.SOCK_STREAM)
s.bind(('0.0.0.0', int(sys.argv[2])))
sys.argv[1] == 'udp' or s.listen()
open(sys.argv[3], 'w').close()
time.sleep(100)";
    let script = lab.dir.path().join("holder.py");
    std::fs::write(&script, holder).unwrap();
    for (protocol, port) in [
        ("udp", 53),
        ("tcp", 53),
        ("udp", 67),
        ("udp", 69),
        ("tcp", 80),
        ("tcp", 111),
        ("udp", 123),
        ("tcp", 2049),
        ("tcp", 12347),
        ("udp", 12342),
    ] {
        let ready = lab.dir.path().join(format!("{protocol}{port}"));
        // The daemon takes the place of the shell, so that the holder is told by its end.
        let before = format!(
            "setpriv --pdeathsig KILL python3 {} {protocol} {port} {ready} >/dev/null 2>&1 & while [ ! -e {ready} ]; do sleep 0.05; done;",
            script.display(),
            ready = ready.display()
        );
        let output = lab.run(&before, &[]);
        let text = stderr(&output);
        assert!(!output.status.success(), "{protocol} {port}");
        assert!(
            text.contains(&format!("{protocol} port {port}")) && text.contains("ss -l"),
            "{protocol} {port}: {text}"
        );
    }
}

#[test]
fn what_it_knew_is_there_after_a_kill() {
    let lab = Lab::new();
    let daemon = lab.start(&["--log", "error"]);
    daemon.register_node();
    // What was recorded is on disk within the time of one batch.
    std::thread::sleep(Duration::from_millis(500));
    let stale = lab.dir.path().join("state/nodes/10.9.8.99");
    std::os::unix::fs::symlink("02:00:00:00:00:09", &stale).unwrap();
    drop(daemon);
    let daemon = lab.start(&[]);
    let (status, body) = daemon.request("GET", "/v1/nodes/52:54:00:00:ab:01", "");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"name\":\"node-00ab01\""), "{body}");
    let nodes = lab.dir.path().join("state/nodes");
    for alias in ["10.9.8.7", "52-54-00-00-ab-01", "node-00ab01"] {
        assert_eq!(std::fs::read_link(nodes.join(alias)).unwrap(), PathBuf::from("52:54:00:00:ab:01"), "{alias}");
    }
    assert!(std::fs::read_link(&stale).is_err(), "a link of nobody is removed");
}

#[test]
fn the_api_describes_itself_and_names_what_is_wrong() {
    let lab = Lab::new();
    let daemon = lab.start(&[]);
    daemon.register_node();
    let (status, body) = daemon.request("GET", "/openapi.json", "");
    assert_eq!(status, 200);
    let described: serde_json::Value = serde_json::from_str(&body).unwrap();
    let committed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json")).unwrap();
    assert_eq!(described, serde_json::from_str::<serde_json::Value>(&committed).unwrap());
    for (method, path, sent, expected, word) in [
        ("GET", "/v1/nodes/node-00ab10", "", 404, "did you mean node-00ab01"),
        ("POST", "/v1/nodes/node-00ab01/boot", r#"{"image": "nothing"}"#, 404, "walt image clone nothing"),
        ("POST", "/v1/nodes/node-00ab01/reboot", "", 502, "can not be rebooted"),
        ("POST", "/v1/leases", r#"{"mac": "x", "ip": "10.0.0.1"}"#, 400, "not an Ethernet address"),
        ("DELETE", "/v1/images?image=pc-x86-64-default", "", 409, "node-00ab01"),
        ("POST", "/v1/images/clone?image=UPPER%20CASE", "", 400, "no image name"),
        ("GET", "/v1/nothing", "", 400, "openapi.json"),
    ] {
        let (status, body) = daemon.request(method, path, sent);
        assert_eq!(status, expected, "{method} {path}: {body}");
        assert!(body.contains(word), "{method} {path}: {body}");
    }
}

#[test]
fn another_dhcp_server_may_have_the_port_in_external_mode() {
    let lab = Lab::new();
    let config = lab.dir.path().join("server.toml");
    std::fs::write(&config, "[dhcp]\nmode = \"external\"\n").unwrap();
    let daemon = lab.start(&["--config", config.to_str().unwrap()]);
    daemon.register_node();
    let (status, body) = daemon.request("GET", "/v1/nodes/node-00ab01/trace", "");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("dhcp-ack") && body.contains("walt 10.9.8.7"), "{body}");
}

#[test]
fn a_wrong_configuration_is_refused_before_anything_is_touched() {
    let lab = Lab::new();
    let config = lab.dir.path().join("server.toml");
    std::fs::write(&config, "[dhcp]\nrnage = \"10.9.8.10-10.9.8.20\"\n").unwrap();
    let output = lab.run("true;", &["--config", config.to_str().unwrap(), "--check-config"]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("did you mean `dhcp.range`?"), "{}", stderr(&output));
    std::fs::write(&config, "[dhcp]\nrange = \"10.9.9.10-10.9.9.20\"\n").unwrap();
    let output = lab.run("true;", &["--config", config.to_str().unwrap()]);
    assert!(!output.status.success() && stderr(&output).contains("10.9.9.10"), "{}", stderr(&output));
    std::fs::write(&config, "[dhcp]\nrelays = [\"10.9.0.1/16\"]\n").unwrap();
    let output = lab.run("true;", &["--config", config.to_str().unwrap(), "--check-config"]);
    assert!(!output.status.success() && stderr(&output).contains("in common"), "{}", stderr(&output));
    std::fs::write(&config, "[dhcp]\nrange = \"10.9.8.10-10.9.8.20\"\nrelays = [\"10.8.0.1/16\"]\n").unwrap();
    let output = lab.run("true;", &["--config", config.to_str().unwrap(), "--check-config"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!lab.dir.path().join("state/nodes").exists());
}

#[test]
fn systemd_hears_of_its_start_its_health_and_its_end() {
    let lab = Lab::new();
    let path = lab.dir.path().join("notify");
    let notify = UnixDatagram::bind(&path).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = lab.command("true;", &[]);
    // sd_watchdog_enabled(3): without WATCHDOG_PID it is meant for whoever has the variable.
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000").stderr(Stdio::null());
    let mut daemon = Running { child: command.spawn().unwrap(), socket: lab.socket() };
    let next = || {
        let mut message = [0; 200];
        let len = notify.recv(&mut message).expect("no message of the daemon");
        String::from_utf8(message[..len].to_vec()).unwrap().trim().to_owned()
    };
    assert_eq!(next(), "READY=1");
    for _ in 0..3 {
        assert_eq!(next(), "WATCHDOG=1");
    }
    daemon.signal("TERM");
    assert!((0..20).any(|_| next() == "STOPPING=1"));
    assert!(daemon.child.wait().unwrap().success());
}

#[test]
fn the_lease_hook_runs_for_leases_of_another_dhcp_server() {
    let lab = Lab::new();
    let [hook, out, config] = ["hook", "out", "server.toml"].map(|name| lab.dir.path().join(name));
    let script = format!("#!/bin/sh\necho \"$@\" $WALT_MAC $(id -u) >> {}\n", out.display());
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&config, format!("[dhcp]\nmode = \"external\"\n[hooks]\nlease = \"{}\"\n", hook.display())).unwrap();
    let daemon = lab.start(&["--config", config.to_str().unwrap()]);
    daemon.register_node();
    let expected = "commit  walt.node.pc-x86-64 10.9.8.7 52:54:00:00:ab:01  52:54:00:00:ab:01 0\n";
    lab.wait_until("the hook has run", || std::fs::read_to_string(&out).is_ok_and(|text| text == expected));
}

#[test]
fn a_device_is_renamed_and_forgotten_for_good() {
    let lab = Lab::new();
    let mut daemon = lab.start(&[]);
    daemon.register_node();
    let nodes = lab.dir.path().join("state/nodes");
    let (status, body) = daemon.request("POST", "/v1/nodes/node-00ab01/rename", r#"{"name": "kitchen"}"#);
    assert_eq!(status, 204, "{body}");
    lab.wait_until("the link is there", || nodes.join("kitchen").is_symlink() && !nodes.join("node-00ab01").exists());
    daemon.signal("TERM");
    assert!(daemon.child.wait().unwrap().success());
    let daemon = lab.start(&[]);
    assert_eq!(daemon.request("GET", "/v1/nodes/kitchen", "").0, 200);
    // It was seen a moment ago: it may be up.
    let (status, body) = daemon.request("DELETE", "/v1/nodes/kitchen", "");
    assert!(status == 409 && body.contains("--force"), "{status} {body}");
    assert_eq!(daemon.request("DELETE", "/v1/nodes/kitchen?force=true", "").0, 204);
    assert_eq!(daemon.request("GET", "/v1/nodes?all=true", "").1, "[]");
    lab.wait_until("its links are gone", || std::fs::read_dir(&nodes).unwrap().count() == 0);
    assert_eq!(daemon.request("GET", "/v1/user", "").1, r#"{"name":"root"}"#);
}
