//! What goes into the server's layer, given the image below it.

use std::fmt::Write as _;

use wire::node::{CAPABILITY_LIST, FileCapability, INTERNAL_DIRECTORY, MOUNT_POINTS, PROGRAM_NAMES};

use super::image_spec::{SpecError, parse_templates};
use super::substitute::{Variables, environment, substitute, variables};
use super::{ServerFiles, TimeZone};
use crate::tar::{TarAttr, TarWriter};
use crate::{Attr, FileKind, Ino, ROOT, View};

/// Where an image may list its templates.
const IMAGE_SPEC: &[u8] = b"etc/walt/image.spec";
/// Largest template, specification or list of keys that is read into memory.
const MAX_TEXT: u64 = 4 << 20;
/// Most templates of one image.
const MAX_TEMPLATES: usize = 1024;
/// Attribute that holds file capabilities, capabilities(7).
const CAPABILITY: &[u8] = b"security.capability";

/// Why an image cannot get the server's layer.
#[derive(Debug, thiserror::Error)]
pub enum ServerLayerError {
    /// The image's specification makes no sense.
    #[error("the image's /etc/walt/image.spec is unusable: {0}")]
    Spec(#[from] SpecError),
    /// The image lists more templates than anybody needs.
    #[error("the image's /etc/walt/image.spec lists more than {MAX_TEMPLATES} templates")]
    TooManyTemplates,
    /// A file that must be read is none, or too large.
    #[error("the image's {path:?} {reason}")]
    Text {
        /// Its path in the image.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A layer of the image cannot be read.
    #[error("cannot read the image's {path:?}: {cause}")]
    Read {
        /// Its path in the image.
        path: String,
        /// What the system says.
        cause: std::io::Error,
    },
}

/// The layer's tar for the image `base`.
pub fn render(base: &View, files: &ServerFiles, image_id: &str) -> Result<Vec<u8>, ServerLayerError> {
    let variables = variables(files, image_id, base.total_bytes());
    let mut layer = Layer { base, tar: TarWriter::new() };
    layer.add_agent(&files.agent);
    layer.add_environment(&variables);
    layer.add_mount_points();
    layer.add_authorized_key(&files.authorized_key)?;
    layer.add_host_keys(files);
    layer.add_network_files(files);
    if let Some(zone) = &files.time_zone {
        layer.add_time_zone(zone);
    }
    layer.add_capabilities();
    layer.add_templates(&variables)?;
    Ok(layer.tar.finish())
}

struct Layer<'a> {
    base: &'a View,
    tar: TarWriter,
}

impl Layer<'_> {
    /// The agent under its own name, and hard links to it: they hold before and after the root is
    /// switched, and where `/bin` is a symlink.
    fn add_agent(&mut self, agent: &[u8]) {
        let (executable, binary) = (TarAttr::mode(0o755), inside(INTERNAL_DIRECTORY, "walt-node"));
        self.tar.directory(&relative(INTERNAL_DIRECTORY), executable);
        self.tar.file(&binary, executable, agent);
        for name in PROGRAM_NAMES {
            self.tar.hard_link(&inside("bin", name), executable, &binary);
        }
    }

    fn add_environment(&mut self, variables: &Variables) {
        self.tar.file(b"bin/walt-env", TarAttr::mode(0o755), environment(variables).as_bytes());
    }

    fn add_mount_points(&mut self) {
        for path in MOUNT_POINTS {
            if self.base.resolve(path.as_bytes()).is_err() {
                self.tar.directory(&relative(path), TarAttr::mode(0o755));
            }
        }
    }

