//! The watchdog against an NFS server that answers, falls silent, comes back, or has forgotten it.

mod peer;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use peer::{Running, agent};
use wire::nfs3::{FileAttr, FileType, encode_attributes};
use wire::rpc::{AcceptStat, Call, encode_accepted};
use wire::xdr::{Reader, Writer};
use wire::{mount, nfs3, record};

/// What the server does with GETATTR.
const ANSWERS: u32 = 0;
const SILENT: u32 = 1;
const STALE: u32 = 2;

const HANDLE: &[u8] = b"the root's handle";
const PATH: &[u8] = b"/nodes/127.0.0.1/fs";

/// A server of MNT and GETATTR for one share, on one port.
struct Server {
    address: SocketAddr,
    mood: Arc<AtomicU32>,
    calls: Arc<AtomicU32>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, calls) = (Arc::new(AtomicU32::new(ANSWERS)), Arc::new(AtomicU32::new(0)));
        let shared = (Arc::clone(&mood), Arc::clone(&calls));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                thread::spawn(move || serve(stream.unwrap(), &shared.0, &shared.1));
            }
        });
        Self { address, mood, calls }
    }
}

fn serve(mut stream: TcpStream, mood: &AtomicU32, calls: &AtomicU32) {
    let mut buffer = Vec::new();
    let mut piece = [0; 1024];
    loop {
        while let Ok(Some(one)) = record::next_record(&buffer, 4096) {
            let mut reader = Reader::new(&one.message);
            let call = Call::decode(&mut reader).unwrap();
            let mut out = Writer::new();
            out.u32(0);
            encode_accepted(&mut out, call.xid, AcceptStat::Success);
            match (call.program, call.procedure) {
                (mount::PROGRAM, mount::MNT) => {
                    assert_eq!(mount::decode_path(&mut reader).unwrap(), PATH);
                    mount::encode_mounted(&mut out, HANDLE);
                }
                (nfs3::PROGRAM, nfs3::procedure::GETATTR) => {
                    assert_eq!(reader.opaque(64).unwrap(), HANDLE);
                    calls.fetch_add(1, Ordering::SeqCst);
                    match mood.load(Ordering::SeqCst) {
                        ANSWERS => encode_attributes(&mut out, &root()),
                        STALE => out.u32(70),
                        _ => out.truncate(0),
                    }
                }
                other => panic!("unexpected call {other:?}"),
            }
            let taken = one.taken;
            buffer.drain(..taken);
            if !out.is_empty() {
                out.set_u32(0, record::header(out.len() - 4));
                let _ = stream.write_all(out.bytes());
            }
        }
        match stream.read(&mut piece) {
            Ok(length @ 1..) => buffer.extend_from_slice(&piece[..length]),
            _ => return,
        }
    }
}

fn root() -> FileAttr {
    let mut bytes = Writer::new();
    bytes.u32(2);
    for _ in 1..FileAttr::SIZE / 4 {
        bytes.u32(1);
    }
    let attr = FileAttr::decode(&mut Reader::new(bytes.bytes())).unwrap();
    assert_eq!(attr.kind, FileType::Directory);
    attr
}

fn watch(server: &Server, grace: u32) -> (Running, ChildStdout) {
    let port = server.address.port();
    let mut child = agent("walt-watchdog")
        .args(["--server", &Ipv4Addr::LOCALHOST.to_string(), "--path", std::str::from_utf8(PATH).unwrap()])
        .args(["--options", &format!("ro,vers=3,port={port},mountport={port},addr=127.0.0.1")])
        .args(["--grace", &grace.to_string(), "--dry-run"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    (Running(child), output)
}

fn wait_for_calls(server: &Server, more: u32) {
    let (start, enough) = (Instant::now(), server.calls.load(Ordering::SeqCst) + more);
    while server.calls.load(Ordering::SeqCst) < enough {
        assert!(start.elapsed() < peer::LIMIT, "the watchdog does not ask");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for `REBOOT`; says how long it took.
fn reboot(output: ChildStdout) -> Duration {
    let start = Instant::now();
    assert_eq!(peer::first_line(output), "REBOOT\n");
    start.elapsed()
}

#[test]
fn a_server_that_falls_silent_costs_the_boot_after_the_grace_time() {
    let server = Server::start();
    let (_child, output) = watch(&server, 3);
    wait_for_calls(&server, 2);
    server.mood.store(SILENT, Ordering::SeqCst);
    let time = reboot(output);
    assert!((2..12).contains(&time.as_secs()), "{time:?}");
}

#[test]
fn a_stale_root_is_no_answer() {
    let server = Server::start();
    let (_child, output) = watch(&server, 2);
    wait_for_calls(&server, 2);
    server.mood.store(STALE, Ordering::SeqCst);
    reboot(output);
}

#[test]
fn a_server_that_is_never_there_costs_the_boot() {
    let server = Server::start();
    // A port that was just free.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_child, output) = watch(&Server { address: free, ..server }, 2);
    reboot(output);
}

#[test]
fn a_server_that_comes_back_in_time_costs_nothing() {
    let server = Server::start();
    let (mut child, _output) = watch(&server, 6);
    wait_for_calls(&server, 1);
    for _ in 0..2 {
        server.mood.store(SILENT, Ordering::SeqCst);
        thread::sleep(Duration::from_secs(3));
        server.mood.store(ANSWERS, Ordering::SeqCst);
        wait_for_calls(&server, 3);
    }
    assert_eq!(child.0.try_wait().unwrap(), None, "the watchdog gave up");
}
