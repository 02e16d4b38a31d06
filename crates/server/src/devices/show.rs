//! Devices in the words of the API.

use std::collections::BTreeMap;

use api::{Device, DeviceKind, NodeState, Place, Told, Tree};
use net::MacAddr;

use super::tree::{Leaf, said_name, tree};
use super::{Devices, Here};
use crate::registration::{config, switches};
use crate::registry::{self, DeviceRow};
use crate::site::{State, now_ms};

/// What the server is called among the devices.
pub const SERVER: &str = "walt-server";

impl Devices {
    /// The server itself.
    pub fn server(&self) -> Device {
        let state = self.site.state();
        Device {
            name: SERVER.into(),
            mac: self.here.mac.to_string(),
            ip: self.here.ip.to_string(),
            kind: DeviceKind::Server,
            model: None,
            is_virtual: false,
            state: None,
            first_seen: None,
            last_seen: None,
            place: place(&state, &self.here, self.here.mac),
            config: BTreeMap::new(),
        }
    }

    /// A device.
    pub fn show(&self, mac: MacAddr) -> Option<Device> {
        let state = self.site.state();
        let row = &state.registrar.device(mac)?.row;
        let timeline = state.timeline(mac);
        let is_node = row.model.is_some();
        Some(Device {
            name: row.name.clone(),
            mac: mac.to_string(),
            ip: row.ip.to_string(),
            kind: kind(&state, row),
            model: row.model.clone().or_else(|| Some(format!("unknown-{}", row.board.as_ref()?))),
            is_virtual: row.is_virtual,
            state: is_node.then(|| timeline.map_or(NodeState::Off, |timeline| timeline.state(now_ms()))),
            first_seen: Some(row.first_seen),
            last_seen: Some(timeline.map_or(row.last_seen, |seen| row.last_seen.max(seen.heard_ms() / 1000))),
            place: place(&state, &self.here, mac),
            config: config::effective(row),
        })
    }

    /// The network, from the server down.
    pub fn tree(&self) -> Tree {
        let state = self.site.state();
        let leaf = |row: &DeviceRow| {
            (row.mac, Leaf { name: row.name.clone(), kind: kind(&state, row), is_virtual: row.is_virtual })
        };
        let mut devices: BTreeMap<MacAddr, Leaf> = state.registrar.devices().map(|device| leaf(&device.row)).collect();
        let server = Leaf { name: SERVER.into(), kind: DeviceKind::Server, is_virtual: false };
        devices.insert(self.here.mac, server);
        tree(self.here.mac, &devices, &state.topology)
    }
}

fn kind(state: &State, row: &DeviceRow) -> DeviceKind {
    match (&row.model, &row.board) {
        (Some(_), _) => DeviceKind::Node,
        (None, _) if switches::is_switch(row) || state.topology.is_switch(row.mac) => DeviceKind::Switch,
        (None, Some(_)) => DeviceKind::Unsupported,
        (None, None) => DeviceKind::Unknown,
    }
}

fn place(state: &State, here: &Here, mac: MacAddr) -> Option<Place> {
    let link = state.topology.place(mac)?;
    let switch = match state.registrar.device(link.switch) {
        Some(device) => device.row.name.clone(),
        None if link.switch == here.mac => SERVER.into(),
        None => said_name(&state.topology, link.switch),
    };
    Some(Place {
        switch,
        switch_mac: link.switch.to_string(),
        port: link.port_name.clone(),
        told: match link.told {
            registry::Told::Neighbour => Told::Neighbour,
            registry::Told::Heard => Told::Heard,
            registry::Told::Learned => Told::Learned,
        },
        seen: link.seen,
    })
}
