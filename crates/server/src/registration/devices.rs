//! What people change about devices: their names, and whether they are known at all.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use api::{Problem, ProblemKind};
use net::MacAddr;

use super::{Action, Device, Registrar, config};
use crate::names;
use crate::registry::DeviceRow;

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
            held: Vec::new(),
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

    /// Forgets a device: when it asks for an address again, it is new.
    pub(super) fn forget(&mut self, device: &str, actions: &mut Vec<Action>) -> Result<(), Problem> {
        let mac = self.find_node(device)?;
        self.devices.remove(&mac);
        self.garbage = true;
        actions.push(Action::Forget(mac));
        Ok(())
    }
}
