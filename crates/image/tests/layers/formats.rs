//! Tars as real programs write them: the view is the tree that was packed.

use std::fs;
use std::process::Command;

use crate::compare::{Kept, assert_same};
use crate::stacked::{run, stack};

pub(crate) const ALL: Kept = Kept { nanoseconds: true, xattrs: true };
const SECONDS: Kept = Kept { nanoseconds: false, xattrs: false };

/// A tree with what an image may have. Old formats know no long names.
pub(crate) fn tree(long_names: bool) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let script = r#"
        set -e
        mkdir -p usr/bin etc empty "with space"
        printf 'root' > etc/passwd; : > etc/nothing; head -c 5000 /dev/urandom > usr/bin/tool
        chmod 4755 usr/bin/tool; chmod 1777 empty; ln usr/bin/tool usr/bin/again
        ln -s ../etc/passwd usr/link; ln -s /absolute/none dangling
        mkfifo pipe; mknod null c 1 3; mknod disk b 259 70000
        printf x > "with space/a b"; chown 1234:5678 "with space/a b"
        touch -d '2001-02-03 04:05:06.789012345 UTC' etc/passwd; touch -h -d '2010-01-01 UTC' usr/link
        setfattr -n user.colour -v blue etc/passwd; setfattr -n user.empty etc/nothing
        setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 usr/bin/tool
        truncate -s 3000000 hole
        printf start | dd of=hole conv=notrunc status=none
        for at in 70 140 210 280 350 420 490 560; do
            printf "at $at" | dd of=hole bs=4096 seek=$at conv=notrunc status=none
        done
        truncate -s 1000000 onlyhole
    "#;
    run(root, "sh", &["-c", script]);
    if long_names {
        let deep = ["d".repeat(120), "e".repeat(120)].join("/");
        fs::create_dir_all(root.join(&deep)).unwrap();
        fs::write(root.join(&deep).join("f".repeat(255)), "long").unwrap();
        std::os::unix::fs::symlink("t".repeat(300), root.join("long-target")).unwrap();
        fs::hard_link(root.join(&deep).join("f".repeat(255)), root.join("short")).unwrap();
        run(root, "chown", &["-h", "3000000:3000000", "long-target"]);
    }
    directory
}

