//! The bootup notification against an ssh server that comes late and a WalT server that goes away.

mod peer;

use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::thread;
use std::time::Duration;

use peer::{Running, Said, Server, agent};

#[test]
fn the_server_is_told_after_ssh_answers_and_again_when_the_connection_was_lost() {
    let server = Server::start();
    // Nobody accepts there yet.
    let ssh = TcpListener::bind("127.0.0.1:0").unwrap();
    let ssh_address = ssh.local_addr().unwrap();
    drop(ssh);
    let root = std::env::temp_dir().join(format!("walt-notify-{}", std::process::id()));
    fs::create_dir_all(&root).unwrap();
    let child = agent("walt-notify-bootup")
        .args(["--server", &server.address.to_string(), "--ssh", &ssh_address.to_string(), "--keep-alive", "1"])
        .args(["--root", root.to_str().unwrap()])
        .spawn()
        .unwrap();
    let child = Running(child);
    assert!(server.said.recv_timeout(Duration::from_secs(1)).is_err(), "told before ssh answers");

    let ssh = TcpListener::bind(ssh_address).unwrap();
    thread::spawn(move || {
        for stream in ssh.incoming() {
            let _ = stream.unwrap().write_all(b"SSH-2.0-test\r\n");
        }
    });
    assert_eq!(server.next(), Said::Booted);
    assert_eq!(server.next(), Said::KeepAlive);
    assert_eq!(server.next(), Said::KeepAlive);

    server.connection().shutdown(Shutdown::Both).unwrap();
    assert_eq!(server.next(), Said::End);
    assert_eq!(server.next(), Said::Booted);
    drop(child);
    let ended = (0..50).any(|_| server.next() == Said::End);
    assert!(ended, "the end of the notifier closes its connection");
    fs::remove_dir_all(root).unwrap();
}
