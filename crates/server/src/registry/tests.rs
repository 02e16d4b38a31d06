use std::path::PathBuf;

use image::Platform;

use std::time::Duration;

use super::*;
use crate::registration::Wanted;

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn device(last: u8, name: &str) -> DeviceRow {
    DeviceRow {
        mac: mac(last),
        ip: Ipv4Addr::new(10, 0, 0, last),
        name: name.into(),
        model: Some("pc-x86-64".into()),
        board: None,
        host_name: String::new(),
        first_seen: 1,
        last_seen: 2,
        image: Some("docker.io/library/debian:latest".into()),
        served: None,
        served_as: Some("docker.io/ada/tiny:1".into()),
        held: vec!["bb".into(), "aa".into()],
        runs_as: Some("docker.io/bob/tiny:1".into()),
        is_virtual: false,
        config: BTreeMap::new(),
    }
}

fn configured() -> DeviceRow {
    let config = BTreeMap::from([("netsetup".to_owned(), "NAT".to_owned())]);
    DeviceRow { is_virtual: true, config, ..device(9, "unknown-9") }
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("walt.db");
    (dir, path)
}

#[test]
fn what_was_recorded_is_there_after_a_restart() {
    let (_dir, path) = file();
    let (registry, writer, loaded) = Registry::open(&path, Retention::default()).unwrap();
    assert_eq!(loaded, Loaded { next_boot: 1, ..Loaded::default() });
    registry.device(device(1, "node-1"));
    registry.device(DeviceRow { held: vec!["cc".into()], ..device(1, "renamed") });
    let chosen = Some(Platform::linux("arm64", None));
    let source = Source::Index { offered: vec![Platform::amd64(), Platform::linux("arm64", None)], chosen };
    let of = |name: &str, model: &str| ImageKey { name: name.into(), wanted: Wanted::by_model(model) };
    let row = |key, digest: &str, source| ImageRow { key, digest: digest.into(), created: 5, source };
    let images =
        [row(of("a", "qemu-arm-64"), "sha256:1", source), row(of("a", "pc-x86-64"), "sha256:2", Source::Plain)];
    images.iter().for_each(|row| registry.image(row.clone()));
    registry.image(row(of("a", "rpi-2-b"), "sha256:3", Source::Plain));
    registry.remove_image(of("a", "rpi-2-b"));
    registry.device(DeviceRow { board: Some("toaster".into()), model: None, ..configured() });
    registry.lease(LeaseRow { mac: mac(1), ip: Ipv4Addr::new(10, 0, 0, 1) });
    registry.meta("key", vec![0, 255]);
    let link = |last: u8, port, told| LinkRow {
        switch: mac(9),
        mac: mac(last),
        port,
        port_name: "gi3".into(),
        switch_name: "rack".into(),
        name: String::new(),
        told,
        seen: 7,
    };
    let links = [link(1, Some(3), Told::Neighbour), link(2, None, Told::Heard)];
    links.iter().for_each(|row| registry.link(row.switch, row.mac, Some(row.clone())));
    registry.link(mac(9), mac(3), Some(link(3, None, Told::Learned)));
    registry.link(mac(9), mac(3), None);
    let boots = [BootRow { id: 1, mac: mac(1), started_ms: 10 }, BootRow { id: 2, mac: mac(1), started_ms: 20 }];
    let step = StepRow { boot: 2, at_ms: 3, name: "dhcp-ack".into(), detail: "x".into(), ok: true };
    boots.iter().for_each(|boot| registry.boot(boot.clone()));
    registry.step(step.clone());
    registry.log(LogRow { issuer: Issuer::Device(mac(1)), stream: "s".into(), at_us: 1, line: "l".into() });
    drop(writer);

    let (_registry, _writer, loaded) = Registry::open(&path, Retention::default()).unwrap();
    let toaster = DeviceRow { board: Some("toaster".into()), model: None, ..configured() };
    assert_eq!(loaded.devices, [DeviceRow { held: vec!["cc".into()], ..device(1, "renamed") }, toaster]);
    let mut found = loaded.images.clone();
    found.sort_by(|a, b| a.digest.cmp(&b.digest));
    assert_eq!(found, images);
    assert_eq!(loaded.leases.len(), 1);
    assert_eq!(loaded.meta["key"], [0, 255]);
    assert_eq!(loaded.boots, [(boots[1].clone(), vec![step])]);
    assert_eq!(loaded.next_boot, 3);
    assert_eq!(loaded.links, links);
}

