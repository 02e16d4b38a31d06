//! Records, ONC-RPC, port mapper, MOUNT and NFS, through the dispatcher that serves nodes, on a small image and on a
//! directory that is read and written.
//!
//! The first byte of an input chooses: a stream of records as a connection carries it, or one NFS call with
//! a good handle (whose MAC no fuzzer would find) in front of arguments that are the input's.
#![no_main]

use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock};

use image::tar::{TarAttr, TarWriter};
use image::{Extent, LayerFiles, View, index};
use libfuzzer_sys::fuzz_target;
use net::nfs::{Answer, Caller, Counters, Dispatcher, HandleKey, HostDirectory, HostTree, NodeExports, Transport};
use net::{Events, Exports, MacAddr, NodeExport};
use wire::nfs3::{Arguments, decode_directory};
use wire::rpc::{AcceptStat, Call, Credential, Outcome, UnixIdentity, decode_reply};
use wire::xdr::{Reader, Writer};
use wire::{mount, nfs3, record};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);
const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 7);
/// As a connection bounds it.
const RECORD: usize = 34 << 10;

struct Bench {
    dispatcher: Dispatcher<NodeExports>,
    handles: Vec<Vec<u8>>,
    /// Of the directory that is written, and of files in it.
    written: Vec<Vec<u8>>,
    /// Where that is.
    place: PathBuf,
    /// Calls into it so far.
    calls: AtomicU64,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let view = image();
    let exports = Arc::new(Exports::default());
    exports.set(NodeExport {
        mac: MAC,
        ip: NODE,
        name: "node-7".to_owned(),
        model: "pc-x86-64".to_owned(),
        image: Some(view),
        held: Vec::new(),
    });
    let (events, _) = Events::channel(1);
    let counters = Arc::new(Counters::default());
    let exporter =
        NodeExports::new(Arc::clone(&exports), events, vec!["/var/lib/walt".to_owned()], Arc::clone(&counters));
    let dispatcher = Dispatcher::new(exporter, HandleKey::new([7; 16]), 111, 2049, counters);
    let handles = handles(&dispatcher, "fs");
    let (place, directory) = written_directory();
    exports.persist().want(MAC, Some("ada"));
    exports.persist().set(MAC, directory);
    let written = self::handles(&dispatcher, "persist");
    Bench { dispatcher, handles, written, place, calls: AtomicU64::new(0) }
});

fuzz_target!(|input: &[u8]| {
    let bench = &*BENCH;
    let Some((&choice, rest)) = input.split_first() else { return };
    let caller = Caller {
        ip: if choice & 4 == 0 { NODE } else { Ipv4Addr::new(192, 168, 1, 8) },
        transport: if choice & 2 == 0 { Transport::Tcp } else { Transport::Udp },
        privileged: choice & 8 == 0,
    };
    if choice & 1 == 0 {
        let mut stream = rest;
        while let Ok(Some(found)) = record::next_record(stream, RECORD) {
            answer(&bench.dispatcher, caller, &found.message);
            stream = &stream[found.taken..];
        }
    } else if let [procedure, object, user, arguments @ ..] = rest {
        let credential = match user % 4 {
            0 => Credential::None,
            1 => Credential::Sys(UnixIdentity::new(0, 0, &[])),
            2 => Credential::Sys(UnixIdentity::new(1000, 1000, &[4])),
            _ => Credential::Sys(UnixIdentity::new(33, 33, &[])),
        };
        let handles = if choice & 8 == 0 { &bench.handles } else { &bench.written };
        let handle = &handles[usize::from(*object) % handles.len()];
        let mut call = header(u32::from(procedure % 23), credential);
        call.opaque(handle);
        call.raw(arguments);
        answer(&bench.dispatcher, caller, call.bytes());
        if choice & 8 != 0 && bench.calls.fetch_add(1, Relaxed) % 64 == 63 {
            bench.tidy();
        }
    }
});

impl Bench {
    /// Removes what was made, and sees that nothing was made elsewhere.
    fn tidy(&self) {
        let names = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        assert_eq!(names(&self.place).collect::<Vec<_>>(), [self.place.join("persist")]);
        assert_eq!(names(&self.place.join("persist")).collect::<Vec<_>>(), [self.place.join("persist/n")]);
        for path in names(&self.place.join("persist/n/ada")) {
            let base = BASE.iter().any(|name| path.ends_with(name));
            if !base && std::fs::remove_file(&path).is_err() {
                let _nested = std::fs::remove_dir_all(&path);
            }
        }
    }
}

/// What is in the written directory at first.
const BASE: [&str; 4] = ["dir", "file", "link", "pipe"];

/// A directory in memory, where to be durable costs nothing.
fn written_directory() -> (PathBuf, Arc<HostDirectory>) {
    let place = Path::new("/dev/shm").join(format!("walt-fuzz-nfs-{}", std::process::id()));
    let _of_another = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(&place).expect("a directory in memory");
    let tree = HostTree::open(&place.join("persist"), 0, 1).expect("file handles (as root)");
    let directory = tree.directory("n", "ada").expect("a directory");
    std::fs::create_dir(directory.path().join("dir")).expect("a directory");
    std::fs::write(directory.path().join("file"), [7; 5000]).expect("a file");
    std::os::unix::fs::symlink("/etc/passwd", directory.path().join("link")).expect("a symlink");
    let made = std::process::Command::new("mkfifo").arg(directory.path().join("pipe")).status();
    assert!(made.is_ok_and(|status| status.success()), "a pipe");
    (place, directory)
}

