//! nfs-ls, nfs-cat and nfs-cp of libnfs, over a tree of more than ten thousand entries.
//!
//! What these programs don't show (modification times, setuid bits, targets of symlinks) our own
//! client compares over the same tree.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use image::Timestamp;
use image::tar::TarAttr;
use walt_net::nfs::Limits;
use wire::nfs3::{Arguments, FileAttr, FileType, decode_readlink};
use wire::xdr::Reader;

use crate::client::{Client, Connection, Sizes};
use crate::image::{Image, build};
use crate::transport::{Running, run};

/// One object of the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Directory,
    File(Vec<u8>),
    Symlink(String),
    CharDevice(u32, u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: u32,
    content: Content,
}

/// Names and objects by path: 120 directories of 90 files each, with links, owners and modes that differ.
fn reference() -> BTreeMap<String, Object> {
    let mut objects = BTreeMap::new();
    let mut add = |path: String, mode, content| {
        let n = objects.len() as u32;
        objects.insert(path, Object { mode, uid: n % 7, gid: n % 5, mtime: 1_600_000_000 + n, content });
    };
    for dir in 0..120 {
        add(format!("dir-{dir:03}"), 0o755, Content::Directory);
        for file in 0..90 {
            // Lengths around the page size and the padding of XDR, each content of its own.
            let length = [0, 1, 2, 3, 4, 5, 4095, 4096, 4097, 20_000][file % 10];
            let content = (0..length).map(|at| (at * 31 + file * 7 + dir) as u8).collect();
            let mode = [0o644, 0o600, 0o755, 0o4755, 0o2711][file % 5];
            add(format!("dir-{dir:03}/file {file} é"), mode, Content::File(content));
        }
        add(format!("dir-{dir:03}/link"), 0o777, Content::Symlink(format!("../dir-{:03}/file 1 é", dir / 2)));
    }
    add(
        "large".to_owned(),
        0o644,
        Content::File((0..5 << 20).map(|at: u32| (at.wrapping_mul(97) >> 7) as u8).collect()),
    );
    add("null".to_owned(), 0o666, Content::CharDevice(1, 3));
    add("n".repeat(255), 0o644, Content::File(b"long name".to_vec()));
    assert!(objects.len() > 10_000);
    objects
}

fn image(reference: &BTreeMap<String, Object>) -> Image {
    build("c3", |tar| {
        for (path, object) in reference {
            let mtime = Timestamp { secs: object.mtime.into(), nanos: 0 };
            let attr = TarAttr { mode: object.mode, uid: object.uid, gid: object.gid, mtime, xattrs: &[] };
            let path = path.as_bytes();
            match &object.content {
                Content::Directory => tar.directory(path, attr),
                Content::File(content) => tar.file(path, attr, content),
                Content::Symlink(target) => tar.symlink(path, attr, target.as_bytes()),
                Content::CharDevice(major, minor) => tar.char_device(path, attr, (*major, *minor)),
            };
        }
    })
}

/// libnfs takes the path as it is: it decodes no `%`.
fn url(server: &Running, path: &str) -> String {
    let port = server.nfs.port();
    format!("nfs://127.0.0.1/var/lib/walt/nodes/127.0.0.1/fs/{path}?version=3&nfsport={port}&mountport={port}")
}

