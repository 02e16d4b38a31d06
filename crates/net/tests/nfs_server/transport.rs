//! Over real sockets: records, limits, reads that wait, datagrams.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use image::{Attr, DirEntry, Extent, Ino, View};
use walt_net::nfs::{
    Counters, Exporter, Filesystem, HandleKey, HostDirectory, Limits, MountPoint, NfsConfig, NfsServer, NodeExports,
    OwnExport,
};
use walt_net::{Events, Exports};
use wire::mount::MountStat;
use wire::nfs3::{Arguments, Status, decode_attributes, decode_read};
use wire::portmap::{self, Mapping};
use wire::rpc::{AcceptStat, Outcome, decode_reply};
use wire::xdr::Reader;

use crate::client::{Client, Connection, Server, framed, nfs_message, user};
use crate::image::{Image, ROOTS, big, ip, key, node, sample};

/// A running server; it ends with this value.
pub(crate) struct Running {
    pub(crate) nfs: SocketAddrV4,
    pub(crate) portmap: SocketAddrV4,
    pub(crate) counters: Arc<Counters>,
    _runtime: tokio::runtime::Runtime,
}

pub(crate) fn config(limits: Limits) -> NfsConfig {
    let key: HandleKey = key();
    let roots = ROOTS.map(str::to_owned).to_vec();
    NfsConfig { address: Ipv4Addr::LOCALHOST, portmap_port: Some(0), nfs_port: 0, roots, key, limits }
}

fn exporter(image: &Image, counters: &Arc<Counters>) -> NodeExports {
    let exports = Arc::new(Exports::default());
    exports.set(node(1, Some(image)));
    let (events, _) = Events::channel(1);
    NodeExports::new(exports, events, ROOTS.map(str::to_owned).to_vec(), Arc::clone(counters))
}

fn start<E: Exporter>(limits: Limits, exporter: E, counters: Arc<Counters>) -> Running {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = {
        let _context = runtime.enter();
        NfsServer::bind_exporter(&config(limits), exporter, Arc::clone(&counters)).unwrap()
    };
    let address = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let (nfs, portmap) = (address(server.nfs_port()), address(server.portmap_port().unwrap()));
    runtime.spawn(server.run());
    Running { nfs, portmap, counters, _runtime: runtime }
}

/// Serves node 1 this image.
pub(crate) fn run(image: &Image, limits: Limits) -> Running {
    let counters = Arc::new(Counters::default());
    start(limits, exporter(image, &counters), counters)
}

fn mounted(server: &Running) -> (Client<Connection>, Vec<u8>) {
    let mut client = Client::new(Connection::open(server.nfs));
    let root = client.mount("/var/lib/walt/nodes/127.0.0.1/fs").unwrap();
    (client, root)
}

/// Waits until `condition` holds.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("never happened: {what}");
}

#[test]
fn calls_sent_together_are_all_answered() {
    let image = sample();
    let server = run(&image, Limits::default());
    let (mut client, root) = mounted(&server);
    let calls: Vec<u8> = (0..5000)
        .flat_map(|xid| framed(&nfs_message(xid, user(0, 0), &Arguments::GetAttr { object: &root })))
        .collect();
    let mut stream = client.server.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || stream.write_all(&calls).unwrap());
    for expected in 0..5000 {
        let reply = client.server.next().unwrap();
        let mut reader = Reader::new(&reply);
        assert_eq!(decode_reply(&mut reader).unwrap().0, expected);
        assert!(decode_attributes(&mut reader).unwrap().is_ok());
    }
    sender.join().unwrap();
}

