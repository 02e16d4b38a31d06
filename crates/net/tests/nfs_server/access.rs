//! Who may mount and read what, and what is answered to those who may not.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use image::ROOT;
use image::tar::TarAttr;
use walt_net::Event;
use walt_net::nfs::{NodeExports, Transport};
use wire::mount::{self, MountStat};
use wire::nfs3::{self, Arguments, Status};
use wire::portmap;
use wire::rpc::{AcceptStat, Outcome};
use wire::xdr::Reader;

use crate::client::{Client, Direct, Server, nfs_message, user};
use crate::image::{Bench, Image, build, ip, mac, node, sample, serve};

fn at(bench: &Bench, n: u8) -> Client<Direct<'_, NodeExports>> {
    Client::new(Direct::new(&bench.dispatcher, ip(n), Transport::Tcp))
}

/// An image that shares nothing with the sample.
fn another() -> Image {
    build("b2", |tar| {
        tar.file(b"other", TarAttr::default(), b"content");
    })
}

const STALE: u32 = Status::Stale as u32;

#[test]
fn a_node_mounts_its_own_path_in_each_form() {
    let image = sample();
    let mut bench = serve([node(1, Some(&image)), node(2, Some(&image))]);
    let forms = [
        "/var/lib/walt/nodes/127.0.0.1/fs",
        "/var/lib/walt/nodes/52:54:00:00:00:01/fs",
        "/var/lib/walt/nodes/52-54-00-00-00-01/fs",
        "/srv/state/nodes/node-1/fs/",
    ];
    let handles: Vec<_> = forms.iter().map(|path| at(&bench, 1).mount(path).expect(path)).collect();
    assert!(handles.windows(2).all(|pair| pair[0] == pair[1]), "one image, one root handle");
    assert_eq!(at(&bench, 1).getattr(&handles[0]).unwrap().fileid, ROOT);
    for _ in forms {
        let mounted = Event::Mounted { client: ip(1), image: image.view.id().to_owned() };
        assert_eq!(bench.events.try_recv(), Ok(mounted));
    }
    let node = bench.exports.by_ip(ip(1)).unwrap();
    assert_eq!(node.held.len(), 1, "held once, however often it is mounted");
    let below = at(&bench, 1).mount("/var/lib/walt/nodes/node-1/fs/bin").unwrap();
    let bin = image.view.resolve(b"/usr/bin").unwrap();
    assert_eq!(at(&bench, 1).getattr(&below).unwrap().fileid, bin, "a symlink on the way stays inside");
}

#[test]
fn a_mount_is_refused_with_its_reason() {
    let image = sample();
    let mut bench = serve([node(1, Some(&image)), node(2, Some(&image)), node(3, None)]);
    let table = [
        (1, "/var/lib/walt/nodes/127.0.0.2/fs", MountStat::Access, "the path is another node's"),
        (1, "/var/lib/walt/nodes/52:54:00:00:00:02/fs", MountStat::Access, "the path is another node's"),
        (1, "/var/lib/walt/nodes/nobody/fs", MountStat::Access, "the path is another node's"),
        (9, "/var/lib/walt/nodes/127.0.0.1/fs", MountStat::Access, "no node is known at this address"),
        (9, "/var/lib/walt/nodes/127.0.0.9/fs", MountStat::Access, "no node is known at this address"),
        (3, "/var/lib/walt/nodes/127.0.0.3/fs", MountStat::ServerFault, "the node's image is not ready"),
        (1, "/etc", MountStat::NotFound, "the path is not that of a node"),
        (
            1,
            "/var/lib/walt/nodes/127.0.0.1/fs/../../127.0.0.2/fs",
            MountStat::NotFound,
            "the image has no such directory",
        ),
        (1, "/var/lib/walt/nodes/127.0.0.1/fs/none", MountStat::NotFound, "the image has no such directory"),
        (1, "/var/lib/walt/nodes/127.0.0.1/fs/big", MountStat::NotDirectory, "the path is no directory"),
        (1, "/var/lib/walt/nodes/127.0.0.1/fs/big/x", MountStat::NotDirectory, "the path leads through a file"),
    ];
    for (n, path, stat, reason) in table {
        assert_eq!(at(&bench, n).mount(path), Err(stat as u32), "{path} by {n}");
        let refused = Event::MountRefused { client: ip(n), path: path.to_owned(), reason };
        assert_eq!(bench.events.try_recv(), Ok(refused));
    }
    assert_eq!(bench.counters.mounts_refused.load(Relaxed), table.len() as u64);
    assert!(bench.exports.all().iter().all(|node| node.held.is_empty()));
}

#[test]
fn handles_are_good_for_the_caller_s_images_only() {
    let (one, two) = (sample(), another());
    let bench = serve([node(1, Some(&one)), node(2, Some(&two))]);
    let root = at(&bench, 1).mount("/var/lib/walt/nodes/127.0.0.1/fs").unwrap();
    let shadow = at(&bench, 1).walk(&root, "etc/shadow");
    assert!(at(&bench, 1).getattr(&shadow).is_ok());
    // Another node with the very bytes of a good handle, and an address that no node has.
    for n in [2, 9] {
        assert_eq!(at(&bench, n).getattr(&shadow), Err(STALE));
        assert_eq!(at(&bench, n).read(&shadow, 0, 10).unwrap_err(), STALE);
        assert_eq!(at(&bench, n).lookup(&root, "etc").unwrap_err(), STALE);
    }
    let mut forged = shadow.clone();
    forged[19] ^= 1;
    assert_eq!(at(&bench, 1).getattr(&forged), Err(Status::BadHandle as u32));
    assert_eq!(bench.counters.bad_handles.load(Relaxed), 1);
    assert_eq!(bench.counters.stale_handles.load(Relaxed), 6);
}