/// Packs the tree with `program` and reads it back.
fn check(long_names: bool, kept: Kept, program: &str, arguments: &[&str]) {
    let tree = tree(long_names);
    let output = Command::new(program)
        .args(arguments)
        .current_dir(tree.path())
        .output()
        .unwrap_or_else(|e| panic!("{program} is needed: {e}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let image = stack(&[output.stdout]);
    let count = assert_same(&image.view, tree.path(), kept);
    assert!(count > 15, "{program} {arguments:?}: only {count} paths");
}

#[test]
fn gnu_tar_formats() {
    for (format, long_names) in [("ustar", false), ("oldgnu", true), ("gnu", true)] {
        check(long_names, SECONDS, "tar", &["--format", format, "-c", "."]);
    }
    check(true, SECONDS, "tar", &["--format=gnu", "--sparse", "-c", "."]);
    check(true, SECONDS, "tar", &["--format=oldgnu", "--sparse", "-c", "."]);
    check(true, ALL, "tar", &["--format=pax", "--xattrs", "--xattrs-include=*", "-c", "."]);
    for version in ["0.0", "0.1", "1.0"] {
        let sparse = format!("--sparse-version={version}");
        check(true, ALL, "tar", &["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", &sparse, "-c", "."]);
    }
}

#[test]
fn gnu_tar_v7_knows_files_directories_and_links() {
    let tree = tempfile::tempdir().unwrap();
    run(tree.path(), "sh", &["-c", "mkdir -p a/b; echo hello > a/b/c; ln a/b/c d; ln -s a e; chmod 6711 d"]);
    let tar = run(tree.path(), "tar", &["--format=v7", "-c", "."]);
    assert_eq!(assert_same(&stack(&[tar]).view, tree.path(), SECONDS), 5);
}

#[test]
fn bsdtar_formats() {
    check(true, ALL, "bsdtar", &["--format=pax", "-cf", "-", "."]);
    check(true, SECONDS, "bsdtar", &["--format=gnutar", "-cf", "-", "."]);
    check(false, SECONDS, "bsdtar", &["--format=ustar", "-cf", "-", "."]);
}

#[test]
fn python_formats() {
    for (format, kept) in [("PAX_FORMAT", Kept { xattrs: false, ..ALL }), ("GNU_FORMAT", SECONDS)] {
        let program = format!(
            "import sys, tarfile\nwith tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=tarfile.{format}) as t: t.add('.')"
        );
        // Python rounds times to a double.
        check(true, Kept { nanoseconds: false, ..kept }, "python3", &["-c", &program]);
    }
}

#[test]
fn star_header_with_a_short_prefix_and_global_records() {
    let tree = tempfile::tempdir().unwrap();
    let program = "import sys, tarfile, io\n\
        t = tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=tarfile.PAX_FORMAT, \
        pax_headers={'comment': 'x', 'uid': '77', 'mtime': '-1.5'})\n\
        i = tarfile.TarInfo('a'); i.size = 2; t.addfile(i, io.BytesIO(b'hi'))\n\
        i = tarfile.TarInfo('b'); i.pax_headers = {'uid': '78'}; t.addfile(i)\n\
        t.close()";
    let image = stack(&[run(tree.path(), "python3", &["-c", program])]);
    let attr = |name: &[u8]| image.view.attr(image.view.resolve(name).unwrap()).unwrap();
    assert_eq!((attr(b"a").uid, attr(b"b").uid), (77, 78));
    assert_eq!((attr(b"a").mtime.secs, attr(b"a").mtime.nanos), (-2, 500_000_000));
}

/// Layers as `umoci unpack` lays them out, the rules that it shares with us.
#[test]
fn umoci_unpacks_the_same() {
    use crate::stacked::{dir, file, tar};
    use walt_image::tar::TarAttr;

    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let xattrs: &[(&[u8], &[u8])] = &[(b"security.capability", &capability), (b"user.note", b"n")];
    let tars = [
        tar(|t| {
            t.directory(b"./", dir()).directory(b"usr", dir()).directory(b"usr/bin", dir());
            t.symlink(b"bin", dir(), b"usr/bin").file(b"usr/bin/ping", TarAttr { xattrs, ..dir() }, b"ping");
            t.directory(b"d", dir()).file(b"d/a", file(), b"1").file(b"d/b", file(), b"2");
            t.directory(b"o", dir()).file(b"o/a", file(), b"1").directory(b"o/s", dir()).file(b"o/s/x", file(), b"1");
            t.directory(b"gone", dir()).file(b"gone/x", file(), b"1").file(b"tofile", file(), b"1");
            t.directory(b"todir", dir()).file(b"todir/x", file(), b"1").symlink(b"tolink", dir(), b"d");
            t.char_device(b"null", TarAttr::mode(0o666), (1, 3)).block_device(b"disk", file(), (8, 1));
            t.fifo(b"pipe", file()).file(b"suid", TarAttr { uid: 7, gid: 8, ..TarAttr::mode(0o6755) }, b"s");
            t.hard_link(b"hard", TarAttr { uid: 7, gid: 8, ..TarAttr::mode(0o6755) }, b"suid");
        }),
        tar(|t| {
            t.directory(b"d", TarAttr::mode(0o700)).whiteout(b"d/a").whiteout(b"gone");
            t.directory(b"o", dir()).opaque(b"o").file(b"o/new", file(), b"2");
            t.directory(b"tofile", dir()).file(b"tofile/y", file(), b"2").file(b"todir", file(), b"2");
            t.directory(b"tolink", dir()).file(b"tolink/z", file(), b"2").file(b"bin/tool", dir(), b"2");
            t.hard_link(b"across", file(), b"d/b").file(b"d/b2", file(), b"3");
        }),
        tar(|t| {
            t.directory(b"d", TarAttr::mode(0o700)).whiteout(b"d/b").directory(b"gone", dir()).file(
                b"gone/y",
                file(),
                b"3",
            );
            t.directory(b"usr", dir()).directory(b"usr/bin", dir()).whiteout(b"usr/bin/tool");
            t.file(b"null", file(), b"a file now");
        }),
    ];
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    run(root, "umoci", &["init", "--layout", "oci"]);
    run(root, "umoci", &["new", "--image", "oci:t"]);
    for (n, tar) in tars.iter().enumerate() {
        let name = format!("{n}.tar");
        fs::write(root.join(&name), tar).unwrap();
        run(root, "umoci", &["raw", "add-layer", "--image", "oci:t", &name]);
    }
    run(root, "umoci", &["unpack", "--image", "oci:t", "bundle"]);
    let image = stack(&tars);
    assert!(assert_same(&image.view, &root.join("bundle/rootfs"), ALL) > 20);
}
