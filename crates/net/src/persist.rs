//! Which directory of the host each node is served as `/persist`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::MacAddr;
use crate::nfs::HostDirectory;

/// The directories of the nodes.
///
/// A node has one that it may mount, and may go on using those that it has mounted since it last left its bootloader: it
/// may have been given to another user meanwhile.
#[derive(Debug, Default)]
pub struct PersistTable {
    nodes: Mutex<HashMap<MacAddr, Entry>>,
}

/// What [`PersistTable::want`] leads to.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The directory has to be opened first.
    pub must_open: bool,
    /// What the node might have mounted until now, and did not.
    pub replaced: Option<Arc<HostDirectory>>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Name of the directory that it is to have.
    wanted: Option<String>,
    current: Option<Arc<HostDirectory>>,
    held: Vec<Arc<HostDirectory>>,
}

impl PersistTable {
    /// Name of the directory that the node may mount from now on; `None`: nothing.
    pub fn want(&self, mac: MacAddr, name: Option<&str>) -> Wanted {
        let mut nodes = self.lock();
        let entry = nodes.entry(mac).or_default();
        let before = entry.wanted.take();
        entry.wanted = name.map(str::to_owned);
        if before == entry.wanted && (entry.current.is_some() || name.is_none()) {
            return Wanted::default();
        }
        // One that it still has mounted is open: there must not be two of the same.
        let open = entry.held.iter().find(|held| Some(held.name()) == name).cloned();
        let replaced = std::mem::replace(&mut entry.current, open).filter(|replaced| !entry.holds(replaced));
        Wanted { must_open: name.is_some() && entry.current.is_none(), replaced }
    }

    /// The directory is open that the node was to have. False if it is to have another by now, which does not mean that it
    /// is not open already.
    pub fn set(&self, mac: MacAddr, directory: Arc<HostDirectory>) -> bool {
        let mut nodes = self.lock();
        let entry = nodes.get_mut(&mac).filter(|entry| entry.wanted.as_deref() == Some(directory.name()));
        let Some(entry) = entry else { return false };
        if entry.current.is_none() {
            let open = entry.held.iter().find(|held| held.fsid() == directory.fsid()).cloned();
            entry.current = Some(open.unwrap_or(directory));
        }
        true
    }

    /// The node has this mounted, as far as we know.
    pub fn hold(&self, mac: MacAddr, directory: Arc<HostDirectory>) {
        self.lock().entry(mac).or_default().hold(directory);
    }

    /// The node has nothing mounted any more. Returns what it had and can not mount again.
    pub fn release(&self, mac: MacAddr) -> Vec<Arc<HostDirectory>> {
        let mut nodes = self.lock();
        let Some(entry) = nodes.get_mut(&mac) else { return Vec::new() };
        let current = entry.current.as_ref().map(|current| current.fsid());
        let held = std::mem::take(&mut entry.held);
        held.into_iter().filter(|held| Some(held.fsid()) != current).collect()
    }

    /// Forgets a node.
    pub fn remove(&self, mac: MacAddr) {
        self.lock().remove(&mac);
    }

    /// Name of the directory that the node is to have, open or not.
    pub fn wanted(&self, mac: MacAddr) -> Option<String> {
        self.lock().get(&mac)?.wanted.clone()
    }

    /// What the node may mount; from now on it holds it.
    pub fn mount(&self, mac: MacAddr) -> Option<Arc<HostDirectory>> {
        let mut nodes = self.lock();
        let entry = nodes.get_mut(&mac)?;
        let current = entry.current.clone()?;
        entry.hold(Arc::clone(&current));
        Some(current)
    }

    /// The directory with this fsid, if the node may use it.
    pub fn directory(&self, mac: MacAddr, fsid: u64) -> Option<Arc<HostDirectory>> {
        let nodes = self.lock();
        let entry = nodes.get(&mac)?;
        entry.current.iter().chain(&entry.held).find(|directory| directory.fsid() == fsid).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MacAddr, Entry>> {
        // Nothing that panics is done under the lock.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn hold(&mut self, directory: Arc<HostDirectory>) {
        if !self.holds(&directory) {
            self.held.push(directory);
        }
    }

    fn holds(&self, directory: &HostDirectory) -> bool {
        self.held.iter().any(|held| held.fsid() == directory.fsid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs::HostTree;

    #[test]
    fn a_node_keeps_what_it_has_mounted_until_it_boots_again() {
        let root = tempfile::tempdir().unwrap();
        let tree = HostTree::open(&root.path().join("persist"), 0, 1).unwrap();
        let (ada, bob) = (tree.directory("n", "ada").unwrap(), tree.directory("n", "bob").unwrap());
        let (mac, other) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let table = PersistTable::default();
        let may = |directory: &Arc<HostDirectory>| table.directory(mac, directory.fsid()).is_some();
        assert!(table.mount(mac).is_none());
        let want = |name| table.want(mac, Some(name)).must_open;
        assert!(want("ada"));
        assert!(!table.set(mac, Arc::clone(&bob)));
        assert!(table.mount(mac).is_none(), "that is another's");
        assert!(table.set(mac, Arc::clone(&ada)));
        assert!(table.set(mac, tree.directory("n", "ada").unwrap()), "opened twice at a time");
        assert!(!want("ada"), "it is there already");
        assert!(Arc::ptr_eq(&table.mount(mac).unwrap(), &ada), "one of them counts");
        assert!(want("bob"));
        assert!(table.mount(mac).is_none(), "it is not open yet");
        table.set(mac, Arc::clone(&bob));
        assert!(may(&ada) && may(&bob));
        let wanted = table.want(mac, Some("ada"));
        assert_eq!(wanted.replaced.unwrap().fsid(), bob.fsid(), "it did not mount that");
        assert!(!wanted.must_open && Arc::ptr_eq(&table.mount(mac).unwrap(), &ada), "it has it still");
        let wanted = table.want(mac, Some("bob"));
        assert!(wanted.must_open && wanted.replaced.is_none(), "it has that still");
        table.set(mac, Arc::clone(&bob));
        assert!(table.directory(other, ada.fsid()).is_none());
        assert_eq!(table.release(mac).iter().map(|d| d.fsid()).collect::<Vec<_>>(), [ada.fsid()]);
        assert!(!may(&ada) && may(&bob));
        table.mount(mac);
        assert!(table.release(mac).is_empty(), "it may mount it again");
        assert_eq!(table.want(mac, None).replaced.unwrap().fsid(), bob.fsid());
        assert!(!may(&bob) && table.mount(mac).is_none());
    }
}
