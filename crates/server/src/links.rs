//! The directories and links below `nodes/`, by which people and tools find a node's image:
//!
//! ```text
//! nodes/<mac>/                                         a real directory
//! nodes/<mac>/fs   -> ../../images/<image_id>/fs
//! nodes/<mac>/tftp -> ../../images/<image_id>/fs/boot/<model>
//! nodes/<ip>, nodes/<hh-hh-hh-hh-hh-hh>, nodes/<name>  -> <mac>
//! ```
//!
//! A link is replaced by renaming a new one over it, so it always leads somewhere.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use net::MacAddr;

/// Prefix of names that are not in place yet.
const NEW: &str = ".new-";

/// What the links of one node say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLinks {
    /// Hardware address.
    pub mac: MacAddr,
    /// IPv4 address.
    pub ip: Ipv4Addr,
    /// Name.
    pub name: String,
    /// Model.
    pub model: String,
    /// Image that it is served; no `fs` and `tftp` without.
    pub image_id: Option<String>,
}

/// A link or directory that could not be set.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A directory could not be made.
    #[error("can not make directory {path}: {cause}")]
    Directory {
        /// Directory.
        path: PathBuf,
        /// Reason.
        cause: io::Error,
    },
    /// A link could not be set.
    #[error("can not set link {path}: {cause}")]
    Link {
        /// Link.
        path: PathBuf,
        /// Reason.
        cause: io::Error,
    },
    /// A stale link could not be removed.
    #[error("can not remove {path}: {cause}")]
    Remove {
        /// Link.
        path: PathBuf,
        /// Reason.
        cause: io::Error,
    },
    /// A directory could not be read.
    #[error("can not read directory {path}: {cause}")]
    Read {
        /// Directory.
        path: PathBuf,
        /// Reason.
        cause: io::Error,
    },
}

impl NodeLinks {
    /// Names of the links that lead to the node's directory.
    fn aliases(&self) -> [String; 3] {
        [self.ip.to_string(), self.mac.to_string().replace(':', "-"), self.name.clone()]
    }
}

/// Sets the links of one node, and removes those that led to it before and should not any more.
///
/// # Errors
/// The first link that could not be set.
pub fn set(state_dir: &Path, node: &NodeLinks) -> Result<(), LinkError> {
    write(state_dir, node)?;
    let wanted = node.aliases().into_iter().map(|alias| (alias, node.mac.to_string())).collect();
    remove_stale(&state_dir.join("nodes"), &wanted, Some(&node.mac.to_string()))
}

/// Removes the directory of a device, and the links that lead there.
///
/// # Errors
/// The first one that could not be removed.
pub fn forget(state_dir: &Path, mac: MacAddr) -> Result<(), LinkError> {
    let (nodes, mac) = (state_dir.join("nodes"), mac.to_string());
    let own = nodes.join(&mac);
    // A device that was no node has none.
    if !own.exists() {
        return Ok(());
    }
    remove_stale(&nodes, &HashMap::new(), Some(&mac))?;
    remove_stale(&own, &HashMap::new(), None)?;
    match std::fs::remove_dir(&own) {
        // What somebody else has put there stays.
        Err(cause) if cause.kind() != io::ErrorKind::DirectoryNotEmpty => Err(LinkError::Remove { path: own, cause }),
        _ => Ok(()),
    }
}

/// Sets the links of all nodes and removes all others: what a crash left half done is whole again.
///
/// # Errors
/// The first link that could not be set.
pub fn repair(state_dir: &Path, nodes: &[NodeLinks]) -> Result<(), LinkError> {
    let dir = state_dir.join("nodes");
    make_dir(&dir)?;
    for node in nodes {
        write(state_dir, node)?;
    }
    let aliases = nodes.iter().flat_map(|node| node.aliases().map(|alias| (alias, node.mac.to_string())));
    remove_stale(&dir, &aliases.collect(), None)
}

fn write(state_dir: &Path, node: &NodeLinks) -> Result<(), LinkError> {
    let nodes = state_dir.join("nodes");
    let mac = node.mac.to_string();
    let own = nodes.join(&mac);
    make_dir(&own)?;
    match &node.image_id {
        Some(id) => {
            let fs = PathBuf::from(format!("../../images/{id}/fs"));
            point(&own, "tftp", &fs.join("boot").join(&node.model))?;
            point(&own, "fs", &fs)?;
        }
        None => {
            remove(&own.join("fs"))?;
            remove(&own.join("tftp"))?;
        }
    }
    for alias in node.aliases() {
        point(&nodes, &alias, Path::new(&mac))?;
    }
    Ok(())
}

fn make_dir(path: &Path) -> Result<(), LinkError> {
    std::fs::create_dir_all(path).map_err(|cause| LinkError::Directory { path: path.to_owned(), cause })
}

/// Makes `dir/name` a link to `target`, in one step.
fn point(dir: &Path, name: &str, target: &Path) -> Result<(), LinkError> {
    let path = dir.join(name);
    if std::fs::read_link(&path).is_ok_and(|now| now == target) {
        return Ok(());
    }
    let new = dir.join(format!("{NEW}{name}"));
    remove(&new)?;
    symlink(target, &new).and_then(|()| std::fs::rename(&new, &path)).map_err(|cause| LinkError::Link { path, cause })
}

