//! Layers that are refused, or tamed.

use walt_image::tar::{DataRun, EntryKind, LayerEntries, LayerScanner, TarAttr, TarError, TarErrorReason, TarWriter};

use crate::stacked::{dir, file, tar};

fn scan(tar: &[u8], piece: usize) -> Result<LayerEntries, TarError> {
    let mut scanner = LayerScanner::new();
    for bytes in tar.chunks(piece) {
        scanner.push(bytes)?;
    }
    scanner.finish()
}

fn reason(tar: &[u8]) -> TarErrorReason {
    scan(tar, 4096).expect_err("it must be refused").reason
}

/// A header whose fields a test may spoil; the checksum is made right afterwards.
fn header(spoil: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut block = tar(|t| _ = t.file(b"name", file(), b""))[..512].to_vec();
    spoil(&mut block);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn octal(number: u64) -> [u8; 12] {
    format!("{number:011o}\0").into_bytes().try_into().unwrap()
}

/// An extended header with this text, before an empty file.
fn pax(text: &[u8]) -> Vec<u8> {
    let mut tar = header(|h| {
        h[156] = b'x';
        h[124..136].copy_from_slice(&octal(text.len() as u64));
    });
    tar.extend(text);
    tar.resize(tar.len().next_multiple_of(512), 0);
    tar.extend(header(|_| {}));
    tar
}

fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = (1..).find(|digits| (rest + digits).to_string().len() == *digits).unwrap();
    format!("{} {key}={value}\n", rest + digits).into_bytes()
}

#[test]
fn each_kind_of_nonsense_is_refused_by_its_name() {
    use TarErrorReason as R;
    let spoiled = |at: usize, bytes: &'static [u8]| header(|h| h[at..at + bytes.len()].copy_from_slice(bytes));
    let long = |name: &str| pax(&record("path", name));
    let cases: Vec<(&str, Vec<u8>, R)> = vec![
        (
            "flipped bit",
            tar(|t| _ = t.file(b"a", file(), b"")).iter().enumerate().map(|(n, b)| b ^ u8::from(n == 3)).collect(),
            R::Checksum,
        ),
        ("text", b"not a tar at all".repeat(64), R::Checksum),
        ("mode", spoiled(100, b"9"), R::Number("mode")),
        ("uid below 0", spoiled(108, b"\xff\xff\xff\xff\xff\xff\xff\xff"), R::Number("uid")),
        ("gid above 32 bits", spoiled(116, b"\x80\0\0\x01\0\0\0\0"), R::Number("gid")),
        ("size below 0", spoiled(124, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), R::Number("size")),
        ("size at the end of numbers", spoiled(124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), R::Truncated),
        ("multi-volume", spoiled(156, b"M"), R::TypeFlag(b'M')),
        ("unknown type", spoiled(156, b"?"), R::TypeFlag(b'?')),
        ("symlink to nothing", spoiled(156, b"2"), R::LinkTarget),
        ("hard link to nothing", spoiled(156, b"1"), R::LinkTarget),
        (
            "device number",
            header(|h| {
                h[156] = b'3';
                h[329] = b'x';
            }),
            R::Number("device number"),
        ),
        ("root as a file", spoiled(0, b"./.\0"), R::RootNotADirectory),
        ("whiteout of nothing", spoiled(0, b".wh.\0"), R::Whiteout),
        ("whiteout of ..", spoiled(0, b".wh...\0"), R::Whiteout),
        ("name of 256 bytes", long(&"a".repeat(256)), R::NameTooLong),
        ("path of 4097 bytes", long(&"a/".repeat(2049)), R::PathTooLong),
        ("NUL in a path", long("a\0b"), R::NulInPath),
        (
            "target of 4096 bytes",
            {
                let mut tar = pax(&record("linkpath", &"t".repeat(4096)));
                let at = tar.len() - 512;
                tar.truncate(at);
                tar.extend(header(|h| h[156] = b'2'));
                tar
            },
            R::LinkTarget,
        ),
        ("record without length", pax(b"path=a\n"), R::Pax),
        ("record longer than the header", pax(b"99 path=a\n"), R::Pax),
        ("record without newline", pax(b"9 path=a "), R::Pax),
        ("record without key", pax(b"6 =ab\n"), R::Pax),
        ("record of length 0", pax(b"0 path=a\n"), R::Pax),
        ("PAX size", pax(&record("size", "-1")), R::Number("size")),
        ("PAX uid", pax(&record("uid", "4294967296")), R::Number("uid")),
        ("PAX time", pax(&record("mtime", "yesterday")), R::Number("mtime")),
        ("attribute name", pax(&record(&format!("SCHILY.xattr.{}", "n".repeat(256)), "v")), R::Xattr("n".repeat(80))),
        ("attribute value", pax(&record("SCHILY.xattr.user.v", &"v".repeat(65537))), R::Xattr("user.v".into())),
        (
            "huge extended header",
            header(|h| {
                h[156] = b'x';
                h[124..136].copy_from_slice(&octal(1 << 30));
            }),
            R::MetadataSize(1 << 30),
        ),
        (
            "huge long name",
            header(|h| {
                h[156] = b'L';
                h[124..136].copy_from_slice(&octal(1 << 30));
            }),
            R::MetadataSize(1 << 30),
        ),
        (
            "global path",
            {
                let text = record("path", "x");
                let mut tar = pax(&text);
                tar.splice(
                    ..512,
                    header(|h| {
                        h[156] = b'g';
                        h[124..136].copy_from_slice(&octal(text.len() as u64));
                    }),
                );
                tar
            },
            R::GlobalRecord("path".into()),
        ),
        (
            "extended header before the end",
            {
                let mut t = pax(&record("path", "x"));
                let at = t.len() - 512;
                t[at..].fill(0);
                t
            },
            R::StrayMetadata,
        ),
        (
            "extended header at the end",
            {
                let mut t = pax(&record("path", "x"));
                t.truncate(1024);
                t
            },
            R::StrayMetadata,
        ),
        ("zeros in the middle", [vec![0; 512], header(|_| {})].concat(), R::LoneZeroBlock),
        (
            "sparse map beyond the file",
            pax(&[record("GNU.sparse.size", "10"), record("GNU.sparse.map", "8,4")].concat()),
            R::Sparse,
        ),
        (
            "sparse map going back",
            pax(&[record("GNU.sparse.size", "10"), record("GNU.sparse.map", "5,1,0,1")].concat()),
            R::Sparse,
        ),
        (
            "sparse map overflowing",
            pax(&[record("GNU.sparse.size", "10"), record("GNU.sparse.map", "18446744073709551615,2")].concat()),
            R::Sparse,
        ),
        (
            "sparse map of an odd length",
            pax(&[record("GNU.sparse.size", "10"), record("GNU.sparse.map", "1,2,3")].concat()),
            R::Sparse,
        ),
        (
            "sparse map without the data",
            pax(&[record("GNU.sparse.size", "10"), record("GNU.sparse.map", "0,4")].concat()),
            R::Sparse,
        ),
        (
            "sparse format of the future",
            pax(&[record("GNU.sparse.major", "2"), record("GNU.sparse.realsize", "1")].concat()),
            R::Sparse,
        ),
        (
            "sparse map that is not there",
            pax(&[record("GNU.sparse.major", "1"), record("GNU.sparse.realsize", "1")].concat()),
            R::Truncated,
        ),
    ];
    for (what, tar, expected) in cases {
        assert_eq!(reason(&tar), expected, "{what}");
    }
}

