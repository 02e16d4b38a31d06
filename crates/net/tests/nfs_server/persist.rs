//! A directory of the host, read and written by a node.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tempfile::TempDir;
use walt_net::nfs::{HostDirectory, HostTree, NfsConfig, NfsServer, Transport};
use walt_net::{Events, Exports};
use wire::nfs3::{
    Arguments, Change, CreateHow, FileAttr, FileType, NewAttributes, NewTime, Node, Stable, Status, Time, Wcc, WccAttr,
    access, decode_access, decode_changed, decode_committed, decode_created, decode_linked, decode_readlink,
    decode_renamed, decode_written, procedure,
};
use wire::rpc::{Call, Credential, UnixIdentity};
use wire::xdr::{Reader, Writer};

use crate::client::{Client, Connection, Direct, Server, Sizes, message, user};
use crate::image::{Bench, ip, key, mac, node, serve};

const PATH: &str = "/var/lib/walt/nodes/node-1/persist";

/// A node with a directory, and what serves it.
struct Place {
    bench: Bench,
    tree: Arc<HostTree>,
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        Self::with_reserve(0)
    }

    fn with_reserve(reserve: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (bench, tree) = Self::start(&root, reserve, 1);
        Self { bench, tree, root }
    }

    /// As after a restart of the server.
    fn again(&mut self) {
        (self.bench, self.tree) = Self::start(&self.root, 0, 2);
    }

    fn start(root: &TempDir, reserve: u64, verifier: u64) -> (Bench, Arc<HostTree>) {
        let bench = serve([node(1, None), node(2, None), node(3, None)]);
        let tree = HostTree::open(&root.path().join("persist"), reserve, verifier).unwrap();
        for (number, of) in [(1, "n1"), (2, "n2")] {
            give(&bench.exports, number, &tree.directory(of, "ada").unwrap());
        }
        (bench, tree)
    }

    fn client(&self, number: u8) -> Client<impl Server> {
        Client::new(Direct::new(&self.bench.dispatcher, ip(number), Transport::Tcp))
    }

    /// Root of node 1, with its directory.
    fn mounted(&self) -> (Client<impl Server>, Vec<u8>) {
        let mut client = self.client(1);
        let root = client.mount(PATH).unwrap();
        (client, root)
    }

    fn host(&self) -> PathBuf {
        self.root.path().join("persist/n1/ada")
    }

    fn syncs(&self) -> u64 {
        self.bench.counters.syncs.load(Relaxed)
    }
}

fn give(exports: &Exports, number: u8, directory: &Arc<HostDirectory>) {
    exports.persist().want(mac(number), Some(directory.name()));
    exports.persist().set(mac(number), Arc::clone(directory));
}

fn mode(mode: u32) -> NewAttributes {
    NewAttributes { mode: Some(mode), ..NewAttributes::default() }
}

fn created(results: &[u8]) -> Result<(Vec<u8>, FileAttr, Wcc), u32> {
    let (created, wcc) = decode_created(&mut Reader::new(results)).unwrap();
    created.map(|(handle, attr)| (handle.unwrap().to_vec(), attr.unwrap(), wcc))
}

fn status(results: &[u8]) -> u32 {
    Reader::new(results).u32().unwrap()
}

impl<S: Server> Client<S> {
    fn create(&mut self, dir: &[u8], name: &str, how: CreateHow) -> Result<Vec<u8>, u32> {
        created(&self.change(&Change::Create { dir, name: name.as_bytes(), how })).map(|made| made.0)
    }

    fn file(&mut self, dir: &[u8], name: &str, bits: u32) -> Vec<u8> {
        self.create(dir, name, CreateHow::Guarded(mode(bits))).unwrap()
    }

    fn mkdir(&mut self, dir: &[u8], name: &str, bits: u32) -> Result<Vec<u8>, u32> {
        created(&self.change(&Change::MkDir { dir, name: name.as_bytes(), new: mode(bits) })).map(|made| made.0)
    }