fn remove(path: &Path) -> Result<(), LinkError> {
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(LinkError::Remove { path: path.to_owned(), cause })
        }
        _ => Ok(()),
    }
}

/// Removes links that are not `wanted` (name → target); with `to`, only those that lead there.
/// Directories and files of other programs stay.
fn remove_stale(dir: &Path, wanted: &HashMap<String, String>, to: Option<&str>) -> Result<(), LinkError> {
    let read = |cause| LinkError::Read { path: dir.to_owned(), cause };
    for entry in std::fs::read_dir(dir).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let Ok(target) = std::fs::read_link(&path) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_wanted = wanted.get(&*name).is_some_and(|wanted| Path::new(wanted) == target);
        if !is_wanted && to.is_none_or(|to| Path::new(to) == target) {
            remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(last: u8, ip: u8, name: &str, image: Option<&str>) -> NodeLinks {
        NodeLinks {
            mac: MacAddr([2, 0, 0, 0, 0, last]),
            ip: Ipv4Addr::new(10, 0, 0, ip),
            name: name.into(),
            model: "pc-x86-64".into(),
            image_id: image.map(str::to_owned),
        }
    }

    /// All links below `nodes/`, as `path -> target`, sorted.
    fn links(root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for dir in [root.join("nodes")].into_iter().chain(
            std::fs::read_dir(root.join("nodes"))
                .unwrap()
                .map(|e| e.unwrap().path())
                .filter(|p| !p.is_symlink() && p.is_dir()),
        ) {
            for entry in std::fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                if let Ok(target) = std::fs::read_link(&path) {
                    found.push(format!("{} -> {}", path.strip_prefix(root).unwrap().display(), target.display()));
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn links_are_those_of_the_layout() {
        let root = tempfile::tempdir().unwrap();
        set(root.path(), &node(1, 7, "node-1", Some("abc"))).unwrap();
        assert_eq!(
            links(root.path()),
            [
                "nodes/02-00-00-00-00-01 -> 02:00:00:00:00:01",
                "nodes/02:00:00:00:00:01/fs -> ../../images/abc/fs",
                "nodes/02:00:00:00:00:01/tftp -> ../../images/abc/fs/boot/pc-x86-64",
                "nodes/10.0.0.7 -> 02:00:00:00:00:01",
                "nodes/node-1 -> 02:00:00:00:00:01",
            ]
        );
    }

    #[test]
    fn a_change_of_address_name_and_image_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        set(root.path(), &node(1, 7, "node-1", Some("abc"))).unwrap();
        set(root.path(), &node(2, 8, "node-2", Some("abc"))).unwrap();
        set(root.path(), &node(1, 9, "renamed", Some("def"))).unwrap();
        let now = links(root.path());
        assert_eq!(now.len(), 10, "{now:?}");
        assert!(now.contains(&"nodes/10.0.0.9 -> 02:00:00:00:00:01".to_owned()));
        assert!(now.contains(&"nodes/02:00:00:00:00:01/fs -> ../../images/def/fs".to_owned()));
        assert!(now.contains(&"nodes/node-2 -> 02:00:00:00:00:02".to_owned()));
        set(root.path(), &node(1, 9, "renamed", None)).unwrap();
        assert_eq!(links(root.path()).len(), 8);
    }

    #[test]
    fn of_a_forgotten_device_nothing_is_left() {
        let root = tempfile::tempdir().unwrap();
        set(root.path(), &node(1, 7, "node-1", Some("abc"))).unwrap();
        set(root.path(), &node(2, 8, "node-2", Some("abc"))).unwrap();
        forget(root.path(), node(1, 7, "", None).mac).unwrap();
        assert_eq!(links(root.path()).len(), 5);
        assert!(!root.path().join("nodes/02:00:00:00:00:01").exists());
        forget(root.path(), node(1, 7, "", None).mac).unwrap();
    }

    #[test]
    fn repair_removes_what_a_crash_left() {
        let root = tempfile::tempdir().unwrap();
        let nodes = root.path().join("nodes");
        std::fs::create_dir_all(&nodes).unwrap();
        symlink("02:00:00:00:00:09", nodes.join("gone")).unwrap();
        symlink("02:00:00:00:00:01", nodes.join(".new-10.0.0.7")).unwrap();
        symlink("02:00:00:00:00:09", nodes.join("10.0.0.7")).unwrap();
        std::fs::write(nodes.join("README"), "a person's note").unwrap();
        repair(root.path(), &[node(1, 7, "node-1", Some("abc"))]).unwrap();
        assert_eq!(links(root.path()).len(), 5, "{:?}", links(root.path()));
        assert!(nodes.join("README").exists());
    }

    #[test]
    fn what_can_not_be_set_is_named() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("nodes"), "").unwrap();
        let error = set(root.path(), &node(1, 7, "node-1", None)).unwrap_err().to_string();
        assert!(error.contains("nodes/02:00:00:00:00:01"), "{error}");
    }
}