#[test]
fn rfc5531_section_11_fragments_and_single_bytes() {
    let image = sample();
    let server = run(&image, Limits::default());
    let (mut client, root) = mounted(&server);
    let call = nfs_message(77, user(0, 0), &Arguments::GetAttr { object: &root });
    let mut fragments = Vec::new();
    for piece in call.chunks(7) {
        fragments.extend((piece.len() as u32).to_be_bytes());
        fragments.extend(piece);
    }
    fragments.extend(0x8000_0000_u32.to_be_bytes());
    client.server.stream.set_nodelay(true).unwrap();
    for byte in fragments {
        client.server.stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(decode_reply(&mut Reader::new(&client.server.next().unwrap())).unwrap().0, 77);
}

#[test]
fn a_record_without_end_closes_the_connection() {
    let image = sample();
    let server = run(&image, Limits::default());
    for flood in [vec![0x7f; 64], vec![0; 1 << 20]] {
        let mut connection = Connection::open(server.nfs);
        let _reset = connection.stream.write_all(&flood);
        let mut rest = Vec::new();
        let _reset = connection.stream.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    eventually("both are counted and closed", || {
        server.counters.malformed.load(Relaxed) == 2 && server.counters.connections.load(Relaxed) == 0
    });
    assert!(mounted(&server).0.mount("/srv/state/nodes/node-1/fs").is_ok(), "others are served on");
}

#[test]
fn connections_of_one_address_are_limited() {
    let image = sample();
    let server = run(&image, Limits { connections_per_client: 3, ..Limits::default() });
    let open: Vec<_> = (0..3).map(|_| mounted(&server)).collect();
    assert_eq!(Connection::open(server.nfs).next(), None, "the fourth is closed");
    assert_eq!(server.counters.connections_refused.load(Relaxed), 1);
    drop(open);
    eventually("room again", || server.counters.connections.load(Relaxed) == 0);
    mounted(&server);
}

#[test]
fn who_does_not_take_replies_is_not_served_on() {
    let image = sample();
    let server = run(&image, Limits { stalled: Duration::from_millis(500), ..Limits::default() });
    let (mut client, root) = mounted(&server);
    let file = client.walk(&root, "big");
    let call = framed(&nfs_message(1, user(0, 0), &Arguments::Read { file: &file, offset: 0, count: 1 << 20 }));
    client.server.stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let sent = (0..100_000).take_while(|_| client.server.stream.write_all(&call).is_ok()).count();
    // What the server answered is what socket buffers hold, not what was asked for.
    let answered = server.counters.bytes_read.load(Relaxed) >> 20;
    assert!(answered < 64, "{answered} MiB answered to {sent} calls that nobody reads");
    eventually("the connection is closed", || server.counters.connections.load(Relaxed) == 0);
}

#[test]
fn a_silent_connection_is_closed() {
    let image = sample();
    let server = run(&image, Limits { idle: Duration::from_millis(300), ..Limits::default() });
    let (mut client, root) = mounted(&server);
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(100));
        assert!(client.getattr(&root).is_ok(), "while it is used it stays");
    }
    assert_eq!(client.server.next(), None);
}

/// Bytes at the start of a file that a [`Faked`] one may say are a hole.
const HOLE: u64 = 50_001;

/// A view whose content is in another state than a test can bring about.
struct Faked {
    view: Arc<View>,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Nothing is in the page cache.
    Cold,
    /// Each file starts with a hole.
    Sparse,
    /// The layers end before the index says so.
    Cut,
    /// To read is to meet a fault of ours.
    Faulty,
}

impl Filesystem for Faked {
    fn fsid(&self) -> u64 {
        self.view.fsid()
    }
    fn inode_count(&self) -> u64 {
        self.view.inode_count()
    }
    fn total_bytes(&self) -> u64 {
        self.view.total_bytes()
    }
    fn attr(&self, ino: Ino) -> Option<Attr> {
        self.view.attr(ino)
    }
    fn lookup(&self, dir: Ino, name: &[u8]) -> Option<Ino> {
        self.view.lookup(dir, name)
    }
    fn readdir(&self, dir: Ino, cookie: u64) -> Option<impl Iterator<Item = DirEntry<'_>>> {
        self.view.readdir(dir, cookie)
    }
    fn readlink(&self, ino: Ino) -> Option<&[u8]> {
        self.view.readlink(ino)
    }
    fn extents(&self, ino: Ino, offset: u64, len: u64) -> impl Iterator<Item = Extent<'_>> + Send {
        let (hole, len) = match self.state {
            State::Cold | State::Cut | State::Faulty => (0, 0),
            State::Sparse => (HOLE.saturating_sub(offset).min(len), len),
        };
        let hole_extent = (hole > 0).then_some(Extent::Hole { len: hole });
        hole_extent.into_iter().chain(self.view.extents(ino, offset + hole, len - hole))
    }
    fn try_read_at(&self, _: Ino, _: u64, _: &mut [u8]) -> io::Result<Option<usize>> {
        if self.state == State::Cut { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) }
    }
    fn read_at(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        assert!(self.state != State::Faulty, "as asked for");
        std::thread::sleep(Duration::from_millis(20));
        self.view.read_at(ino, offset, buf)
    }
}

