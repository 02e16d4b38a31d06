//! What the store keeps, and what it does not: locks, crashes, garbage.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use walt_image::store::{Collected, InfoError, LayerError, OpenError};
use walt_image::{DiffId, Digest, ImageDigest, LayerFiles, Platform, PullError, Store, index};

use crate::layout::{Layout, TestImage, noise};
use crate::proxy::{Action, Proxy};
use crate::server::{Registry, files, reference, settings, store};

fn import(store: &Store, image: &TestImage) -> ImageDigest {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::create(dir.path());
    let manifest = layout.image(image);
    layout.tag(manifest, "x");
    layout.finish();
    store.import(dir.path()).unwrap()[0].digest
}

/// Makes an image id of these layers; as `server_layer::prepare` does, without a server's layer.
fn prepare(store: &Store, id: &str, layers: &[DiffId]) {
    let files = LayerFiles::new(store.layers_dir());
    let entries: Vec<_> = layers.iter().map(|id| (*id, files.entries(*id).unwrap())).collect();
    let stack: Vec<_> = entries.iter().map(|(id, entries)| (*id, entries)).collect();
    let dir = store.images_dir().join(id);
    fs::create_dir_all(dir.join("fs")).unwrap();
    index::write(&index::build(&stack, id).unwrap(), &dir.join("index")).unwrap();
}

#[test]
fn a_second_store_on_the_same_directory_is_refused() {
    let (dir, first) = store();
    match Store::open(dir.path()) {
        Err(error @ OpenError::InUse { pid: Some(pid), .. }) => {
            assert_eq!(pid, std::process::id());
            assert!(error.to_string().contains(&pid.to_string()), "{error}");
        }
        other => panic!("{other:?}"),
    }
    drop(first);
    Store::open(dir.path()).unwrap();
}