    fn write(&mut self, file: &[u8], offset: u64, stable: Stable, data: &[u8]) -> Result<(u32, u64), u32> {
        let results = self.change(&Change::Write { file, offset, stable, data });
        let written = decode_written(&mut Reader::new(&results)).unwrap().0?;
        assert_eq!(written.committed, stable);
        Ok((written.count, written.verifier))
    }

    fn commit(&mut self, file: &[u8]) -> Result<u64, u32> {
        decode_committed(&mut Reader::new(&self.change(&Change::Commit { file, offset: 0, count: 0 }))).unwrap().0
    }

    fn set(&mut self, object: &[u8], new: NewAttributes) -> u32 {
        status(&self.change(&Change::SetAttr { object, new, guard: None }))
    }

    fn remove(&mut self, dir: &[u8], name: &str) -> u32 {
        status(&self.change(&Change::Remove { dir, name: name.as_bytes() }))
    }

    fn rename(&mut self, from: (&[u8], &str), to: (&[u8], &str)) -> u32 {
        status(&self.change(&Change::Rename { from: (from.0, from.1.as_bytes()), to: (to.0, to.1.as_bytes()) }))
    }

    fn link(&mut self, file: &[u8], dir: &[u8], name: &str) -> u32 {
        status(&self.change(&Change::Link { file, dir, name: name.as_bytes() }))
    }

    fn allowed(&mut self, object: &[u8]) -> u32 {
        let results = self.nfs(&Arguments::Access { object, wanted: 0x3f });
        decode_access(&mut Reader::new(&results)).unwrap().unwrap()
    }
}

#[test]
fn what_is_written_is_read_and_is_on_the_host() {
    let place = Place::new();
    let (mut client, root) = place.mounted();
    let dir = client.mkdir(&root, "d", 0o750).unwrap();
    let file = client.file(&dir, "f", 0o666);
    assert_eq!(client.write(&file, 3, Stable::File, b"hello").unwrap().0, 5);
    assert_eq!(client.read(&file, 0, 100), Ok((b"\0\0\0hello".to_vec(), true)));
    assert_eq!(client.read(&file, 3, 2), Ok((b"he".to_vec(), false)));
    assert_eq!(client.read(&file, 100, 2), Ok((Vec::new(), true)));
    assert_eq!(std::fs::read(place.host().join("d/f")).unwrap(), b"\0\0\0hello");
    let attr = client.getattr(&file).unwrap();
    // No file creation mask of the server's is in between.
    assert_eq!((attr.mode, attr.uid, attr.size, attr.nlink), (0o666, 0, 8, 1));
    assert_eq!(client.getattr(&dir).unwrap().mode, 0o750);
    assert_eq!(client.link(&file, &root, "g"), 0);
    assert_eq!(client.rename((&dir, "f"), (&root, "h")), 0);
    let names = client.list(&root, 0, Sizes::Plus(4096, 65_536)).unwrap().0;
    let mut names: Vec<_> = names.into_iter().map(|entry| entry.name).collect();
    names.sort();
    assert_eq!(names, [".", "..", "d", "g", "h"]);
    assert_eq!(client.lookup(&root, "h").unwrap().1.fileid, attr.fileid);
    let new = mode(0o777);
    let symlink = Change::SymLink { dir: &root, name: b"l", new, target: b"../../../../etc/passwd" };
    let (link, ..) = created(&client.change(&symlink)).unwrap();
    let target = client.nfs(&Arguments::ReadLink { link: &link });
    assert_eq!(decode_readlink(&mut Reader::new(&target)), Ok(Ok(&b"../../../../etc/passwd"[..])));
    // Nothing is followed: it is neither a file nor a directory here.
    assert_eq!(client.read(&link, 0, 10), Err(Status::Invalid as u32));
    assert_eq!(client.lookup(&link, "x").unwrap_err(), Status::NotDirectory as u32);
    assert_eq!(client.write(&link, 0, Stable::File, b"x"), Err(Status::Invalid as u32));
    for name in ["g", "h", "l"] {
        assert_eq!(client.remove(&root, name), 0);
    }
    assert_eq!(client.getattr(&file), Err(Status::Stale as u32), "its last name is gone");
    assert_eq!(client.remove(&root, "d"), Status::IsDirectory as u32);
    assert_eq!(status(&client.change(&Change::RmDir { dir: &root, name: b"d" })), 0);
    assert_eq!(std::fs::read_dir(place.host()).unwrap().count(), 0);
}