struct FakedExports(Arc<Faked>);

impl Exporter for FakedExports {
    type Fs = Faked;

    fn filesystem(&self, _: Ipv4Addr, fsid: u64) -> Option<Arc<Faked>> {
        Some(Arc::clone(&self.0)).filter(|fs| fs.fsid() == fsid)
    }

    fn directory(&self, _: Ipv4Addr, _: u64) -> Option<Arc<HostDirectory>> {
        None
    }

    fn mount(&self, _: Ipv4Addr, path: &[u8]) -> Result<MountPoint<Faked>, MountStat> {
        let dir = self.0.view.resolve(path).map_err(|_| MountStat::NotFound)?;
        Ok(MountPoint::Image { fs: Arc::clone(&self.0), dir })
    }

    fn own_export(&self, _: Ipv4Addr) -> Option<OwnExport> {
        None
    }
}

fn run_faked(image: &Image, state: State) -> Running {
    let exporter = FakedExports(Arc::new(Faked { view: Arc::clone(&image.view), state }));
    start(Limits::default(), exporter, Arc::default())
}

#[test]
fn holes_are_sent_as_zeros() {
    let image = sample();
    let server = run_faked(&image, State::Sparse);
    let mut client = Client::new(Connection::open(server.nfs));
    let root = client.mount("/").unwrap();
    let file = client.walk(&root, "big");
    let mut content = big();
    content[..HOLE as usize].fill(0);
    for (offset, count) in [(0, 1 << 20), (1, 40_003), (40_000, 40_000), (1 << 20, 1 << 20)] {
        let (data, _) = client.read(&file, offset as u64, count as u32).unwrap();
        assert!(data == content[offset..offset + count], "{count} bytes at {offset}");
    }
}

#[test]
fn a_damaged_layer_is_an_error_and_not_a_short_file() {
    let image = sample();
    let server = run_faked(&image, State::Cut);
    let mut client = Client::new(Connection::open(server.nfs));
    let root = client.mount("/").unwrap();
    let file = client.walk(&root, "big");
    for count in [100, 1 << 20] {
        assert_eq!(client.read(&file, 0, count).unwrap_err(), Status::Io as u32);
    }
    assert!(client.getattr(&file).is_ok());
}

#[test]
fn a_fault_of_ours_is_answered_and_the_connection_goes_on() {
    let image = sample();
    let server = run_faked(&image, State::Faulty);
    let mut client = Client::new(Connection::open(server.nfs));
    let root = client.mount("/").unwrap();
    let file = client.walk(&root, "big");
    // More of them than one connection may have under way.
    for xid in 0..40 {
        let read = Arguments::Read { file: &file, offset: 0, count: 100 };
        let reply = client.server.exchange(&nfs_message(xid, user(0, 0), &read)).unwrap();
        let (answered, outcome) = decode_reply(&mut Reader::new(&reply)).unwrap();
        assert_eq!((answered, outcome), (xid, Outcome::Accepted(AcceptStat::SystemError)));
    }
    assert!(client.getattr(&file).is_ok());
}

