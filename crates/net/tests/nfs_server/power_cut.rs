//! What is acknowledged is on disk: after each call the disk is taken as it is, as a power cut would leave it, and looked
//! at in another place. Needs root, `mkfs.ext4` and loop devices.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use walt_net::nfs::{HostTree, Transport};
use wire::nfs3::{Change, CreateHow, FileType, NewAttributes, NewTime, Node, Stable, Time, decode_created};
use wire::xdr::Reader;

use crate::client::{Client, Direct, Server};
use crate::image::{ip, mac, node, serve};

/// A disk in a file, mounted.
struct Disk {
    file: PathBuf,
    mounted: PathBuf,
}

impl Disk {
    fn make(directory: &Path) -> Self {
        let file = directory.join("disk");
        std::fs::File::create(&file).unwrap().set_len(48 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", file.to_str().unwrap()]);
        Self::mount(file, directory.join("mounted"))
    }

    fn mount(file: PathBuf, mounted: PathBuf) -> Self {
        std::fs::create_dir_all(&mounted).unwrap();
        // Nothing goes to the disk by itself while the test runs.
        run("mount", &["-o", "loop,commit=300", file.to_str().unwrap(), mounted.to_str().unwrap()]);
        Self { file, mounted }
    }

    /// Another disk that is what this one would be if its machine lost power now.
    fn after_a_power_cut(&self, directory: &Path) -> Self {
        let copy = directory.join("copy");
        run("cp", &["--sparse=always", self.file.to_str().unwrap(), copy.to_str().unwrap()]);
        Self::mount(copy, directory.join("after"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l", self.mounted.to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program} {arguments:?}");
}

/// A call, and what must be true of the directory once it is acknowledged.
type Step<'a> = (Change<'a>, fn(&Path) -> bool);

#[test]
fn rfc1813_section_4_8_what_is_acknowledged_outlives_a_power_cut() {
    let place = TempDir::new().unwrap();
    let disk = Disk::make(place.path());
    let bench = serve([node(1, None)]);
    let tree = HostTree::open(&disk.mounted.join("persist"), 0, 1).unwrap();
    let directory = tree.directory("n1", "ada").unwrap();
    bench.exports.persist().want(mac(1), Some("ada"));
    bench.exports.persist().set(mac(1), Arc::clone(&directory));
    let mut client = Client::new(Direct::new(&bench.dispatcher, ip(1), Transport::Tcp));
    let root = client.mount("/var/lib/walt/nodes/node-1/persist").unwrap();
    let mode = |mode| NewAttributes { mode: Some(mode), ..NewAttributes::default() };
    let made = |client: &mut Client<_>, name: &[u8]| {
        let create = Change::Create { dir: &root, name, how: CreateHow::Guarded(mode(0o600)) };
        handle_of(client, &create)
    };
    let [file, _, _] = ["file", "gone", "old"].map(|name| made(&mut client, name.as_bytes()));
    let dir = handle_of(&mut client, &Change::MkDir { dir: &root, name: b"dir", new: mode(0o755) });
    let pipe = Change::MkNod { dir: &root, name: b"pipe", node: Node::Pipe(FileType::Fifo, mode(0o600)) };
    let pipe = handle_of(&mut client, &pipe);

    let time = NewTime::To(Time { seconds: 1_000_000_000, nanos: 5 });
    let unstable = |data| Change::Write { file: &file, offset: 5, stable: Stable::Unstable, data };
    let steps: [Step<'_>; 17] = [
        (Change::Write { file: &file, offset: 0, stable: Stable::Data, data: b"12345" }, |at| {
            std::fs::read(at.join("file")).is_ok_and(|data| data == b"12345")
        }),
        // The one that is not promised: this is how the test sees what would be lost.
        (unstable(b"67890"), |at| std::fs::read(at.join("file")).is_ok_and(|data| data == b"12345")),
        (Change::Commit { file: &file, offset: 0, count: 0 }, |at| {
            std::fs::read(at.join("file")).is_ok_and(|data| data == b"1234567890")
        }),
        (Change::Write { file: &file, offset: 9, stable: Stable::File, data: b"x" }, |at| {
            std::fs::read(at.join("file")).is_ok_and(|data| data == b"123456789x")
        }),
        (Change::SetAttr { object: &file, new: NewAttributes { size: Some(3), ..mode(0o4711) }, guard: None }, |at| {
            std::fs::metadata(at.join("file")).is_ok_and(|m| m.len() == 3 && m.mode() & 0o7777 == 0o4711)
        }),
        (Change::SetAttr { object: &dir, new: NewAttributes { mtime: time, ..mode(0o700) }, guard: None }, |at| {
            std::fs::metadata(at.join("dir")).is_ok_and(|m| m.mtime() == 1_000_000_000 && m.mode() & 0o777 == 0o700)
        }),
        (Change::SetAttr { object: &pipe, new: NewAttributes { uid: Some(7), ..mode(0o640) }, guard: None }, |at| {
            std::fs::metadata(at.join("pipe")).is_ok_and(|m| m.uid() == 7 && m.permissions().mode() & 0o777 == 0o640)
        }),
        (Change::Create { dir: &dir, name: b"new", how: CreateHow::Unchecked(mode(0o640)) }, |at| {
            std::fs::metadata(at.join("dir/new")).is_ok_and(|m| m.mode() & 0o777 == 0o640)
        }),
        (Change::Create { dir: &dir, name: b"lock", how: CreateHow::Exclusive(5 << 32 | 6) }, |at| {
            std::fs::metadata(at.join("dir/lock")).is_ok_and(|m| (m.atime(), m.mtime()) == (5, 6))
        }),
        (Change::MkDir { dir: &root, name: b"sub", new: mode(0o750) }, |at| {
            std::fs::metadata(at.join("sub")).is_ok_and(|m| m.is_dir() && m.mode() & 0o777 == 0o750)
        }),
        (Change::SymLink { dir: &root, name: b"link", new: mode(0o777), target: b"some/where" }, |at| {
            std::fs::read_link(at.join("link")).is_ok_and(|target| target == Path::new("some/where"))
        }),
        (
            Change::MkNod { dir: &root, name: b"null", node: Node::Device(FileType::CharDevice, mode(0o666), (1, 3)) },
            |at| std::fs::metadata(at.join("null")).is_ok_and(|m| m.rdev() == 0x103),
        ),
        (Change::Link { file: &file, dir: &dir, name: b"second" }, |at| {
            std::fs::metadata(at.join("dir/second")).is_ok_and(|m| m.nlink() == 2)
        }),
        (Change::Rename { from: (&root, b"old"), to: (&dir, b"renamed") }, |at| {
            at.join("dir/renamed").exists() && !at.join("old").exists()
        }),
        (Change::Rename { from: (&dir, b"renamed"), to: (&dir, b"again") }, |at| {
            at.join("dir/again").exists() && !at.join("dir/renamed").exists()
        }),
        (Change::Remove { dir: &root, name: b"gone" }, |at| !at.join("gone").exists()),
        (Change::RmDir { dir: &root, name: b"sub" }, |at| !at.join("sub").exists()),
    ];
    for (change, holds) in steps {
        let results = client.change(&change);
        assert_eq!(Reader::new(&results).u32(), Ok(0), "{change:?}");
        let after = disk.after_a_power_cut(place.path());
        assert!(holds(&after.mounted.join("persist/n1/ada")), "after a power cut it is not there: {change:?}");
    }
}

fn handle_of<S: Server>(client: &mut Client<S>, change: &Change<'_>) -> Vec<u8> {
    let results = client.change(change);
    let (created, _) = decode_created(&mut Reader::new(&results)).unwrap();
    created.unwrap().0.unwrap().to_vec()
}