/// Answers a message and checks what holds for every reply.
fn answer(dispatcher: &Dispatcher<NodeExports>, caller: Caller, message: &[u8]) -> Option<Vec<u8>> {
    let mut out = Writer::new();
    match dispatcher.answer(caller, message, &mut out) {
        Answer::Silence => {
            assert!(out.is_empty());
            return None;
        }
        Answer::Reply => {}
        Answer::Data(content) => {
            let head = out.len();
            for extent in content.extents() {
                match extent {
                    Extent::Data { file, pos, len } => file.read_exact_at(out.room(len as usize), pos).unwrap(),
                    Extent::Hole { len } => out.room(len as usize).fill(0),
                }
            }
            assert_eq!(out.len() - head, content.len() as usize);
            out.pad(content.len() as usize);
        }
        Answer::Wait(read) => {
            assert!(out.is_empty());
            read.finish(&mut out);
        }
        Answer::Work(call) => {
            assert!(out.is_empty());
            call.finish(&mut out);
        }
    }
    let reply = out.bytes();
    let (xid, outcome) = decode_reply(&mut Reader::new(reply)).expect("a well-formed reply");
    assert_eq!(Some(xid.to_be_bytes().as_slice()), message.get(..4), "the caller's transaction");
    assert_eq!(reply.len() % 4, 0, "XDR is padded");
    let limit = if caller.transport == Transport::Udp { 65_507 } else { (1 << 20) + 1024 };
    assert!(reply.len() <= limit, "{} bytes over {:?}", reply.len(), caller.transport);
    (outcome == Outcome::Accepted(AcceptStat::Success)).then(|| reply[24..].to_vec())
}

fn header(procedure: u32, credential: Credential) -> Writer {
    let mut call = Writer::new();
    Call { xid: 1, program: nfs3::PROGRAM, version: nfs3::VERSION, procedure, credential }.encode(&mut call);
    call
}

/// Handles of everything in the image, got as a client gets them.
fn handles(dispatcher: &Dispatcher<NodeExports>, share: &str) -> Vec<Vec<u8>> {
    let caller = Caller { ip: NODE, transport: Transport::Tcp, privileged: true };
    let root = Credential::Sys(UnixIdentity::new(0, 0, &[]));
    let mut call = Writer::new();
    Call { xid: 1, program: mount::PROGRAM, version: mount::VERSION, procedure: mount::MNT, credential: root }
        .encode(&mut call);
    call.opaque(format!("/var/lib/walt/nodes/192.168.1.7/{share}").as_bytes());
    let mounted = answer(dispatcher, caller, call.bytes()).expect("a mount");
    let mut handles = vec![mount::decode_mnt_result(&mut Reader::new(&mounted)).unwrap().unwrap().to_vec()];
    let mut next = 0;
    while next < handles.len() {
        let arguments =
            Arguments::ReadDirPlus { dir: &handles[next], cookie: 0, verifier: 0, dir_count: 8192, max_count: 65_536 };
        let mut call = header(arguments.procedure(), root);
        arguments.encode(&mut call);
        let listing = answer(dispatcher, caller, call.bytes()).expect("a listing");
        let _not_a_directory = decode_directory(&mut Reader::new(&listing), true, |entry| {
            // The directory itself and the one above are there already, or not to be had.
            if let (Some(handle), false) = (entry.handle, entry.name.starts_with(b".")) {
                handles.push(handle.to_vec());
            }
        });
        next += 1;
    }
    handles
}

fn image() -> Arc<View> {
    let directory = std::env::temp_dir().join(format!("walt-fuzz-nfs-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory for the layer");
    let mut tar = TarWriter::new();
    let dir = TarAttr::mode(0o755);
    tar.directory(b"etc", dir).file(b"etc/motd", TarAttr::mode(0o644), b"hello").symlink(b"link", dir, b"etc/motd");
    tar.directory(b"home", TarAttr { uid: 1000, gid: 1000, ..TarAttr::mode(0o700) });
    tar.file(b"home/secret", TarAttr { uid: 1000, gid: 1000, ..TarAttr::mode(0o600) }, &[7; 70_000]);
    tar.char_device(b"null", TarAttr::mode(0o666), (1, 3)).fifo(b"pipe", TarAttr::mode(0o600));
    tar.directory(b"many", dir);
    for number in 0..40 {
        tar.file(format!("many/{number}").as_bytes(), TarAttr::mode(0o755), b"#!");
    }
    let files = LayerFiles::new(&directory);
    let (layer, entries) = files.add(&tar.finish()).expect("a layer");
    let index = index::build(&[(layer, &entries)], &"5a".repeat(32)).expect("an index");
    let view = View::from_index(index, &files).expect("a view");
    // The layer stays open; nothing is left behind.
    let _gone = std::fs::remove_dir_all(&directory);
    Arc::new(view)
}
