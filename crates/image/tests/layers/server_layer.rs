//! The server's own layer over images of several shapes.

use walt_image::server_layer::{Base, HostKeys, Ports, ServerFiles, TimeZone, prepare};
use walt_image::tar::{TarAttr, TarWriter};
use walt_image::{DiffId, ImageDigest, LayerFiles, View};

use crate::stacked::{content, dir, file, listing, tar};

fn server_files(directory: &std::path::Path) -> ServerFiles {
    ServerFiles {
        agent: b"\x7fELF agent".to_vec(),
        server_ip: [10, 0, 0, 1].into(),
        server_mac: [2, 0, 0, 0, 0, 0xff],
        ports: Ports::default(),
        authorized_key: "ecdsa-sha2-nistp256 AAAA walt-server".into(),
        host_keys: HostKeys::load_or_create(directory).unwrap(),
        hosts: vec![([10, 0, 0, 1].into(), "walt-server".into())],
        name_servers: vec![[10, 0, 0, 1].into()],
        domain: None,
        time_zone: Some(TimeZone { name: "Europe/Paris".into(), data: b"TZif".to_vec() }),
    }
}

struct Prepared {
    view: std::sync::Arc<View>,
    files: ServerFiles,
    layers: LayerFiles,
    images: std::path::PathBuf,
    base: Vec<DiffId>,
    _directory: tempfile::TempDir,
}

fn image() -> ImageDigest {
    format!("sha256:{}", "c0".repeat(32)).parse().unwrap()
}

fn try_prepared(fill: impl FnOnce(&mut TarWriter)) -> Result<Prepared, String> {
    let directory = tempfile::tempdir().unwrap();
    let (layers_dir, images) = (directory.path().join("layers"), directory.path().join("images"));
    std::fs::create_dir_all(&layers_dir).unwrap();
    std::fs::create_dir_all(&images).unwrap();
    let layers = LayerFiles::new(layers_dir);
    let base = vec![layers.add(&tar(fill)).unwrap().0];
    let files = server_files(directory.path());
    let view = prepare(&images, &image(), &Base::new(&layers, base.clone()), &files).map_err(|e| e.to_string())?;
    Ok(Prepared { view, files, layers, images, base, _directory: directory })
}

fn text(view: &View, path: &str) -> String {
    let ino = view.resolve(path.as_bytes()).unwrap_or_else(|e| panic!("{path}: {e:?}"));
    String::from_utf8_lossy(&content(view, ino)).into_owned()
}

#[test]
fn a_debian_like_image_gets_all_that_the_server_adds() {
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let prepared = try_prepared(|t| {
        for path in ["usr/bin", "proc", "sys", "run", "root", "etc/ssh"] {
            t.directory(path.as_bytes(), dir());
        }
        t.symlink(b"bin", dir(), b"usr/bin").symlink(b"sbin", dir(), b"usr/sbin");
        t.symlink(b"etc/resolv.conf", dir(), b"../run/resolv.conf").file(b"etc/hostname", file(), b"builder\n");
        t.file(b"usr/share/zoneinfo/Europe/Paris", file(), b"TZif of the image").file(b"etc/localtime", file(), b"UTC");
        t.directory(b"root/.ssh", TarAttr { uid: 5, ..dir() });
        t.file(b"root/.ssh/authorized_keys", TarAttr { uid: 5, ..file() }, b"ssh-rsa BBBB me");
        t.file(b"etc/ssh/ssh_host_ed25519_key", file(), b"x").file(b"etc/ssh/sshd_config", file(), b"y");
        t.file(
            b"etc/walt/image.spec",
            file(),
            b"# ours\n{\"templates\": [\"/etc/t\", \"/boot/pc-x86-64/start.ipxe\"]}",
        );
        t.file(b"etc/t", TarAttr { gid: 9, ..TarAttr::mode(0o640) }, b"%(server_ip)s %(server_mac)s %(walt_image_id)s");
        t.file(b"boot/real.ipxe", file(), b"%(walt_image_size_kib)s %(nothing)s");
        t.symlink(b"boot/pc-x86-64/start.ipxe", dir(), b"/boot/real.ipxe");
        let xattrs: &[(&[u8], &[u8])] = &[(b"security.capability", &capability)];
        t.file(b"usr/bin/ping", TarAttr { xattrs, ..dir() }, b"ping");
    })
    .unwrap();
    let view = &prepared.view;
    let attr = |path: &str| view.attr(view.resolve(path.as_bytes()).unwrap()).unwrap();

    assert_eq!(view.id(), prepared.files.image_id(&image()));
    assert_eq!(text(view, "/bin/walt-init"), "\x7fELF agent");
    assert_eq!((attr("/usr/bin/walt-init").mode, attr("/bin/walt-timeout").ino), (0o755, attr("bin/walt-init").ino));
    assert_eq!(attr("/bin/_walt_internal_/walt-node").ino, attr("bin/walt-init").ino);
    assert_eq!(view.readlink(view.lookup(1, b"bin").unwrap()), Some(&b"usr/bin"[..]));
    let env = text(view, "bin/walt-env");
    assert!(env.contains("export walt_server_ip=\"10.0.0.1\"\n") && env.contains(view.id()), "{env}");
    assert!(env.contains("export walt_server_logs_port=\"12347\"\n"), "{env}");

    assert_eq!(text(view, "root/.ssh/authorized_keys"), "ssh-rsa BBBB me\necdsa-sha2-nistp256 AAAA walt-server\n");
    assert_eq!((attr("root/.ssh").mode, attr("root/.ssh").uid), (0o700, 5));
    assert_eq!((attr("root/.ssh/authorized_keys").mode, attr("root/.ssh/authorized_keys").uid), (0o600, 5));
    assert!(text(view, "etc/ssh/ssh_host_ecdsa_key").starts_with("-----BEGIN OPENSSH"));
    assert_eq!(attr("etc/ssh/ssh_host_ecdsa_key").mode, 0o600);
    assert!(view.resolve(b"etc/ssh/ssh_host_ed25519_key").is_err());
    assert_eq!(text(view, "etc/ssh/sshd_config"), "y");
    assert_eq!(attr("etc/dropbear/dropbear_ecdsa_host_key").mode, 0o600);

    assert!(view.resolve(b"etc/hostname").is_err());
    assert_eq!(text(view, "etc/resolv.conf"), "nameserver 10.0.0.1\n");
    assert!(text(view, "etc/hosts").ends_with("\n10.0.0.1 walt-server\n"));
    let localtime = view.lookup(view.resolve(b"etc").unwrap(), b"localtime").unwrap();
    assert_eq!(view.readlink(localtime), Some(&b"../usr/share/zoneinfo/Europe/Paris"[..]));
    assert_eq!(text(view, "etc/timezone"), "Europe/Paris\n");
    assert!(view.resolve(b"dev").is_ok());

    assert_eq!(text(view, "etc/t"), format!("10.0.0.1 02:00:00:00:00:ff {}", view.id()));
    assert_eq!((attr("etc/t").mode, attr("etc/t").gid), (0o640, 9));
    assert_eq!(text(view, "boot/pc-x86-64/start.ipxe"), "1 %(nothing)s");
    assert!(view.readlink(view.lookup(view.resolve(b"boot/pc-x86-64").unwrap(), b"start.ipxe").unwrap()).is_some());
    let line = text(view, "/bin/_walt_internal_/capabilities");
    assert_eq!(line, "0100000200200000000000000000000000000000 /usr/bin/ping\n");
}

