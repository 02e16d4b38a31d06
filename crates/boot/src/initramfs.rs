//! Builds an initramfs: a "newc" cpio archive (Documentation/driver-api/early-userspace/buffer-format.rst).

mod modules;

pub use modules::{Modules, ModulesError};

use std::collections::BTreeSet;
use std::path::Path;

use crate::Architecture;

/// What the agent's `init` mounts on or expects to be there.
const DIRECTORIES: [&str; 5] = ["proc", "sys", "dev", "etc", "root"];

/// File that names the modules to load, for the agent's `init`.
const MODULE_LIST: &str = "etc/modules-load";

/// Modules that a PC may need to reach its NFS root: bus, Ethernet drivers, NFS, and the overlay that
/// the agent lays over it.
const PC_MODULES: [&str; 15] = [
    "virtio_pci",
    "virtio_net",
    "e1000",
    "e1000e",
    "igb",
    "igc",
    "r8169",
    "realtek",
    "tg3",
    "bnx2",
    "ixgbe",
    "8139cp",
    "nfsv3",
    "nfs",
    "overlay",
];

/// The same for boards with an ARM processor: QEMU's, and Raspberry Pis, whose Ethernet is on USB up to the 3 and the
/// SoC's own from the 4 on.
const ARM_MODULES: [&str; 14] = [
    "virtio_pci",
    "virtio_mmio",
    "virtio_net",
    "reset_raspberrypi",
    "dwc2",
    "smsc95xx",
    "lan78xx",
    "genet",
    "mdio_bcm_unimac",
    "broadcom",
    "microchip",
    "nfsv3",
    "nfs",
    "overlay",
];

/// Modules that machines of this architecture may need to reach their NFS root.
pub fn modules_of(architecture: Architecture) -> &'static [&'static str] {
    match architecture {
        Architecture::X86_64 | Architecture::X86 => &PC_MODULES,
        Architecture::Armv6 | Architecture::Armv7 | Architecture::Aarch64 => &ARM_MODULES,
    }
}

/// Type of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// Block device.
    Block,
    /// Character device.
    Character,
}

/// An entry can't be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The path is empty, or has an empty part, `.`, `..` or a NUL in it.
    #[error("{0:?} is no path for an initramfs")]
    BadPath(String),
    /// Something else is at this path already.
    #[error("{0:?} is there twice")]
    Duplicate(String),
    /// The format has 32 bits for sizes.
    #[error("{0:?} is too large (4 GiB and more)")]
    TooLarge(String),
}

/// An archive under construction. Paths are relative to the root, with or without a leading `/`;
/// parent directories are added by themselves. Everything belongs to root and has the time 0, so that
/// the same input makes the same bytes.
///
/// ```
/// let mut builder = walt_boot::initramfs::Builder::new();
/// builder.file("/init", 0o755, b"#!/bin/sh\n")?;
/// builder.symlink("/bin/sh", "busybox")?;
/// let archive = builder.build();
/// assert!(archive.starts_with(b"070701"));
/// # Ok::<(), walt_boot::initramfs::BuildError>(())
/// ```
#[derive(Debug, Default)]
pub struct Builder {
    archive: Vec<u8>,
    /// Paths that are there, directories ending with `/`.
    paths: BTreeSet<String>,
    next_inode: u32,
}

// File types of `st_mode` (inode(7)).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const BLOCK: u32 = 0o060_000;
const CHARACTER: u32 = 0o020_000;

impl Builder {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory with mode 0755; no error if it is there already.
    pub fn directory(&mut self, path: &str) -> Result<&mut Self, BuildError> {
        let path = clean(path)?;
        self.parents(&path)?;
        self.directory_entry(&path)?;
        Ok(self)
    }