    /// sshd takes the file only if nobody but its owner can write it or the directories above.
    fn add_authorized_key(&mut self, key: &str) -> Result<(), ServerLayerError> {
        const KEYS: &[u8] = b"root/.ssh/authorized_keys";
        self.add_missing_directory(b"root", 0o700);
        match self.named(b"root/.ssh") {
            // Through a symlink, the directory it leads to stays as it is.
            Some(attr) if attr.kind == FileKind::Symlink => {}
            Some(attr) if attr.kind == FileKind::Directory => {
                self.tar.directory(b"root/.ssh", TarAttr { mode: 0o700, ..kept(&attr) });
            }
            _ => _ = self.tar.directory(b"root/.ssh", TarAttr::mode(0o700)),
        }
        let (attr, mut text) = match self.text(KEYS)? {
            Some((attr, text)) => (TarAttr { mode: 0o600, ..kept(&attr) }, text),
            None => (TarAttr::mode(0o600), Vec::new()),
        };
        let key = key.trim();
        if !text.split(|&b| b == b'\n').any(|line| line.trim_ascii() == key.as_bytes()) {
            if text.last().is_some_and(|&b| b != b'\n') {
                text.push(b'\n');
            }
            text.extend(key.as_bytes());
            text.push(b'\n');
        }
        self.tar.file(KEYS, attr, &text);
        Ok(())
    }

    /// The one host key, and none besides: an ssh client that has seen another kind of key of this
    /// node first would raise its alarm when the image changes.
    fn add_host_keys(&mut self, files: &ServerFiles) {
        let keys = &files.host_keys;
        for (directory, is_key) in [
            ("etc/ssh", (|name| name.starts_with(b"ssh_host_")) as fn(&[u8]) -> bool),
            ("etc/dropbear", |name| name.starts_with(b"dropbear_") && name.ends_with(b"_host_key")),
        ] {
            self.add_missing_directory(directory.as_bytes(), 0o755);
            let Ok(ino) = self.base.resolve(directory.as_bytes()) else { continue };
            for entry in self.base.readdir(ino, 0).into_iter().flatten().filter(|entry| is_key(entry.name)) {
                self.tar.whiteout(&[directory.as_bytes(), b"/", entry.name].concat());
            }
        }
        let (secret, public) = (TarAttr::mode(0o600), TarAttr::mode(0o644));
        self.tar.file(b"etc/ssh/ssh_host_ecdsa_key", secret, keys.openssh_private.as_bytes());
        self.tar.file(b"etc/ssh/ssh_host_ecdsa_key.pub", public, keys.openssh_public.as_bytes());
        self.tar.file(b"etc/dropbear/dropbear_ecdsa_host_key", secret, &keys.dropbear);
    }

    fn add_network_files(&mut self, files: &ServerFiles) {
        let mut hosts = String::from(
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n",
        );
        for (address, name) in &files.hosts {
            // Writing into a String cannot fail.
            let _ = writeln!(hosts, "{address} {name}");
        }
        self.tar.file(b"etc/hosts", TarAttr::mode(0o644), hosts.as_bytes());
        let mut resolver = String::new();
        if let Some(domain) = &files.domain {
            let _ = writeln!(resolver, "search {domain}");
        }
        for address in &files.name_servers {
            let _ = writeln!(resolver, "nameserver {address}");
        }
        // Where the image has a symlink to what a resolver daemon writes, this takes its place.
        self.tar.file(b"etc/resolv.conf", TarAttr::mode(0o644), resolver.as_bytes());
        // The name comes from the kernel's command line; one from the image would replace it.
        self.tar.whiteout(b"etc/hostname");
    }

    /// A symlink where the image knows the zone, as systemd wants to read the name from it;
    /// otherwise the data.
    fn add_time_zone(&mut self, zone: &TimeZone) {
        let known = [b"usr/share/zoneinfo/", zone.name.as_bytes()].concat();
        if !zone.name.is_empty() && self.base.resolve(&known).is_ok() {
            self.tar.symlink(b"etc/localtime", TarAttr::mode(0o777), &[b"../", &known[..]].concat());
        } else {
            self.tar.file(b"etc/localtime", TarAttr::mode(0o644), &zone.data);
        }
        if !zone.name.is_empty() {
            self.tar.file(b"etc/timezone", TarAttr::mode(0o644), format!("{}\n", zone.name).as_bytes());
        }
    }

