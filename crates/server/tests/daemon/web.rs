//! The web API as other systems see it: with curl, over TCP, in the daemon's network.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::{Value, json};

use crate::images::{archive, import};
use crate::lab::{Lab, Running, stderr};

/// The nodes' address.
const NODES: &str = "http://10.9.8.1";
/// The usual address of the web API.
const WEB: &str = "http://127.0.0.1";
const ADA: &str = "0123456789abcdef0123456789abcdef";

/// curl in the daemon's network.
fn curl(daemon: &Running, arguments: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{}/ns/net", daemon.child.id())).args(["curl", "-sS", "-m", "60"]).args(arguments);
    command
}

/// Status and body.
fn ask(daemon: &Running, arguments: &[&str]) -> (u16, String) {
    let output = curl(daemon, &["-w", "\n%{http_code}"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

fn get(daemon: &Running, url: &str) -> Value {
    let (status, body) = ask(daemon, &[url]);
    assert_eq!(status, 200, "{url}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// A node that says that it is up, until its input ends.
fn up(daemon: &Running) -> (Child, ChildStdin) {
    let node = "import socket, sys
s = socket.create_connection(('10.9.8.1', 12347), source_address=('10.9.8.7', 0))
s.sendall(b'REQ_NOTIFY_BOOTUP_STATUS\\n')
sys.stdin.read()";
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{}/ns/net", daemon.child.id())).args(["python3", "-c", node]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    (child, stdin)
}

/// Commands that give the node 10.9.8.7 its address on this side.
const WITH_NODE: &str = "ip address add 10.9.8.7/32 dev far;";

#[test]
fn nodes_and_images_have_the_fields_of_walt() {
    let lab = Lab::new();
    let daemon = lab.start_after(WITH_NODE, &[]);
    assert_eq!(get(&daemon, &format!("{WEB}/api/v1/nodes")), json!({"num_nodes": 0, "nodes": []}));
    let tar = archive("ada/tiny:v1", Some("pc-x86-64,pc-x86-32"), b"hello");
    assert_eq!(import(&daemon, &tar, None).0, 200);
    daemon.register("01", "pc-x86-64");
    daemon.register("02", "rpi-3-b");
    daemon.request("POST", "/v1/nodes/node-00ab01/boot", r#"{"image": "ada/tiny:v1"}"#);
    let (mut node, stdin) = up(&daemon);
    let booted = format!("{NODES}/api/v1/nodes?booted=true");
    lab.wait_until("the node is up", || get(&daemon, &booted)["num_nodes"] == 1);

    let nodes = get(&daemon, &booted);
    let fields = &nodes["nodes"][0];
    let config = fields["config"].clone();
    assert_eq!(config["netsetup"], "LAN");
    let expected = json!({"name": "node-00ab01", "model": "pc-x86-64", "virtual": false, "image": "ada/tiny:v1",
        "booted": true, "ip": "10.9.8.7", "mac": "52:54:00:00:ab:01", "config": config});
    assert_eq!(*fields, expected);
    let names = |query: &str| -> Vec<String> {
        let found = get(&daemon, &format!("{WEB}/api/v1/nodes?{query}"));
        let nodes = found["nodes"].as_array().unwrap();
        assert_eq!(found["num_nodes"], nodes.len());
        nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
    };
    for (query, found) in [
        ("", &["node-00ab01", "node-00ab02"][..]),
        ("model=rpi-3-b", &["node-00ab02"]),
        ("booted=false&virtual=false", &["node-00ab02"]),
        ("virtual=true", &[]),
        ("image=ada/tiny:v1", &["node-00ab01"]),
        ("image=docker.io/waltplatform/rpi-3-b-default", &["node-00ab02"]),
        ("ip=10.9.8.8", &["node-00ab02"]),
        ("mac=52-54-00-00-AB-01&name=node-00ab01", &["node-00ab01"]),
        ("name=nobody", &[]),
    ] {
        assert_eq!(names(query), found, "{query}");
    }

    let images = get(&daemon, &format!("{NODES}/api/v1/images?in_use=true"));
    assert_eq!(images["num_images"], 1);
    let image = &images["images"][0];
    let id = image["id"].as_str().unwrap();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let expected = json!({"fullname": "ada/tiny:v1", "user": "ada", "id": id, "in_use": true, "created": null,
        "compatibility": ["pc-x86-64", "pc-x86-32"]});
    assert_eq!(*image, expected);
    for (query, count) in [("user=ada", 1), ("user=bob", 0), ("in_use=false", 0), ("fullname=ada/tiny:v1", 1)] {
        assert_eq!(get(&daemon, &format!("{WEB}/api/v1/images?{query}"))["num_images"], count, "{query}");
    }
    assert_eq!(get(&daemon, &format!("{WEB}/api/v1/images?id={id}"))["num_images"], 1);

    for (path, status, word) in [
        ("/api/v1/nodes?modle=x", 400, "did you mean model?"),
        ("/api/v1/nodes?booted=maybe", 400, "is not true or false"),
        ("/api/v1/nodes?config=x", 400, "no filter"),
        ("/api/v1/nodes?ip=x", 400, "is not an IPv4 address"),
        ("/api/v1/logs?from=1", 400, "to is missing"),
        ("/api/v1/nothing", 404, "/api/openapi.json"),
    ] {
        let (found, body) = ask(&daemon, &[&format!("{WEB}{path}")]);
        assert!(found == status && body.contains(word), "{path}: {found} {body}");
    }
    drop(stdin);
    node.wait().unwrap();
}

#[test]
fn logs_of_a_range_are_streamed() {
    let lab = Lab::new();
    let mut daemon = lab.start(&[]);
    daemon.register_node();
    daemon.signal("TERM");
    assert!(daemon.child.wait().unwrap().success());
    let mut db = rusqlite::Connection::open(lab.dir.path().join("state/walt.db")).unwrap();
    let lines = db.transaction().unwrap();
    // One a millisecond, from 1000 s after 1970; the last one is of nobody.
    for n in 0..6000 {
        let (issuer, stream) = (["52:54:00:00:ab:01", "server"][n % 2], ["app", "app.log"][n / 3000]);
        let sql = "INSERT INTO logs (issuer, stream, at_us, came_s, line) VALUES (?, ?, ?, 4000000000, ?)";
        let at_us = 1_000_000_000 + n as i64 * 1000;
        lines.execute(sql, rusqlite::params![issuer, stream, at_us, format!("\"{n}\"")]).unwrap();
    }
    let nobody =
        "INSERT INTO logs (issuer, stream, at_us, came_s, line) VALUES ('nobody', '', 2000000000, 4000000000, '')";
    lines.execute(nobody, []).unwrap();
    lines.commit().unwrap();
    drop(db);
    let daemon = lab.start(&[]);
    let logs = |query: &str| get(&daemon, &format!("{WEB}/api/v1/logs?{query}"));

    let all = logs("from=1000&to=1999.5");
    assert_eq!((&all["num_logs"], all["logs"].as_array().unwrap().len()), (&json!(6000), 6000));
    let first = json!({"timestamp": 1000.0, "line": "\"0\"", "issuer": "node-00ab01", "stream": "app"});
    assert_eq!(all["logs"][0], first);
    let last = json!({"timestamp": 1005.999, "line": "\"5999\"", "issuer": "server", "stream": "app.log"});
    assert_eq!(all["logs"][5999], last);
    let milliseconds = logs("from=1000001&to=1000003&ts_unit=ms");
    assert_eq!(milliseconds["num_logs"], 2);
    assert_eq!(milliseconds["logs"][0]["timestamp"], 1_000_001.0);
    for (filter, count) in [
        ("stream=app", 3000),
        ("stream=app.log&issuer=node-00ab01", 1500),
        ("issuer=52:54:00:00:ab:01", 3000),
        ("issuer=walt-server&stream=app", 1500),
        ("issuer=nobody", 0),
        ("stream=ap.", 0),
    ] {
        assert_eq!(logs(&format!("from=1000&to=1999&{filter}"))["num_logs"], count, "{filter}");
    }
    // What can not be read must not look like the end.
    let output = curl(&daemon, &[&format!("{WEB}/api/v1/logs?from=1000&to=2001")]).output().unwrap();
    assert_eq!(output.status.code(), Some(18), "{}", stderr(&output));
    assert!(!output.stdout.is_empty() && serde_json::from_slice::<Value>(&output.stdout).is_err());
}

/// The events that curl receives: name and data.
struct Events {
    curl: Child,
    received: Receiver<(String, Value)>,
}

impl Events {
    fn of(daemon: &Running) -> Self {
        let mut command = curl(daemon, &["-N", &format!("{NODES}/api/v1/events")]);
        let mut curl = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (send, received) = mpsc::channel();
        std::thread::spawn(move || {
            while let Some(line) = lines.next() {
                let Some(event) = line.strip_prefix("event: ") else { continue };
                let data = lines.next().unwrap();
                let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                if send.send((event.to_owned(), data)).is_err() {
                    break;
                }
            }
        });
        Self { curl, received }
    }

    /// The first event that is so.
    fn wait_for(&self, what: &str, is_it: impl Fn(&str, &Value) -> bool) -> Value {
        loop {
            let Ok((event, data)) = self.received.recv_timeout(Duration::from_secs(20)) else {
                panic!("in vain: {what}")
            };
            if is_it(&event, &data) {
                return data;
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

#[test]
fn who_listens_hears_each_change_of_a_node() {
    let lab = Lab::new();
    let daemon = lab.start_after(WITH_NODE, &[]);
    let events = Events::of(&daemon);
    let snapshot = events.wait_for("a snapshot", |_, _| true);
    assert_eq!(snapshot, json!({"nodes": []}));
    daemon.register_node();
    let node = events.wait_for("the new node", |event, _| event == "node");
    assert_eq!((&node["name"], &node["model"]), (&json!("node-00ab01"), &json!("pc-x86-64")));
    assert_eq!(node["state"], "booting");
    let (mut agent, stdin) = up(&daemon);
    let is = |state: &'static str| move |event: &str, data: &Value| event == "node" && data["state"] == state;
    events.wait_for("it is up", is("booted"));
    // Who comes later begins with what there is.
    let late = Events::of(&daemon);
    let snapshot = late.wait_for("a snapshot", |event, _| event == "snapshot");
    assert_eq!((&snapshot["nodes"][0]["mac"], &snapshot["nodes"][0]["state"]), (&node["mac"], &json!("booted")));
    drop(stdin);
    agent.wait().unwrap();
    events.wait_for("it is gone", is("unreachable"));
    daemon.request("POST", "/v1/nodes/node-00ab01/rename", r#"{"name": "kitchen"}"#);
    events.wait_for("its name", |event, data| event == "node" && data["name"] == "kitchen");
    daemon.request("DELETE", "/v1/nodes/kitchen?force=true", "");
    let gone = events.wait_for("its end", |event, _| event == "forgotten");
    assert_eq!(gone, json!({"name": "kitchen", "mac": "52:54:00:00:ab:01"}));
    late.wait_for("its end", |event, _| event == "forgotten");
    // A client has so many places and no more; each is free again when it has gone.
    let others: Vec<_> = (0..14).map(|_| Events::of(&daemon)).collect();
    others.iter().for_each(|one| drop(one.wait_for("a snapshot", |_, _| true)));
    let listen = ["-N", "-m", "1", "http://10.9.8.1/api/v1/events"];
    let output = curl(&daemon, &["-i"]).args(listen).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("no place"), "{text}");
    drop(others);
    lab.wait_until("there is a place", || {
        let output = curl(&daemon, &["-i"]).args(listen).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("text/event-stream")
    });
}

#[test]
fn nothing_is_changed_without_a_token() {
    let lab = Lab::new();
    let daemon = lab.start(&[]);
    daemon.register_node();
    let json = ["-H", "Content-Type: application/json"];
    for (method, path, status, word) in [
        ("POST", "/api/v1/nodes", 405, "can be read"),
        ("DELETE", "/api/v1/images", 405, "can be read"),
        ("PUT", "/metrics", 405, "can be read"),
        ("POST", "/v1/nodes/node-00ab01/rename", 405, "read-only"),
        ("DELETE", "/v1/nodes/node-00ab01?force=true", 405, "read-only"),
    ] {
        let (found, body) = ask(&daemon, &["-X", method, &format!("{NODES}{path}")]);
        assert!(found == status && body.contains(word), "{method} {path}: {found} {body}");
    }
    let rename = ["-d", r#"{"name": "kitchen"}"#, "http://127.0.0.1/v1/nodes/node-00ab01/rename"];
    let bearer = format!("Authorization: Bearer {ADA}");
    for token in [&[][..], &["-H", &bearer]] {
        let (status, body) = ask(&daemon, &[&json[..], token, &rename].concat());
        assert!(status == 401 && body.contains("web.token_file"), "{status} {body}");
    }
    assert_eq!(daemon.request("GET", "/v1/nodes/node-00ab01", "").0, 200);
}

#[test]
fn a_token_is_a_user() {
    let lab = Lab::new();
    let [config, tokens] = ["server.toml", "token"].map(|name| lab.dir.path().join(name));
    std::fs::write(&tokens, format!("ada {ADA}\n")).unwrap();
    let text = format!(
        "[web]\napi = false\nlisten = [\"127.0.0.1:8080\", \"[::1]:8080\"]\ntoken_file = \"{}\"\n[control]\nlisten = \"10.9.8.1:12345\"\n",
        tokens.display()
    );
    std::fs::write(&config, text).unwrap();
    let flags = ["--config", config.to_str().unwrap()];
    let output = lab.run("true;", &flags);
    assert!(!output.status.success() && stderr(&output).contains("are no secret"), "{}", stderr(&output));
    std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o600)).unwrap();
    let daemon = lab.start(&flags);
    daemon.register_node();

    let right = format!("Authorization: Bearer {ADA}");
    let wrong = format!("Authorization: Bearer {}", ADA.replace('0', "1"));
    let basic = format!("Authorization: Basic {ADA}");
    let control = "http://10.9.8.1:12345";
    for url in [&format!("{control}/v1/user"), "http://127.0.0.1:8080/v1/user", "http://[::1]:8080/v1/user"] {
        for refused in [&[][..], &["-H", &wrong], &["-H", &basic], &["-H", "Authorization: Bearer"]] {
            let (status, body) = ask(&daemon, &[refused, &["-i", url]].concat());
            assert!(
                status == 401 && body.to_lowercase().contains("www-authenticate: bearer"),
                "{url} {refused:?} {body}"
            );
        }
        assert_eq!(ask(&daemon, &["-H", &right, url]), (200, r#"{"name":"ada"}"#.into()));
    }
    // The control address tells nothing without one; the web address what all may read.
    for path in ["/api/v1/nodes", "/metrics", "/v1/nodes", "/openapi.json", "/"] {
        assert_eq!(ask(&daemon, &[&format!("{control}{path}")]).0, 401, "{path}");
    }
    assert_eq!(ask(&daemon, &["http://127.0.0.1:8080/api/v1/nodes"]).0, 200);
    // It is switched off for nodes, and on the usual address.
    assert_eq!(ask(&daemon, &[&format!("{NODES}/api/v1/nodes")]).0, 403);
    assert_eq!(curl(&daemon, &[&format!("{WEB}/api/v1/nodes")]).output().unwrap().status.code(), Some(7));

    let name = ["-H", "Content-Type: application/json", "-d", r#"{"name": "kitchen"}"#];
    let rename = format!("{control}/v1/nodes/node-00ab01/rename");
    assert_eq!(ask(&daemon, &[&name[..], &["-H", &wrong, &rename]].concat()).0, 401);
    assert_eq!(daemon.request("GET", "/v1/nodes/node-00ab01", "").0, 200);
    assert_eq!(ask(&daemon, &[&name[..], &["-H", &right, &rename]].concat()).0, 204);
    assert_eq!(daemon.request("GET", "/v1/nodes/kitchen", "").0, 200);
    // What belongs to the token's user: checkpoints, and archives of any length come in.
    let checkpoint = ["-H", "Content-Type: application/json", "-d", r#"{"name": "begun"}"#];
    let checkpoints = format!("{control}/v1/checkpoints");
    assert_eq!(ask(&daemon, &[&checkpoint[..], &["-H", &right, &checkpoints]].concat()).0, 200);
    assert_eq!(daemon.request("GET", "/v1/checkpoints", "").1, "[]", "root has none");
    let tar = lab.dir.path().join("image.tar");
    std::fs::write(&tar, archive("ada/tiny:v1", Some("pc-x86-64"), &[7; 300_000])).unwrap();
    let upload = ["-X", "POST", "-H", &right, "-T", tar.to_str().unwrap()];
    let url = "http://127.0.0.1:8080/v1/images/import";
    let (status, body) = ask(&daemon, &[&upload[..], &[url]].concat());
    assert!(status == 200 && body.contains("imported: docker.io/ada/tiny:v1"), "{status} {body}");
    let (_, metrics) = ask(&daemon, &["http://127.0.0.1:8080/metrics"]);
    let denied = metrics.lines().find_map(|line| line.strip_prefix("walt_web_denied_total ")).unwrap();
    assert_eq!(denied.parse::<u32>().unwrap(), 12 + 5 + 1);
}

#[test]
fn hostile_requests_are_bounded() {
    let lab = Lab::new();
    let daemon = lab.start(&[]);
    let long = "x".repeat(20_000);
    let header = format!("X-Long: {long}");
    let output = curl(&daemon, &["-o", "/dev/null", "-w", "%{http_code}", "-H", &header, &format!("{WEB}/metrics")]);
    assert_eq!(String::from_utf8(output.stdout_of()).unwrap(), "431");
    let path = format!("{WEB}/api/v1/nodes?name={long}");
    assert_ne!(ask(&daemon, &[&path]).0, 200);
    for path in ["/api/v1/nodes?name=%ff", "/api/v1/nodes?=&&&=", "/api/%00", "/api/v1/logs?from=1&to=2&stream=%00"] {
        let (status, body) = ask(&daemon, &["--path-as-is", &format!("{WEB}{path}")]);
        assert!(status < 500, "{path}: {status} {body}");
    }
    // A client that opens connections and says nothing has its share, and others have theirs.
    let silent = "import socket, sys
all = []
for n in range(200):
    s = socket.create_connection(('127.0.0.1', 80), source_address=('127.0.0.2', 0))
    all.append(s)
print('open', flush=True)
sys.stdin.read()";
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{}/ns/net", daemon.child.id())).args(["python3", "-c", silent]);
    let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut word = [0; 5];
    holder.stdout.take().unwrap().read_exact(&mut word).unwrap();
    assert_eq!(ask(&daemon, &[&format!("{WEB}/api/v1/nodes")]).0, 200);
    let (_, metrics) = ask(&daemon, &[&format!("{WEB}/metrics")]);
    assert!(metrics.contains("walt_web_overload_total 72"), "{metrics}");
    holder.kill().unwrap();
    holder.wait().unwrap();
}

trait StdoutOf {
    fn stdout_of(self) -> Vec<u8>;
}

impl StdoutOf for Command {
    fn stdout_of(mut self) -> Vec<u8> {
        self.output().unwrap().stdout
    }
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let lab = Lab::new();
    let daemon = lab.start_after(WITH_NODE, &[]);
    daemon.register_node();
    let (mut node, stdin) = up(&daemon);
    let metrics = || ask(&daemon, &[&format!("{NODES}/metrics")]).1;
    lab.wait_until("the node is up", || metrics().contains("walt_nodes{state=\"booted\"} 1\n"));
    let text = metrics();
    for line in [
        "walt_nodes{state=\"off\"} 0",
        "walt_boot_duration_seconds_count 1",
        "walt_boot_duration_seconds_bucket{le=\"30\"} 1",
        "walt_registry_dropped_total 0",
        "walt_images{state=\"present\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    assert!(text.contains(concat!(
        "walt_build_info{version=\"",
        env!("CARGO_PKG_VERSION"),
        "\",interface=\"nodes\"} 1"
    )));
    check_format(&text);
    let value = |name: &str| -> f64 {
        let found = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        found.trim().parse().unwrap()
    };
    assert!(value("walt_state_dir_free_bytes") > 0.0);
    assert!(value("walt_state_dir_size_bytes") >= value("walt_state_dir_free_bytes"));
    assert!(value("walt_http_requests_total") >= 1.0 && value("walt_nodes_connections_total") >= 1.0);
    let head = curl(&daemon, &["-I", &format!("{NODES}/metrics")]).stdout_of();
    assert!(String::from_utf8_lossy(&head).contains("text/plain; version=0.0.4"));
    drop(stdin);
    node.wait().unwrap();
}

/// Text format 0.0.4: each metric has its help, then its type, then its samples, once, and nothing else is there.
fn check_format(text: &str) {
    assert!(text.ends_with('\n'));
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let (mut seen, mut series) = (Vec::new(), std::collections::BTreeSet::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect(line);
        assert!(is_name(name) && !help.is_empty() && !seen.contains(&name.to_owned()), "{line}");
        seen.push(name.to_owned());
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).expect(name);
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{name} {kind}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        let mut samples = 0;
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            samples += 1;
            let (of, value) = sample.rsplit_once(' ').expect(sample);
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{sample}");
            assert!(series.insert(of.to_owned()), "{of} is there twice");
            let own = of.split('{').next().unwrap();
            let suffix = own.strip_prefix(name).expect(sample);
            let allowed = if kind == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
            assert!(allowed.contains(&suffix), "{sample}");
        }
        assert!(samples > 0, "{name}");
    }
    assert!(seen.len() > 40, "{seen:?}");
}