#[test]
fn rfc1813_section_2_6_each_change_begins_where_the_last_one_ended() {
    let place = Place::new();
    let (mut client, root) = place.mounted();
    let mut seen = WccAttr::of(&client.getattr(&root).unwrap());
    let mut check = |wcc: Wcc| {
        assert_eq!(wcc.before, Some(seen));
        seen = WccAttr::of(&wcc.after.unwrap());
        assert_ne!(wcc.before, Some(seen), "the directory has changed");
    };
    let how = CreateHow::Guarded(mode(0o644));
    let (file, attr, wcc) = created(&client.change(&Change::Create { dir: &root, name: b"a", how })).unwrap();
    check(wcc);
    check(created(&client.change(&Change::MkDir { dir: &root, name: b"b", new: mode(0o755) })).unwrap().2);
    let (done, of_file, wcc) =
        decode_linked(&mut Reader::new(&client.change(&Change::Link { file: &file, dir: &root, name: b"c" }))).unwrap();
    assert_eq!((done, of_file.unwrap().nlink), (0, 2));
    check(wcc);
    let rename = Change::Rename { from: (&root, b"c"), to: (&root, b"d") };
    let (done, from, to) = decode_renamed(&mut Reader::new(&client.change(&rename))).unwrap();
    assert_eq!((done, from), (0, to));
    check(to);
    check(decode_changed(&mut Reader::new(&client.change(&Change::Remove { dir: &root, name: b"d" }))).unwrap().1);
    check(decode_changed(&mut Reader::new(&client.change(&Change::RmDir { dir: &root, name: b"b" }))).unwrap().1);
    // A failure has both halves, and they are the same.
    let (_, failed) =
        decode_changed(&mut Reader::new(&client.change(&Change::Remove { dir: &root, name: b"x" }))).unwrap();
    assert_eq!(failed.before, Some(WccAttr::of(&failed.after.unwrap())));
    let write = Change::Write { file: &file, offset: 0, stable: Stable::Unstable, data: b"abc" };
    let (_, wcc) = decode_written(&mut Reader::new(&client.change(&write))).unwrap();
    assert_eq!((wcc.before.unwrap().size, wcc.after.unwrap().size), (0, 3));
    assert_eq!(attr.size, 0);
    // SETATTR with a guard: RFC 1813 §3.3.2.
    let ctime = client.getattr(&file).unwrap().ctime;
    let guarded = |guard| Change::SetAttr { object: &file, new: mode(0o600), guard: Some(guard) };
    let wrong = Time { seconds: ctime.seconds - 1, ..ctime };
    assert_eq!(status(&client.change(&guarded(wrong))), Status::NotSynchronised as u32);
    assert_eq!(status(&client.change(&guarded(ctime))), 0);
    assert_eq!(status(&client.change(&guarded(ctime))), Status::NotSynchronised as u32, "it has changed by that");
}

