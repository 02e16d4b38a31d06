//! Stacking rules, as a table.

use crate::stacked::{dir, file, listing, stack, tar, try_stack};
use walt_image::tar::TarWriter;

type Fill = fn(&mut TarWriter);

#[test]
fn layers_stack_as_the_specification_says() {
    let cases: &[(&str, &[Fill], &[&str])] = &[
        (
            "a whiteout hides a file",
            &[|t| _ = t.file(b"a", file(), b"1").file(b"b", file(), b"2"), |t| _ = t.whiteout(b"a")],
            &["b=2"],
        ),
        (
            "a whiteout hides a directory with all that is in it",
            &[|t| _ = t.file(b"d/e/f", file(), b"1").file(b"g", file(), b"2"), |t| _ = t.whiteout(b"d")],
            &["g=2"],
        ),
        (
            "a whiteout hides nothing of its own layer, wherever it stands",
            &[
                |t| _ = t.file(b"a", file(), b"1").file(b"d/x", file(), b"1"),
                |t| _ = t.file(b"a", file(), b"2").whiteout(b"a").directory(b"d", dir()).whiteout(b"d"),
            ],
            &["a=2", "d/"],
        ),
        (
            "an opaque directory loses what lower layers have in it",
            &[
                |t| _ = t.file(b"d/a", file(), b"1").file(b"d/e/b", file(), b"1"),
                |t| _ = t.directory(b"d", dir()).file(b"d/c", file(), b"2").opaque(b"d"),
            ],
            &["d/", "d/c=2"],
        ),
        (
            "an opaque root",
            &[|t| _ = t.file(b"a", file(), b"1"), |t| _ = t.opaque(b"").file(b"b", file(), b"2")],
            &["b=2"],
        ),
        (
            "whiteouts of what is not there are nothing",
            &[
                |t| _ = t.file(b"a", file(), b"1"),
                |t| _ = t.whiteout(b"x").whiteout(b"a/b").opaque(b"y").opaque(b"a").whiteout(b"z/z/z"),
            ],
            &["a=1"],
        ),
        (
            "a hidden name comes back in a later layer",
            &[|t| _ = t.file(b"a", file(), b"1"), |t| _ = t.whiteout(b"a"), |t| _ = t.file(b"a", file(), b"3")],
            &["a=3"],
        ),
        ("the last of two entries wins", &[|t| _ = t.file(b"a", file(), b"1").file(b"./a", file(), b"2")], &["a=2"]),
        (
            "a file takes a directory's place, and a directory a file's",
            &[
                |t| _ = t.file(b"d/x", file(), b"1").file(b"f", file(), b"1"),
                |t| _ = t.file(b"d", file(), b"2").directory(b"f", dir()).file(b"f/y", file(), b"2"),
            ],
            &["d=2", "f/", "f/y=2"],
        ),
        (
            "a directory over a directory keeps the children",
            &[|t| _ = t.file(b"d/x", file(), b"1"), |t| _ = t.directory(b"d", dir())],
            &["d/", "d/x=1"],
        ),
        (
            "a parent that is a symlink is followed",
            &[
                |t| _ = t.directory(b"usr/bin", dir()).symlink(b"bin", dir(), b"usr/bin"),
                |t| _ = t.file(b"bin/foo", file(), b"2"),
            ],
            &["bin->usr/bin", "usr/", "usr/bin/", "usr/bin/foo=2"],
        ),
        (
            "absolute and climbing parents stay in the image",
            &[
                |t| _ = t.symlink(b"a", dir(), b"/x/y").symlink(b"x/y", dir(), b"../../../../z").directory(b"z", dir()),
                |t| _ = t.file(b"a/f", file(), b"2"),
            ],
            &["a->/x/y", "x/", "x/y->../../../../z", "z/", "z/f=2"],
        ),
        (
            "a dangling parent is made where it points to",
            &[|t| _ = t.symlink(b"a", dir(), b"b/c").file(b"a/f", file(), b"1")],
            &["a->b/c", "b/", "b/c/", "b/c/f=1"],
        ),
        (
            "a whiteout goes through a symlinked parent",
            &[
                |t| _ = t.file(b"usr/bin/foo", file(), b"1").symlink(b"bin", dir(), b"usr/bin"),
                |t| _ = t.whiteout(b"bin/foo"),
            ],
            &["bin->usr/bin", "usr/", "usr/bin/"],
        ),
        (
            "a directory takes a symlink's place, and what is hidden in it is not what the symlink led to",
            &[
                |t| _ = t.file(b"usr/bin/foo", file(), b"1").symlink(b"bin", dir(), b"usr/bin"),
                |t| _ = t.whiteout(b"bin/foo").opaque(b"bin").directory(b"bin", dir()).file(b"bin/bar", file(), b"2"),
            ],
            &["bin/", "bin/bar=2", "usr/", "usr/bin/", "usr/bin/foo=1"],
        ),
        (
            "a hard link to a file of a lower layer, which is hidden later",
            &[|t| _ = t.file(b"a", file(), b"1"), |t| _ = t.hard_link(b"b", file(), b"/a"), |t| _ = t.whiteout(b"a")],
            &["b=1"],
        ),
        (
            "a hard link to a file that its own layer hides",
            &[
                |t| _ = t.file(b"d/a", file(), b"1").file(b"e/a", file(), b"2"),
                |t| _ = t.whiteout(b"d").hard_link(b"b", file(), b"d/a").opaque(b"e").hard_link(b"e/c", file(), b"e/a"),
            ],
            &["b=1", "e/", "e/c=2"],
        ),
        (
            "a hard link to a symlink is the symlink",
            &[|t| _ = t.file(b"a", file(), b"1").symlink(b"l", dir(), b"a").hard_link(b"m", dir(), b"l")],
            &["a=1", "l->a", "m->a"],
        ),
        (
            "names that climb or start at the root are inside",
            &[|t| _ = t.file(b"../../a", file(), b"1").file(b"/b", file(), b"2").file(b"c/../../d", file(), b"3")],
            &["a=1", "b=2", "d=3"],
        ),
        (
            "devices and pipes",
            &[|t| {
                _ = t.char_device(b"c", file(), (5, 1)).block_device(b"b", file(), (259, 1_048_575)).fifo(b"p", file());
            }],
            &["b b 259:1048575", "c c 5:1", "p p"],
        ),
    ];
    for (what, layers, expected) in cases {
        let tars: Vec<_> = layers.iter().map(|fill| tar(fill)).collect();
        let image = try_stack(&tars).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(listing(&image.view), *expected, "{what}");
    }
}

