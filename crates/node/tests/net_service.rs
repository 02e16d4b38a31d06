//! The network service, asked by its server and by a stranger. `--dry-run`: nothing is rebooted.
//!
//! It runs programs of an image, so it must be root to enter one: these tests run as root.

mod peer;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use peer::{Running, agent};
use wire::node::{Answer, Request};

/// An image with busybox and the given shell scripts in `/bin`.
struct Image(PathBuf);

impl Image {
    fn new(name: &str, scripts: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("walt-net-service-{name}-{}", std::process::id()));
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("dev")).unwrap();
        fs::copy("/bin/busybox", root.join("bin/sh")).expect("busybox-static is installed");
        for (name, script) in scripts {
            let path = root.join("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self(root)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The service for `server` on a free port of the loopback interface.
fn start(server: Ipv4Addr, image: &Image) -> (Running, SocketAddr) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = agent("walt-net-service")
        .args(["--server", &server.to_string(), "--port", &port.to_string(), "--dry-run"])
        .args(["--root", image.0.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    (Running(child), SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// Sends `text` and returns all that comes back.
fn talk(address: SocketAddr, text: &str) -> String {
    let start = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) => assert!(start.elapsed() < peer::LIMIT, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    stream.set_read_timeout(Some(peer::LIMIT)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    // A service that closes on a stranger may reset the connection.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn requests_of_the_server_are_answered() {
    let image = Image::new("requests", &[("blink", "echo $1 >> /blinked; test $1 = 1")]);
    let (_child, address) = start(Ipv4Addr::LOCALHOST, &image);
    assert_eq!(talk(address, &Request::Ping.encode()), "OK\n");
    assert_eq!(talk(address, &Request::Blink(true).encode()), "OK\n");
    let failed = talk(address, &Request::Blink(false).encode());
    assert!(
        matches!(Answer::parse(failed.trim()), Ok(Answer::Ko(reason)) if reason.contains("/bin/blink")),
        "{failed}"
    );
    assert_eq!(fs::read_to_string(image.0.join("blinked")).unwrap(), "1\n0\n");
    let dmesg = talk(address, &Request::Dmesg.encode());
    assert!(dmesg.starts_with("OK\n<"), "{dmesg:.80}");
    for text in ["", "PING\n", "MODE single\nFOO\n", "MODE single\n", &"x".repeat(10_000)] {
        let answer = talk(address, text);
        assert!(answer.starts_with("KO ") && answer.ends_with('\n'), "{text:.20}: {answer}");
    }
}

#[test]
fn an_image_without_blink_says_so() {
    let image = Image::new("no-blink", &[]);
    let (_child, address) = start(Ipv4Addr::LOCALHOST, &image);
    assert_eq!(talk(address, &Request::Blink(true).encode()), "KO this image has no /bin/blink\n");
}

#[test]
fn a_stranger_gets_no_answer() {
    let image = Image::new("stranger", &[]);
    // The server is another address of the loopback network than the one that we come from.
    let (_child, address) = start(Ipv4Addr::new(127, 0, 0, 2), &image);
    assert_eq!(talk(address, &Request::Ping.encode()), "");
    assert_eq!(talk(address, &Request::Reboot.encode()), "");
}

#[test]
fn a_reboot_is_the_images_own_first_and_then_by_force() {
    for (name, scripts, ran) in [
        (
            "reboot-1",
            &[("walt-reboot", "echo own > /ran"), ("walt-network-reboot", "echo network > /ran")][..],
            "own\n",
        ),
        ("reboot-2", &[("walt-network-reboot", "echo network > /ran; exit 1")], "network\n"),
        ("reboot-3", &[], ""),
    ] {
        let image = Image::new(name, scripts);
        let (mut child, address) = start(Ipv4Addr::LOCALHOST, &image);
        assert_eq!(talk(address, &Request::Reboot.encode()), "OK\n");
        assert_eq!(peer::first_line(child.0.stdout.take().unwrap()), "REBOOT\n");
        assert_eq!(fs::read_to_string(image.0.join("ran")).unwrap_or_default(), ran);
    }
}
