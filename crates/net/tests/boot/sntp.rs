//! SNTP clients.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Runtime;
use walt_net::sntp::{Counters, Server};
use wire::sntp::{ERA_START, Mode, NtpTime, Packet, measure};

use crate::site::try_run;

fn serve() -> (Runtime, SocketAddrV4, Arc<Counters>) {
    let runtime = Runtime::new().unwrap();
    let inside = runtime.enter();
    let server = Server::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, counters) = (server.address(), server.counters());
    runtime.spawn(async { server.run().await.map(drop) });
    drop(inside);
    (runtime, address, counters)
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

#[test]
fn an_exchange_measures_the_clock() {
    let (_runtime, address, counters) = serve();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.connect(address).unwrap();
    let request = Packet::request(NtpTime(0x0123_4567_89ab_cdef));
    let sent = now();
    socket.send(&request.encode()).unwrap();
    let mut buffer = [0; 100];
    let len = socket.recv(&mut buffer).unwrap();
    let received = now();
    assert_eq!(len, 48);
    let answer = Packet::parse(&buffer[..len]).unwrap();
    assert_eq!(answer.mode, Mode::Server);
    let times = answer.accept(request.transmit).unwrap();
    assert!(sent <= times.receive && times.receive <= times.transmit && times.transmit <= received);
    assert!(measure(sent, times, received).offset.abs() <= received - sent);
    // The same exchange as a machine sees it whose clock stands in 2001.
    let off = 978_307_200_000_000_000 - ERA_START;
    let measured = measure(sent + off, times, received + off);
    assert!((measured.offset + off).abs() <= received - sent);
    assert_eq!(counters.packets.load(Ordering::Relaxed), 1);
}

#[test]
fn nonsense_is_counted_and_not_answered() {
    let (_runtime, address, counters) = serve();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut server_packet = Packet::request(NtpTime(1)).encode();
    server_packet[0] = 0x24;
    for datagram in [&b""[..], b"x", &[0x23; 47], &server_packet, &[0xff; 48], &[0x23 | 0x38; 48]] {
        socket.send_to(datagram, address).unwrap();
    }
    assert!(socket.recv(&mut [0; 100]).is_err());
    assert_eq!(counters.malformed.load(Ordering::Relaxed), 6);
    assert_eq!(counters.packets.load(Ordering::Relaxed), 6);
}

#[test]
fn chrony_takes_our_time() {
    let (_runtime, address, counters) = serve();
    // `-Q` measures once, prints the offset, and sets nothing.
    let server = format!("server {} port {} iburst maxsamples 4", address.ip(), address.port());
    let directory = tempfile::TempDir::new().unwrap();
    let pid = format!("pidfile {}/pid", directory.path().display());
    // Its own user is there only where its package is installed.
    let user = String::from_utf8(try_run(Command::new("id").arg("-un")).stdout).unwrap();
    let options = ["-Q", "-U", "-u", user.trim(), "-t", "20", &server, "port 0", "cmdport 0", &pid, "bindcmdaddress /"];
    let output = try_run(Command::new(chronyd()).args(options));
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let offset = said.lines().find_map(|line| line.split("wrong by ").nth(1)?.split(' ').next()?.parse::<f64>().ok());
    assert!(offset.is_some_and(|seconds| seconds.abs() < 0.02), "{said}");
    assert!(counters.answered.load(Ordering::Relaxed) >= 1);
}

/// The system's, or the one that `./x test` unpacks beside what cargo builds.
fn chronyd() -> PathBuf {
    let installed = PathBuf::from("/usr/sbin/chronyd");
    // <target>/debug/deps/<this test>
    let unpacked = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("peers/usr/sbin/chronyd");
    if installed.exists() { installed } else { unpacked }
}
