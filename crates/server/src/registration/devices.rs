//! What people change about devices: their names, and whether they are known at all.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use api::{Problem, ProblemKind};
use net::MacAddr;

use super::{Action, Device, Registrar, config};
use crate::names;
use crate::registry::DeviceRow;

/// Time for which a virtual node that was removed is not taken for a new device, in milliseconds. Its machine needs 20
/// s to end at worst, and news of its last lease may wait to be read, or be told late by another DHCP server.
const GONE_MS: i64 = 600_000;

/// What virtual nodes are.
const MODEL: &str = "pc-x86-64";

impl Registrar {
    /// Gives a device another name.
    pub(super) fn rename(&mut self, device: &str, name: &str, actions: &mut Vec<Action>) -> Result<(), Problem> {
        let mac = self.find_node(device)?;
        self.check_name(name, mac)?;
        let Some(device) = self.devices.get_mut(&mac) else { return Ok(()) };
        name.clone_into(&mut device.row.name);
        actions.extend([Action::Save(mac), Action::Configured(mac), Action::Link(mac)]);
        Ok(())
    }

    /// Whether a device may have this name.
    fn check_name(&self, name: &str, mac: MacAddr) -> Result<(), Problem> {
        if !names::is_device_name(name) {
            return Err(Problem {
                kind: ProblemKind::BadRequest,
                message: format!("{name:?} can not be the name of a device"),
                hint: Some(
                    "a name has up to 63 lower-case letters, digits and dashes, begins with a letter, and does not mean \
                     something else already, as `server` or `my-nodes` do"
                        .into(),
                ),
            });
        }
        if let Some(other) = self.devices.values().find(|other| other.row.name == name && other.row.mac != mac) {
            let message = format!("there is a device {name} already, {}", other.row.mac);
            return Err(Problem { kind: ProblemKind::InUse, message, hint: None });
        }
        Ok(())
    }

    /// Makes a node of the daemon's own. It has an address once it has asked for one.
    pub(super) fn create(
        &mut self,
        mac: MacAddr,
        name: &str,
        config: &BTreeMap<String, String>,
        now_ms: i64,
        actions: &mut Vec<Action>,
    ) -> Result<(), Problem> {
        let mac = self.free_mac(mac, now_ms);
        self.check_name(name, mac)?;
        let mut row = DeviceRow {
            mac,
            ip: Ipv4Addr::UNSPECIFIED,
            name: name.to_owned(),
            model: Some(MODEL.to_owned()),
            board: None,
            host_name: String::new(),
            first_seen: now_ms / 1000,
            last_seen: now_ms / 1000,
            image: Some((self.default_image)(MODEL)),
            served: None,
            served_as: None,
            held: Vec::new(),
            runs_as: None,
            is_virtual: true,
            config: BTreeMap::new(),
        };
        config::change(&mut row, config)?;
        let device = Device { row, problem: None };
        let key = device.image_key();
        self.devices.insert(mac, device);
        actions.extend([Action::Save(mac), Action::Configured(mac)]);
        if let Some(key) = key {
            self.ensure(&key, now_ms, actions);
            self.deliver_to(mac, actions);
        }
        Ok(())
    }

    /// This address, or the next one that nobody has: what another had is not to become its machine, nor is a machine
    /// that has still to end.
    fn free_mac(&self, mac: MacAddr, now_ms: i64) -> MacAddr {
        let mut free = mac;
        while self.devices.contains_key(&free) || self.was_removed(free, now_ms) {
            let MacAddr([a, b, c, x, y, z]) = free;
            let [_, x, y, z] = u32::from_be_bytes([0, x, y, z]).wrapping_add(1).to_be_bytes();
            free = MacAddr([a, b, c, x, y, z]);
        }
        free
    }

    /// Whether this was a virtual node a moment ago: what its machine has asked for before it ended makes no device of
    /// it.
    pub(super) fn was_removed(&self, mac: MacAddr, now_ms: i64) -> bool {
        self.removed.get(&mac).is_some_and(|at| now_ms - at < GONE_MS)
    }

    /// Forgets a device: when it asks for an address again, it is new.
    pub(super) fn forget(&mut self, device: &str, now_ms: i64, actions: &mut Vec<Action>) -> Result<(), Problem> {
        let mac = self.find_node(device)?;
        if self.devices.remove(&mac).is_some_and(|device| device.row.is_virtual) {
            self.removed.retain(|_, at| now_ms - *at < GONE_MS);
            self.removed.insert(mac, now_ms);
        }
        self.garbage = true;
        actions.push(Action::Forget(mac));
        Ok(())
    }
}
