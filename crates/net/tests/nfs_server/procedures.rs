//! The procedures of RFC 1813 §3.3 on an image.

use image::ROOT;
use walt_net::nfs::{NodeExports, Transport};
use wire::nfs3::{Arguments, FileType, Status, access, decode_access, decode_readlink, procedure};
use wire::xdr::Reader;

use crate::client::{Client, Direct, Listed, Sizes, user};
use crate::image::{BIG, Bench, MANY, big, ip, node, sample, serve};

fn client(bench: &Bench, transport: Transport) -> (Client<Direct<'_, NodeExports>>, Vec<u8>) {
    let mut client = Client::new(Direct::new(&bench.dispatcher, ip(1), transport));
    let root = client.mount("/var/lib/walt/nodes/127.0.0.1/fs").unwrap();
    (client, root)
}

/// Runs `test` as node 1 with the sample image, over TCP.
fn with_sample(test: impl FnOnce(&mut Client<Direct<'_, NodeExports>>, &[u8], &crate::image::Image)) {
    let image = sample();
    let bench = serve([node(1, Some(&image))]);
    let (mut client, root) = client(&bench, Transport::Tcp);
    test(&mut client, &root, &image);
}

#[test]
fn rfc1813_section_3_3_1_getattr() {
    with_sample(|client, root, image| {
        let attr = client.getattr(root).unwrap();
        assert_eq!((attr.kind, attr.fileid, attr.fsid), (FileType::Directory, ROOT, image.view.fsid()));
        let hello = client.walk(root, "usr/bin/hello");
        let attr = client.getattr(&hello).unwrap();
        assert_eq!((attr.kind, attr.mode, attr.nlink, attr.size), (FileType::Regular, 0o4755, 1, 21));
        assert_eq!((attr.mtime.seconds, attr.ctime, attr.atime), (1_700_000_000, attr.mtime, attr.mtime));
        assert_eq!(attr.fileid, image.view.resolve(b"/bin/hello").unwrap());
    });
}

#[test]
fn rfc1813_section_3_3_3_lookup() {
    with_sample(|client, root, _| {
        let (etc, attr) = client.lookup(root, "etc").unwrap();
        assert_eq!(client.getattr(&etc).unwrap(), attr);
        assert_eq!(client.lookup(&etc, "..").unwrap().0, root);
        assert_eq!(client.lookup(root, "..").unwrap().0, root, "the root is its own parent");
        assert_eq!(client.lookup(&etc, ".").unwrap().0, etc);
        for (name, status) in [
            ("nothing", Status::NotFound),
            ("", Status::NotFound),
            ("../etc", Status::NotFound),
            (&"n".repeat(255), Status::NotFound),
            (&"n".repeat(256), Status::NameTooLong),
        ] {
            assert_eq!(client.lookup(&etc, name).unwrap_err(), status as u32, "{name:?}");
        }
        let shadow = client.walk(&etc, "shadow");
        assert_eq!(client.lookup(&shadow, "x").unwrap_err(), Status::NotDirectory as u32);
    });
}

#[test]
fn rfc1813_section_3_3_4_access() {
    with_sample(|client, root, _| {
        let all = 0x3f;
        let mut ask = |credential, object: &[u8]| {
            client.credential = credential;
            let results = client.nfs(&Arguments::Access { object, wanted: all });
            decode_access(&mut Reader::new(&results)).unwrap().unwrap()
        };
        let (read, search, run) = (access::READ, access::LOOKUP, access::EXECUTE);
        assert_eq!(ask(user(0, 0), root), read | search | run);
        client.credential = user(0, 0);
        let (hello, shadow, home) =
            (client.walk(root, "usr/bin/hello"), client.walk(root, "etc/shadow"), client.walk(root, "home"));
        let mut ask = |credential, object: &[u8], wanted| {
            client.credential = credential;
            let results = client.nfs(&Arguments::Access { object, wanted });
            decode_access(&mut Reader::new(&results)).unwrap().unwrap()
        };
        assert_eq!(ask(user(33, 33), &hello, all), read | run, "DESIGN 6.7");
        assert_eq!(ask(user(33, 33), &hello, run), run, "only what was asked for");
        assert_eq!(ask(user(0, 0), &shadow, all), read);
        assert_eq!(ask(user(33, 42), &shadow, all), read);
        assert_eq!(ask(user(33, 33), &shadow, all), 0);
        assert_eq!(ask(user(1000, 1), &home, all), read | search | run);
        assert_eq!(ask(user(33, 33), &home, all), 0);
    });
}

#[test]
fn what_access_refuses_is_refused() {
    with_sample(|client, root, _| {
        let (shadow, home) = (client.walk(root, "etc/shadow"), client.walk(root, "home"));
        client.credential = user(33, 33);
        let refused = Status::Access as u32;
        assert_eq!(client.read(&shadow, 0, 10).unwrap_err(), refused);
        assert_eq!(client.lookup(&home, "secret").unwrap_err(), refused);
        assert_eq!(client.list(&home, 0, Sizes::Plain(4096)).unwrap_err(), refused);
        assert_eq!(client.list(&home, 0, Sizes::Plus(4096, 4096)).unwrap_err(), refused);
        client.credential = user(1000, 1000);
        let secret = client.walk(&home, "secret");
        assert_eq!(client.read(&secret, 0, 10).unwrap(), (b"mine".to_vec(), true));
    });
}

#[test]
fn rfc1813_section_3_3_5_readlink() {
    with_sample(|client, root, _| {
        let bin = client.walk(root, "bin");
        let results = client.nfs(&Arguments::ReadLink { link: &bin });
        assert_eq!(decode_readlink(&mut Reader::new(&results)), Ok(Ok(&b"usr/bin"[..])));
        let results = client.nfs(&Arguments::ReadLink { link: root });
        assert_eq!(decode_readlink(&mut Reader::new(&results)), Ok(Err(Status::Invalid as u32)));
    });
}

#[test]
fn rfc1813_section_3_3_6_read() {
    with_sample(|client, root, _| {
        let content = big();
        let file = client.walk(root, "big");
        let mut whole = Vec::new();
        loop {
            let (data, eof) = client.read(&file, whole.len() as u64, u32::MAX).unwrap();
            assert!(data.len() <= 1 << 20, "rtmax");
            whole.extend(data);
            if eof {
                break;
            }
        }
        assert!(whole == content, "content");
        for (offset, count) in [(0, 1), (1, 3), (4095, 4098), (BIG - 5, 5), (BIG - 5, 100), (BIG, 10), (0, 0)] {
            let (data, eof) = client.read(&file, offset as u64, count as u32).unwrap();
            let end = (offset + count).min(BIG);
            assert!(data == content[offset..end], "{count} bytes at {offset}");
            assert_eq!(eof, end == BIG, "{count} bytes at {offset}");
        }
        assert_eq!(client.read(&file, u64::MAX, u32::MAX).unwrap(), (Vec::new(), true));
        let empty = client.walk(root, "empty");
        assert_eq!(client.read(&empty, 0, 4096).unwrap(), (Vec::new(), true));
        assert_eq!(client.read(root, 0, 1).unwrap_err(), Status::IsDirectory as u32);
        let link = client.walk(root, "bin");
        assert_eq!(client.read(&link, 0, 1).unwrap_err(), Status::Invalid as u32);
    });
}

#[test]
fn over_udp_a_reply_fits_in_a_datagram() {
    let image = sample();
    let bench = serve([node(1, Some(&image))]);
    let (mut client, root) = client(&bench, Transport::Udp);
    let file = client.walk(&root, "big");
    assert_eq!(client.read(&file, 0, 1 << 20).unwrap().0.len(), 32 << 10);
    let many = client.walk(&root, "many");
    for sizes in [Sizes::Plain(1 << 20), Sizes::Plus(1 << 20, 1 << 20)] {
        let (entries, _) = client.list(&many, 0, sizes).unwrap();
        assert!(entries.len() > 100);
    }
}

#[test]
fn rfc1813_sections_3_3_16_and_17_listings_agree() {
    with_sample(|client, root, image| {
        let many = client.walk(root, "many");
        let ino = image.view.resolve(b"/many").unwrap();
        let expected: Vec<_> = image
            .view
            .readdir(ino, 0)
            .unwrap()
            .map(|entry| (entry.ino, String::from_utf8(entry.name.to_vec()).unwrap(), entry.cookie))
            .collect();
        assert_eq!(expected.len(), MANY + 2);
        let plain = [Sizes::Plain(512), Sizes::Plain(8192), Sizes::Plain(u32::MAX)];
        let plus = [Sizes::Plus(256, 65_536), Sizes::Plus(65_536, 512), Sizes::Plus(u32::MAX, u32::MAX)];
        // Linux mixes the two: a listing may change its kind at any cookie.
        let mixed = [Sizes::Plain(400), Sizes::Plus(400, 2000), Sizes::Plain(1000)];
        let schedules = plain.iter().chain(&plus).map(|sizes| vec![*sizes]).chain([mixed.to_vec()]);
        for schedule in schedules {
            let mut listed: Vec<Listed> = Vec::new();
            for sizes in schedule.iter().cycle() {
                let cookie = listed.last().map_or(0, |entry| entry.cookie);
                let (entries, eof) = client.list(&many, cookie, *sizes).unwrap();
                assert!(eof || !entries.is_empty(), "{sizes:?}");
                listed.extend(entries);
                if eof {
                    break;
                }
            }
            let names: Vec<_> = listed.iter().map(|e| (e.fileid, e.name.clone(), e.cookie)).collect();
            assert!(names == expected, "{schedule:?}");
            for entry in listed.iter().filter(|entry| entry.handle.is_some()).step_by(50) {
                let handle = entry.handle.as_ref().unwrap();
                assert_eq!(client.getattr(handle).ok(), entry.attr, "{}", entry.name);
                assert_eq!(entry.attr.unwrap().fileid, entry.fileid);
            }
        }
        let too_small = Status::TooSmall as u32;
        assert_eq!(client.list(&many, 0, Sizes::Plain(50)).unwrap_err(), too_small);
        assert_eq!(client.list(&many, 0, Sizes::Plus(8, 4096)).unwrap_err(), too_small);
        let file = client.walk(root, "big");
        assert_eq!(client.list(&file, 0, Sizes::Plain(512)).unwrap_err(), Status::NotDirectory as u32);
    });
}

#[test]
fn rfc1813_sections_3_3_18_to_20_what_the_file_system_is() {
    with_sample(|client, root, image| {
        let after_attributes = 4 + 4 + 84;
        let stat = client.nfs(&Arguments::FsStat { object: root });
        let mut reader = Reader::new(&stat[after_attributes..]);
        let values: [u64; 6] = std::array::from_fn(|_| reader.u64().unwrap());
        assert_eq!(values, [image.view.total_bytes(), 0, 0, image.view.inode_count(), 0, 0]);
        let info = client.nfs(&Arguments::FsInfo { object: root });
        let mut reader = Reader::new(&info[after_attributes..]);
        assert_eq!((reader.u32(), reader.u32()), (Ok(1 << 20), Ok(1 << 20)), "rtmax, rtpref");
        let conf = client.nfs(&Arguments::PathConf { object: root });
        let mut reader = Reader::new(&conf[after_attributes + 4..]);
        assert_eq!((reader.u32(), reader.bool()), (Ok(255), Ok(true)), "name_max, no_trunc");
    });
}

#[test]
fn every_change_is_refused_with_the_attributes_it_owes() {
    with_sample(|client, root, _| {
        use procedure as p;
        let wcc = 4 + 24 + 4 + 84;
        let post_op = 4 + 84;
        let file = client.walk(root, "big");
        let modify = [p::SETATTR, p::WRITE, p::CREATE, p::MKDIR, p::SYMLINK, p::MKNOD, p::REMOVE, p::RMDIR, p::COMMIT];
        for procedure in modify {
            let results = client.nfs(&Arguments::Modify { procedure, object: &file });
            assert_eq!(Reader::new(&results).u32(), Ok(Status::ReadOnly as u32), "procedure {procedure}");
            assert_eq!(results.len(), 4 + wcc, "procedure {procedure}");
            let results = client.nfs(&Arguments::Modify { procedure, object: b"forged" });
            assert_eq!(Reader::new(&results).u32(), Ok(Status::BadHandle as u32));
            assert_eq!(results.len(), 4 + 8, "procedure {procedure}");
        }
        let results = client.nfs(&Arguments::Rename { from: root, to: &file });
        assert_eq!((Reader::new(&results).u32(), results.len()), (Ok(Status::ReadOnly as u32), 4 + 2 * wcc));
        let results = client.nfs(&Arguments::Rename { from: root, to: b"forged" });
        assert_eq!((Reader::new(&results).u32(), results.len()), (Ok(Status::BadHandle as u32), 4 + wcc + 8));
        let results = client.nfs(&Arguments::Link { file: &file, dir: root });
        assert_eq!((Reader::new(&results).u32(), results.len()), (Ok(Status::ReadOnly as u32), 4 + post_op + wcc));
    });
}

#[test]
fn the_same_call_again_has_the_same_answer() {
    with_sample(|client, root, _| {
        let first = client.nfs(&Arguments::FsInfo { object: root });
        assert_eq!(client.nfs(&Arguments::FsInfo { object: root }), first);
        assert_eq!(client.mount("/var/lib/walt/nodes/node-1/fs"), client.mount("/var/lib/walt/nodes/node-1/fs"));
    });
}
