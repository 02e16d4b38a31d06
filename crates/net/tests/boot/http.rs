//! HTTP clients.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::site::{CLIENT, Served, Site, noise, run};

const SIZE: usize = 3_000_000;

fn site() -> Site {
    Site::new(|boot, root| {
        fs::write(boot.join("big"), noise(SIZE)).unwrap();
        fs::write(boot.join("empty"), "").unwrap();
        fs::write(boot.join("PC Engines"), "apu").unwrap();
        fs::write(boot.join("start.ipxe"), "#!ipxe\n").unwrap();
        fs::write(root.join("secret"), "secret").unwrap();
    })
}

/// Status and body that curl gets; `headers` also goes before the body with `-i`.
fn curl(site: &Site, path: &str, arguments: &[&str]) -> (String, Vec<u8>) {
    let target = site.target("curl");
    let url = format!("http://{}{path}", site.http);
    let mut command = Command::new("curl");
    command.args(["-sS", "--path-as-is", "-w", "%{http_code}", "-o"]).arg(&target).args(arguments).arg(url);
    let status = String::from_utf8(run(&mut command).stdout).unwrap();
    (status, fs::read(target).unwrap_or_default())
}

#[test]
fn files_come_whole() {
    let mut site = site();
    let (status, body) = curl(&site, "/boot/big", &[]);
    assert_eq!(status, "200");
    assert!(body == noise(SIZE));
    let (path, bytes) = ("/boot/big".to_owned(), SIZE as u64);
    assert_eq!(site.served(), Served { service: "http", path, bytes, error: None });
    assert_eq!(curl(&site, "/boot/empty", &[]), ("200".into(), Vec::new()));
    assert_eq!(site.served().error, None);
    for (path, content) in [
        ("/boot/PC%20Engines", &b"apu"[..]),
        ("/boot/start.ipxe?x=1", b"#!ipxe\n"),
        ("/start.ipxe", b"#!ipxe\n"),
        ("/boot/pc-x86-64.ipxe", b"#!ipxe\n"),
        ("/pxe/undionly.kpxe", b"loader"),
        ("/boot/pxe/walt.ipxe", boot::FIRST_STAGE.as_bytes()),
    ] {
        assert_eq!(curl(&site, path, &[]), ("200".into(), content.to_vec()), "{path}");
    }
}

#[test]
fn rfc9110_section_14_parts_of_a_file() {
    let site = site();
    let all = noise(SIZE);
    for (range, expected) in [
        ("0-0", &all[..1]),
        ("1000-300999", &all[1000..301_000]),
        ("2999999-", &all[SIZE - 1..]),
        ("-10", &all[SIZE - 10..]),
        ("2999990-9999999", &all[SIZE - 10..]),
    ] {
        let (status, body) = curl(&site, "/boot/big", &["-r", range]);
        assert!(status == "206" && body == expected, "{range}: {status}");
    }
    let (status, body) = curl(&site, "/boot/big", &["-i", "-r", "3000000-"]);
    let head = String::from_utf8_lossy(&body).to_lowercase();
    assert!(status == "416" && head.contains("content-range: bytes */3000000"), "{head}");
    let (_, body) = curl(&site, "/boot/big", &["-i", "-r", "5-6"]);
    assert!(
        String::from_utf8_lossy(&body[..400.min(body.len())])
            .to_lowercase()
            .contains("content-range: bytes 5-6/3000000")
    );
    // A download that was cut goes on where it stopped.
    let target = site.target("resumed");
    fs::write(&target, &all[..1_234_567]).unwrap();
    let url = format!("http://{}/boot/big", site.http);
    run(Command::new("curl").args(["-sS", "-C", "-", "-o"]).arg(&target).arg(url));
    assert!(fs::read(target).unwrap() == all);
}