    /// NFSv3 carries no attributes, so the agent sets file capabilities again from this list.
    fn add_capabilities(&mut self) {
        let has_capability = |ino| self.base.xattrs(ino).iter().any(|(name, _)| *name == CAPABILITY);
        if !(1..=self.base.inode_count()).any(has_capability) {
            return;
        }
        let mut list = String::new();
        let mut directories = vec![(Vec::new(), ROOT)];
        while let Some((path, ino)) = directories.pop() {
            for entry in self.base.readdir(ino, 0).into_iter().flatten() {
                if matches!(entry.name, b"." | b"..") {
                    continue;
                }
                let path = [&path[..], b"/", entry.name].concat();
                if entry.kind == FileKind::Directory {
                    directories.push((path, entry.ino));
                    continue;
                }
                let xattrs = self.base.xattrs(entry.ino);
                if let Some((_, value)) = xattrs.into_iter().find(|(name, _)| *name == CAPABILITY) {
                    let line = FileCapability { path, value: value.to_vec() }.to_string();
                    // What the agent would not read is no capability that a kernel could set.
                    if FileCapability::parse(&line).is_ok() {
                        list.push_str(&line);
                        list.push('\n');
                    }
                }
            }
        }
        self.tar.file(&relative(CAPABILITY_LIST), TarAttr::mode(0o644), list.as_bytes());
    }

    fn add_templates(&mut self, variables: &Variables) -> Result<(), ServerLayerError> {
        let Some((_, spec)) = self.text(IMAGE_SPEC)? else { return Ok(()) };
        let templates = parse_templates(&spec)?;
        if templates.len() > MAX_TEMPLATES {
            return Err(ServerLayerError::TooManyTemplates);
        }
        for path in templates {
            let missing =
                || ServerLayerError::Text { path: path.clone(), reason: "is listed as a template but not there" };
            // Where a symlink is listed, the file it leads to is the template.
            let real = self.base.real_path(path.as_bytes()).map_err(|_| missing())?;
            let (attr, text) = self.text(&real)?.ok_or_else(missing)?;
            let ino = self.base.resolve(&real).map_err(|_| missing())?;
            let xattrs = self.base.xattrs(ino);
            let attr = TarAttr { xattrs: &xattrs, ..kept(&attr) };
            self.tar.file(&real, attr, &substitute(&text, variables));
        }
        Ok(())
    }

    fn add_missing_directory(&mut self, path: &[u8], mode: u32) {
        if self.base.resolve(path).is_err() {
            self.tar.directory(path, TarAttr::mode(mode));
        }
    }

    /// What stands at `path` itself, be it a symlink.
    fn named(&self, path: &[u8]) -> Option<Attr> {
        let slash = path.iter().rposition(|&b| b == b'/');
        let parent = self.base.resolve(&path[..slash.unwrap_or(0)]).ok()?;
        self.base.attr(self.base.lookup(parent, &path[slash.map_or(0, |at| at + 1)..])?)
    }

    /// A small regular file; `None` if there is nothing at `path`.
    fn text(&self, path: &[u8]) -> Result<Option<(Attr, Vec<u8>)>, ServerLayerError> {
        let Some(attr) = self.base.resolve(path).ok().and_then(|ino: Ino| self.base.attr(ino)) else { return Ok(None) };
        let name = || String::from_utf8_lossy(path).into_owned();
        if attr.kind != FileKind::Regular {
            return Err(ServerLayerError::Text { path: name(), reason: "is not a regular file" });
        }
        let size = usize::try_from(attr.size.min(MAX_TEXT + 1)).unwrap_or_default();
        if attr.size > MAX_TEXT {
            return Err(ServerLayerError::Text { path: name(), reason: "is larger than 4 MiB" });
        }
        let mut text = vec![0; size];
        self.base.read_at(attr.ino, 0, &mut text).map_err(|cause| ServerLayerError::Read { path: name(), cause })?;
        Ok(Some((attr, text)))
    }
}

/// Attributes of a file of the image, for the one that takes its place.
fn kept(attr: &Attr) -> TarAttr<'static> {
    TarAttr { mode: attr.mode, uid: attr.uid, gid: attr.gid, mtime: attr.mtime, xattrs: &[] }
}

fn relative(path: &str) -> Vec<u8> {
    path.trim_start_matches('/').into()
}

fn inside(directory: &str, name: &str) -> Vec<u8> {
    [&relative(directory)[..], b"/", name.as_bytes()].concat()
}
