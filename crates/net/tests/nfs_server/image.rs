//! Images and nodes to serve.

use std::net::Ipv4Addr;
use std::sync::Arc;

use image::tar::{TarAttr, TarWriter};
use image::{LayerFiles, Timestamp, View, index};
use tokio::sync::mpsc::Receiver;
use walt_net::nfs::{Counters, Dispatcher, HandleKey, NodeExports};
use walt_net::{Event, Events, Exports, MacAddr, NodeExport};

/// Every test's `roots`.
pub(crate) const ROOTS: [&str; 2] = ["/var/lib/walt", "/srv/state"];
/// Size of `/big`, in bytes: more than one READ.
pub(crate) const BIG: usize = (2 << 20) + 777;
/// Files in `/many`.
pub(crate) const MANY: usize = 700;

/// A view that keeps its layers.
pub(crate) struct Image {
    pub(crate) view: Arc<View>,
    _layers: tempfile::TempDir,
}

/// An image of one layer; `id` is repeated to make its image id.
pub(crate) fn build(id: &str, fill: impl FnOnce(&mut TarWriter)) -> Image {
    let directory = tempfile::tempdir().unwrap();
    let mut tar = TarWriter::new();
    fill(&mut tar);
    let files = LayerFiles::new(directory.path());
    let (layer, entries) = files.add(&tar.finish()).unwrap();
    let index = index::build(&[(layer, &entries)], &id.repeat(32)).unwrap();
    Image { view: Arc::new(View::from_index(index, &files).unwrap()), _layers: directory }
}

/// An image with an object of each kind that the tests ask for.
pub(crate) fn sample() -> Image {
    build("5a", |tar| {
        let dir = TarAttr::mode(0o755);
        let mtime = Timestamp { secs: 1_700_000_000, nanos: 0 };
        tar.directory(b"usr", dir).directory(b"usr/bin", dir).symlink(b"bin", TarAttr::mode(0o777), b"usr/bin");
        tar.file(b"usr/bin/hello", TarAttr { mtime, ..TarAttr::mode(0o4755) }, b"#!/bin/sh\necho hello\n");
        tar.directory(b"etc", dir).file(b"etc/shadow", TarAttr { gid: 42, ..TarAttr::mode(0o640) }, b"root:*:\n");
        tar.directory(b"home", TarAttr { uid: 1000, gid: 1000, ..TarAttr::mode(0o700) });
        tar.file(b"home/secret", TarAttr { uid: 1000, gid: 1000, ..TarAttr::mode(0o600) }, b"mine");
        tar.file(b"big", TarAttr::mode(0o644), &big()).file(b"empty", TarAttr::mode(0o644), b"");
        tar.directory(b"many", dir);
        for number in 0..MANY {
            tar.file(format!("many/file-{number:04}").as_bytes(), TarAttr::mode(0o644), b"x");
        }
    })
}

/// Content of `/big`.
pub(crate) fn big() -> Vec<u8> {
    (0..BIG as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Address of node number `n`.
pub(crate) fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, n)
}

/// Hardware address of node number `n`.
pub(crate) fn mac(n: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, n])
}

/// Node number `n`, with this image.
pub(crate) fn node(n: u8, image: Option<&Image>) -> NodeExport {
    NodeExport {
        mac: mac(n),
        ip: ip(n),
        name: format!("node-{n}"),
        model: "pc-x86-64".to_owned(),
        image: image.map(|image| Arc::clone(&image.view)),
        held: Vec::new(),
    }
}

/// A dispatcher over nodes, and what it reports.
pub(crate) struct Bench {
    pub(crate) dispatcher: Dispatcher<NodeExports>,
    pub(crate) exports: Arc<Exports>,
    pub(crate) events: Receiver<Event>,
    pub(crate) counters: Arc<Counters>,
}

pub(crate) fn key() -> HandleKey {
    HandleKey::new([7; 16])
}

/// A dispatcher that serves these nodes.
pub(crate) fn serve(nodes: impl IntoIterator<Item = NodeExport>) -> Bench {
    let exports = Arc::new(Exports::default());
    nodes.into_iter().for_each(|node| exports.set(node));
    let (sender, events) = Events::channel(64);
    let counters = Arc::new(Counters::default());
    let roots = ROOTS.map(str::to_owned).to_vec();
    let exporter = NodeExports::new(Arc::clone(&exports), sender, roots, Arc::clone(&counters));
    Bench { dispatcher: Dispatcher::new(exporter, key(), 111, 2049, Arc::clone(&counters)), exports, events, counters }
}
