//! A kernel's modules: which files a module needs, in the order in which they are loaded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The modules of one kernel: a `lib/modules/<release>` with depmod(8)'s tables.
#[derive(Debug)]
pub struct Modules {
    directory: PathBuf,
    /// Name -> file, and the files that it needs, in the order to load them.
    modules: HashMap<String, (PathBuf, Vec<PathBuf>)>,
    /// Name -> patterns of the devices that it drives.
    aliases: HashMap<String, Vec<String>>,
}

/// A module to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Relative to the directory of the modules.
    pub file: PathBuf,
    /// Load it only on a machine with a device of one of these patterns; empty: always.
    pub aliases: Vec<String>,
}

/// The modules can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// A table or a module can't be read.
    #[error("read {path}: {cause}")]
    Read {
        /// File.
        path: PathBuf,
        /// Cause.
        cause: io::Error,
    },
}

impl Modules {
    /// Opens `lib/modules/<release>`, which must have a `modules.dep` (run `depmod` if it has none).
    pub fn open(directory: &Path) -> Result<Self, ModulesError> {
        let text = read(&directory.join("modules.dep"))?;
        // Without aliases every module is loaded everywhere, which is slow and nothing else.
        let aliases = read(&directory.join("modules.alias")).unwrap_or_default();
        Ok(Self {
            directory: directory.to_owned(),
            modules: parse_dependencies(&text),
            aliases: parse_aliases(&aliases),
        })
    }

    /// The files of `names` and of all that they need, each once, in the order to load them. Names
    /// that are no module of this kernel (built in, or not configured) have no file.
    pub fn closure(&self, names: &[&str]) -> Vec<Module> {
        let mut order = Vec::new();
        // A module that something unconditional needs is unconditional (`None`).
        let mut wanted: BTreeMap<&Path, Option<BTreeSet<&str>>> = BTreeMap::new();
        for name in names {
            let name = normal(name);
            let Some((file, needed)) = self.modules.get(&name) else { continue };
            let aliases = self.device_aliases(&name);
            for file in needed.iter().chain([file]) {
                let entry = wanted.entry(file).or_insert_with(|| {
                    order.push(file);
                    Some(BTreeSet::new())
                });
                match entry {
                    Some(set) if !aliases.is_empty() => set.extend(aliases.iter().map(String::as_str)),
                    entry => *entry = None,
                }
            }
        }
        let aliases = |file: &Path| wanted.get(file).into_iter().flatten().flatten().map(|&a| a.to_owned()).collect();
        order.into_iter().map(|file| Module { file: file.clone(), aliases: aliases(file) }).collect()
    }

    /// Content of a module's file.
    pub fn read(&self, file: &Path) -> Result<Vec<u8>, ModulesError> {
        let path = self.directory.join(file);
        fs::read(&path).map_err(|cause| ModulesError::Read { path, cause })
    }

    /// Patterns of `/sys/bus/*/devices/*/modalias`; other aliases (`fs-nfs`, `char-major-10-1`) name no
    /// device.
    fn device_aliases(&self, name: &str) -> &[String] {
        self.aliases.get(name).map_or(&[], Vec::as_slice)
    }
}

fn read(path: &Path) -> Result<String, ModulesError> {
    fs::read_to_string(path).map_err(|cause| ModulesError::Read { path: path.to_owned(), cause })
}

/// `kernel/a/b.ko: kernel/c.ko kernel/d.ko`: the needed of a module are complete, and each stands
/// before what it needs itself.
fn parse_dependencies(text: &str) -> HashMap<String, (PathBuf, Vec<PathBuf>)> {
    let line = |line: &str| {
        let (file, needed) = line.split_once(':')?;
        let needed = needed.split_whitespace().rev().map(PathBuf::from).collect();
        Some((module_name(file), (PathBuf::from(file), needed)))
    };
    text.lines().filter_map(line).collect()
}

/// `alias pci:v00008086d0000100E* e1000`, of the buses that tell their devices by number.
fn parse_aliases(text: &str) -> HashMap<String, Vec<String>> {
    let mut aliases: HashMap<String, Vec<String>> = HashMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next())
            && ["pci:", "virtio:", "usb:", "of:"].iter().any(|bus| pattern.starts_with(bus))
        {
            aliases.entry(normal(module)).or_default().push(pattern.to_owned());
        }
    }
    aliases
}

/// `kernel/fs/nfs/nfs-v3.ko.xz` -> `nfs_v3`.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    normal(name.split(".ko").next().unwrap_or(name))
}

/// Module names are the same with `-` and `_`.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(dependencies: &str, aliases: &str) -> Modules {
        Modules {
            directory: PathBuf::new(),
            modules: parse_dependencies(dependencies),
            aliases: parse_aliases(aliases),
        }
    }

    const DEPENDENCIES: &str = "\
kernel/nfsv3.ko: kernel/nfs_acl.ko kernel/nfs.ko kernel/sunrpc.ko
kernel/nfs.ko: kernel/sunrpc.ko
kernel/nfs_acl.ko: kernel/sunrpc.ko
kernel/sunrpc.ko:
kernel/e1000.ko:
kernel/net-x.ko.xz: kernel/phy.ko
kernel/phy.ko:
";

    #[test]
    fn each_file_comes_once_and_after_what_it_needs() {
        let files: Vec<_> = modules(DEPENDENCIES, "")
            .closure(&["nfs", "nfsv3", "net_x", "built_in"])
            .into_iter()
            .map(|module| module.file.display().to_string())
            .collect();
        let expected = [
            "kernel/sunrpc.ko",
            "kernel/nfs.ko",
            "kernel/nfs_acl.ko",
            "kernel/nfsv3.ko",
            "kernel/phy.ko",
            "kernel/net-x.ko.xz",
        ];
        assert_eq!(files, expected);
    }

    #[test]
    fn a_driver_and_what_only_it_needs_wait_for_its_device() {
        let aliases = "# comment\nalias pci:v1* e1000\nalias pci:v2* net-x\nalias fs-nfs nfs\nalias pci:v3* net_x\n";
        let modules = modules(DEPENDENCIES, aliases);
        let aliases = |names: &[&str]| -> Vec<(String, usize)> {
            let list = modules.closure(names);
            list.into_iter().map(|m| (m.file.display().to_string(), m.aliases.len())).collect()
        };
        let list = |items: &[(&str, usize)]| items.iter().map(|&(f, n)| (f.to_owned(), n)).collect::<Vec<_>>();
        assert_eq!(
            aliases(&["e1000", "nfs"]),
            list(&[("kernel/e1000.ko", 1), ("kernel/sunrpc.ko", 0), ("kernel/nfs.ko", 0)])
        );
        assert_eq!(aliases(&["net_x"]), list(&[("kernel/phy.ko", 2), ("kernel/net-x.ko.xz", 2)]));
        // Asked for by itself too: phy has no device of its own, so it is loaded everywhere.
        assert_eq!(aliases(&["net_x", "phy"]), list(&[("kernel/phy.ko", 0), ("kernel/net-x.ko.xz", 2)]));
    }
}