#[test]
fn contradictions_are_refused_by_name() {
    let cases: &[(&[Fill], &str)] = &[
        (
            &[|t| _ = t.file(b"a", file(), b"1").file(b"a/b", file(), b"2")],
            "entry \"a/b\": a parent of it is not a directory",
        ),
        (
            &[|t| _ = t.symlink(b"a", dir(), b"b").symlink(b"b", dir(), b"a").file(b"a/f", file(), b"")],
            "entry \"a/f\": more than 40 symlinks lead to it",
        ),
        (
            &[|t| _ = t.hard_link(b"a", file(), b"none")],
            "entry \"a\": it is a hard link to \"none\", which does not exist",
        ),
        (&[|t| _ = t.directory(b"d", dir()).hard_link(b"a", file(), b"d")], "it is a hard link to a directory"),
    ];
    for (layers, expected) in cases {
        let tars: Vec<_> = layers.iter().map(|fill| tar(fill)).collect();
        let error = try_stack(&tars).err().unwrap_or_default();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}

#[test]
fn attributes_come_from_the_last_entry_and_parents_without_one_are_roots() {
    use walt_image::tar::TarAttr;
    let image = stack(&[
        tar(|t| _ = t.directory(b"d", TarAttr { uid: 7, ..TarAttr::mode(0o1777) }).file(b"p/f", file(), b"1")),
        tar(|t| _ = t.directory(b"d", TarAttr { gid: 3_000_000_000, ..TarAttr::mode(0o700) })),
    ]);
    let attr = |path: &str| image.view.attr(image.view.resolve(path.as_bytes()).unwrap()).unwrap();
    assert_eq!((attr("d").mode, attr("d").uid, attr("d").gid), (0o700, 0, 3_000_000_000));
    assert_eq!((attr("p").mode, attr("p").uid), (0o755, 0));
}