    /// Adds a regular file; `mode` are its permission bits.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<&mut Self, BuildError> {
        self.leaf(path, REGULAR | (mode & 0o7777), (0, 0), content)
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<&mut Self, BuildError> {
        self.leaf(path, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    /// Adds a device node; `mode` are its permission bits.
    pub fn device(&mut self, path: &str, mode: u32, kind: Device, number: (u32, u32)) -> Result<&mut Self, BuildError> {
        let kind = match kind {
            Device::Block => BLOCK,
            Device::Character => CHARACTER,
        };
        self.leaf(path, kind | (mode & 0o7777), number, &[])
    }

    /// The archive, uncompressed: the kernel takes it so, or behind any compression that it knows.
    pub fn build(mut self) -> Vec<u8> {
        self.append("TRAILER!!!", 0, (0, 0), &[]);
        self.archive
    }

    fn leaf(&mut self, path: &str, mode: u32, number: (u32, u32), content: &[u8]) -> Result<&mut Self, BuildError> {
        let path = clean(path)?;
        if u32::try_from(content.len()).is_err() {
            return Err(BuildError::TooLarge(path));
        }
        self.parents(&path)?;
        if self.paths.contains(&format!("{path}/")) || !self.paths.insert(path.clone()) {
            return Err(BuildError::Duplicate(path));
        }
        self.append(&path, mode, number, content);
        Ok(self)
    }

    fn parents(&mut self, path: &str) -> Result<(), BuildError> {
        let slashes: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
        slashes.into_iter().try_for_each(|at| self.directory_entry(&path[..at]))
    }

    fn directory_entry(&mut self, path: &str) -> Result<(), BuildError> {
        if self.paths.contains(path) {
            return Err(BuildError::Duplicate(path.to_owned()));
        }
        if self.paths.insert(format!("{path}/")) {
            self.append(path, DIRECTORY | 0o755, (0, 0), &[]);
        }
        Ok(())
    }

    fn append(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.next_inode += 1;
        let links = if mode & 0o170_000 == DIRECTORY { 2 } else { 1 };
        let (size, name_size) = (content.len() as u32, path.len() as u32 + 1);
        self.archive.extend_from_slice(b"070701");
        // inode, mode, uid, gid, links, mtime, size, device (major, minor), its own number (major,
        // minor), length of the name with its NUL, checksum (none in this form).
        for field in [self.next_inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0] {
            self.archive.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.archive.extend_from_slice(path.as_bytes());
        self.archive.push(0);
        self.pad();
        self.archive.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.archive.resize(self.archive.len().next_multiple_of(4), 0);
    }
}

/// The initramfs of a WalT node: the agent as `/init`, and `modules` (names, such as [`modules_of`] lists)
/// with all that they need. Modules that this kernel has built in, or has not at all, are left out.
pub fn for_node(agent: &[u8], modules: &Modules, names: &[&str]) -> Result<Vec<u8>, NodeError> {
    let mut builder = Builder::new();
    for directory in DIRECTORIES {
        builder.directory(directory)?;
    }
    // The kernel opens the console before the init has mounted anything.
    builder.device("dev/console", 0o600, Device::Character, (5, 1))?;
    builder.device("dev/null", 0o666, Device::Character, (1, 3))?;
    builder.file("init", 0o755, agent)?;
    let mut list = String::new();
    for module in modules.closure(names) {
        let content = modules.read(&module.file)?;
        let path = format!("lib/modules/{}", file_name(&module.file));
        builder.file(&path, 0o644, &content)?;
        list.push_str(&format!("/{path}"));
        module.aliases.iter().for_each(|alias| list.push_str(&format!(" {alias}")));
        list.push('\n');
    }
    builder.file(MODULE_LIST, 0o644, list.as_bytes())?;
    Ok(builder.build())
}

/// A node's initramfs can't be built.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An entry can't be added.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A module can't be read.
    #[error(transparent)]
    Modules(#[from] ModulesError),
}

/// Module names are unique over the directories of a kernel.
fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The path without leading and trailing `/`.
fn clean(path: &str) -> Result<String, BuildError> {
    let trimmed = path.strip_prefix('/').unwrap_or(path).trim_end_matches('/');
    if trimmed.split('/').any(|part| matches!(part, "" | "." | "..") || part.contains('\0')) {
        return Err(BuildError::BadPath(path.to_owned()));
    }
    Ok(trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    #[test]
    fn cpio_reads_what_was_written() {
        let mut builder = Builder::new();
        builder
            .directory("/proc")
            .unwrap()
            .file("/a/b/c", 0o4755, b"hello")
            .unwrap()
            .file("empty", 0o600, b"")
            .unwrap();
        builder.symlink("/a/link", "b/c").unwrap().device("/dev/console", 0o600, Device::Character, (5, 1)).unwrap();
        let archive = builder.build();
        let mut cpio = Command::new("cpio").arg("-itv").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        cpio.stdin.take().unwrap().write_all(&archive).unwrap();
        let listing = cpio.wait_with_output().unwrap();
        assert!(listing.status.success());
        let listing = String::from_utf8(listing.stdout).unwrap();
        let entries: Vec<(&str, &str)> = listing
            .lines()
            .map(|line| {
                (&line[..10], line.split_whitespace().skip(8).collect::<Vec<_>>().first().copied().unwrap_or_default())
            })
            .collect();
        let expected = [
            ("drwxr-xr-x", "proc"),
            ("drwxr-xr-x", "a"),
            ("drwxr-xr-x", "a/b"),
            ("-rwsr-xr-x", "a/b/c"),
            ("-rw-------", "empty"),
            ("lrwxrwxrwx", "a/link"),
            ("drwxr-xr-x", "dev"),
        ];
        assert_eq!(entries[..7], expected, "{listing}");
        assert!(
            listing.contains("crw-------") && listing.contains("5,   1") && listing.contains("a/link -> b/c"),
            "{listing}"
        );
    }

    #[test]
    fn a_path_is_there_once_and_stays_inside() {
        let mut builder = Builder::new();
        builder.file("/a/b", 0o644, b"").unwrap();
        assert_eq!(builder.file("a/b", 0o644, b"").unwrap_err(), BuildError::Duplicate("a/b".into()));
        assert_eq!(builder.file("a", 0o644, b"").unwrap_err(), BuildError::Duplicate("a".into()));
        assert_eq!(builder.file("a/b/c", 0o644, b"").unwrap_err(), BuildError::Duplicate("a/b".into()));
        assert!(builder.directory("a").is_ok());
        for path in ["", "/", "a//b", "../x", "a/./b", "a/\0"] {
            assert_eq!(builder.file(path, 0o644, b"").unwrap_err(), BuildError::BadPath(path.into()));
        }
    }

    #[test]
    fn the_same_input_makes_the_same_bytes() {
        let build = || {
            let mut builder = Builder::new();
            builder.file("/init", 0o755, b"x").unwrap();
            builder.build()
        };
        assert_eq!(build(), build());
        // A header is 110 bytes; name and content are padded to four.
        assert_eq!(build().len(), (110 + 5usize).next_multiple_of(4) + 4 + (110 + 11usize).next_multiple_of(4));
    }
}
