//! From what is told to links: who is who, and what counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use net::MacAddr;
use wire::lldp::Neighbour;
use wire::node::Attachment;

use super::Here;
use super::scan::Scan;
use super::topology::Change;
use crate::registration::switches;
use crate::registry::{LinkRow, Told};
use crate::site::{Site, State, now_ms};

/// Those who are known, by their addresses.
#[derive(Debug, Default)]
pub(super) struct Known {
    devices: BTreeSet<MacAddr>,
    by_ip: BTreeMap<Ipv4Addr, MacAddr>,
    switches: BTreeSet<MacAddr>,
    nodes: BTreeSet<MacAddr>,
    aliases: BTreeMap<MacAddr, MacAddr>,
}

impl Known {
    pub(super) fn of(state: &State, here: &Here) -> Self {
        let mut known = Self { aliases: state.topology.aliases().clone(), ..Self::default() };
        for device in state.registrar.devices() {
            let row = &device.row;
            known.devices.insert(row.mac);
            known.by_ip.insert(row.ip, row.mac);
            if row.model.is_some() {
                known.nodes.insert(row.mac);
            }
            if switches::is_switch(row) {
                known.switches.insert(row.mac);
            }
        }
        known.devices.insert(here.mac);
        known.by_ip.insert(here.ip, here.mac);
        known
    }

    /// A switch has told that it has these addresses, too.
    pub(super) fn add_aliases(&mut self, switch: MacAddr, own: &BTreeSet<MacAddr>) {
        self.aliases.extend(own.iter().map(|mac| (*mac, switch)));
    }

    /// Whether it is a device of the platform, or the server.
    pub(super) fn is_device(&self, mac: MacAddr) -> bool {
        self.devices.contains(&mac)
    }

    /// The device that a neighbour is: one that is known by the address of its port, its chassis or its management; else
    /// the address that it gives.
    pub(super) fn mac_of(&self, neighbour: &Neighbour) -> Option<MacAddr> {
        let told = [neighbour.port.mac(), neighbour.chassis.mac()].map(|mac| mac.map(MacAddr));
        let known_as = |mac: MacAddr| self.aliases.get(&mac).copied().unwrap_or(mac);
        let known = told.into_iter().flatten().map(known_as).find(|mac| self.devices.contains(mac));
        let managed = || neighbour.management.and_then(|ip| self.by_ip.get(&ip).copied());
        // A switch has an address for each port: its chassis is what it is known by.
        known.or_else(managed).or(told[1]).or(told[0])
    }

    /// Whether a neighbour is a switch. A node that says so of itself has a bridge for its containers.
    pub(super) fn is_switch(&self, mac: MacAddr, neighbour: &Neighbour) -> bool {
        self.switches.contains(&mac) || (neighbour.is_bridge() && !self.nodes.contains(&mac))
    }

    /// What hangs on the ports of a switch that has told all.
    pub(super) fn links(&self, switch: MacAddr, scan: &Scan, now_s: i64) -> Vec<LinkRow> {
        let link = |mac, port: u32, name: String, told| LinkRow {
            switch,
            mac,
            port: Some(port),
            port_name: scan.name_of(port),
            switch_name: scan.name.clone(),
            name,
            told,
            seen: now_s,
        };
        let mut links: BTreeMap<MacAddr, LinkRow> = BTreeMap::new();
        for (port, neighbour) in &scan.neighbours {
            if let Some(mac) = self.mac_of(neighbour) {
                links.insert(mac, link(mac, *port, neighbour.system_name.clone(), Told::Neighbour));
            }
        }
        let heard: BTreeSet<u32> = scan.neighbours.iter().map(|(port, _)| *port).collect();
        for (port, macs) in &scan.learned {
            // Two addresses behind one port: there is another switch between.
            let mut macs = macs.iter();
            if let (Some(mac), None, false) = (macs.next(), macs.next(), heard.contains(port)) {
                links.entry(*mac).or_insert_with(|| link(*mac, *port, String::new(), Told::Learned));
            }
        }
        links.into_values().collect()
    }
}

