//! The merged tree of a stack of layers, in memory: whiteouts, opaque directories, hard links and
//! symlinked parents are resolved here, once, when an index is built.
//!
//! Rules are those of the OCI image specification ("Applying Changesets") and, where it is silent,
//! of the tools that unpack images: a directory over a directory keeps the children and takes the
//! new attributes; anything else replaces what was there, a symlink to a directory included; a
//! parent that is a symlink is followed, inside of the image.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::Timestamp;
use crate::tar::{DataRun, Entry, EntryKind, LayerEntries, Xattr};

/// More inodes than this are refused: a hostile layer can imply many parents by few bytes.
const MAX_INODES: usize = 4 << 20;
/// More steps of path resolution than this, over all entries, are refused: symlinks multiply them.
const MAX_STEPS: u64 = 1 << 28;
/// As `MAXSYMLINKS` of Linux.
const MAX_SYMLINKS: u32 = 40;

/// Number of an inode within a [`Tree`]; 0 is the root.
pub(super) type Id = usize;
pub(super) const ROOT: Id = 0;

/// A file system object of the merged tree; names, targets and runs are borrowed from the layers.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) xattrs: &'a [Xattr],
    pub(super) kind: NodeKind<'a>,
}

#[derive(Debug)]
pub(super) enum NodeKind<'a> {
    Directory { parent: Id, children: BTreeMap<&'a [u8], Id> },
    Regular { size: u64, runs: &'a [DataRun], layer: u32 },
    Symlink(&'a [u8]),
    BlockDevice(u32, u32),
    CharDevice(u32, u32),
    Fifo,
}

/// Why a layer cannot be stacked on those below it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// A component of the parent path is a file, a device or the like.
    #[error("a parent of it is not a directory")]
    ParentNotADirectory,
    /// Symlinks lead in a circle.
    #[error("more than {MAX_SYMLINKS} symlinks lead to it")]
    TooManySymlinks,
    /// The entry would replace the root directory.
    #[error("the root of an image can only be a directory")]
    RootNotADirectory,
    /// A hard link to nothing.
    #[error("it is a hard link to {0:?}, which does not exist")]
    LinkTarget(String),
    /// A hard link to a directory.
    #[error("it is a hard link to a directory")]
    LinkToDirectory,
    /// The tree is too large.
    #[error("the image has more than {MAX_INODES} inodes")]
    TooManyInodes,
    /// Resolving symlinks takes too long.
    #[error("its symlinked paths take more than {MAX_STEPS} steps to resolve")]
    TooManySteps,
}

/// What to do about a component that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// The path leads nowhere.
    Stop,
    /// Make it a directory: a layer need not list its parents.
    Create,
    /// Look for it among what this layer's whiteouts have taken away.
    SearchRemoved,
}

/// The merged tree so far.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    nodes: Vec<Node<'a>>,
    /// What whiteouts of the layer being applied took away, by directory and name.
    removed: HashMap<(Id, &'a [u8]), Id>,
    steps: u64,
}

impl<'a> Tree<'a> {
    /// An empty root directory.
    pub(super) fn new() -> Self {
        Self { nodes: vec![directory(ROOT)], removed: HashMap::new(), steps: 0 }
    }