#[test]
fn users_may_what_the_modes_let_them() {
    let place = Place::new();
    let (mut client, root) = place.mounted();
    let (denied, not_permitted) = (Status::Access as u32, Status::NotPermitted as u32);
    let open = client.mkdir(&root, "sticky", 0o1777).unwrap();
    let shared = client.mkdir(&root, "shared", 0o775).unwrap();
    assert_eq!(client.set(&shared, NewAttributes { gid: Some(77), ..mode(0o2775) }), 0);
    let (ada, bob) = (user(1000, 1000), Credential::Sys(UnixIdentity::new(1001, 1001, &[77])));

    client.credential = ada;
    assert_eq!(client.mkdir(&root, "x", 0o755), Err(denied), "the directory is root's");
    assert_eq!(client.mkdir(&shared, "x", 0o755), Err(denied));
    let file = client.file(&open, "ada", 0o640);
    let attr = client.getattr(&file).unwrap();
    assert_eq!((attr.uid, attr.gid, attr.mode), (1000, 1000, 0o640));
    assert_eq!(client.set(&file, NewAttributes { uid: Some(1001), ..Default::default() }), not_permitted);
    assert_eq!(client.set(&file, NewAttributes { gid: Some(77), ..Default::default() }), not_permitted);
    let device = Node::Device(FileType::CharDevice, mode(0o666), (1, 3));
    let results = client.change(&Change::MkNod { dir: &open, name: b"null", node: device });
    assert_eq!(status(&results), not_permitted);
    let pipe = Node::Pipe(FileType::Fifo, mode(0o600));
    let (pipe, attr, _) = created(&client.change(&Change::MkNod { dir: &open, name: b"pipe", node: pipe })).unwrap();
    assert_eq!((attr.kind, attr.uid), (FileType::Fifo, 1000));
    assert_eq!(client.read(&pipe, 0, 1), Err(Status::Invalid as u32), "nobody opens it here");
    assert_eq!(client.set(&pipe, mode(0o644)), 0);

    client.credential = bob;
    assert_eq!(client.read(&file, 0, 1), Err(denied));
    assert_eq!(client.allowed(&file), 0);
    assert_eq!(client.write(&file, 0, Stable::File, b"x"), Err(denied));
    assert_eq!(client.set(&file, mode(0o666)), not_permitted);
    // The directory is sticky.
    assert_eq!(client.remove(&open, "ada"), not_permitted);
    assert_eq!(client.rename((&open, "ada"), (&open, "bob")), not_permitted);
    let inside = client.mkdir(&shared, "bob", 0o755).unwrap();
    let attr = client.getattr(&inside).unwrap();
    assert_eq!((attr.uid, attr.gid, attr.mode), (1001, 77, 0o2755), "the directory hands down its group");
    let searchable = access::READ | access::LOOKUP | access::MODIFY | access::EXTEND | access::DELETE;
    assert_eq!(client.allowed(&inside), searchable | access::EXECUTE);
    assert_eq!(client.allowed(&root), access::READ | access::LOOKUP | access::EXECUTE);

    // RFC 1813 §4.4: an owner goes on writing what they have open, and a program is read to be run.
    client.credential = ada;
    assert_eq!(client.set(&file, mode(0o4511)), 0);
    assert_eq!(client.write(&file, 0, Stable::File, b"#!"), Ok((2, 1)));
    assert_eq!(client.getattr(&file).unwrap().mode, 0o511, "who writes a program makes it lose its rights");
    client.credential = bob;
    assert!(client.read(&file, 0, 2).is_ok());
    assert_eq!(client.allowed(&file), access::EXECUTE);
    client.credential = Credential::None;
    assert_eq!(client.write(&file, 0, Stable::File, b"x"), Err(denied));
    client.credential = user(0, 0);
    assert_eq!(client.set(&file, NewAttributes { uid: Some(1001), gid: Some(5), ..Default::default() }), 0);
    let device = Node::Device(FileType::CharDevice, mode(0o666), (1, 3));
    let results = client.change(&Change::MkNod { dir: &open, name: b"null", node: device });
    let (null, attr, _) = created(&results).unwrap();
    assert_eq!((attr.kind, attr.rdev, attr.mode), (FileType::CharDevice, (1, 3), 0o666));
    assert_eq!(client.read(&null, 0, 1), Err(Status::Invalid as u32), "a node reads its own devices");
}

#[test]
fn rfc1813_section_3_3_8_exclusive_create_is_done_once_even_over_a_restart() {
    let mut place = Place::new();
    let how = CreateHow::Exclusive(0xfeed_beef_0123_4567);
    let exists = Err(Status::Exists as u32);
    let file = {
        let (mut client, root) = place.mounted();
        let file = client.create(&root, "lock", how).unwrap();
        assert_eq!(client.create(&root, "lock", how), Ok(file.clone()), "a new call with the same verifier");
        assert_eq!(client.create(&root, "lock", CreateHow::Exclusive(1)), exists);
        file
    };
    place.again();
    let (mut client, root) = place.mounted();
    assert_eq!(client.create(&root, "lock", how), Ok(file.clone()));
    assert_eq!(client.create(&root, "lock", CreateHow::Guarded(mode(0o600))), exists);
    let now = NewAttributes { atime: NewTime::Now, mtime: NewTime::Now, ..mode(0o644) };
    assert_eq!(client.set(&file, now), 0);
    assert_eq!(client.create(&root, "lock", how), exists, "it is in use");
    client.write(&file, 0, Stable::File, b"content").unwrap();
    let emptied = NewAttributes { size: Some(0), ..mode(0o777) };
    assert_eq!(client.create(&root, "lock", CreateHow::Unchecked(mode(0o777))), Ok(file.clone()));
    assert_eq!(client.getattr(&file).unwrap().size, 7);
    assert_eq!(client.create(&root, "lock", CreateHow::Unchecked(emptied)), Ok(file.clone()));
    let attr = client.getattr(&file).unwrap();
    assert_eq!((attr.size, attr.mode), (0, 0o644), "nothing but its size");
}

