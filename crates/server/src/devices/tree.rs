//! The network as a tree, from the server down.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use api::{Branch, DeviceKind, Tree};
use net::MacAddr;

use super::topology::Topology;
use crate::registry::LinkRow;

/// A device, as far as a tree shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) kind: DeviceKind,
    /// Whether the server itself runs it.
    pub(super) is_virtual: bool,
}

/// How one device hangs on another.
#[derive(Debug, Default)]
struct Edge {
    port: Option<String>,
    uplink: Option<String>,
}

/// Puts all devices, and those that only others tell of, into a tree.
pub(super) fn tree(server: MacAddr, devices: &BTreeMap<MacAddr, Leaf>, topology: &Topology) -> Tree {
    let mut grower = Grower { devices, topology, below: BTreeMap::new(), placed: BTreeSet::new() };
    grower.grow(server);
    let root = grower.branch(server, Edge::default());
    // What hangs together without a way to the server: from a switch that hangs on none, if there is one.
    let mut elsewhere = Vec::new();
    let hangs = |mac: &MacAddr| topology.place(*mac).is_some();
    let mut starts: Vec<MacAddr> = devices.keys().copied().chain(topology.links().map(|link| link.switch)).collect();
    starts.sort_by_key(|mac| (hangs(mac), !topology.is_switch(*mac)));
    for mac in starts {
        if grower.placed.contains(&mac) {
            continue;
        }
        grower.grow(mac);
        elsewhere.push(grower.branch(mac, Edge::default()));
    }
    elsewhere.sort_by(|a, b| (a.below.is_empty(), &a.name).cmp(&(b.below.is_empty(), &b.name)));
    Tree { root, elsewhere }
}

struct Grower<'a> {
    devices: &'a BTreeMap<MacAddr, Leaf>,
    topology: &'a Topology,
    below: BTreeMap<MacAddr, Vec<(MacAddr, Edge)>>,
    placed: BTreeSet<MacAddr>,
}

impl Grower<'_> {
    /// Hangs on `start` all that is behind it and has no place yet: near ones first, so that nothing goes round in circles.
    fn grow(&mut self, start: MacAddr) {
        self.placed.insert(start);
        let mut next = VecDeque::from([start]);
        while let Some(above) = next.pop_front() {
            for (mac, edge) in self.neighbours(above, start) {
                if self.placed.insert(mac) {
                    self.below.entry(above).or_default().push((mac, edge));
                    next.push_back(mac);
                }
            }
        }
    }

    /// All that is known to be next to a device.
    fn neighbours(&self, of: MacAddr, start: MacAddr) -> BTreeMap<MacAddr, Edge> {
        let mut found: BTreeMap<MacAddr, Edge> = BTreeMap::new();
        for link in self.topology.links() {
            if link.switch == of && self.counts(link) {
                found.entry(link.mac).or_default().port = Some(link.port_name.clone());
            } else if link.mac == of && (of == start || self.topology.is_switch(of)) && self.counts(link) {
                found.entry(link.switch).or_default().uplink = Some(link.port_name.clone());
            }
        }
        // Both ends tell of a link between two switches; where one knows its port alone, that will do.
        if of == start && self.devices.get(&of).is_some_and(|leaf| leaf.kind == DeviceKind::Server) {
            for (mac, _) in self.devices.iter().filter(|(_, leaf)| leaf.is_virtual) {
                found.entry(*mac).or_default();
            }
        }
        found
    }

    /// Whether a link is to be shown: one that leads to a switch, and of a leaf the best one.
    fn counts(&self, link: &LinkRow) -> bool {
        self.topology.is_switch(link.mac) || self.topology.place(link.mac).is_some_and(|best| best == link)
    }

    /// The branch of a device that has its place. As deep as switches hang on one another.
    fn branch(&mut self, mac: MacAddr, edge: Edge) -> Branch {
        let below = self.below.remove(&mac).unwrap_or_default();
        let mut below: Vec<_> = below.into_iter().map(|(mac, edge)| self.branch(mac, edge)).collect();
        below.sort_by(|a, b| natural(a.port.as_deref(), b.port.as_deref()).then_with(|| a.name.cmp(&b.name)));
        let leaf = self.devices.get(&mac);
        let kind = match leaf.map_or(DeviceKind::Unknown, |leaf| leaf.kind) {
            DeviceKind::Unknown if self.topology.is_switch(mac) => DeviceKind::Switch,
            kind => kind,
        };
        let name = leaf.map_or_else(|| said_name(self.topology, mac), |leaf| leaf.name.clone());
        Branch { name, mac: mac.to_string(), kind, port: edge.port, uplink: edge.uplink, below }
    }
}