    pub(super) fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id]
    }

    /// Number of nodes, those that no name leads to any more included.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Stacks a layer on top. On an error, the entry that caused it comes along.
    pub(super) fn apply(&mut self, number: u32, layer: &'a LayerEntries) -> Result<(), (&'a Entry, MergeError)> {
        // OCI image specification, "Whiteouts": they hide resources of lower layers only, wherever
        // they stand in their own. So all of them come first.
        let mut own_directories = None;
        for entry in &layer.entries {
            if matches!(entry.kind, EntryKind::Whiteout | EntryKind::Opaque) {
                let own_directories = own_directories.get_or_insert_with(|| directories_of(layer));
                self.hide(entry, own_directories).map_err(|e| (entry, e))?;
            }
        }
        for entry in &layer.entries {
            self.add(number, entry).map_err(|e| (entry, e))?;
        }
        self.removed.clear();
        Ok(())
    }

    fn hide(&mut self, entry: &'a Entry, own_directories: &HashSet<&[u8]>) -> Result<(), MergeError> {
        let opaque = entry.kind == EntryKind::Opaque;
        let (parent, name) = split(&entry.path);
        let directory = if opaque { &entry.path[..] } else { parent };
        let mut at = ROOT;
        let mut prefix_len = 0;
        for component in directory.split(|&b| b == b'/').filter(|c| !c.is_empty()) {
            prefix_len += component.len() + usize::from(prefix_len > 0);
            let is_symlink =
                self.child(at, component).is_some_and(|id| matches!(self.nodes[id].kind, NodeKind::Symlink(_)));
            if is_symlink && own_directories.contains(&entry.path[..prefix_len]) {
                // This layer puts a directory in the symlink's place: what is hidden in there is
                // nothing that a lower layer has.
                return Ok(());
            }
            match self.walk(at, component, Missing::Stop) {
                Ok(Some(id)) => at = id,
                Ok(None) | Err(MergeError::ParentNotADirectory) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let NodeKind::Directory { children, .. } = &mut self.nodes[at].kind else { return Ok(()) };
        if opaque {
            let taken = std::mem::take(children);
            self.removed.extend(taken.into_iter().map(|(name, id)| ((at, name), id)));
        } else if let Some((name, id)) = children.remove_entry(name) {
            self.removed.insert((at, name), id);
        }
        Ok(())
    }

    fn add(&mut self, layer: u32, entry: &'a Entry) -> Result<(), MergeError> {
        let kind = match &entry.kind {
            EntryKind::Whiteout | EntryKind::Opaque => return Ok(()),
            EntryKind::Directory => return self.add_directory(entry),
            EntryKind::HardLink(target) => return self.add_link(entry, target),
            EntryKind::Regular { size, runs } => NodeKind::Regular { size: *size, runs, layer },
            EntryKind::Symlink(target) => NodeKind::Symlink(target),
            EntryKind::BlockDevice(major, minor) => NodeKind::BlockDevice(*major, *minor),
            EntryKind::CharDevice(major, minor) => NodeKind::CharDevice(*major, *minor),
            EntryKind::Fifo => NodeKind::Fifo,
        };
        let (parent, name) = self.place(entry)?;
        let id = self.push(node(entry, kind))?;
        self.set_child(parent, name, id);
        Ok(())
    }

    fn add_directory(&mut self, entry: &'a Entry) -> Result<(), MergeError> {
        let (parent, existing) = if entry.path.is_empty() {
            (ROOT, Some(ROOT))
        } else {
            let (parent, name) = self.place(entry)?;
            (parent, self.child(parent, name))
        };
        if let Some(id) = existing {
            let existing = &mut self.nodes[id];
            if matches!(existing.kind, NodeKind::Directory { .. }) {
                (existing.mode, existing.uid, existing.gid) = (entry.mode, entry.uid, entry.gid);
                (existing.mtime, existing.xattrs) = (entry.mtime, &entry.xattrs);
                return Ok(());
            }
        }
        let id = self.push(node(entry, NodeKind::Directory { parent, children: BTreeMap::new() }))?;
        self.set_child(parent, split(&entry.path).1, id);
        Ok(())
    }

    fn add_link(&mut self, entry: &'a Entry, target: &'a [u8]) -> Result<(), MergeError> {
        let (target_parent, target_name) = split(target);
        let missing = || MergeError::LinkTarget(super::lossy(target));
        let directory = self.walk(ROOT, target_parent, Missing::SearchRemoved)?.ok_or_else(missing)?;
        let id = self.child(directory, target_name).or_else(|| self.removed.get(&(directory, target_name)).copied());
        let id = id.ok_or_else(missing)?;
        if matches!(self.nodes[id].kind, NodeKind::Directory { .. }) {
            return Err(MergeError::LinkToDirectory);
        }
        let (parent, name) = self.place(entry)?;
        self.set_child(parent, name, id);
        Ok(())
    }

    /// The directory and the name that an entry's path means.
    fn place(&mut self, entry: &'a Entry) -> Result<(Id, &'a [u8]), MergeError> {
        if entry.path.is_empty() {
            return Err(MergeError::RootNotADirectory);
        }
        let (parent, name) = split(&entry.path);
        // `Create` finds or makes every component.
        let parent = self.walk(ROOT, parent, Missing::Create)?.ok_or(MergeError::ParentNotADirectory)?;
        Ok((parent, name))
    }

    /// The directory at `path` below `start`, symlinks followed inside of the image.
    fn walk(&mut self, start: Id, path: &'a [u8], missing: Missing) -> Result<Option<Id>, MergeError> {
        let mut at = start;
        let mut symlinks = 0;
        // Paths still to walk, the innermost last. Each symlink adds one, so it stays short.
        let mut rest = vec![path];
        while let Some(path) = rest.pop() {
            let Some(start) = path.iter().position(|&b| b != b'/') else { continue };
            let path = &path[start..];
            let (component, after) = match path.iter().position(|&b| b == b'/') {
                Some(end) => path.split_at(end),
                None => (path, &path[..0]),
            };
            if !after.is_empty() {
                rest.push(after);
            }
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err(MergeError::TooManySteps);
            }
            let NodeKind::Directory { parent, children } = &self.nodes[at].kind else {
                return Err(MergeError::ParentNotADirectory);
            };
            let child = match component {
                b"." => at,
                b".." => *parent,
                name => match children.get(name) {
                    Some(&child) => child,
                    None if missing == Missing::Create => {
                        let child = self.push(directory(at))?;
                        self.set_child(at, name, child);
                        child
                    }
                    None => match self.removed.get(&(at, name)) {
                        Some(&child) if missing == Missing::SearchRemoved => child,
                        _ => return Ok(None),
                    },
                },
            };
            match &self.nodes[child].kind {
                NodeKind::Directory { .. } => at = child,
                NodeKind::Symlink(target) => {
                    symlinks += 1;
                    if symlinks > MAX_SYMLINKS {
                        return Err(MergeError::TooManySymlinks);
                    }
                    if target.starts_with(b"/") {
                        at = ROOT;
                    }
                    rest.push(target);
                }
                _ => return Err(MergeError::ParentNotADirectory),
            }
        }
        Ok(Some(at))
    }

    fn child(&self, directory: Id, name: &[u8]) -> Option<Id> {
        match &self.nodes[directory].kind {
            NodeKind::Directory { children, .. } => children.get(name).copied(),
            _ => None,
        }
    }

    fn set_child(&mut self, directory: Id, name: &'a [u8], child: Id) {
        if let NodeKind::Directory { children, .. } = &mut self.nodes[directory].kind {
            children.insert(name, child);
        }
    }

    fn push(&mut self, node: Node<'a>) -> Result<Id, MergeError> {
        if self.nodes.len() >= MAX_INODES {
            return Err(MergeError::TooManyInodes);
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }
}

fn node<'a>(entry: &'a Entry, kind: NodeKind<'a>) -> Node<'a> {
    Node { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs: &entry.xattrs, kind }
}

/// A directory that no layer lists: root's, 0755, as unpackers make it; its time is fixed so that
/// an index depends on the layers alone.
fn directory<'a>(parent: Id) -> Node<'a> {
    let kind = NodeKind::Directory { parent, children: BTreeMap::new() };
    Node { mode: 0o755, uid: 0, gid: 0, mtime: Timestamp::default(), xattrs: &[], kind }
}

fn directories_of(layer: &LayerEntries) -> HashSet<&[u8]> {
    layer.entries.iter().filter(|e| e.kind == EntryKind::Directory).map(|e| &e.path[..]).collect()
}

/// Parent path (perhaps empty) and last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], path),
    }
}