#[test]
fn rfc1813_section_4_8_stable_is_on_disk_before_the_answer() {
    let mut place = Place::new();
    let verifier = {
        let (mut client, root) = place.mounted();
        let file = client.file(&root, "f", 0o644);
        let before = place.syncs();
        let (_, verifier) = client.write(&file, 0, Stable::Unstable, b"later").unwrap();
        assert_eq!(place.syncs(), before, "UNSTABLE waits for nothing");
        assert_eq!(client.commit(&file), Ok(verifier));
        assert_eq!(place.syncs(), before + 1);
        let how = CreateHow::Guarded(mode(0o600));
        let changes = [
            Change::Write { file: &file, offset: 0, stable: Stable::Data, data: b"now" },
            Change::Write { file: &file, offset: 0, stable: Stable::File, data: b"now" },
            Change::SetAttr { object: &file, new: mode(0o600), guard: None },
            Change::Create { dir: &root, name: b"c", how },
            Change::MkDir { dir: &root, name: b"d", new: mode(0o755) },
            Change::SymLink { dir: &root, name: b"s", new: mode(0o777), target: b"x" },
            Change::MkNod { dir: &root, name: b"p", node: Node::Pipe(FileType::Fifo, mode(0o600)) },
            Change::Link { file: &file, dir: &root, name: b"l" },
            Change::Rename { from: (&root, b"l"), to: (&root, b"m") },
            Change::Remove { dir: &root, name: b"m" },
            Change::RmDir { dir: &root, name: b"d" },
        ];
        for change in &changes {
            let before = place.syncs();
            assert_eq!(status(&client.change(change)), 0, "{change:?}");
            let file_and_names = matches!(change, Change::Create { .. } | Change::MkDir { .. } | Change::Link { .. });
            assert_eq!(place.syncs() - before, if file_and_names { 2 } else { 1 }, "{change:?}");
        }
        let (pipe, _) = client.lookup(&root, "p").unwrap();
        let before = place.syncs();
        assert_eq!(client.set(&pipe, mode(0o644)), 0);
        assert_eq!(place.syncs(), before + 1, "what nobody can open, too");
        verifier
    };
    place.again();
    let (mut client, root) = place.mounted();
    let (file, _) = client.lookup(&root, "f").unwrap();
    assert_ne!(client.commit(&file), Ok(verifier), "a client must send again what it did not commit");
}

#[test]
fn a_call_that_comes_again_is_answered_as_before() {
    let mut place = Place::new();
    let call = |xid, change: &Change<'_>| {
        let call = Call {
            xid,
            program: wire::nfs3::PROGRAM,
            version: wire::nfs3::VERSION,
            procedure: change.procedure(),
            credential: user(0, 0),
        };
        message(call, |out| change.encode(out))
    };
    let (root, removal, first) = {
        let (mut client, root) = place.mounted();
        client.file(&root, "f", 0o644);
        let removal = call(7, &Change::Remove { dir: &root, name: b"f" });
        let first = client.server.exchange(&removal).unwrap();
        assert_eq!(status(&first[24..]), 0);
        assert_eq!(client.server.exchange(&removal).unwrap(), first);
        assert_eq!(place.bench.counters.replayed.load(Relaxed), 1);
        let other = call(8, &Change::Remove { dir: &root, name: b"f" });
        assert_eq!(status(&client.server.exchange(&other).unwrap()[24..]), Status::NotFound as u32);
        (root, removal, first)
    };
    // The server was killed after it had done it, and before the client had the answer.
    place.again();
    let mut client = place.client(1);
    assert_eq!(client.server.exchange(&removal).unwrap(), first);
    // Another node's is another call.
    let mut other = place.client(2);
    assert_eq!(status(&other.server.exchange(&removal).unwrap()[24..]), Status::Stale as u32);
    client.file(&root, "f", 0o644);
    assert_eq!(client.server.exchange(&removal).unwrap(), first);
    assert!(client.lookup(&root, "f").is_ok(), "and nothing is done twice");
}