#[test]
fn an_image_that_is_held_stays_readable_until_the_node_leaves_it() {
    let (one, two) = (sample(), another());
    let bench = serve([node(1, Some(&one))]);
    let root = at(&bench, 1).mount("/var/lib/walt/nodes/127.0.0.1/fs").unwrap();
    bench.exports.update(mac(1), |node| node.image = Some(Arc::clone(&two.view)));
    assert!(at(&bench, 1).lookup(&root, "etc").is_ok(), "the node still runs the old image");
    let new_root = at(&bench, 1).mount("/var/lib/walt/nodes/127.0.0.1/fs").unwrap();
    assert_ne!(root, new_root);
    assert!(at(&bench, 1).getattr(&root).is_ok() && at(&bench, 1).getattr(&new_root).is_ok());
    bench.exports.update(mac(1), |node| node.held.clear());
    assert_eq!(at(&bench, 1).getattr(&root), Err(STALE), "its bootloader ran since");
    assert!(at(&bench, 1).getattr(&new_root).is_ok());
}

#[test]
fn a_handle_outlives_the_server() {
    let image = sample();
    let handle = {
        let bench = serve([node(1, Some(&image))]);
        let root = at(&bench, 1).mount("/var/lib/walt/nodes/127.0.0.1/fs").unwrap();
        at(&bench, 1).walk(&root, "usr/bin/hello")
    };
    let after_restart = serve([node(1, Some(&image))]);
    assert_eq!(at(&after_restart, 1).getattr(&handle).unwrap().mode, 0o4755, "no ESTALE, without a new mount");
}

#[test]
fn export_and_dump_show_a_client_its_own() {
    let image = sample();
    let bench = serve([node(1, Some(&image)), node(2, Some(&image))]);
    let ask = |n, procedure| at(&bench, n).call((mount::PROGRAM, mount::VERSION, procedure), |_| {}).1;
    let exports = ask(1, mount::EXPORT);
    let mut reader = Reader::new(&exports);
    assert_eq!((reader.bool(), reader.opaque(99)), (Ok(true), Ok(&b"/var/lib/walt/nodes/127.0.0.1/fs"[..])));
    assert_eq!((reader.bool(), reader.opaque(99)), (Ok(true), Ok(&b"127.0.0.1"[..])));
    assert_eq!((reader.bool(), reader.bool(), reader.rest()), (Ok(false), Ok(false), &[][..]));
    assert_eq!(ask(9, mount::EXPORT), [0; 4]);
    assert_eq!(ask(1, mount::DUMP), [0; 4]);
    at(&bench, 1).mount("/var/lib/walt/nodes/127.0.0.1/fs").unwrap();
    assert!(ask(1, mount::DUMP).len() > 4);
    assert_eq!(ask(2, mount::DUMP), [0; 4]);
    assert!(ask(1, mount::UMNTALL).is_empty());
    let (outcome, _) = at(&bench, 1).call((mount::PROGRAM, mount::VERSION, mount::UMNT), |out| out.opaque(b"/x"));
    assert_eq!(outcome, Outcome::Accepted(AcceptStat::Success));
}

#[test]
fn rfc5531_section_9_what_is_not_here() {
    let bench = serve([]);
    let ask = |program, version, procedure| at(&bench, 1).call((program, version, procedure), |_| {}).0;
    let mismatch = |v| Outcome::Accepted(AcceptStat::ProgramMismatch { low: v, high: v });
    assert_eq!(ask(nfs3::PROGRAM, 4, 0), mismatch(3));
    assert_eq!(ask(nfs3::PROGRAM, 2, 0), mismatch(3));
    assert_eq!(ask(mount::PROGRAM, 1, 0), mismatch(3));
    assert_eq!(ask(portmap::PROGRAM, 4, 0), mismatch(2));
    // NFS_ACL, which Linux asks for after each mount.
    assert_eq!(ask(100_227, 3, 0), Outcome::Accepted(AcceptStat::ProgramUnavailable));
    for (program, version, last) in [(nfs3::PROGRAM, 3, 21), (mount::PROGRAM, 3, 5), (portmap::PROGRAM, 2, 5)] {
        assert_eq!(ask(program, version, 0), Outcome::Accepted(AcceptStat::Success));
        assert_eq!(ask(program, version, last + 1), Outcome::Accepted(AcceptStat::ProcedureUnavailable));
    }
    assert_eq!(ask(nfs3::PROGRAM, 3, 1), Outcome::Accepted(AcceptStat::GarbageArguments));
    assert_eq!(bench.counters.unavailable.load(Relaxed), 8);
    assert_eq!(bench.counters.malformed.load(Relaxed), 1);
}

#[test]
fn rfc5531_section_9_other_credentials_are_rejected() {
    let bench = serve([]);
    let mut call = nfs_message(5, user(0, 0), &Arguments::Null);
    call[24..28].copy_from_slice(&6_u32.to_be_bytes()); // RPCSEC_GSS
    let mut server = Direct::new(&bench.dispatcher, ip(1), Transport::Tcp);
    assert_eq!(server.exchange(&call).unwrap()[4..], [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2]);
    assert_eq!(server.exchange(&call[..20]), None, "no whole header: nothing to answer to");
    assert_eq!(server.exchange(&[]), None);
    assert_eq!((bench.counters.denied.load(Relaxed), bench.counters.malformed.load(Relaxed)), (1, 2));
}
