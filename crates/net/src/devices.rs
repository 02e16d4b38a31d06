//! Names and addresses of all devices, nodes or not, and who reaches other networks by way of the server.
//!
//! The daemon writes it. DHCP reads whom to tell a router, DNS the names and whom to resolve other names for, and NAT
//! whose packets pass.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::watch;

use crate::MacAddr;

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Hardware address.
    pub mac: MacAddr,
    /// Address that it was last given; unspecified if it never was.
    pub ip: Ipv4Addr,
    /// Name: one label, in lower case.
    pub name: String,
    /// The server is its way to other networks (`netsetup=NAT`).
    pub behind_nat: bool,
}

/// The table. Readers take a snapshot of one entry and hold no lock afterwards.
#[derive(Debug, Default)]
pub struct Devices {
    tables: RwLock<Tables>,
    nat: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Tables {
    by_mac: HashMap<MacAddr, Arc<Device>>,
    mac_by_ip: HashMap<Ipv4Addr, MacAddr>,
    mac_by_name: HashMap<String, MacAddr>,
}

impl Devices {
    /// The device with this hardware address.
    pub fn by_mac(&self, mac: MacAddr) -> Option<Arc<Device>> {
        self.read().by_mac.get(&mac).cloned()
    }

    /// The device at this address: the one that was given it last.
    pub fn by_ip(&self, ip: Ipv4Addr) -> Option<Arc<Device>> {
        let tables = self.read();
        tables.by_mac.get(tables.mac_by_ip.get(&ip)?).cloned()
    }

    /// The device of this name (in lower case).
    pub fn by_name(&self, name: &str) -> Option<Arc<Device>> {
        let tables = self.read();
        tables.by_mac.get(tables.mac_by_name.get(name)?).cloned()
    }

    /// Adds a device, or replaces what was known of the same hardware address.
    ///
    /// Another device that had the same address or name is not found by it any more.
    pub fn set(&self, device: Device) {
        let before = {
            let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
            let before = tables.behind_nat(device.mac, device.ip);
            tables.set(device.clone());
            before
        };
        if device.behind_nat || before {
            self.nat.send_replace(());
        }
    }

    /// Forgets a device.
    pub fn remove(&self, mac: MacAddr) {
        let removed = self.tables.write().unwrap_or_else(PoisonError::into_inner).remove(mac);
        if removed.is_some_and(|device| device.behind_nat) {
            self.nat.send_replace(());
        }
    }

    /// Addresses of the devices for which the server is the way to other networks.
    pub fn behind_nat(&self) -> BTreeSet<Ipv4Addr> {
        let tables = self.read();
        let owner = |(ip, mac): (&Ipv4Addr, &MacAddr)| Some((*ip, tables.by_mac.get(mac)?.behind_nat));
        tables.mac_by_ip.iter().filter_map(owner).filter(|(_, behind_nat)| *behind_nat).map(|(ip, _)| ip).collect()
    }

    /// Tells whenever [`behind_nat`](Self::behind_nat) may have changed.
    pub fn watch_nat(&self) -> watch::Receiver<()> {
        self.nat.subscribe()
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        // A panic under this lock can only be one in `HashMap`: the tables stay usable.
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// The device, or whoever has had its address, is behind NAT.
    fn behind_nat(&self, mac: MacAddr, ip: Ipv4Addr) -> bool {
        let owner = self.mac_by_ip.get(&ip);
        [Some(&mac), owner]
            .into_iter()
            .flatten()
            .any(|mac| self.by_mac.get(mac).is_some_and(|device| device.behind_nat))
    }

    fn set(&mut self, device: Device) {
        self.remove(device.mac);
        if !device.ip.is_unspecified() {
            self.mac_by_ip.insert(device.ip, device.mac);
        }
        self.mac_by_name.insert(device.name.clone(), device.mac);
        self.by_mac.insert(device.mac, Arc::new(device));
    }

    fn remove(&mut self, mac: MacAddr) -> Option<Arc<Device>> {
        let device = self.by_mac.remove(&mac)?;
        // They may be another's by now.
        if self.mac_by_ip.get(&device.ip) == Some(&mac) {
            self.mac_by_ip.remove(&device.ip);
        }
        if self.mac_by_name.get(&device.name) == Some(&mac) {
            self.mac_by_name.remove(&device.name);
        }
        Some(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    fn device(mac: MacAddr, last: u8, name: &str, behind_nat: bool) -> Device {
        Device { mac, ip: ip(last), name: name.into(), behind_nat }
    }

    fn mac_of(device: Option<Arc<Device>>) -> Option<MacAddr> {
        device.map(|device| device.mac)
    }

    #[test]
    fn an_address_and_a_name_are_the_last_ones_that_got_them() {
        let devices = Devices::default();
        devices.set(device(A, 1, "a", true));
        devices.set(device(B, 1, "b", false));
        assert_eq!(mac_of(devices.by_ip(ip(1))), Some(B));
        assert!(devices.behind_nat().is_empty(), "the address is b's, and b may not");
        assert!(devices.by_mac(A).is_some_and(|a| a.behind_nat), "a still has its setting");
        devices.set(device(A, 2, "a", true));
        assert_eq!(mac_of(devices.by_ip(ip(1))), Some(B), "that was not a's any more");
        assert_eq!(devices.behind_nat(), BTreeSet::from([ip(2)]));
        devices.set(device(A, 2, "c", true));
        devices.set(device(B, 1, "a", false));
        assert_eq!((mac_of(devices.by_name("c")), mac_of(devices.by_name("a"))), (Some(A), Some(B)));
        assert_eq!(mac_of(devices.by_name("b")), None);
        devices.remove(A);
        assert_eq!((mac_of(devices.by_name("c")), mac_of(devices.by_ip(ip(2)))), (None, None));
    }

    #[test]
    fn a_machine_that_was_never_on_has_a_setting_and_no_address() {
        let devices = Devices::default();
        let nowhere = Ipv4Addr::UNSPECIFIED;
        devices.set(Device { ip: nowhere, ..device(A, 0, "a", true) });
        assert!(devices.by_mac(A).is_some_and(|a| a.behind_nat));
        assert!(devices.by_ip(nowhere).is_none() && devices.behind_nat().is_empty());
    }

    #[test]
    fn changes_of_nat_alone_are_told() {
        let devices = Devices::default();
        let mut watch = devices.watch_nat();
        let mut told = || {
            let told = watch.has_changed().unwrap();
            watch.mark_unchanged();
            told
        };
        devices.set(device(A, 1, "a", false));
        assert!(!told());
        devices.set(device(A, 1, "a", true));
        assert!(told());
        devices.set(device(B, 1, "b", false));
        assert!(told(), "it takes a's address");
        devices.set(device(B, 3, "b", false));
        assert!(!told());
        devices.set(device(A, 1, "a", false));
        assert!(told());
        devices.set(device(A, 1, "a", true));
        devices.remove(A);
        assert!(told());
    }
}