#[test]
fn nobody_leaves_their_own_directory() {
    let place = Place::new();
    let (mut client, root) = place.mounted();
    let mut stranger = place.client(2);
    let stale = Status::Stale as u32;
    assert_eq!(stranger.mount(PATH), Err(13));
    assert_eq!(stranger.getattr(&root), Err(stale));
    assert_eq!(stranger.create(&root, "x", CreateHow::Guarded(mode(0o600))), Err(stale));
    let theirs = stranger.mount("/var/lib/walt/nodes/127.0.0.2/persist").unwrap();
    assert_eq!(client.getattr(&theirs), Err(stale));
    let file = client.file(&root, "f", 0o600);
    assert_eq!(client.rename((&root, "f"), (&theirs, "f")), stale);
    assert_eq!(client.link(&file, &theirs, "f"), stale);
    // A node that is to have none is told so, which is no fault.
    assert_eq!(place.client(3).mount("/var/lib/walt/nodes/node-3/persist"), Err(2));
    // Up from the top there is nothing.
    let top = client.getattr(&root).unwrap();
    assert_eq!(client.lookup(&root, "..").unwrap().1.fileid, top.fileid);
    let listed = client.list(&root, 0, Sizes::Plus(4096, 65_536)).unwrap().0;
    assert!(
        listed.iter().filter(|entry| entry.name.starts_with('.')).all(|e| e.fileid == top.fileid && e.handle.is_none())
    );
    let dir = client.mkdir(&root, "d", 0o755).unwrap();
    let deep = client.mkdir(&dir, "e", 0o755).unwrap();
    assert_eq!(client.lookup(&deep, "..").unwrap().0, dir);
    // Somebody on the server moves it away while the node is in it.
    std::fs::rename(place.host().join("d"), place.root.path().join("moved")).unwrap();
    assert_eq!(client.lookup(&deep, "..").unwrap_err(), Status::Access as u32);
    assert_eq!(client.lookup(&dir, "..").unwrap_err(), Status::Access as u32);
    for (name, expected) in [
        ("a/b", Status::Invalid),
        ("", Status::Invalid),
        ("a\0b", Status::Invalid),
        (".", Status::Exists),
        ("..", Status::Exists),
        (&"x".repeat(256), Status::NameTooLong),
    ] {
        assert_eq!(client.mkdir(&root, name, 0o755), Err(expected as u32), "{name:?}");
    }
    assert!(client.mkdir(&root, &"x".repeat(255), 0o755).is_ok());
    assert_eq!(client.rename((&root, ".."), (&root, "y")), Status::Invalid as u32);
    assert_eq!(status(&client.change(&Change::RmDir { dir: &root, name: b".." })), Status::Exists as u32);
    // A handle of an image's kind, forged or not, is no way in.
    let mut forged = root.clone();
    forged[20] ^= 1;
    assert_eq!(client.getattr(&forged), Err(Status::BadHandle as u32));
    assert_eq!(client.set(&forged, mode(0o777)), Status::BadHandle as u32);
    // Given to somebody else, and the node has booted again.
    let bob = place.tree.directory("n1", "bob").unwrap();
    give(&place.bench.exports, 1, &bob);
    assert!(client.getattr(&root).is_ok(), "what runs goes on");
    place.bench.exports.persist().release(mac(1));
    assert_eq!(client.getattr(&root), Err(stale));
}

