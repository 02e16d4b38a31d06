//! What our server is to make of an image: the same tree, with the files that it adds.
//!
//! The list is written down here once more, by hand: a file that the server adds or changes without a word here is a
//! difference.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use testbed::lab::SERVER;
use testbed::process::run as run_program;

use super::tree::{Object, S_IFDIR, S_IFLNK, S_IFREG, Tree, sha256};
use crate::image::hex;

/// By these names the agent is called, besides its own.
const AGENT_NAMES: [&str; 10] = [
    "walt-cat",
    "walt-clock-sync",
    "walt-echo",
    "walt-init",
    "walt-log-cat",
    "walt-log-echo",
    "walt-log-monitor",
    "walt-log-tee",
    "walt-tee",
    "walt-timeout",
];

/// What the server's own files are made of.
pub(super) struct Server {
    /// Its state directory.
    pub(super) state: PathBuf,
    /// The agent's binary.
    pub(super) agent: PathBuf,
    /// Id of the image as it is served.
    pub(super) image_id: String,
}

/// A tree with the server's files.
pub(super) struct Expected {
    pub(super) tree: Tree,
    /// What was added (`+`), changed (`~`) and removed (`-`).
    pub(super) added: Vec<String>,
}

impl Server {
    /// The tree that is to be served for the image whose objects are `image`, unpacked at `rootfs`.
    ///
    /// Two files are not known before: the host key in dropbear's format and the order of the list of capabilities.
    /// They are taken from `mount`, once it has been seen that they say the right thing.
    pub(super) fn adds_to(&self, image: &Tree, rootfs: &Path, mount: &Path) -> Result<Expected> {
        let mut layer = Layer { before: image, tree: image.clone(), added: Vec::new() };
        self.add_agent(&mut layer)?;
        self.add_keys(&mut layer, mount)?;
        self.add_network_files(&mut layer);
        add_time_zone(&mut layer, rootfs)?;
        add_capabilities(&mut layer, mount)?;

        // The one template of the image: it keeps its attributes.
        let template = Path::new("etc/walt/server.env");
        let text = fs::read_to_string(rootfs.join(template)).context("the image has lost its template")?;
        layer.change(template, self.substitute(&text).as_bytes());

        layer.tree.count_directory_links();
        layer.added.sort();
        Ok(Expected { tree: layer.tree, added: layer.added })
    }

    fn add_agent(&self, layer: &mut Layer<'_>) -> Result<()> {
        // Debian's /bin is a symlink to usr/bin.
        let bin = Path::new("usr/bin");
        layer.directory(&bin.join("_walt_internal_"), 0o755);
        let agent = fs::read(&self.agent).context("the agent is not built")?;
        let names = AGENT_NAMES.map(|name| bin.join(name));
        let mut all = names.to_vec();
        all.push(bin.join("_walt_internal_/walt-node"));
        all.sort();
        let object = Object { links: all.len() as u64, first_name: all[0].clone(), ..file(0o755, &agent) };
        for name in &all {
            layer.add(name, object.clone());
        }

        let distinct = layer.before.0.iter().filter(|(path, object)| object.is(S_IFREG) && object.first_name == **path);
        let bytes: u64 = distinct.map(|(_, object)| object.size).sum();
        let environment = format!(
            "export walt_server_ip=\"{SERVER}\"\nexport walt_server_rpc_port=\"12345\"\nexport walt_server_logs_port=\"12347\"\n\
             export walt_server_notify_bootup_port=\"12347\"\nexport walt_image_id=\"{}\"\nexport walt_image_size_kib=\"{}\"\n",
            self.image_id,
            bytes.div_ceil(1024)
        );
        layer.file("usr/bin/walt-env", 0o755, environment.as_bytes());
        Ok(())
    }

    fn add_keys(&self, layer: &mut Layer<'_>, mount: &Path) -> Result<()> {
        let read = |name: &str| fs::read(self.state.join("keys").join(name)).with_context(|| format!("no key {name}"));
        // Readable by nobody else, whatever the image has; owner and time of a directory that it has stay.
        let directory = Path::new("root/.ssh");
        let private = |object: &Object| Object { mode: S_IFDIR | 0o700, ..object.clone() };
        match layer.before.0.get(directory).map(private) {
            Some(object) => layer.add(directory, object),
            None => layer.directory(directory, 0o700),
        }
        layer.file("root/.ssh/authorized_keys", 0o600, &read("id_ecdsa.pub")?);
        let public = read("ssh_host_ecdsa_key.pub")?;
        layer.file("etc/ssh/ssh_host_ecdsa_key", 0o600, &read("ssh_host_ecdsa_key")?);
        layer.file("etc/ssh/ssh_host_ecdsa_key.pub", 0o644, &public);

        layer.directory(Path::new("etc/dropbear"), 0o755);
        let dropbear = "etc/dropbear/dropbear_ecdsa_host_key";
        let told = run_program(Command::new("dropbearkey").arg("-y").arg("-f").arg(mount.join(dropbear)))?;
        let base64 = String::from_utf8_lossy(&public).split(' ').nth(1).unwrap_or("no key").trim().to_owned();
        if !told.contains(&base64) {
            bail!("dropbear's host key is another one than openssh's: {told}");
        }
        layer.file(dropbear, 0o600, &fs::read(mount.join(dropbear))?);
        Ok(())
    }

