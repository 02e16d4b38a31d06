//! Images for tests: tars stacked in a throw-away directory, and their trees as text.

use std::path::Path;
use std::process::Command;

use walt_image::tar::{TarAttr, TarWriter};
use walt_image::{FileKind, Ino, LayerFiles, ROOT, View, index};

/// A view that keeps its directory.
pub(crate) struct TestImage {
    pub(crate) view: View,
    pub(crate) directory: tempfile::TempDir,
}

pub(crate) fn image_id() -> String {
    "5a".repeat(32)
}

/// Stacks tars; the error as text.
pub(crate) fn try_stack(tars: &[Vec<u8>]) -> Result<TestImage, String> {
    let directory = tempfile::tempdir().unwrap();
    let files = LayerFiles::new(directory.path());
    let layers = tars.iter().map(|tar| files.add(tar)).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    let layers: Vec<_> = layers.iter().map(|(id, entries)| (*id, entries)).collect();
    let bytes = index::build(&layers, &image_id()).map_err(|e| e.to_string())?;
    let path = directory.path().join("index");
    index::write(&bytes, &path).unwrap();
    Ok(TestImage { view: View::open(&path, &files).unwrap(), directory })
}

pub(crate) fn stack(tars: &[Vec<u8>]) -> TestImage {
    try_stack(tars).unwrap()
}

/// A tar from a closure.
pub(crate) fn tar(fill: impl FnOnce(&mut TarWriter)) -> Vec<u8> {
    let mut tar = TarWriter::new();
    fill(&mut tar);
    tar.finish()
}

pub(crate) fn dir() -> TarAttr<'static> {
    TarAttr::mode(0o755)
}

pub(crate) fn file() -> TarAttr<'static> {
    TarAttr::mode(0o644)
}

/// Every path of the view, sorted: `path/`, `path=content`, `path->target`, `path c 1:3`.
pub(crate) fn listing(view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    walk(view, &mut |path, ino| {
        let attr = view.attr(ino).unwrap();
        let path = String::from_utf8_lossy(path);
        lines.push(match attr.kind {
            FileKind::Directory => format!("{path}/"),
            FileKind::Regular => format!("{path}={}", String::from_utf8_lossy(&content(view, ino))),
            FileKind::Symlink => format!("{path}->{}", String::from_utf8_lossy(view.readlink(ino).unwrap())),
            FileKind::CharDevice => format!("{path} c {}:{}", attr.rdev.0, attr.rdev.1),
            FileKind::BlockDevice => format!("{path} b {}:{}", attr.rdev.0, attr.rdev.1),
            FileKind::Fifo => format!("{path} p"),
            FileKind::Socket => format!("{path} s"),
        });
    });
    lines
}

/// Calls `each` for every path below the root, parents first, names sorted.
pub(crate) fn walk(view: &View, each: &mut dyn FnMut(&[u8], Ino)) {
    let mut stack = vec![(Vec::new(), ROOT)];
    while let Some((path, ino)) = stack.pop() {
        if !path.is_empty() {
            each(&path, ino);
        }
        let Some(entries) = view.readdir(ino, 0) else { continue };
        let mut children: Vec<_> = entries
            .filter(|e| e.name != b"." && e.name != b"..")
            .map(|e| ([&path[..], if path.is_empty() { &b""[..] } else { b"/" }, e.name].concat(), e.ino))
            .collect();
        children.reverse();
        stack.extend(children);
    }
}

pub(crate) fn content(view: &View, ino: Ino) -> Vec<u8> {
    let mut bytes = vec![0xee; usize::try_from(view.attr(ino).unwrap().size).unwrap()];
    assert_eq!(view.read_at(ino, 0, &mut bytes).unwrap(), bytes.len());
    bytes
}

/// Runs a program that the test cannot do without.
pub(crate) fn run(directory: &Path, program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap_or_else(|e| panic!("{program} is needed: {e}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
