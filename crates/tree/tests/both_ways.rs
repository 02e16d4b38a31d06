//! From one directory to another, and what a hostile sender tries.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tree::{Keep, News, ReceiveError, SendError, receive, send};
use wire::tar::{END, Entry, Kind, encode, padding};

fn packed(source: &Path) -> Vec<u8> {
    let mut tar = Vec::new();
    let sent = send(source, &mut tar, |_| ()).unwrap();
    assert_eq!(sent.left_out, [""; 0]);
    tar
}

fn put(tar: &[u8], destination: &Path) -> Result<u64, ReceiveError> {
    receive(tar, destination, None, Keep::Permissions, |_| ())
}

/// Path, kind and mode, time, content or target.
type Object = (PathBuf, u32, (i64, i64), Vec<u8>);

/// Everything below a directory.
fn listing(root: &Path) -> Vec<Object> {
    let (mut all, mut todo) = (Vec::new(), vec![root.to_owned()]);
    while let Some(path) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_symlink() {
            fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
        } else if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        let below = path.strip_prefix(root).unwrap().to_owned();
        all.push((below, metadata.mode(), (metadata.mtime(), metadata.mtime_nsec()), content));
    }
    all.sort();
    all
}

fn sample(root: &Path) -> PathBuf {
    let source = root.join("source");
    fs::create_dir_all(source.join("deep/er").join("x".repeat(200))).unwrap();
    fs::write(source.join("plain"), b"content").unwrap();
    fs::write(source.join("empty"), b"").unwrap();
    fs::write(source.join("block"), [7; 1024]).unwrap();
    fs::write(source.join("deep/er").join("x".repeat(200)).join("long name \n"), vec![1; 300_000]).unwrap();
    fs::set_permissions(source.join("plain"), Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(source.join("deep"), Permissions::from_mode(0o555)).unwrap();
    symlink("/etc/passwd", source.join("link")).unwrap();
    symlink("nowhere", source.join("deep/er/broken")).unwrap();
    assert!(
        Command::new("touch")
            .args(["-hd", "2001-02-03 04:05:06.789"])
            .arg(source.join("link"))
            .status()
            .unwrap()
            .success()
    );
    source
}

#[test]
fn a_folder_arrives_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let source = sample(root.path());
    let tar = packed(&source);
    let (into, as_name) = (root.path().join("into"), root.path().join("as"));
    fs::create_dir(&into).unwrap();
    let (mut total, mut bytes) = (0, 0);
    let files = receive(&tar[..], &into, None, Keep::All, |news| match news {
        News::Total(all) => total = all,
        News::Bytes(more) => bytes += more,
    });
    assert_eq!(files.unwrap(), 10);
    assert_eq!((total, bytes), (301_031, 301_031));
    assert!(listing(&into.join("source")) == listing(&source), "into a directory");
    receive(&tar[..], &as_name, None, Keep::All, |_| ()).unwrap();
    assert!(listing(&as_name) == listing(&source), "under another name");
    // Again over what is there: the same, and nothing besides.
    receive(&tar[..], &into, None, Keep::All, |_| ()).unwrap();
    let contents = |root: &Path| listing(root).into_iter().map(|(path, mode, _, content)| (path, mode, content));
    assert!(contents(&into.join("source")).eq(contents(&source)));
    assert_eq!(fs::read_dir(&into).unwrap().count(), 1);
}

#[test]
fn one_file_goes_where_cp_would_put_it() {
    let root = tempfile::tempdir().unwrap();
    let source = sample(root.path());
    let tar = packed(&source.join("plain"));
    let at = |name: &str| root.path().join(name);
    fs::create_dir(at("dir")).unwrap();
    put(&tar, &at("dir")).unwrap();
    assert_eq!(fs::read(at("dir/plain")).unwrap(), b"content");
    assert_eq!(fs::metadata(at("dir/plain")).unwrap().mode() & 0o7777, 0o711, "no set-id bit from a node");
    put(&tar, &at("other")).unwrap();
    assert_eq!(fs::read(at("other")).unwrap(), b"content");
    assert!(put(&tar, &at("nothing/")).is_err(), "no such directory");
    assert!(put(&tar, &at("nothing/there")).is_err());
    assert!(!at("nothing").exists());
    // A symlink that is named is followed by the sender, and kept inside.
    let tar = packed(&source.join("link"));
    put(&tar, &at("passwd")).unwrap();
    assert_eq!(fs::read(at("passwd")).unwrap(), fs::read("/etc/passwd").unwrap());
    // A file does not take the place of a directory, nor of a device.
    fs::create_dir_all(at("dir/link")).unwrap();
    assert!(put(&tar, &at("dir")).unwrap_err().to_string().contains("directory"));
    assert!(put(&tar, Path::new("/dev/null")).is_err());
    assert!(fs::metadata("/dev/null").unwrap().mode() & 0o170_000 == 0o020_000);
}