impl Site {
    /// A node has heard the switch that it hangs on.
    pub fn attached(&self, node: MacAddr, attachment: Attachment) {
        // Nobody speaks for others.
        if attachment.mac != node.0 {
            return;
        }
        let changes = {
            let mut state = self.state();
            let switch = state.topology.known_as(MacAddr(attachment.switch));
            if state.registrar.device(switch).is_some_and(|device| device.row.model.is_some()) {
                return;
            }
            state.topology.heard(LinkRow {
                switch,
                mac: node,
                port: None,
                port_name: attachment.port,
                switch_name: attachment.name,
                name: String::new(),
                told: Told::Heard,
                seen: now_ms() / 1000,
            })
        };
        self.record_links(changes);
    }

    /// Keeps what has changed.
    pub(crate) fn record_links(&self, changes: Vec<Change>) {
        for ((switch, mac), row) in changes {
            self.registry().link(switch, mac, row);
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::lldp::{CAPABILITY_BRIDGE, Id};

    use super::*;

    fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    fn neighbour(chassis: u8, port: Id, capabilities: u16) -> Neighbour {
        Neighbour {
            chassis: Id::Mac(mac(chassis).0),
            port,
            ttl: 120,
            port_description: String::new(),
            system_name: "x".into(),
            capabilities,
            management: None,
        }
    }

    fn known() -> Known {
        Known {
            devices: BTreeSet::from([mac(1), mac(2), mac(8)]),
            by_ip: BTreeMap::from([([10, 0, 0, 8].into(), mac(8))]),
            switches: BTreeSet::from([mac(8)]),
            nodes: BTreeSet::from([mac(1), mac(2)]),
            aliases: BTreeMap::from([(mac(0x88), mac(8))]),
        }
    }

    #[test]
    fn a_neighbour_is_found_by_any_of_its_addresses() {
        let known = known();
        let text = || Id::Text("gi1".into());
        // A machine with two interfaces: the chassis has the address of the other one.
        assert_eq!(known.mac_of(&neighbour(0x77, Id::Mac(mac(1).0), 0)), Some(mac(1)));
        assert_eq!(known.mac_of(&neighbour(0x88, text(), 0)), Some(mac(8)));
        let managed = Neighbour { management: Some([10, 0, 0, 8].into()), ..neighbour(0x66, text(), 0) };
        assert_eq!(known.mac_of(&managed), Some(mac(8)));
        assert_eq!(known.mac_of(&neighbour(0x66, Id::Mac(mac(0x67).0), 0)), Some(mac(0x66)));
        let nameless = Neighbour { chassis: text(), ..neighbour(0, text(), 0) };
        assert_eq!(known.mac_of(&nameless), None);
        assert!(known.is_switch(mac(0x66), &neighbour(0x66, text(), CAPABILITY_BRIDGE)));
        assert!(!known.is_switch(mac(1), &neighbour(1, text(), CAPABILITY_BRIDGE)), "a node with containers");
    }

    #[test]
    fn a_port_with_one_address_has_a_device_and_one_with_more_has_none() {
        let scan = Scan {
            neighbours: vec![(1, neighbour(1, Id::Mac(mac(1).0), 0)), (24, neighbour(0x88, Id::Text("1".into()), 4))],
            learned: BTreeMap::from([
                (1, BTreeSet::from([mac(1)])),
                (2, BTreeSet::from([mac(2)])),
                (3, BTreeSet::from([mac(3), mac(4)])),
                (24, BTreeSet::from([mac(5)])),
            ]),
            ..Scan::default()
        };
        let links = known().links(mac(9), &scan, 7);
        let found: Vec<_> = links.iter().map(|link| (link.mac, link.port.unwrap(), link.told)).collect();
        assert_eq!(
            found,
            [(mac(1), 1, Told::Neighbour), (mac(2), 2, Told::Learned), (mac(8), 24, Told::Neighbour)],
            "behind port 24 is a switch, whoever was seen there"
        );
    }
}
