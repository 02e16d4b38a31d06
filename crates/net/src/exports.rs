//! Which image each node has been given: the one table that TFTP, HTTP, MOUNT and NFS read.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, RwLock};

use image::View;

use crate::persist::PersistTable;
use crate::{Boards, Devices, MacAddr};

/// One node, as the network services see it.
#[derive(Debug, Clone)]
pub struct NodeExport {
    /// Hardware address.
    pub mac: MacAddr,
    /// Address that identifies it to the services.
    pub ip: Ipv4Addr,
    /// Name, as in `nodes/<name>`.
    pub name: String,
    /// Model, as in `/boot/<model>`.
    pub model: String,
    /// Image that a boot from now on gets; `None` while it is not ready.
    pub image: Option<Arc<View>>,
    /// Images that this node mounted since it last left its bootloader: file handles into these
    /// and into `image` are good, into any other image they are not.
    pub held: Vec<Arc<View>>,
}

impl NodeExport {
    /// The image with this fsid, if this node may read it.
    pub fn view(&self, fsid: u64) -> Option<&Arc<View>> {
        self.image.iter().chain(&self.held).find(|view| view.fsid() == fsid)
    }
}

/// The table itself. Readers take a snapshot of one entry and hold no lock afterwards.
#[derive(Debug, Default)]
pub struct Exports {
    tables: RwLock<Tables>,
    boards: Boards,
    devices: Devices,
    persist: PersistTable,
}

#[derive(Debug, Default)]
struct Tables {
    by_ip: HashMap<Ipv4Addr, Arc<NodeExport>>,
    ip_by_mac: HashMap<MacAddr, Ipv4Addr>,
    ip_by_name: HashMap<String, Ipv4Addr>,
}

impl Exports {
    /// The node at this address.
    pub fn by_ip(&self, ip: Ipv4Addr) -> Option<Arc<NodeExport>> {
        self.read().by_ip.get(&ip).cloned()
    }

    /// The node with this hardware address.
    pub fn by_mac(&self, mac: MacAddr) -> Option<Arc<NodeExport>> {
        let tables = self.read();
        tables.by_ip.get(tables.ip_by_mac.get(&mac)?).cloned()
    }

    /// The node with this name.
    pub fn by_name(&self, name: &str) -> Option<Arc<NodeExport>> {
        let tables = self.read();
        tables.by_ip.get(tables.ip_by_name.get(name)?).cloned()
    }

    /// Adds a node, or replaces what was known of the same hardware address.
    ///
    /// Another node that had the same address or name loses its entry: the caller has decided.
    pub fn set(&self, node: NodeExport) {
        self.write().set(node);
    }

    /// Changes one node in place; false if it is not known.
    pub fn update(&self, mac: MacAddr, change: impl FnOnce(&mut NodeExport)) -> bool {
        let mut tables = self.write();
        let Some(ip) = tables.ip_by_mac.get(&mac) else { return false };
        let Some(mut node) = tables.by_ip.get(ip).map(|node| (**node).clone()) else { return false };
        change(&mut node);
        tables.set(node);
        true
    }

    /// Forgets a node.
    pub fn remove(&self, mac: MacAddr) {
        self.write().remove(mac);
    }

    /// Boards whose own firmware is at work, nodes or not.
    pub fn boards(&self) -> &Boards {
        &self.boards
    }

    /// Names and addresses of all devices, nodes or not.
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// The directories that nodes keep over a reboot.
    pub fn persist(&self) -> &PersistTable {
        &self.persist
    }

    /// Every node, in no order.
    pub fn all(&self) -> Vec<Arc<NodeExport>> {
        self.read().by_ip.values().cloned().collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Tables> {
        // A panic under this lock can only be one in `HashMap`: the tables stay usable.
        self.tables.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Tables {
    fn set(&mut self, node: NodeExport) {
        self.remove(node.mac);
        let owners = [self.by_ip.get(&node.ip).map(|n| n.mac), self.owner_of_name(&node.name)];
        for mac in owners.into_iter().flatten() {
            self.remove(mac);
        }
        self.ip_by_mac.insert(node.mac, node.ip);
        self.ip_by_name.insert(node.name.clone(), node.ip);
        self.by_ip.insert(node.ip, Arc::new(node));
    }

    fn owner_of_name(&self, name: &str) -> Option<MacAddr> {
        self.by_ip.get(self.ip_by_name.get(name)?).map(|node| node.mac)
    }

    fn remove(&mut self, mac: MacAddr) {
        if let Some(ip) = self.ip_by_mac.remove(&mac)
            && let Some(node) = self.by_ip.remove(&ip)
        {
            self.ip_by_name.remove(&node.name);
        }
    }
}