/// What a device that is none of ours calls itself; else its address.
pub(super) fn said_name(topology: &Topology, mac: MacAddr) -> String {
    let names = topology.links().filter_map(|link| {
        let name = if link.switch == mac { &link.switch_name } else { &link.name };
        (link.switch == mac || link.mac == mac).then_some(name).filter(|name| !name.is_empty())
    });
    names.max().cloned().unwrap_or_else(|| mac.to_string())
}

/// `gi2` before `gi10`; what has no port comes first.
fn natural(a: Option<&str>, b: Option<&str>) -> std::cmp::Ordering {
    let key = |text: Option<&str>| {
        let text = text.unwrap_or_default();
        let mut parts: Vec<(String, u64)> = vec![(String::new(), 0)];
        for c in text.chars() {
            let Some((word, number)) = parts.last_mut() else { break };
            match c.to_digit(10) {
                Some(digit) => *number = number.saturating_mul(10).saturating_add(u64::from(digit)),
                None if *number > 0 => parts.push((c.to_string(), 0)),
                None => word.push(c),
            }
        }
        parts
    };
    key(a).cmp(&key(b)).then_with(|| a.cmp(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Told;

    fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    fn link(switch: u8, port: &str, device: u8, told: Told) -> LinkRow {
        LinkRow {
            switch: mac(switch),
            mac: mac(device),
            port: None,
            port_name: port.into(),
            switch_name: if switch == 0x77 { "core".into() } else { String::new() },
            name: String::new(),
            told,
            seen: 1,
        }
    }

    fn leaf(name: &str, kind: DeviceKind) -> Leaf {
        Leaf { name: name.into(), kind, is_virtual: name.starts_with("virt") }
    }

    fn draw(branch: &Branch, depth: usize, text: &mut String) {
        let port = branch.port.as_deref().unwrap_or("-");
        let uplink = branch.uplink.as_deref().unwrap_or("-");
        *text += &format!("{}{port} {} {uplink}\n", "  ".repeat(depth), branch.name);
        branch.below.iter().for_each(|below| draw(below, depth + 1, text));
    }

    fn drawn(tree: &Tree) -> String {
        let mut text = String::new();
        draw(&tree.root, 0, &mut text);
        tree.elsewhere.iter().for_each(|branch| draw(branch, 0, &mut text));
        text
    }

    #[test]
    fn devices_hang_below_the_switches_between_them_and_the_server() {
        let devices = BTreeMap::from([
            (mac(0), leaf("walt-server", DeviceKind::Server)),
            (mac(1), leaf("node-1", DeviceKind::Node)),
            (mac(2), leaf("node-2", DeviceKind::Node)),
            (mac(3), leaf("virt-3", DeviceKind::Node)),
            (mac(4), leaf("lost", DeviceKind::Unknown)),
            (mac(8), leaf("switch-8", DeviceKind::Switch)),
            (mac(9), leaf("switch-9", DeviceKind::Switch)),
        ]);
        let topology = Topology::new([
            link(9, "24", 0, Told::Heard),
            link(9, "10", 1, Told::Neighbour),
            link(9, "2", 8, Told::Neighbour),
            link(8, "1", 9, Told::Neighbour),
            link(8, "5", 2, Told::Learned),
            // Concluded at the wrong end of the link between the two.
            link(9, "3", 2, Told::Learned),
            link(0x77, "7", 6, Told::Heard),
        ]);
        let (one, other) = ("      5 node-2 -\n", "    3 node-2 -\n");
        let text = drawn(&tree(mac(0), &devices, &topology));
        assert!(text.contains(one) != text.contains(other), "one place alone: {text}");
        assert_eq!(
            text.replace(one, "").replace(other, ""),
            "- walt-server -\n  - switch-9 24\n    2 switch-8 1\n    10 node-1 -\n  - virt-3 -\n\
             - core -\n  7 02:00:00:00:00:06 -\n- lost -\n"
        );
    }

    #[test]
    fn a_ring_of_switches_ends() {
        let devices = BTreeMap::from([(mac(0), leaf("walt-server", DeviceKind::Server))]);
        let ring = [(1, 2), (2, 3), (3, 1), (2, 1), (3, 2), (1, 3)];
        let links = ring.iter().map(|(a, b)| link(*a, &b.to_string(), *b, Told::Neighbour));
        let topology = Topology::new(links.chain([link(1, "9", 0, Told::Heard)]));
        let text = drawn(&tree(mac(0), &devices, &topology));
        assert_eq!(text.lines().count(), 4, "{text}");
        let nothing = tree(mac(0), &devices, &Topology::default());
        assert_eq!(drawn(&nothing), "- walt-server -\n");
    }

    #[test]
    fn ports_are_in_the_order_of_their_numbers() {
        let mut ports = ["gi10", "gi2", "1/0/3", "1/0/12", "2/0/1", "gi1"];
        ports.sort_by(|a, b| natural(Some(a), Some(b)));
        assert_eq!(ports, ["1/0/3", "1/0/12", "2/0/1", "gi1", "gi2", "gi10"]);
    }
}