#[test]
fn a_listing_goes_on_while_names_come_and_go() {
    let place = Place::new();
    let (mut client, root) = place.mounted();
    for number in 0..600 {
        std::fs::write(place.host().join(format!("f{number}")), "").unwrap();
    }
    let (mut seen, mut cookie) = (Vec::new(), 0);
    for round in 0.. {
        let sizes = if round % 2 == 0 { Sizes::Plain(2000) } else { Sizes::Plus(2000, 6000) };
        let (entries, eof) = client.list(&root, cookie, sizes).unwrap();
        for entry in &entries {
            cookie = entry.cookie;
            if !entry.name.starts_with('.') {
                // As `rm -r` does it.
                assert_eq!(client.remove(&root, &entry.name), 0);
                std::fs::write(place.host().join(format!("new-{}", entry.name)), "").unwrap();
                seen.push(entry.name.clone());
            }
            if let Some(handle) = entry.handle.as_ref().filter(|_| entry.name.starts_with("new")) {
                // The server may just be closing it.
                let begun = std::time::Instant::now();
                while client.getattr(handle) != Err(Status::Stale as u32) {
                    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{}", entry.name);
                }
            }
        }
        if eof {
            break;
        }
    }
    seen.retain(|name| !name.starts_with("new"));
    let mut expected: Vec<_> = (0..600).map(|number| format!("f{number}")).collect();
    expected.sort();
    seen.sort();
    assert_eq!(seen, expected);
    assert_eq!(client.list(&root, u64::MAX, Sizes::Plain(4096)).unwrap_err(), Status::BadCookie as u32);
}

#[test]
fn a_program_without_privileges_does_not_say_who_calls() {
    let place = Place::new();
    let (_, root) = place.mounted();
    let mut anybody = Direct::new(&place.bench.dispatcher, ip(1), Transport::Tcp);
    anybody.caller.privileged = false;
    let mut anybody = Client::new(anybody);
    assert_eq!(anybody.getattr(&root).map(drop), Err(Status::Access as u32));
    assert_eq!(anybody.create(&root, "x", CreateHow::Unchecked(mode(0o4755))), Err(Status::Access as u32));
    assert!(!place.host().join("x").exists());
}

#[test]
fn a_part_of_the_disk_is_kept_for_the_server() {
    let place = Place::with_reserve(u64::MAX / 2);
    let (mut client, root) = place.mounted();
    std::fs::write(place.host().join("old"), [7; 8192]).unwrap();
    let (old, _) = client.lookup(&root, "old").unwrap();
    let full = Status::NoSpace as u32;
    assert_eq!(client.create(&root, "x", CreateHow::Unchecked(mode(0o600))), Err(full));
    let emptied = NewAttributes { size: Some(0), ..Default::default() };
    std::fs::write(place.host().join("to-be-emptied"), "content").unwrap();
    assert!(client.create(&root, "to-be-emptied", CreateHow::Unchecked(emptied)).is_ok());
    assert_eq!(std::fs::read(place.host().join("to-be-emptied")).unwrap(), b"");
    assert_eq!(client.mkdir(&root, "x", 0o700), Err(full));
    assert_eq!(client.link(&old, &root, "x"), full);
    assert_eq!(client.write(&old, 8190, Stable::Unstable, b"more"), Err(full));
    std::fs::File::open(place.host().join("old")).unwrap().sync_all().unwrap();
    assert!(client.write(&old, 0, Stable::File, b"the same blocks").is_ok());
    let stat = client.nfs(&Arguments::FsStat { object: &root });
    let mut reader = Reader::new(&stat[4 + 4 + 84..]);
    let [total, free, available] = std::array::from_fn(|_| reader.u64().unwrap());
    assert!(total > 0 && free == 0 && available == 0);
    assert_eq!(client.remove(&root, "old"), 0, "to make room is allowed");
}

