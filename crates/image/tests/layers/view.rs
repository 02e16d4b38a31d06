//! What the view promises its readers.

use walt_image::tar::TarAttr;
use walt_image::{Extent, FileKind, ROOT, ResolveError, View};

use crate::stacked::{content, dir, file, image_id, listing, stack, tar, walk};

fn sample() -> crate::stacked::TestImage {
    stack(&[tar(|t| {
        t.directory(b"./", dir());
        t.directory(b"etc", dir()).file(b"etc/hostname", file(), b"node").file(b"etc/empty", file(), b"");
        t.symlink(b"bin", dir(), b"usr/bin").file(b"usr/bin/true", TarAttr { mode: 0o4755, ..dir() }, b"\x7fELF");
        t.symlink(b"usr/bin/sh", dir(), b"/bin/true").symlink(b"loop", dir(), b"loop");
        t.symlink(b"up", dir(), b"../../../../etc/./hostname");
        t.hard_link(b"usr/bin/false", dir(), b"usr/bin/true");
        t.char_device(b"dev/null", TarAttr::mode(0o666), (1, 3)).fifo(b"run/pipe", file());
    })])
}

#[test]
fn every_name_is_found_by_lookup_and_by_readdir_from_any_cookie() {
    let image = sample();
    let view = &image.view;
    assert_eq!(view.id(), image_id());
    assert_eq!(view.fsid(), 0x5a5a_5a5a_5a5a_5a5a);
    let mut seen = std::collections::HashSet::from([ROOT]);
    walk(view, &mut |_, ino| {
        seen.insert(ino);
    });
    assert_eq!(seen.len() as u64, view.inode_count());
    for ino in 1..=view.inode_count() {
        assert!(seen.contains(&ino), "inode {ino} has no name");
        let Some(entries) = view.readdir(ino, 0) else { continue };
        let entries: Vec<_> = entries.collect();
        assert_eq!((entries[0].name, entries[0].ino), (&b"."[..], ino));
        assert_eq!(entries[1].name, b"..");
        assert!(entries.is_sorted_by(|a, b| a.cookie < b.cookie));
        for (n, entry) in entries.iter().enumerate() {
            assert_eq!(view.lookup(ino, entry.name), Some(entry.ino), "{entry:?}");
            assert_eq!(view.attr(entry.ino).unwrap().kind, entry.kind);
            let rest: Vec<_> = view.readdir(ino, entry.cookie).unwrap().collect();
            assert_eq!(rest, entries[n + 1..]);
        }
        assert_eq!(view.readdir(ino, u64::MAX).unwrap().count(), 0);
        assert_eq!(view.lookup(ino, b"no such name"), None);
    }
}

#[test]
fn attributes_are_those_of_the_tar() {
    let image = sample();
    let view = &image.view;
    let attr = |path: &str| view.attr(view.resolve(path.as_bytes()).unwrap()).unwrap();
    let program = attr("usr/bin/true");
    assert_eq!((program.mode, program.nlink, program.size, program.kind), (0o4755, 2, 4, FileKind::Regular));
    assert_eq!(attr("usr/bin/false").ino, program.ino);
    let usr = attr("usr");
    assert_eq!((usr.kind, usr.mode, usr.nlink), (FileKind::Directory, 0o755, 3));
    // etc, usr, dev and run, `.` and the name that every root has.
    assert_eq!(attr("/").nlink, 6);
    assert_eq!(attr("dev/null").rdev, (1, 3));
    let link = view.attr(view.lookup(ROOT, b"bin").unwrap()).unwrap();
    assert_eq!((link.kind, link.mode, link.size), (FileKind::Symlink, 0o777, 7));
    assert_eq!(view.total_bytes(), 8);
    for missing in [0, view.inode_count() + 1, u64::MAX] {
        assert_eq!(view.attr(missing), None);
        assert_eq!(view.lookup(missing, b"x"), None);
        assert!(view.readdir(missing, 0).is_none());
        assert_eq!(view.readlink(missing), None);
        assert!(view.xattrs(missing).is_empty());
        assert_eq!(view.extents(missing, 0, 10).count(), 0);
        assert!(view.read_at(missing, 0, &mut [0; 4]).is_err());
    }
}