#[test]
fn names_may_change_hands_in_one_batch() {
    let (_dir, path) = file();
    let (registry, writer, _) = Registry::open(&path, Retention::default()).unwrap();
    registry.device(device(1, "a"));
    registry.device(device(2, "b"));
    drop(writer);
    let (registry, writer, _) = Registry::open(&path, Retention::default()).unwrap();
    registry.device(device(1, "b"));
    registry.device(device(2, "a"));
    drop(writer);
    let (_registry, _writer, loaded) = Registry::open(&path, Retention::default()).unwrap();
    assert_eq!(loaded.devices.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn only_the_last_boots_are_kept() {
    let (_dir, path) = file();
    let (registry, writer, _) = Registry::open(&path, Retention::default()).unwrap();
    for id in 1..=50 {
        registry.boot(BootRow { id, mac: mac(1), started_ms: id });
        registry.step(StepRow { boot: id, at_ms: 0, name: "a".into(), detail: String::new(), ok: true });
    }
    drop(writer);
    let db = rusqlite::Connection::open(&path).unwrap();
    let count = |table| db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((count("boots"), count("boot_events")), (20, 20));
}

#[test]
fn a_newer_database_is_refused() {
    let (_dir, path) = file();
    drop(Registry::open(&path, Retention::default()).unwrap());
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 999).unwrap();
    let error = Registry::open(&path, Retention::default()).unwrap_err();
    assert!(matches!(error, RegistryError::TooNew { found: 999, .. }), "{error}");
}

#[test]
fn a_failed_write_is_repeated_with_the_newest_state() {
    let (_dir, path) = file();
    let (registry, writer, _) = Registry::open(&path, Retention::default()).unwrap();
    // A second connection holds the write lock for longer than SQLite's own patience of 5 s
    // would be too slow for a test: what matters is that the batch goes back below newer changes.
    let mut batch = pending::Pending::default();
    batch.device(device(1, "old"));
    batch.device(device(2, "kept"));
    let mut now = pending::Pending::default();
    now.device(device(1, "new"));
    assert_eq!(now.put_back(batch), 0);
    assert_eq!(now.devices[&mac(1)].as_ref().unwrap().name, "new");
    assert_eq!(now.devices[&mac(2)].as_ref().unwrap().name, "kept");
    drop((registry, writer));
}

#[tokio::test]
async fn who_waits_for_the_disk_hears_of_it() {
    let (_dir, path) = file();
    let (registry, _writer, _) = Registry::open(&path, Retention::default()).unwrap();
    let disk = rusqlite::Connection::open(&path).unwrap();
    let kept = || disk.query_row("SELECT value FROM meta WHERE key = 'k'", [], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    registry.meta_on_disk("k", vec![1]).await.unwrap();
    assert_eq!(kept(), [1]);
    disk.execute_batch("CREATE TRIGGER full BEFORE INSERT ON meta BEGIN SELECT RAISE(FAIL, 'the disk is full'); END")
        .unwrap();
    let error = registry.meta_on_disk("k", vec![2]).await.unwrap_err();
    assert!(error.contains("the disk is full"), "{error}");
    assert_eq!(kept(), [1]);
}

fn line(at_us: i64, text: &str) -> LogRow {
    LogRow { issuer: Issuer::Device(mac(1)), stream: "s".into(), at_us, line: text.into() }
}

fn texts(lines: &[KeptLine]) -> Vec<&str> {
    lines.iter().map(|line| line.row.line.as_str()).collect()
}

#[tokio::test]
async fn log_lines_are_read_by_time_and_by_arrival() {
    let (_dir, path) = file();
    let (registry, _writer, _) = Registry::open(&path, Retention::default()).unwrap();
    for (at_us, text) in [(30, "c"), (10, "a"), (20, "b"), (20, "b2"), (40, "d")] {
        registry.log(line(at_us, text));
    }
    registry.settle_logs().await;
    assert_eq!(registry.written().borrow().last_id, 5);
    let reader = registry.log_reader().unwrap();
    let between = |range, after, last, most| reader.between(range, after, last, most).unwrap();
    let start = (i64::MIN, i64::MIN);
    assert_eq!(texts(&between((i64::MIN, i64::MAX), start, 5, 9)), ["a", "b", "b2", "c", "d"]);
    assert_eq!(texts(&between((20, 40), start, 5, 9)), ["b", "b2", "c"], "the end is not included");
    assert_eq!(texts(&between((10, 99), start, 3, 9)), ["a", "b", "c"], "what came later is left out");
    // Batch by batch, through lines of the same moment.
    let first = between((10, 99), start, 5, 2);
    assert_eq!(texts(&first), ["a", "b"]);
    assert_eq!(texts(&between((10, 99), (20, first[1].id), 5, 2)), ["b2", "c"]);
    assert_eq!(texts(&reader.since(3, 9).unwrap()), ["b2", "d"]);

    // A reader sees what comes later, and its numbers go on after a restart.
    registry.log(line(50, "e"));
    registry.settle_logs().await;
    assert_eq!(texts(&reader.since(5, 9).unwrap()), ["e"]);
    drop((registry, _writer));
    let (registry, _writer, _) = Registry::open(&path, Retention::default()).unwrap();
    assert_eq!(registry.written().borrow().last_id, 6);
}

#[test]
fn what_is_too_old_or_too_much_is_forgotten() {
    let (_dir, path) = file();
    drop(Registry::open(&path, Retention::default()).unwrap());
    let db = rusqlite::Connection::open(&path).unwrap();
    // By its own clock the second one is from 1970: it came just now all the same.
    for (came_s, text) in [(1000, "old"), (5000, "young")] {
        logs::write(&db, &[line(0, text)], came_s).unwrap();
    }
    let left = || -> Vec<String> {
        let mut lines = db.prepare("SELECT line FROM logs ORDER BY id").unwrap();
        lines.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let age = Duration::from_secs(3600);
    logs::trim(&db, Retention { age, bytes: u64::MAX }, 5001, 90).unwrap();
    assert_eq!(left(), ["young"]);
    for n in 0..100 {
        logs::write(&db, &[line(0, &format!("{n}"))], 5001).unwrap();
    }
    logs::trim(&db, Retention { age, bytes: 1 }, 5001, 90).unwrap();
    assert_eq!((left().len(), left()[0].as_str()), (11, "89"), "the first to come are the first to go");
}

#[tokio::test]
async fn a_line_waits_for_room_and_is_not_lost() {
    let (_dir, path) = file();
    let (registry, writer, _) = Registry::open(&path, Retention::default()).unwrap();
    // More than may wait at once, faster than the disk is.
    for n in 0..100_000 {
        registry.log_in_turn(line(n, "x")).await;
    }
    drop(writer);
    let db = rusqlite::Connection::open(&path).unwrap();
    let count: i64 = db.query_row("SELECT count(*) FROM logs", [], |row| row.get(0)).unwrap();
    assert_eq!((count, registry.dropped()), (100_000, 0));
}

#[test]
fn checkpoints_are_kept() {
    let (_dir, path) = file();
    let (registry, writer, _) = Registry::open(&path, Retention::default()).unwrap();
    for (user, name) in [("ada", "a"), ("ada", "b"), ("bob", "a")] {
        registry.checkpoint(CheckpointRow { user: user.into(), name: name.into(), at_us: 7 });
    }
    registry.remove_checkpoint("ada".into(), "a".into());
    drop(writer);
    let (_registry, _writer, loaded) = Registry::open(&path, Retention::default()).unwrap();
    let kept: Vec<_> = loaded.checkpoints.iter().map(|row| (row.user.as_str(), row.name.as_str())).collect();
    assert_eq!(kept, [("ada", "b"), ("bob", "a")]);
}
