//! A stack of hostile layers: tar -> entries -> table of contents -> index -> view.
//!
//! The first byte of an input chooses: layers (checksums of headers are mended, which no fuzzer would find),
//! or the bytes of an index or of a table of contents (checksum mended likewise).
#![no_main]

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::LazyLock;

use image::tar::{EntryKind, LayerEntries, LayerScanner};
use image::{Extent, FileKind, LayerFiles, ROOT, View, index};
use libfuzzer_sys::fuzz_target;

/// Layers' tars of one input, in memory.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = PathBuf::from(format!("/dev/shm/walt-fuzz-layer-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a directory in memory");
    path
});

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else { return };
    match choice {
        0..=239 => stack(rest),
        240..=247 => index_file(rest),
        248..=255 => table_of_contents(rest),
    }
});

/// A byte for the size of pieces, then for each layer but the last its length in blocks.
fn stack(input: &[u8]) {
    let Some((&[piece, first, second], tars)) = input.split_first_chunk() else { return };
    let mut tars = tars.to_vec();
    for block in tars.chunks_exact_mut(512).filter(|block| block.get(257..262) == Some(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    let (lowest, rest) = tars.split_at(tars.len().min(usize::from(first) * 512));
    let (middle, top) = rest.split_at(rest.len().min(usize::from(second) * 512));

    let files = LayerFiles::new(&*DIRECTORY);
    let mut layers = Vec::new();
    for tar in [lowest, middle, top] {
        let whole = scan(tar, usize::MAX);
        assert_eq!(whole, scan(tar, 1 + usize::from(piece)), "the pieces matter");
        let Ok(entries) = whole else { continue };
        check_entries(&entries);
        let toc = entries.to_toc();
        assert_eq!(LayerEntries::from_toc(&toc).as_ref(), Ok(&entries));
        layers.push(files.add(tar).expect("it has just been scanned"));
    }
    let stack: Vec<_> = layers.iter().map(|(layer, entries)| (*layer, entries)).collect();
    if let Ok(bytes) = index::build(&stack, &"5a".repeat(32)) {
        assert_eq!(index::build(&stack, &"5a".repeat(32)).ok().as_ref(), Some(&bytes), "not the same twice");
        let view = View::from_index(bytes, &files).expect("an index that was just built");
        check_view(&view);
    }
    for (layer, _) in layers {
        let _ = std::fs::remove_file(files.path(layer));
        let _ = std::fs::remove_file(files.toc_path(layer));
    }
}

fn scan(tar: &[u8], piece: usize) -> Result<LayerEntries, image::tar::TarError> {
    let mut scanner = LayerScanner::new();
    for bytes in tar.chunks(piece) {
        scanner.push(bytes)?;
    }
    scanner.finish()
}

/// What the scanner promises of every entry.
fn check_entries(layer: &LayerEntries) {
    for entry in &layer.entries {
        assert!(entry.path.len() <= 4095 && !entry.path.contains(&0));
        let components = entry.path.split(|&b| b == b'/');
        assert!(entry.path.is_empty() || components.clone().all(|c| !matches!(c, b"" | b"." | b"..") && c.len() <= 255));
        assert!(entry.mode <= 0o7777 && entry.mtime.nanos < 1_000_000_000);
        if let EntryKind::Regular { size, runs } = &entry.kind {
            let mut end = 0;
            for run in runs {
                assert!(run.len > 0 && run.offset >= end);
                end = run.offset + run.len;
                assert!(end <= *size && run.pos + run.len <= layer.tar_len);
            }
        }
    }
}

/// Every inode has a name, every name is found, every byte can be read.
fn check_view(view: &View) {
    let mut seen = HashSet::from([ROOT]);
    let mut directories = vec![ROOT];
    while let Some(directory) = directories.pop() {
        for entry in view.readdir(directory, 0).expect("a directory") {
            assert_eq!(view.lookup(directory, entry.name), Some(entry.ino));
            let attr = view.attr(entry.ino).expect("an inode");
            assert_eq!(attr.kind, entry.kind);
            if seen.insert(entry.ino) && attr.kind == FileKind::Directory {
                directories.push(entry.ino);
            }
            assert_eq!(view.readlink(entry.ino).is_some(), attr.kind == FileKind::Symlink);
            if let Some(target) = view.readlink(entry.ino) {
                let _ = view.resolve(target);
                if let Ok(real) = view.real_path(target) {
                    assert_eq!(view.resolve(&real), view.resolve(target));
                }
            }
            if attr.kind == FileKind::Regular {
                let covered: u64 = view.extents(entry.ino, 0, u64::MAX).map(|extent| length(&extent)).sum();
                assert_eq!(covered, attr.size);
                let mut buffer = [0xee; 700];
                let at = attr.size.saturating_sub(600);
                let read = view.read_at(entry.ino, at, &mut buffer).expect("a layer that is all there");
                assert_eq!(read as u64, attr.size - at);
            }
        }
    }
    assert_eq!(seen.len() as u64, view.inode_count());
}

fn length(extent: &Extent<'_>) -> u64 {
    let (Extent::Data { len, .. } | Extent::Hole { len }) = extent;
    *len
}

/// No content of an index makes an accessor panic, go round for ever, or leave the file.
fn index_file(input: &[u8]) {
    let mut bytes = input.to_vec();
    if bytes.len() < 256 {
        return;
    }
    let len = bytes.len() as u64;
    bytes[..8].copy_from_slice(b"WALTIX01");
    bytes[16..24].copy_from_slice(&len.to_le_bytes());
    let crc = crc32fast::hash(&[&bytes[..8], &bytes[12..]].concat());
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    let Ok(view) = View::from_index(bytes, &LayerFiles::new(&*DIRECTORY)) else { return };
    for ino in 0..=view.inode_count().min(1000) + 1 {
        let _ = (view.attr(ino), view.readlink(ino), view.xattrs(ino).len());
        let entries = view.readdir(ino, 0).map(|entries| entries.take(100).map(|e| (e.name, e.ino)).collect::<Vec<_>>());
        for (name, _) in entries.into_iter().flatten() {
            let _ = view.lookup(ino, name);
        }
        let covered: u64 = view.extents(ino, 3, 5000).take(100).map(|extent| length(&extent)).sum();
        assert!(covered <= 5000);
        let _ = view.read_at(ino, 5, &mut [0; 600]);
    }
    let _ = view.resolve(b"/a/../b/c");
}

fn table_of_contents(input: &[u8]) {
    let mut bytes = b"WALTTC01".to_vec();
    bytes.extend(crc32fast::hash(input).to_le_bytes());
    bytes.extend(input);
    let _ = LayerEntries::from_toc(&bytes);
}