#[test]
fn paths_resolve_inside_of_the_image() {
    let image = sample();
    let view = &image.view;
    let named = |path: &str| view.resolve(path.as_bytes());
    let program = named("usr/bin/true").unwrap();
    for same in ["/bin/true", "bin/sh", "//usr//bin/./sh", "../bin/sh", "usr/bin/../bin/false", "etc/../bin/sh"] {
        assert_eq!(named(same), Ok(program), "{same}");
    }
    for root in ["", "/", "///", ".", "..", "etc/..", "../.."] {
        assert_eq!(named(root), Ok(ROOT), "{root}");
    }
    assert_eq!(content(view, named("up").unwrap()), b"node");
    assert_eq!(named("etc/"), named("etc"));
    assert_eq!(named("bin/"), named("usr/bin"));
    assert_eq!(named("loop"), Err(ResolveError::TooManySymlinks));
    assert_eq!(named("etc/hostname/"), Err(ResolveError::NotADirectory));
    assert_eq!(named("up/x"), Err(ResolveError::NotADirectory));
    assert_eq!(named("etc/hostname/.."), Err(ResolveError::NotADirectory));
    assert_eq!(named("etc/none/x"), Err(ResolveError::NotFound));
}

#[test]
fn reads_are_those_of_pread() {
    let text: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let image = stack(&[tar(|t| {
        t.file(b"big", file(), &text);
    })]);
    let view = &image.view;
    let ino = view.resolve(b"big").unwrap();
    for (offset, len) in [(0, 10), (399_999, 10), (400_000, 10), (u64::MAX, 10), (4095, 70_000), (0, 0)] {
        let mut buf = vec![0; len];
        let read = view.read_at(ino, offset, &mut buf).unwrap();
        let from = usize::try_from(offset).unwrap().min(text.len());
        assert_eq!(&buf[..read], &text[from..text.len().min(from.saturating_add(len))]);
        // Just written, so cached: unless the file system cannot say.
        let mut cached = vec![0; len];
        if let Some(count) = view.try_read_at(ino, offset, &mut cached).unwrap() {
            assert_eq!(cached[..count], buf[..read]);
        }
    }
    let [Extent::Data { len: 100, pos, .. }] = view.extents(ino, 50, 100).collect::<Vec<_>>()[..] else {
        panic!("one run of data")
    };
    assert_eq!(pos, 512 + 50);
    assert!(view.read_at(ROOT, 0, &mut [0; 4]).is_err());
}

#[test]
fn a_damaged_index_is_refused_wherever_it_is_damaged() {
    let image = sample();
    let path = image.directory.path().join("index");
    let good = std::fs::read(&path).unwrap();
    let files = walt_image::LayerFiles::new(image.directory.path());
    assert_eq!(listing(&View::from_index(good.clone(), &files).unwrap()), listing(&image.view));
    for len in 0..good.len() {
        assert!(View::from_index(good[..len].to_vec(), &files).is_err(), "cut to {len}");
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(View::from_index(bad, &files).is_err(), "flipped at {at}");
    }
}

#[test]
fn an_index_is_opened_over_its_own_layers_only() {
    let image = sample();
    let layer = std::fs::read_dir(image.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_none() && path.file_name().unwrap() != "index")
        .unwrap();
    let tar = std::fs::read(&layer).unwrap();
    std::fs::write(&layer, &tar[512..]).unwrap();
    let files = walt_image::LayerFiles::new(image.directory.path());
    let open = || View::open(&image.directory.path().join("index"), &files);
    assert!(open().unwrap_err().to_string().contains("instead of"));
    std::fs::remove_file(&layer).unwrap();
    assert!(open().is_err());
}