fn tar_of(entries: &[(&[u8], Kind<'_>, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (path, kind, content) in entries {
        let entry = Entry { path, kind: *kind, mode: 0o777, uid: 0, gid: 0, mtime: (0, 0), xattrs: &[] };
        tar.extend(encode(&entry));
        tar.extend(*content);
        tar.extend(vec![0; padding(content.len() as u64)]);
    }
    tar.extend(END);
    tar
}

#[test]
fn nothing_gets_out_of_the_destination() {
    let root = tempfile::tempdir().unwrap();
    let outside = root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), b"mine").unwrap();
    let to = outside.as_os_str().as_bytes();
    let file = Kind::File { size: 4 };
    for (what, entries) in [
        (
            "through a symlink it sent",
            vec![
                (&b"a"[..], Kind::Directory, &b""[..]),
                (b"a/l", Kind::Symlink(to), b""),
                (b"a/l/precious", file, b"evil"),
            ],
        ),
        ("through itself as a symlink", vec![(b"a", Kind::Symlink(to), b""), (b"a/precious", file, b"evil")]),
        (
            "a directory in place of a symlink",
            vec![
                (b"a", Kind::Directory, b""),
                (b"a/l", Kind::Symlink(to), b""),
                (b"a/l", Kind::Directory, b""),
                (b"a/l/precious", file, b"evil"),
            ],
        ),
        ("dots", vec![(b"a", Kind::Directory, b""), (b"a/../outside/precious", file, b"evil")]),
        ("absolute", vec![(b"/tmp/walt-evil", file, b"evil")]),
        ("another name", vec![(b"a", Kind::Directory, b""), (b"outside/precious", file, b"evil")]),
        ("a hard link", vec![(b"a", Kind::HardLink(b"outside/precious"), b"")]),
        ("a device", vec![(b"a", Kind::BlockDevice(8, 0), b"")]),
    ] {
        let into = root.path().join("into");
        fs::create_dir(&into).unwrap();
        put(&tar_of(&entries), &into).expect_err(what);
        assert_eq!(fs::read(outside.join("precious")).unwrap(), b"mine", "{what}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{what}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2, "{what}");
        fs::remove_dir_all(&into).unwrap();
    }
}

#[test]
fn a_stream_that_breaks_leaves_no_half_file() {
    let root = tempfile::tempdir().unwrap();
    let tar = packed(&sample(root.path()));
    let whole = listing(&root.path().join("source"));
    for cut in (0..tar.len() - 512).step_by(3011) {
        let into = root.path().join("into");
        fs::create_dir(&into).unwrap();
        assert!(matches!(put(&tar[..cut], &into), Err(ReceiveError::Truncated)), "{cut}");
        let got = if into.join("source").exists() { listing(&into.join("source")) } else { Vec::new() };
        for (path, _, _, content) in got {
            let same = whole.iter().any(|(name, _, _, all)| *name == path && *all == content);
            assert!(same, "{} at {cut}", path.display());
        }
        Command::new("chmod").args(["-R", "u+w"]).arg(&into).status().unwrap();
        fs::remove_dir_all(&into).unwrap();
    }
    assert!(matches!(put(&END, root.path()), Err(ReceiveError::Nothing)));
}

#[test]
fn what_can_not_be_sent_is_told() {
    let root = tempfile::tempdir().unwrap();
    assert!(matches!(send(&root.path().join("nothing"), Vec::new(), |_| ()), Err(SendError::Read { .. })));
    assert!(send(Path::new("/dev/null"), Vec::new(), |_| ()).unwrap_err().to_string().contains("device"));
    let source = root.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), b"x").unwrap();
    assert!(Command::new("mkfifo").arg(source.join("pipe")).status().unwrap().success());
    let mut tar = Vec::new();
    let sent = send(&source, &mut tar, |_| ()).unwrap();
    assert_eq!(sent.files, 2);
    assert!(sent.left_out[0].ends_with("pipe: it is a named pipe"), "{:?}", sent.left_out);
    let into = root.path().join("into");
    put(&tar, &into).unwrap();
    assert_eq!(fs::read(into.join("file")).unwrap(), b"x");
}

#[test]
fn what_comes_under_another_name_than_was_asked_for_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (source, into) = (dir.path().join(".bashrc"), dir.path().join("into"));
    fs::write(&source, "evil").unwrap();
    fs::create_dir(&into).unwrap();
    let tar = packed(&source);
    let refused = receive(&tar[..], &into, Some("result".as_ref()), Keep::All, |_| ());
    assert!(matches!(refused, Err(ReceiveError::Stray(_))), "{refused:?}");
    assert_eq!(fs::read_dir(&into).unwrap().count(), 0);
    receive(&tar[..], &into, Some(".bashrc".as_ref()), Keep::All, |_| ()).unwrap();
}
