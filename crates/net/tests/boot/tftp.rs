//! TFTP clients.

use std::fs;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wire::tftp::{ErrorCode, Mode, Options, Packet, Request};

use crate::lossy::Lossy;
use crate::site::{CLIENT, Served, Site, noise, run, try_run};

#[derive(Clone, Copy, Debug)]
enum Client {
    /// tftp-hpa, which knows no options.
    Hpa,
    /// atftp with these options.
    Atftp(&'static [(&'static str, &'static str)]),
    /// busybox with this block size.
    Busybox(&'static str),
    /// curl with this block size.
    Curl(&'static str),
}

impl Client {
    fn fetch(self, server: SocketAddrV4, file: &str, target: &Path) {
        let (host, port) = (server.ip().to_string(), server.port().to_string());
        let target = target.to_str().unwrap();
        match self {
            Self::Hpa => {
                run(Command::new("tftp").args(["-m", "binary", &host, &port, "-c", "get", file, target]));
            }
            Self::Atftp(options) => {
                let mut command = Command::new("atftp");
                for (name, value) in options {
                    command.arg("--option").arg(format!("{name} {value}"));
                }
                run(command.args(["--get", "--remote-file", file, "--local-file", target, &host, &port]));
            }
            Self::Busybox(blksize) => {
                run(Command::new("busybox").args(["tftp", "-g", "-b", blksize, "-r", file, "-l", target, &host, &port]));
            }
            Self::Curl(blksize) => {
                let url = format!("tftp://{host}:{port}/{file}");
                run(Command::new("curl").args(["-sS", "--tftp-blksize", blksize, "-o", target, &url]));
            }
        }
    }
}

fn fetch_and_compare(site: &mut Site, client: Client, file: &str) {
    let expected = fs::read(site.directory.path().join("root/boot/pc-x86-64").join(file)).unwrap();
    let target = site.target(file);
    let begin = Instant::now();
    client.fetch(site.tftp, file, &target);
    let seconds = begin.elapsed().as_secs_f64();
    let got = fs::read(&target).unwrap();
    assert!(got == expected, "{client:?} {file}: {} of {} bytes, or other ones", got.len(), expected.len());
    let bytes = expected.len() as u64;
    let served = site.served();
    assert_eq!(served, Served { service: "tftp", path: served.path.clone(), bytes, error: None }, "{client:?}");
    assert_eq!(served.path.trim_start_matches('/'), file);
    if bytes > 10_000_000 {
        eprintln!("{client:?}: {:.1} MB/s", bytes as f64 / 1e6 / seconds);
    }
}

#[test]
fn files_around_the_block_size_are_identical() {
    let sizes = [0, 1, 511, 512, 513, 1467, 1468, 1469, 100_000];
    let mut site = Site::new(|boot, _| {
        for size in sizes {
            fs::write(boot.join(size.to_string()), noise(size)).unwrap();
        }
    });
    for size in sizes {
        for client in [
            Client::Hpa,
            Client::Atftp(&[]),
            Client::Atftp(&[("tsize", "0"), ("blksize", "1468"), ("timeout", "3")]),
            Client::Busybox("512"),
            Client::Busybox("1468"),
            Client::Busybox("65464"),
            Client::Curl("512"),
            Client::Curl("1468"),
        ] {
            // curl up to 8.5 takes a file without data for a failure.
            if !(matches!(client, Client::Curl(_)) && size == 0) {
                fetch_and_compare(&mut site, client, &size.to_string());
            }
        }
    }
}

#[test]
fn block_numbers_roll_over() {
    // The last block has number 65535; 0, and is empty; 0, and is not.
    let sizes = [65535 * 512 - 1, 65535 * 512, 65535 * 512 + 1];
    let mut site = Site::new(|boot, _| {
        for size in sizes {
            fs::write(boot.join(size.to_string()), noise(size)).unwrap();
        }
    });
    for size in sizes {
        fetch_and_compare(&mut site, Client::Hpa, &size.to_string());
        fetch_and_compare(&mut site, Client::Atftp(&[("windowsize", "16")]), &size.to_string());
    }
}

#[test]
fn a_hundred_megabytes_are_identical() {
    let mut site = Site::new(|boot, _| fs::write(boot.join("big"), noise(100_000_000)).unwrap());
    for client in [
        Client::Busybox("1468"),
        Client::Curl("1468"),
        Client::Atftp(&[("blksize", "1428"), ("windowsize", "8")]),
        Client::Atftp(&[("blksize", "1428"), ("windowsize", "64")]),
        Client::Atftp(&[("blksize", "65464"), ("tsize", "0")]),
    ] {
        fetch_and_compare(&mut site, client, "big");
    }
}

#[test]
fn rfc7440_every_window_size_is_served() {
    let mut site = Site::new(|boot, _| fs::write(boot.join("f"), noise(150_000)).unwrap());
    for windowsize in
        ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "15", "16", "17", "31", "32", "33", "63", "64"]
    {
        let options: &'static [_] = vec![("windowsize", windowsize)].leak();
        fetch_and_compare(&mut site, Client::Atftp(options), "f");
    }
}

#[test]
fn old_names_and_symlinks_lead_to_the_images_files() {
    let mut site = Site::new(|boot, root| {
        fs::write(boot.join("start.ipxe"), "#!ipxe\n").unwrap();
        fs::write(boot.join("PC Engines"), "apu").unwrap();
        fs::write(root.join("vmlinuz"), "linux").unwrap();
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(root.join("etc/shadow"), "secret").unwrap();
        symlink("/vmlinuz", boot.join("kernel")).unwrap();
        symlink("../../../../../vmlinuz", boot.join("kernel-2")).unwrap();
        symlink("/etc/shadow/", boot.join("nowhere")).unwrap();
        symlink("loop", boot.join("loop")).unwrap();
    });
    for (path, content) in [
        ("start.ipxe", "#!ipxe\n"),
        ("//start.ipxe", "#!ipxe\n"),
        ("boot/pc-x86-64.ipxe", "#!ipxe\n"),
        ("kernel", "linux"),
        ("kernel-2", "linux"),
        ("PC Engines", "apu"),
        ("pxe/undionly.kpxe", "loader"),
        ("pxe/walt.ipxe", boot::FIRST_STAGE),
    ] {
        let target = site.target("file");
        Client::Busybox("512").fetch(site.tftp, path, &target);
        assert_eq!(fs::read_to_string(&target).unwrap(), content, "{path}");
        assert_eq!(site.served().error, None);
    }
    for path in ["../../etc/shadow", "../../../../../../../etc/shadow", "nowhere", "boot", "pxe/../../etc/shadow"] {
        let (code, _) = refusal(site.tftp, path);
        assert_eq!(code, ErrorCode::NotFound, "{path}");
        assert_eq!(site.served().error.as_deref(), Some("not found"));
    }
    assert_eq!(refusal(site.tftp, "loop").0, ErrorCode::AccessViolation);
    assert_eq!(refusal(site.tftp, "/").0, ErrorCode::AccessViolation);
}

/// The ERROR that a plain read request brings.
fn refusal(server: SocketAddrV4, path: &str) -> (ErrorCode, String) {
    let request = Request { path: path.as_bytes(), mode: Mode::Octet, options: Options::default() };
    answer(server, &Packet::Read(request).to_vec())
}

fn answer(server: SocketAddrV4, datagram: &[u8]) -> (ErrorCode, String) {
    let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.send_to(datagram, server).unwrap();
    let mut buffer = [0; 600];
    let len = socket.recv(&mut buffer).unwrap();
    match Packet::parse(&buffer[..len]).unwrap() {
        Packet::Error { code, message } => (code, String::from_utf8(message.to_vec()).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_served_is_said_at_once() {
    let mut site = Site::new(|boot, _| fs::write(boot.join("kernel"), "linux").unwrap());
    let mac = site.exports.by_ip(CLIENT).unwrap().mac;
    assert!(site.exports.update(mac, |node| node.image = None));
    let begin = Instant::now();
    assert_eq!(refusal(site.tftp, "kernel"), (ErrorCode::Undefined, "not ready".into()));
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert_eq!(site.served().error.as_deref(), Some("not ready"));
    site.exports.remove(mac);
    let (code, text) = refusal(site.tftp, "kernel");
    assert_eq!((code, text.as_str()), (ErrorCode::AccessViolation, "127.0.0.1 is not a node of this server"));

    let write = Request { path: b"kernel", mode: Mode::Octet, options: Options::default() };
    assert_eq!(answer(site.tftp, &Packet::Write(write.clone()).to_vec()).0, ErrorCode::AccessViolation);
    let ascii = Request { mode: Mode::NetAscii, ..write };
    assert!(answer(site.tftp, &Packet::Read(ascii).to_vec()).1.contains("octet"));
    assert_eq!(site.tftp_counters.refused.load(Ordering::Relaxed), 2);

    // tftp-hpa shows the text to its user.
    let (host, port) = (site.tftp.ip().to_string(), site.tftp.port().to_string());
    let output = try_run(Command::new("tftp").args(["-m", "binary", &host, &port, "-c", "get", "kernel", "/dev/null"]));
    let said = [output.stdout, output.stderr].concat();
    assert!(String::from_utf8_lossy(&said).contains("not a node"), "{}", said.escape_ascii());
}

#[test]
fn nonsense_is_counted_and_not_answered() {
    let site = Site::new(|boot, _| fs::write(boot.join("f"), "x").unwrap());
    let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for datagram in
        [&b""[..], b"\0", b"\0\x04\0\x01", b"\0\x05\0\x01no\0", b"\0\x03\0\x01data", b"\xff\xff", b"\0\x01f"]
    {
        socket.send_to(datagram, site.tftp).unwrap();
    }
    assert!(socket.recv(&mut [0; 600]).is_err());
    assert_eq!(site.tftp_counters.malformed.load(Ordering::Relaxed), 7);
}

#[test]
fn rfc2349_a_size_probe_frees_the_port_for_the_next_request() {
    let mut site = Site::new(|boot, _| fs::write(boot.join("f"), noise(2000)).unwrap());
    let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let options = Options { tsize: Some(0), ..Options::default() };
    let request = Packet::Read(Request { path: b"f", mode: Mode::Octet, options }).to_vec();
    let mut buffer = [0; 600];
    // UEFI: the very same request follows the ERROR at once, from the same port.
    for _ in 0..50 {
        socket.send_to(&request, site.tftp).unwrap();
        let (len, transfer) = socket.recv_from(&mut buffer).unwrap();
        let expected = Options { tsize: Some(2000), ..options };
        assert_eq!(Packet::parse(&buffer[..len]), Ok(Packet::OptionAck(expected)));
        let abort = Packet::Error { code: ErrorCode::OptionsRefused, message: b"User aborted" };
        socket.send_to(&abort.to_vec(), transfer).unwrap();
    }
    // None of them is a file that was served.
    let (host, port) = (site.tftp.ip().to_string(), site.tftp.port().to_string());
    try_run(Command::new("tftp").args(["-m", "binary", &host, &port, "-c", "get", "f", "/dev/null"]));
    assert_eq!(site.served().bytes, 2000);
}

#[test]
fn rfc2349_a_request_that_overtakes_the_error_before_it_is_answered() {
    let site = Site::new(|boot, _| fs::write(boot.join("f"), noise(2000)).unwrap());
    let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let options = Options { tsize: Some(0), ..Options::default() };
    let request = Packet::Read(Request { path: b"f", mode: Mode::Octet, options }).to_vec();
    let mut buffer = [0; 600];
    socket.send_to(&request, site.tftp).unwrap();
    let (_, probe) = socket.recv_from(&mut buffer).unwrap();
    socket.send_to(&request, site.tftp).unwrap();
    // Time for the first session to have seen it, and to have taken it for a repeat.
    std::thread::sleep(Duration::from_millis(100));
    let abort = Packet::Error { code: ErrorCode::OptionsRefused, message: b"User aborted" };
    socket.send_to(&abort.to_vec(), probe).unwrap();
    let (len, transfer) = socket.recv_from(&mut buffer).expect("an answer to the second request");
    assert_ne!(transfer, probe);
    let expected = Options { tsize: Some(2000), ..options };
    assert_eq!(Packet::parse(&buffer[..len]), Ok(Packet::OptionAck(expected)));
}

#[test]
fn a_repeated_request_gets_no_second_session() {
    let site = Site::new(|boot, _| fs::write(boot.join("f"), noise(2000)).unwrap());
    let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
    let request = Packet::Read(Request { path: b"f", mode: Mode::Octet, options: Options::default() }).to_vec();
    for _ in 0..3 {
        socket.send_to(&request, site.tftp).unwrap();
    }
    socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    let mut buffer = [0; 600];
    let (len, _) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(len, 516);
    // A second DATA 1 would hang a Raspberry Pi 4.
    assert!(socket.recv_from(&mut buffer).is_err());
}

#[test]
fn sessions_of_one_client_are_bounded() {
    let site = Site::new(|boot, _| fs::write(boot.join("f"), noise(2000)).unwrap());
    let request = Packet::Read(Request { path: b"f", mode: Mode::Octet, options: Options::default() }).to_vec();
    let sockets: Vec<_> = (0..20).map(|_| UdpSocket::bind((CLIENT, 0)).unwrap()).collect();
    let (mut served, mut refused) = (0, 0);
    for socket in &sockets {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send_to(&request, site.tftp).unwrap();
        let mut buffer = [0; 600];
        let len = socket.recv(&mut buffer).unwrap();
        match Packet::parse(&buffer[..len]).unwrap() {
            Packet::Data { block: 1, .. } => served += 1,
            Packet::Error { code: ErrorCode::Undefined, .. } => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((served, refused), (16, 4));
    assert_eq!(site.tftp_counters.overload.load(Ordering::Relaxed), 4);
}

#[test]
fn loss_on_the_way_costs_time_and_nothing_else() {
    let mut site = Site::new(|boot, _| fs::write(boot.join("f"), noise(400_000)).unwrap());
    for (client, permille) in [
        (Client::Busybox("1468"), 20),
        (Client::Curl("1468"), 20),
        (Client::Atftp(&[("blksize", "1428"), ("windowsize", "4")]), 20),
        (Client::Atftp(&[("blksize", "1428"), ("windowsize", "32")]), 10),
    ] {
        let before = site.tftp_counters.bytes.load(Ordering::Relaxed);
        let lossy = Lossy::start(site.tftp, permille);
        let target = site.target("f");
        client.fetch(lossy.address, "f", &target);
        assert!(fs::read(&target).unwrap() == noise(400_000), "{client:?}");
        let served = site.served();
        // The last acknowledgement may be among the lost.
        assert!(
            matches!(
                served.error.as_deref(),
                None | Some("no acknowledgement of the last block" | "aborted by the client")
            ),
            "{client:?} {served:?}"
        );
        let sent = site.tftp_counters.bytes.load(Ordering::Relaxed) - before;
        eprintln!("{client:?}: {} packets lost, {:.2} times the file sent", lossy.lost(), sent as f64 / 400_000.0);
        assert!(lossy.lost() > 0);
        assert!(sent < 2 * 400_000, "{client:?}: {sent} bytes sent");
    }
}