#[test]
fn opening_removes_what_a_crash_left() {
    let (dir, store) = store();
    let image = TestImage::new(vec![noise(1, 100)]);
    let digest = import(&store, &image);
    drop(store);
    fs::create_dir_all(dir.path().join("images/ab/fs")).unwrap();
    let index = "images/ab/.partial-index-0";
    for name in ["layers/.partial-ab-1", "configs/.partial-x.json-0", "images/.partial-upload-0", index] {
        fs::write(dir.path().join(name), "half").unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    assert!(store.is_complete(&digest));
    assert_eq!(
        (files(&store, "layers").len(), files(&store, "configs").len(), files(&store, "images").len()),
        (2, 1, 1)
    );
    assert_eq!(files(&store, "images/ab"), ["fs"]);
}

#[test]
fn garbage_is_what_neither_name_nor_node_uses() {
    let (_dir, store) = store();
    let (base, top, own) = (noise(1, 1000), noise(2, 1000), noise(3, 1000));
    let kept = TestImage::new(vec![base.clone(), top]);
    let booted = TestImage::new(vec![base.clone(), own]);
    let unused = TestImage::new(vec![base, noise(4, 1000)]);
    for image in [&kept, &booted, &unused] {
        import(&store, image);
    }
    let (booted_id, unused_id) = ("ab".repeat(32), "cd".repeat(32));
    prepare(&store, &booted_id, &booted.diff_ids());
    prepare(&store, &unused_id, &unused.diff_ids());
    let keep_images = HashSet::from([kept.digest()]);
    let keep_ids = HashSet::from([booted_id.clone()]);

    let hold = store.hold_blocking();
    let deferred = store.collect_garbage(&keep_images, &keep_ids, |_| panic!("nothing may be touched")).unwrap();
    assert_eq!(deferred, Collected { deferred: true, ..Collected::default() });
    assert_eq!(files(&store, "configs").len(), 3);
    drop(hold);

    let unmounted = RefCell::new(Vec::new());
    let collected =
        store.collect_garbage(&keep_images, &keep_ids, |id| unmounted.borrow_mut().push(id.to_owned())).unwrap();
    let bytes = unused.layers[1].len() as u64;
    assert_eq!(collected, Collected { deferred: false, images: 2, layers: 1, ids: 1, bytes });
    assert_eq!(unmounted.into_inner(), [unused_id]);
    assert!(store.is_complete(&kept.digest()));
    assert!(!store.is_complete(&booted.digest()), "its name is gone");
    for layer in booted.diff_ids() {
        assert!(store.layer_path(&layer).exists(), "a node reads it");
    }
    assert!(!store.layer_path(&unused.diff_ids()[1]).exists() && !store.toc_path(&unused.diff_ids()[1]).exists());

    let collected = store.collect_garbage(&HashSet::new(), &HashSet::new(), |_| ()).unwrap();
    assert_eq!((collected.images, collected.layers, collected.ids), (1, 3, 1));
    assert!(["layers", "configs", "images"].iter().all(|name| files(&store, name).is_empty()));
}

#[test]
fn garbage_collection_removes_no_layer_while_an_index_cannot_be_read() {
    let (_dir, store) = store();
    let image = TestImage::new(vec![noise(1, 1000)]);
    import(&store, &image);
    let id = "ab".repeat(32);
    prepare(&store, &id, &image.diff_ids());
    fs::write(store.images_dir().join(&id).join("index"), "damaged").unwrap();
    let collected = store.collect_garbage(&HashSet::new(), &HashSet::from([id]), |_| ()).unwrap();
    assert_eq!((collected.images, collected.layers), (1, 0));
    assert!(store.layer_path(&image.diff_ids()[0]).exists());
}

#[test]
fn a_mount_that_stays_keeps_its_image_id() {
    in_namespace("keeping::a_mount_that_stays_keeps_its_image_id", |dir| {
        let store = Store::open(dir).unwrap();
        let image = TestImage::new(vec![noise(1, 1000)]);
        import(&store, &image);
        let id = "ab".repeat(32);
        prepare(&store, &id, &image.diff_ids());
        let fs_dir = store.images_dir().join(&id).join("fs");
        run("mount", &["-t", "tmpfs", "tmpfs", fs_dir.to_str().unwrap()]);
        fs::write(fs_dir.join("file"), "kept").unwrap();
        let collected = store.collect_garbage(&HashSet::new(), &HashSet::new(), |_| ()).unwrap();
        assert_eq!((collected.ids, collected.layers), (0, 0));
        assert!(fs_dir.join("file").exists() && store.images_dir().join(&id).join("index").exists());
        let unmount = |_: &str| run("umount", &[fs_dir.to_str().unwrap()]);
        let collected = store.collect_garbage(&HashSet::new(), &HashSet::new(), unmount).unwrap();
        assert_eq!((collected.ids, collected.layers), (1, 1));
    });
}

#[test]
fn a_full_disk_takes_no_harm() {
    in_namespace("keeping::a_full_disk_takes_no_harm", |dir| {
        run("mount", &["-t", "tmpfs", "-o", "size=3m", "tmpfs", dir.to_str().unwrap()]);
        let limits = walt_image::store::Limits { reserve: 0, ..Default::default() };
        let store = Store::open_with(dir, limits).unwrap();
        let small = TestImage::new(vec![noise(1, 1_000_000)]);
        let digest = import(&store, &small);
        let large = TestImage::new(vec![noise(2, 1_000), noise(3, 4_000_000)]);
        let source = tempfile::tempdir().unwrap();
        let mut layout = Layout::create(source.path());
        let manifest = layout.image(&large);
        layout.tag(manifest, "x");
        layout.finish();
        match store.import(source.path()).unwrap_err() {
            walt_image::archive::ImportError::Layer { source, .. } => {
                assert!(matches!(*source, LayerError::DiskFull { .. }), "{source}");
            }
            other => panic!("{other}"),
        }
        assert!(store.is_complete(&digest));
        assert_eq!(files(&store, "layers").len(), 2 * 2, "the small layers: {:?}", files(&store, "layers"));
        // There is room again as soon as the failed one is gone.
        import(&store, &TestImage::new(vec![noise(4, 1_000_000)]));
    });
}

#[test]
fn a_missing_layer_is_named() {
    let (_dir, store) = store();
    let image = TestImage::new(vec![noise(1, 100), noise(2, 100)]);
    let digest = import(&store, &image);
    let gone = image.diff_ids()[1];
    fs::remove_file(store.layer_path(&gone)).unwrap();
    assert!(matches!(store.info(&digest), Err(InfoError::MissingLayer { layer, .. }) if layer == gone));
    assert!(!store.is_complete(&digest));
    import(&store, &image);
    assert!(store.is_complete(&digest), "an import brings it back");
    let unknown = ImageDigest(Digest::of(b"unknown"));
    assert!(matches!(store.info(&unknown), Err(InfoError::NotThere { .. })));
}

/// The process to be killed: pulls `WALT_TEST_REF` into `WALT_TEST_ROOT`.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_pulls() {
    let (Ok(name), Ok(root)) = (std::env::var("WALT_TEST_REF"), std::env::var("WALT_TEST_ROOT")) else {
        // Run as a test of its own, it checks that the switch is off.
        assert!(std::env::var("WALT_TEST_REF").is_err());
        return;
    };
    let store = Store::open(root).unwrap();
    let pulled = store.pull(&name.parse().unwrap(), &Platform::amd64(), &settings(), |_| ()).await;
    assert!(matches!(pulled, Ok(_) | Err(PullError::Unreachable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_point_the_next_pull_completes() {
    let image = TestImage::new((1..6).map(|n| noise(n, 400_000)).collect());
    let registry = Registry::start();
    registry.push_image("a", &image, &[]);
    // Slow enough that the moments of the kills are spread over the whole pull.
    let proxy = Proxy::start(registry.address, |_| Action::Delay(Duration::from_millis(20)));
    let dir = tempfile::tempdir().unwrap();
    let mut interrupted = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "keeping::child_that_pulls"])
            .env("WALT_TEST_REF", reference(proxy.address, "a").to_string())
            .env("WALT_TEST_ROOT", dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_millis(30 + 25 * round);
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        interrupted += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let left = files(&store, "layers");
        assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
        for layer in left.iter().filter(|name| !name.ends_with(".toc")) {
            let found = Digest::of(&fs::read(store.layers_dir().join(layer)).unwrap());
            assert_eq!(found.hex(), *layer, "whatever has its name is whole");
        }
        if store.config(&image.digest()).is_ok() {
            assert!(store.is_complete(&image.digest()), "the configuration comes last");
        }
    }
    assert!(interrupted >= 3, "only {interrupted} pulls were killed");
    let store = Store::open(dir.path()).unwrap();
    store.pull(&reference(proxy.address, "a"), &Platform::amd64(), &settings(), |_| ()).await.unwrap();
    assert!(store.is_complete(&image.digest()));
}

/// Runs `test` in a mount namespace of its own, in another process: this one cannot have one, it has threads.
fn in_namespace(name: &str, test: impl FnOnce(&Path)) {
    if let Ok(dir) = std::env::var("WALT_TEST_DIR") {
        return test(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("WALT_TEST_DIR", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}