#[test]
fn reads_from_disk_are_answered_later_and_metadata_does_not_wait() {
    let image = sample();
    let server = run_faked(&image, State::Cold);
    let mut client = Client::new(Connection::open(server.nfs));
    let root = client.mount("/").unwrap();
    let (file, content) = (client.walk(&root, "big"), big());
    let size = 10_000;
    let reads = content.len().div_ceil(size) as u32;
    for xid in 0..reads {
        let offset = u64::from(xid) * size as u64;
        let arguments = Arguments::Read { file: &file, offset, count: size as u32 };
        client.server.stream.write_all(&framed(&nfs_message(xid, user(0, 0), &arguments))).unwrap();
        if xid == 10 {
            let getattr = nfs_message(u32::MAX, user(0, 0), &Arguments::GetAttr { object: &root });
            client.server.stream.write_all(&framed(&getattr)).unwrap();
        }
    }
    let mut order = Vec::new();
    for _ in 0..=reads {
        let reply = client.server.next().unwrap();
        let mut reader = Reader::new(&reply);
        let (xid, _) = decode_reply(&mut reader).unwrap();
        order.push(xid);
        if xid != u32::MAX {
            let (data, _) = decode_read(&mut reader).unwrap().unwrap();
            let start = xid as usize * size;
            assert!(data == &content[start..(start + size).min(content.len())], "read {xid}");
        }
    }
    assert!(order.iter().position(|xid| *xid == u32::MAX).unwrap() < 11, "GETATTR overtook: {order:?}");
    order.sort_unstable();
    assert!(order.into_iter().eq((0..reads).chain([u32::MAX])), "each answered once");
    assert_eq!(server.counters.reads_from_disk.load(Relaxed), u64::from(reads));
}

/// Calls over UDP.
struct Datagrams(UdpSocket);

impl Server for Datagrams {
    fn exchange(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        self.0.send(message).unwrap();
        let mut reply = vec![0; 65_536];
        let length = self.0.recv(&mut reply).ok()?;
        reply.truncate(length);
        Some(reply)
    }
}

fn datagrams(server: SocketAddrV4) -> Client<Datagrams> {
    let socket = UdpSocket::bind((ip(1), 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.connect(server).unwrap();
    Client::new(Datagrams(socket))
}

#[test]
fn everything_is_served_over_udp_too() {
    let image = sample();
    let server = run(&image, Limits::default());
    let mut mapper = datagrams(server.portmap);
    for program in [wire::nfs3::PROGRAM, wire::mount::PROGRAM] {
        let wanted = Mapping { program, version: 3, protocol: portmap::UDP, port: 0 };
        let (_, port) = mapper.call((portmap::PROGRAM, portmap::VERSION, portmap::GETPORT), |out| wanted.encode(out));
        assert_eq!(Reader::new(&port).u32(), Ok(u32::from(server.nfs.port())));
    }
    let mut client = datagrams(server.nfs);
    let root = client.mount("/var/lib/walt/nodes/127.0.0.1/fs").unwrap();
    let file = client.walk(&root, "big");
    let (data, eof) = client.read(&file, 1 << 20, 1 << 20).unwrap();
    assert!(!eof && data == big()[1 << 20..][..32 << 10]);
    // Garbage is not answered, and does not end the service.
    client.server.0.send(&[0; 3]).unwrap();
    client.server.0.send(&[]).unwrap();
    assert!(client.getattr(&file).is_ok());
}

#[test]
fn reads_from_disk_over_udp() {
    let image = sample();
    let server = run_faked(&image, State::Cold);
    let mut client = datagrams(server.nfs);
    let root = client.mount("/").unwrap();
    let file = client.walk(&root, "big");
    assert!(client.read(&file, 5, 20_000).unwrap().0 == big()[5..20_005]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let image = sample();
    let server = run(&image, Limits::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    let counters = Arc::new(Counters::default());
    let taken = NfsConfig { nfs_port: server.nfs.port(), ..config(Limits::default()) };
    let error = NfsServer::bind_exporter(&taken, exporter(&image, &counters), counters).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot serve NFS on tcp {}:", server.nfs)), "{error}");
}