    fn add_network_files(&self, layer: &mut Layer<'_>) {
        let hosts = format!(
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n\
             {SERVER} walt-server\n"
        );
        layer.file("etc/hosts", 0o644, hosts.as_bytes());
        layer.file("etc/resolv.conf", 0o644, format!("search walt\nnameserver {SERVER}\n").as_bytes());
        layer.remove("etc/hostname");
    }

    fn substitute(&self, template: &str) -> String {
        let values = [
            ("%(server_ip)s", SERVER.to_string()),
            ("%(walt_server_logs_port)s", "12347".to_owned()),
            ("%(walt_image_id)s", self.image_id.clone()),
        ];
        values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

/// The time zone of this machine: a link if the image knows it, its data if not.
fn add_time_zone(layer: &mut Layer<'_>, rootfs: &Path) -> Result<()> {
    let Ok(data) = fs::read("/etc/localtime") else { return Ok(()) };
    let link = fs::read_link("/etc/localtime").unwrap_or_default().to_string_lossy().into_owned();
    let zone = match link.split_once("zoneinfo/") {
        Some((_, zone)) => zone.to_owned(),
        None => fs::read_to_string("/etc/timezone").unwrap_or_default().trim().to_owned(),
    };
    if zone.is_empty() {
        return Ok(());
    }
    let known = format!("usr/share/zoneinfo/{zone}");
    if rootfs.join(&known).exists() {
        let target = format!("../{known}");
        let (size, content) = (target.len() as u64, hex(target.as_bytes()));
        let link = Object { mode: S_IFLNK | 0o777, size, content, links: 1, ..Object::default() };
        layer.add(Path::new("etc/localtime"), Object { first_name: "etc/localtime".into(), ..link });
    } else {
        layer.file("etc/localtime", 0o644, &data);
    }
    layer.file("etc/timezone", 0o644, format!("{zone}\n").as_bytes());
    Ok(())
}

/// The list of file capabilities, which NFS does not carry.
fn add_capabilities(layer: &mut Layer<'_>, mount: &Path) -> Result<()> {
    let value = |object: &Object| Some(object.xattrs.get("security.capability")?.trim_start_matches("0x").to_owned());
    let capable = layer.before.0.iter().filter_map(|(path, object)| Some((path.display(), value(object)?)));
    let mut lines: Vec<String> = capable.map(|(path, value)| format!("{value} /{path}")).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let list = "usr/bin/_walt_internal_/capabilities";
    let text = fs::read_to_string(mount.join(list)).context("no list of capabilities")?;
    let mut seen: Vec<&str> = text.lines().collect();
    lines.sort();
    seen.sort_unstable();
    if seen != lines {
        bail!("the image has the capabilities {lines:?}, the server's list {seen:?}");
    }
    layer.file(list, 0o644, text.as_bytes());
    Ok(())
}

/// A tree to which the files of a layer are added.
struct Layer<'a> {
    before: &'a Tree,
    tree: Tree,
    added: Vec<String>,
}

impl Layer<'_> {
    fn add(&mut self, path: &Path, object: Object) {
        let mark = if self.before.0.contains_key(path) { '~' } else { '+' };
        self.added.push(format!("{mark}/{}", path.display()));
        self.tree.0.insert(path.to_owned(), object);
    }

    fn directory(&mut self, path: &Path, mode: u32) {
        self.add(path, Object { mode: S_IFDIR | mode, first_name: path.to_owned(), ..Object::default() });
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.add(Path::new(path), Object { first_name: path.into(), ..file(mode, content) });
    }

    /// Other content under the same name and attributes.
    fn change(&mut self, path: &Path, content: &[u8]) {
        if let Some(before) = self.before.0.get(path) {
            let new = file(0, content);
            self.add(path, Object { size: new.size, content: new.content, ..before.clone() });
        }
    }

    fn remove(&mut self, path: &str) {
        if self.tree.0.remove(Path::new(path)).is_some() {
            self.added.push(format!("-/{path}"));
        }
    }
}

/// A file of root's, of 1970.
fn file(mode: u32, content: &[u8]) -> Object {
    Object {
        mode: S_IFREG | mode,
        size: content.len() as u64,
        links: 1,
        content: sha256(&mut &*content).unwrap_or_default(),
        xattrs: BTreeMap::new(),
        ..Object::default()
    }
}
