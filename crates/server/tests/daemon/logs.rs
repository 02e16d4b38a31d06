//! Logs and checkpoints, through the control API.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{Lab, Running, stderr};

/// What there is, as `issuer stream line`.
fn history(daemon: &Running, query: &str) -> Vec<String> {
    let (status, body) = daemon.request("GET", &format!("/v1/logs?history=full&{query}"), "");
    assert_eq!(status, 200, "{body}");
    let lines = body.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |line: &Value, field: &str| line[field].as_str().unwrap().to_owned();
    lines.map(|line| format!("{} {} {}", text(&line, "issuer"), text(&line, "stream"), text(&line, "line"))).collect()
}

#[test]
fn what_happens_is_logged_and_seen_while_it_happens() {
    let lab = Lab::new();
    let mut daemon = lab.start(&[]);
    let mut present = UnixStream::connect(&daemon.socket).unwrap();
    present.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(present, "GET /v1/logs?realtime=true&streams=platform HTTP/1.1\r\nHost: walt\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut present = BufReader::new(present).lines().map_while(Result::ok);
    assert!(present.any(|line| line.is_empty()), "the head of the answer");
    daemon.register("01", "pc-x86-64");
    assert!(present.any(|line| line.contains("node-00ab01 is a new node, a pc-x86-64")), "it is told at once");

    let platform = history(&daemon, "issuers=server&streams=^platform$");
    assert!(platform.iter().any(|line| line.contains("is a new node, a pc-x86-64")), "{platform:?}");
    assert!(history(&daemon, "issuers=server&lines=no%20such%20line").is_empty());
    assert!(history(&daemon, "issuers=node-00ab01").is_empty(), "it has logged nothing itself");
    let own = history(&daemon, "issuers=node-00ab01,server&streams=daemon&lines=ready");
    assert!(own.iter().any(|line| line.contains("INFO ready")), "{own:?}");
    for (query, status, word) in [
        ("history=yesterday", 400, "is not a range"),
        ("history=begun:", 400, "you have no checkpoint \\\"begun\\\""),
        ("history=full&lines=(", 400, "is no regular expression"),
        ("history=full&issuers=nobody", 404, "there is no node"),
        ("history=full&issuers=my-nodes", 404, "no node boots an image of yours (root)"),
    ] {
        let (found, body) = daemon.request("GET", &format!("/v1/logs?{query}"), "");
        assert!(found == status && body.contains(word), "{query}: {found} {body}");
    }

    daemon.signal("TERM");
    assert!(daemon.child.wait().unwrap().success());
    let daemon = lab.start(&[]);
    assert_eq!(history(&daemon, "issuers=server&streams=^platform$")[..platform.len()], platform);
}

#[test]
fn checkpoints_begin_and_end_ranges() {
    let lab = Lab::new();
    let mut daemon = lab.start(&[]);
    let add = |daemon: &Running, name: &str, at_us: Option<i64>| {
        let body = json!({"name": name, "timestamp_us": at_us}).to_string();
        daemon.request("POST", "/v1/checkpoints", &body)
    };
    assert_eq!(add(&daemon, "begun", None).0, 200);
    daemon.register("01", "pc-x86-64");
    assert_eq!(add(&daemon, "ended", None).0, 200);
    assert_eq!(add(&daemon, "long-ago", Some(1_000_000)).0, 200);
    daemon.register("02", "pc-x86-64");
    let new_nodes = |daemon: &Running, range: &str| {
        let path = format!("/v1/logs?history={range}&streams=platform&lines=is%20a%20new%20node");
        daemon.request("GET", &path, "").1.lines().count()
    };
    for (range, count) in [("begun:ended", 1), ("ended:", 1), ("begun:", 2), ("long-ago:begun", 0), ("full", 2)] {
        assert_eq!(new_nodes(&daemon, range), count, "{range}");
    }
    for (name, word) in [("begun", "already"), ("-5m", "is not a name"), ("full", "means a range")] {
        let (status, body) = add(&daemon, name, None);
        assert!(status == 400 && body.contains(word), "{status} {body}");
    }
    daemon.signal("KILL");
    daemon.child.wait().unwrap();
    let daemon = lab.start(&[]);
    let names = || -> Vec<String> {
        let all: Value = serde_json::from_str(&daemon.request("GET", "/v1/checkpoints", "").1).unwrap();
        all.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(), ["long-ago", "begun", "ended"]);
    assert_eq!(daemon.request("DELETE", "/v1/checkpoints/ended", "").0, 204);
    assert_eq!(daemon.request("DELETE", "/v1/checkpoints/ended", "").0, 404);
    assert_eq!(names(), ["long-ago", "begun"]);
}

#[test]
fn lines_that_can_not_be_read_do_not_look_like_the_end() {
    let lab = Lab::new();
    let mut daemon = lab.start(&[]);
    daemon.signal("TERM");
    assert!(daemon.child.wait().unwrap().success());
    let mut db = rusqlite::Connection::open(lab.dir.path().join("state/walt.db")).unwrap();
    let lines = db.transaction().unwrap();
    for n in 1..=3000 {
        // In the third batch that is read there is one of nobody.
        let issuer = if n == 2500 { "nobody" } else { "02:00:00:00:00:01" };
        let sql = "INSERT INTO logs (issuer, stream, at_us, came_s, line) VALUES (?, 'app', ?, 4000000000, ?)";
        lines.execute(sql, rusqlite::params![issuer, n, format!("line {n}")]).unwrap();
    }
    lines.commit().unwrap();
    drop(db);
    let daemon = lab.start(&[]);
    let mut curl = Command::new("curl");
    curl.arg("--unix-socket").arg(&daemon.socket).args(["-sS", "http://walt/v1/logs?history=full&streams=^app$"]);
    let output = curl.output().unwrap();
    // curl(1): 18 is a partial file.
    assert_eq!(output.status.code(), Some(18), "{}", stderr(&output));
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 2000);
    let (_, logged) = daemon.request("GET", "/v1/logs?history=-1h:&issuers=server&lines=reading%20logs%20failed", "");
    assert!(logged.contains("reading logs failed"), "the daemon's own log says why: {logged}");
}