#[test]
fn an_empty_image_gets_it_too() {
    let prepared = try_prepared(|_| {}).unwrap();
    let listing = listing(&prepared.view);
    for line in ["bin/walt-init=\u{7f}ELF agent", "etc/localtime=TZif", "proc/", "root/", "root/.ssh/"] {
        assert!(listing.iter().any(|l| l == line), "{line} is not in {listing:#?}");
    }
    let root = prepared.view.attr(prepared.view.resolve(b"root").unwrap()).unwrap();
    assert_eq!(root.mode, 0o700);
}

#[test]
fn preparing_again_gives_the_same_and_mends_what_is_broken() {
    let prepared = try_prepared(|t| _ = t.file(b"a", file(), b"1")).unwrap();
    let Prepared { view, files, layers, images, base, .. } = &prepared;
    let again = || prepare(images, &image(), &Base::new(layers, base.clone()), files).unwrap();
    let expected = listing(view);
    let index = images.join(view.id()).join("index");
    let bytes = std::fs::read(&index).unwrap();
    assert_eq!(listing(&again()), expected);

    // A torn index, a lost one, a lost table of contents and a lost layer of the server.
    std::fs::remove_file(&index).unwrap();
    std::fs::write(&index, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(listing(&again()), expected);
    std::fs::remove_dir_all(images.join(view.id())).unwrap();
    std::fs::write(layers.toc_path(base[0]), b"WALTTC01 garbage").unwrap();
    assert_eq!(listing(&again()), expected);
    std::fs::remove_file(layers.path(view.layers().last().unwrap())).unwrap();
    let fresh = LayerFiles::new(layers.directory());
    assert_eq!(listing(&prepare(images, &image(), &Base::new(&fresh, base.clone()), files).unwrap()), expected);
    assert_eq!(std::fs::read(&index).unwrap(), bytes);
    let left: Vec<_> = std::fs::read_dir(layers.directory()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("partial")), "{left:?}");
}

#[test]
fn every_input_is_part_of_the_id() {
    let directory = tempfile::tempdir().unwrap();
    let original = server_files(directory.path());
    let other: ImageDigest = format!("sha256:{}", "c1".repeat(32)).parse().unwrap();
    let mut ids = vec![original.image_id(&image()), original.image_id(&other)];
    let changes: &[fn(&mut ServerFiles)] = &[
        |f| f.agent.push(0),
        |f| f.server_ip = [10, 0, 0, 2].into(),
        |f| f.server_mac[0] = 4,
        |f| f.ports.server_rpc = 1,
        |f| f.ports.node_net_service = 1,
        |f| f.authorized_key.push('x'),
        |f| f.host_keys.openssh_private.push('x'),
        |f| f.hosts.clear(),
        |f| f.hosts[0].1.push('x'),
        |f| f.name_servers.clear(),
        |f| f.domain = Some("walt".into()),
        |f| f.time_zone = None,
    ];
    for change in changes {
        let mut files = original.clone();
        change(&mut files);
        ids.push(files.image_id(&image()));
    }
    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
    assert_eq!(original.image_id(&image()), ids[0]);
}

#[test]
fn broken_images_are_refused_by_name() {
    let spec = |text: &'static [u8]| move |t: &mut TarWriter| _ = t.file(b"etc/walt/image.spec", file(), text);
    for (fill, expected) in [
        (spec(b"{\"templates\": 3}"), "image.spec is unusable: its \"templates\" is not a list of paths"),
        (spec(b"{\"templates\": [\"/none\"]}"), "\"/none\" is listed as a template but not there"),
        (spec(b"{\"templates\": [\"/etc\"]}"), "\"etc\" is not a regular file"),
    ] {
        let error = try_prepared(fill).err().unwrap_or_default();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}