fn tool(name: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(name).args(arguments).output().unwrap_or_else(|error| panic!("{name}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {} {errors}", output.status);
    output.stdout
}

#[test]
fn libnfs_sees_the_tree_as_it_was_made() {
    let reference = reference();
    let image = image(&reference);
    let server = run(&image, Limits::default());

    let listing = String::from_utf8(tool("nfs-ls", &["-R", &url(&server, "")])).unwrap();
    let listed: BTreeSet<String> = listing.lines().map(str::to_owned).collect();
    let expected: BTreeSet<String> = reference.iter().map(|(path, object)| line(path, object, &reference)).collect();
    let wrong: Vec<_> = listed.symmetric_difference(&expected).take(10).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(listing.lines().count(), reference.len(), "each once");

    let scratch = tempfile::tempdir().unwrap();
    let files = reference.iter().filter(|(_, object)| matches!(object.content, Content::File(_)));
    let some = files.enumerate().filter(|(n, (path, _))| n % 97 == 0 || path.len() == 255 || *path == "large");
    for (n, (path, object)) in some {
        let Content::File(content) = &object.content else { unreachable!() };
        assert!(tool("nfs-cat", &[&url(&server, path)]) == *content, "nfs-cat {path}");
        let copy = scratch.path().join(n.to_string());
        tool("nfs-cp", &[&url(&server, path), copy.to_str().unwrap()]);
        assert!(std::fs::read(copy).unwrap() == *content, "nfs-cp {path}");
    }
}

/// As nfs-ls prints it.
fn line(path: &str, object: &Object, reference: &BTreeMap<String, Object>) -> String {
    let (kind, size) = match &object.content {
        Content::Directory => ('d', None),
        Content::File(content) => ('-', Some(content.len())),
        Content::Symlink(target) => ('l', Some(target.len())),
        Content::CharDevice(..) => ('c', Some(0)),
    };
    let bits: String =
        (0..9).map(|bit| if object.mode >> (8 - bit) & 1 == 1 { ['r', 'w', 'x'][bit % 3] } else { '-' }).collect();
    let subdirectories = |path: &str| {
        let inside = |other: &str| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        reference.iter().filter(|(other, object)| object.content == Content::Directory && inside(other)).count()
    };
    let links = if kind == 'd' { 2 + subdirectories(path) } else { 1 };
    let size = size.unwrap_or(4096);
    format!("{kind}{bits} {links:2} {:5} {:5} {size:12} {path}", object.uid, object.gid)
}

#[test]
fn our_client_sees_the_tree_as_it_was_made() {
    let reference = reference();
    let image = image(&reference);
    let server = run(&image, Limits::default());
    let mut client = Client::new(Connection::open(server.nfs));
    let root = client.mount("/var/lib/walt/nodes/127.0.0.1/fs").unwrap();
    let mut found = BTreeMap::new();
    let mut directories = vec![(String::new(), root)];
    while let Some((prefix, dir)) = directories.pop() {
        let mut cookie = 0;
        loop {
            let (entries, eof) = client.list(&dir, cookie, Sizes::Plus(65_536, 65_536)).unwrap();
            for entry in entries {
                cookie = entry.cookie;
                if entry.name == "." || entry.name == ".." {
                    continue;
                }
                let (path, handle) = (format!("{prefix}{}", entry.name), entry.handle.unwrap());
                found.insert(path.clone(), object(&mut client, &entry.attr.unwrap(), &handle));
                if entry.attr.unwrap().kind == FileType::Directory {
                    directories.push((format!("{path}/"), handle));
                }
            }
            if eof {
                break;
            }
        }
    }
    assert_eq!(found.len(), reference.len());
    for (path, object) in &reference {
        assert!(found.get(path) == Some(object), "{path}: {:?}", found.get(path).map(|found| found.mode));
    }
}

fn object(client: &mut Client<Connection>, attr: &FileAttr, handle: &[u8]) -> Object {
    let content = match attr.kind {
        FileType::Directory => Content::Directory,
        FileType::Symlink => {
            let results = client.nfs(&Arguments::ReadLink { link: handle });
            let target = decode_readlink(&mut Reader::new(&results)).unwrap().unwrap();
            Content::Symlink(String::from_utf8(target.to_vec()).unwrap())
        }
        FileType::CharDevice => Content::CharDevice(attr.rdev.0, attr.rdev.1),
        _ => {
            let mut content = Vec::new();
            loop {
                let (data, eof) = client.read(handle, content.len() as u64, 1 << 20).unwrap();
                content.extend(data);
                if eof {
                    break;
                }
            }
            assert_eq!(content.len() as u64, attr.size);
            Content::File(content)
        }
    };
    Object { mode: attr.mode, uid: attr.uid, gid: attr.gid, mtime: attr.mtime.seconds, content }
}