#[test]
fn head_tells_size_and_tag_and_conditions_hold() {
    let site = site();
    let (status, body) = curl(&site, "/boot/big", &["-I"]);
    assert_eq!(status, "200");
    let head = String::from_utf8(body).unwrap().to_lowercase();
    assert!(head.contains("content-length: 3000000") && head.contains("accept-ranges: bytes"), "{head}");
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().trim().to_owned();
    let date = head.lines().find_map(|line| line.strip_prefix("last-modified: ")).unwrap().trim().to_owned();
    assert_eq!(curl(&site, "/boot/big", &["-H", &format!("If-None-Match: {tag}")]).0, "304");
    assert_eq!(curl(&site, "/boot/big", &["-H", "If-None-Match: \"other\""]).0, "200");
    assert!(date.ends_with("gmt"));
    let since = date.replace("gmt", "GMT");
    let capital: String = since.split(' ').map(|word| format!("{}{} ", word[..1].to_uppercase(), &word[1..])).collect();
    assert_eq!(curl(&site, "/boot/big", &["-H", &format!("If-Modified-Since: {}", capital.trim())]).0, "304");
}

#[test]
fn what_cannot_be_served_is_said() {
    let mut site = site();
    for path in ["/boot/missing", "/boot/../../secret", "/boot/%2e%2e/%2e%2e/secret", "/boot/..%2f..%2fsecret", "/boot"]
    {
        assert_eq!(curl(&site, path, &[]).0, "404", "{path}");
        assert_eq!(site.served().error.as_deref(), Some("not found"));
    }
    let (status, body) = curl(&site, "/boot/big", &["-i", "-X", "PUT"]);
    assert!(status == "405" && String::from_utf8_lossy(&body).to_lowercase().contains("allow: get, head"));
    let mac = site.exports.by_ip(CLIENT).unwrap().mac;
    site.exports.update(mac, |node| node.image = None);
    let (status, body) = curl(&site, "/boot/big", &["-i"]);
    assert!(status == "503" && !String::from_utf8_lossy(&body).to_lowercase().contains("retry-after"));
    site.exports.remove(mac);
    assert_eq!(curl(&site, "/boot/big", &[]).0, "403");
    assert_eq!(curl(&site, "/boot/pxe/undionly.kpxe", &[]).0, "200");
    assert_eq!(site.http_counters.unavailable.load(Ordering::Relaxed), 7);
}

#[test]
fn connections_are_kept_and_reused() {
    let site = site();
    let url = |name: &str| format!("http://{}/boot/{name}", site.http);
    run(Command::new("curl").args([
        "-sS",
        &url("big"),
        &url("empty"),
        &url("big"),
        "-o",
        "/dev/null",
        "-o",
        "/dev/null",
        "-o",
        "/dev/null",
    ]));
    assert_eq!(site.http_counters.connections.load(Ordering::Relaxed), 1);
    assert_eq!(site.http_counters.requests.load(Ordering::Relaxed), 3);
}

#[test]
fn a_cut_transfer_is_reported_as_such() {
    let mut site = Site::new(|boot, _| fs::write(boot.join("huge"), noise(30_000_000)).unwrap());
    let mut stream = TcpStream::connect(site.http).unwrap();
    stream.write_all(b"GET /boot/huge HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    drop(stream);
    let served = site.served();
    assert_eq!(served.error.as_deref(), Some("connection closed"));
    assert!(served.bytes < 30_000_000);
}

#[test]
fn connections_of_one_client_are_bounded() {
    let site = site();
    let held: Vec<_> = (0..32).map(|_| TcpStream::connect(site.http).unwrap()).collect();
    // Each of them is in its place before the one too many comes.
    for mut stream in &held {
        stream.write_all(b"HEAD /boot/empty HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 12]).unwrap();
    }
    let mut refused = TcpStream::connect(site.http).unwrap();
    refused.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(refused.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(site.http_counters.overload.load(Ordering::Relaxed), 1);
    drop(held);
    // And the places are free again.
    for _ in 0..100 {
        let mut stream = TcpStream::connect(site.http).unwrap();
        let _ = stream.write_all(b"HEAD /boot/empty HTTP/1.1\r\nHost: x\r\n\r\n");
        if stream.read_exact(&mut [0; 12]).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("no place became free");
}

#[test]
fn endless_heads_are_refused() {
    let site = site();
    let mut stream = TcpStream::connect(site.http).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET /boot/big HTTP/1.1\r\nX: ").unwrap();
    let _ = stream.write_all(&[b'a'; 40_000]);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", answer.escape_ascii());
    assert_eq!(curl(&site, "/boot/empty", &[]).0, "200");
}