#[test]
fn a_sparse_map_cannot_take_more_memory_than_its_bytes() {
    // The map says that it has 2^60 runs.
    let mut tar = pax(&[record("GNU.sparse.major", "1"), record("GNU.sparse.realsize", "1")].concat());
    let at = tar.len() - 512;
    tar.splice(at.., header(|h| h[124..136].copy_from_slice(&octal(1 << 30))));
    tar.extend(b"1152921504606846976\n");
    tar.resize(tar.len().next_multiple_of(512), 0);
    assert_eq!(reason(&tar), TarErrorReason::Sparse);
}

#[test]
fn attributes_of_a_layer_are_bounded_together() {
    // 1 MiB of attributes per entry, in 300 bytes of a compressed layer.
    let value = vec![b'v'; 65_536];
    let names: Vec<_> = (0..15).map(|n| format!("user.{n}")).collect();
    let xattrs: Vec<_> = names.iter().map(|name| (name.as_bytes(), &value[..])).collect();
    let mut one = TarWriter::new();
    one.file(b"a", TarAttr { xattrs: &xattrs, ..file() }, b"");
    let one = one.finish();
    let one = &one[..one.len() - 1024];
    let mut scanner = LayerScanner::new();
    let error = (0..1000).find_map(|_| scanner.push(one).err()).expect("a bound");
    assert_eq!(error.reason, TarErrorReason::TooMuchMetadata);
    assert_eq!(scanner.push(b"more"), Err(error.clone()));
    assert_eq!(scanner.finish(), Err(error));
}

#[test]
fn a_layer_is_the_same_in_pieces_and_refused_when_cut() {
    let tar = tar(|t| {
        t.directory(b"./", dir()).file(b"etc/a", file(), &[7; 1300]).symlink(&[b'l'; 150], dir(), &[b't'; 200]);
        t.hard_link(b"b", file(), b"etc/a").whiteout(b"x/y").opaque(b"z").fifo(b"p", file());
    });
    let whole = scan(&tar, usize::MAX).unwrap();
    assert_eq!(whole.tar_len, tar.len() as u64);
    assert_eq!(whole.entries.len(), 7);
    for piece in [1, 7, 511, 512, 513, 1000] {
        assert_eq!(scan(&tar, piece).unwrap(), whole, "pieces of {piece}");
    }
    assert_eq!(LayerEntries::from_toc(&whole.to_toc()).unwrap(), whole);
    let toc = whole.to_toc();
    for len in 0..toc.len() {
        assert!(LayerEntries::from_toc(&toc[..len]).is_err(), "table of contents cut to {len}");
    }
    // A tar may end at any entry's end, the end mark is not always there; never elsewhere.
    let entry_ends: Vec<_> = (0..=tar.len()).filter(|&len| scan(&tar[..len], 4096).is_ok()).collect();
    assert!(entry_ends.iter().all(|end| end % 512 == 0 || *end > tar.len() - 512), "{entry_ends:?}");
    // Nothing, seven entries, one zero block, from the second on any garbage.
    assert_eq!(entry_ends.len(), 1 + 7 + 1 + 1);
    let with_garbage = [&tar[..], b"garbage"].concat();
    assert_eq!(scan(&with_garbage, 100).unwrap().entries, whole.entries);
}

#[test]
fn where_a_files_bytes_are() {
    let tar = tar(|t| _ = t.file(b"a", file(), b"hello").file(b"b", file(), &[1; 600]).file(b"c", file(), b""));
    let runs: Vec<_> = scan(&tar, 100)
        .unwrap()
        .entries
        .into_iter()
        .map(|entry| match entry.kind {
            EntryKind::Regular { runs, .. } => runs,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(runs[0], [DataRun { offset: 0, pos: 512, len: 5 }]);
    assert_eq!(runs[1], [DataRun { offset: 0, pos: 1536, len: 600 }]);
    assert_eq!(runs[2], []);
}
