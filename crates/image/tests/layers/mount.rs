//! Images mounted on the server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use walt_image::mount::Mounts;
use walt_image::{LayerFiles, View};

use crate::compare::assert_same;
use crate::formats::{ALL, tree};
use crate::stacked::{run, stack};

/// Set for the process that mounts and is killed: the directory of its image.
const VICTIM: &str = "WALT_TEST_MOUNT_AND_WAIT";

fn open(directory: &Path) -> Arc<View> {
    Arc::new(View::open(&directory.join("index"), &LayerFiles::new(directory)).unwrap())
}

#[test]
fn a_mounted_image_is_the_tree_that_was_packed() {
    let tree = tree(true);
    let tar = run(tree.path(), "tar", &["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "-c", "."]);
    let image = stack(&[tar]);
    let view = open(image.directory.path());
    let mounts = Mounts::new(image.directory.path().join("images"));
    assert_eq!(mounts.clean_stale().unwrap(), Vec::<PathBuf>::new());
    mounts.mount(&view).unwrap();
    mounts.mount(&view).unwrap();
    let path = mounts.path(view.id());
    assert!(assert_same(&view, &path, ALL) > 15);
    let error = fs::write(path.join("new"), "x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(fs::metadata(path.join("usr/bin/tool")).unwrap().permissions().mode() & 0o7777, 0o4755);
    // Who is in it when it goes away keeps it.
    let open = fs::File::open(path.join("etc/passwd")).unwrap();
    mounts.unmount(view.id());
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    assert_eq!(std::io::read_to_string(&open).unwrap(), "root");
}

#[test]
fn an_image_that_several_mount_at_a_time_is_mounted_once() {
    let image = stack(&[crate::stacked::tar(|t| _ = t.file(b"a", crate::stacked::file(), b"1"))]);
    let directory = image.directory.path();
    for round in 0..20 {
        let mounts = Mounts::new(directory.join("images"));
        let view = open(directory);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| mounts.mount(&view).unwrap());
            }
        });
        let path = mounts.path(view.id());
        assert_eq!(fs::read(path.join("a")).ok().as_deref(), Some(&b"1"[..]), "round {round}");
        mounts.unmount(view.id());
        assert!(!path.join("a").exists(), "round {round}");
    }
}

#[test]
fn the_mount_of_a_killed_server_is_cleared_away_by_the_next() {
    if let Some(directory) = std::env::var_os(VICTIM) {
        let directory = PathBuf::from(directory);
        let mounts = Mounts::new(directory.join("images"));
        mounts.mount(&open(&directory)).unwrap();
        println!("mounted");
        loop {
            std::thread::park();
        }
    }
    let image = stack(&[crate::stacked::tar(|t| _ = t.file(b"a", crate::stacked::file(), b"1"))]);
    let directory = image.directory.path();
    let mounts = Mounts::new(directory.join("images"));
    let path = mounts.path(image.view.id());
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "mount::the_mount_of_a_killed_server_is_cleared_away_by_the_next", "--nocapture"])
        .env(VICTIM, directory)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !path.join("a").exists() {
        assert!(std::time::Instant::now() < deadline, "the other process does not mount");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(fs::read_dir(&path).is_err(), "the mount outlives its server");

    assert_eq!(mounts.clean_stale().unwrap(), std::slice::from_ref(&path));
    assert_eq!(mounts.clean_stale().unwrap(), Vec::<PathBuf>::new());
    mounts.mount(&open(directory)).unwrap();
    assert_eq!(fs::read(path.join("a")).unwrap(), b"1");
}