#[test]
fn times_and_sizes() {
    let place = Place::new();
    let (mut client, root) = place.mounted();
    let file = client.file(&root, "f", 0o644);
    let time = Time { seconds: 1_000_000_000, nanos: 123_456_789 };
    let to = |time| NewAttributes { mtime: NewTime::To(time), ..Default::default() };
    assert_eq!(client.set(&file, to(time)), 0);
    assert_eq!(client.getattr(&file).unwrap().mtime, time);
    // UTIME_OMIT, to the kernel.
    assert_eq!(client.set(&file, to(Time { nanos: 0x3fff_fffe, ..time })), Status::Invalid as u32);
    assert_eq!(client.getattr(&file).unwrap().mtime, time);
    let size = |size| NewAttributes { size: Some(size), ..Default::default() };
    assert_eq!(client.set(&file, size(1 << 33)), 0);
    assert_eq!(client.getattr(&file).unwrap().size, 1 << 33);
    assert_eq!(client.set(&file, size(u64::MAX)), Status::TooBig as u32);
    assert_eq!(client.write(&file, u64::MAX, Stable::File, b"x"), Err(Status::TooBig as u32));
    assert_eq!(client.set(&root, size(0)), Status::IsDirectory as u32);
    assert_eq!(client.set(&file, NewAttributes { uid: Some(u32::MAX), ..Default::default() }), Status::Invalid as u32);
    let conf = client.nfs(&Arguments::PathConf { object: &root });
    let mut reader = Reader::new(&conf[4 + 4 + 84..]);
    assert!(reader.u32().unwrap() > 1000, "names that a file may have");
    assert_eq!(reader.u32(), Ok(255));
}

#[test]
fn garbage_is_no_change() {
    let place = Place::new();
    let (mut client, root) = place.mounted();
    for number in 1..=procedure::COMMIT {
        for length in [0, 1, 3, 4, 17] {
            let (outcome, results) =
                client.call((wire::nfs3::PROGRAM, wire::nfs3::VERSION, number), |out: &mut Writer| {
                    out.opaque(&root);
                    out.raw(&vec![0xff; length]);
                });
            let complete = results.len() >= 4 && status(&results) == 0;
            let reads = matches!(number, procedure::GETATTR..=procedure::COMMIT);
            assert!(
                reads && (!complete || std::fs::read_dir(place.host()).unwrap().count() == 0),
                "{number} {outcome:?}"
            );
        }
    }
    assert_eq!(std::fs::read_dir(place.host()).unwrap().count(), 0);
}

#[test]
fn large_writes_over_a_connection() {
    let root = tempfile::tempdir().unwrap();
    let tree = HostTree::open(&root.path().join("persist"), 0, 1).unwrap();
    let exports = Arc::new(Exports::default());
    exports.set(node(1, None));
    give(&exports, 1, &tree.directory("n1", "ada").unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (events, _) = Events::channel(16);
    let config = NfsConfig {
        address: ip(1),
        portmap_port: None,
        nfs_port: 0,
        roots: vec!["/var/lib/walt".into()],
        key: key(),
        limits: walt_net::nfs::Limits::default(),
    };
    let server = runtime.block_on(async { NfsServer::bind(config, exports, events) }).unwrap();
    let address = std::net::SocketAddr::from((ip(1), server.nfs_port()));
    let _running = runtime.spawn(server.run());
    let mut client = Client::new(Connection::open(address));
    let top = client.mount(PATH).unwrap();
    let info = client.nfs(&Arguments::FsInfo { object: &top });
    let mut reader = Reader::new(&info[4 + 4 + 84..]);
    let [.., wtmax] = std::array::from_fn::<u32, 4, _>(|_| reader.u32().unwrap());
    let file = client.file(&top, "f", 0o644);
    let data: Vec<u8> = (0..4 * wtmax).map(|at| (at / 251) as u8).collect();
    for (number, part) in data.chunks(wtmax as usize).enumerate() {
        let offset = number as u64 * u64::from(wtmax);
        assert_eq!(client.write(&file, offset, Stable::Unstable, part).unwrap().0, wtmax);
    }
    client.commit(&file).unwrap();
    let (read, eof) = client.read(&file, 0, 4 * wtmax).unwrap();
    assert!(eof && read == data);
    // Many small ones in a row use the small buffer again.
    for number in 0..100 {
        client.write(&file, number, Stable::Unstable, b"x").unwrap();
    }
    assert_eq!(std::fs::metadata(root.path().join("persist/n1/ada/f")).unwrap().len(), data.len() as u64);
}
