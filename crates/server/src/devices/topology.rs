//! Which device hangs on which port of which switch: what switches and devices have told, put together.
//!
//! Three may tell where a device hangs: the switch, which has heard it by LLDP; the device, which has heard the switch; and
//! the switch's forwarding table, where a port has the device's address and no other one. The last is a conclusion, and
//! gives way to the others.

use std::collections::{BTreeMap, BTreeSet};

use net::MacAddr;

use crate::registry::{LinkRow, Told};

/// Seconds after which a conclusion counts for more than what was heard before it.
const STALE: i64 = 3600;
/// Seconds after which a link that is told again is recorded again.
const RENEW: i64 = 600;
/// Links at most: a hostile switch may tell of any number.
const MAX_LINKS: usize = 16_384;

/// A link that is to be recorded; `None`: it is there no more.
pub type Change = ((MacAddr, MacAddr), Option<LinkRow>);

/// All links that are known.
#[derive(Debug, Default)]
pub struct Topology {
    /// By switch and device.
    links: BTreeMap<(MacAddr, MacAddr), LinkRow>,
    /// Other addresses of switches that are devices: of their chassis, of their ports.
    aliases: BTreeMap<MacAddr, MacAddr>,
}

impl Topology {
    /// As it was recorded.
    pub fn new(rows: impl IntoIterator<Item = LinkRow>) -> Self {
        let links = rows.into_iter().map(|row| ((row.switch, row.mac), row)).collect();
        Self { links, aliases: BTreeMap::new() }
    }

    /// All links.
    pub fn links(&self) -> impl Iterator<Item = &LinkRow> {
        self.links.values()
    }

    /// The address by which a switch is known that has this one, too.
    pub fn known_as(&self, mac: MacAddr) -> MacAddr {
        self.aliases.get(&mac).copied().unwrap_or(mac)
    }

    /// Other addresses of switches, and what they are known by.
    pub(super) fn aliases(&self) -> &BTreeMap<MacAddr, MacAddr> {
        &self.aliases
    }

    /// Where a device hangs, as far as is known: of several places the one that was told best, and last.
    pub fn place(&self, mac: MacAddr) -> Option<&LinkRow> {
        self.links.values().filter(|link| link.mac == mac).max_by_key(|link| (link.told != Told::Learned, link.seen))
    }

    /// Whether something hangs on it.
    pub fn is_switch(&self, mac: MacAddr) -> bool {
        self.links.range((mac, MacAddr([0; 6]))..).next().is_some_and(|((switch, _), _)| *switch == mac)
    }

    /// A switch has told all that it knows: `found` takes the place of what it told before. `own` are its other addresses.
    pub fn scanned(&mut self, switch: MacAddr, own: &BTreeSet<MacAddr>, found: Vec<LinkRow>) -> Vec<Change> {
        let mut changes = Vec::new();
        for alias in own.iter().filter(|alias| **alias != switch) {
            self.aliases.insert(*alias, switch);
            self.rename(*alias, switch, &mut changes);
        }
        let there: BTreeSet<MacAddr> = found.iter().map(|link| link.mac).collect();
        let told_before = self.links.values().filter(|link| link.switch == switch && link.told != Told::Heard);
        let gone: Vec<_> = told_before.filter(|link| !there.contains(&link.mac)).map(|link| link.mac).collect();
        gone.into_iter().for_each(|mac| self.remove((switch, mac), &mut changes));
        found.into_iter().for_each(|link| self.put(link, &mut changes));
        changes
    }

    /// A device has heard the switch that it hangs on; where it hung before, as far as it said so itself, it hangs no more.
    pub fn heard(&mut self, link: LinkRow) -> Vec<Change> {
        let mut changes = Vec::new();
        let before = self.links.values().filter(|old| old.mac == link.mac && old.told == Told::Heard);
        let before: Vec<_> = before.filter(|old| old.switch != link.switch).map(|old| (old.switch, old.mac)).collect();
        before.into_iter().for_each(|key| self.remove(key, &mut changes));
        self.put(link, &mut changes);
        changes
    }

    /// A device is known no more.
    pub fn forget(&mut self, mac: MacAddr) -> Vec<Change> {
        let mut changes = Vec::new();
        let keys = self.links.keys().filter(|(switch, device)| *switch == mac || *device == mac);
        let keys: Vec<_> = keys.copied().collect();
        keys.into_iter().for_each(|key| self.remove(key, &mut changes));
        self.aliases.retain(|_, switch| *switch != mac);
        changes
    }

    fn put(&mut self, link: LinkRow, changes: &mut Vec<Change>) {
        let key = (link.switch, link.mac);
        if link.switch == link.mac || (self.links.len() >= MAX_LINKS && !self.links.contains_key(&key)) {
            return;
        }
        let old = self.links.get(&key);
        if old.is_some_and(|old| weight(link.told) < weight(old.told) && link.seen < old.seen + STALE) {
            return;
        }
        let is_news = old.is_none_or(|old| {
            let same = LinkRow { seen: old.seen, ..link.clone() };
            same != *old || link.seen >= old.seen + RENEW
        });
        if is_news {
            changes.push((key, Some(link.clone())));
            self.links.insert(key, link);
        }
    }

    fn remove(&mut self, key: (MacAddr, MacAddr), changes: &mut Vec<Change>) {
        if self.links.remove(&key).is_some() {
            changes.push((key, None));
        }
    }

    /// What was known under an alias is known of the device from now on.
    fn rename(&mut self, alias: MacAddr, device: MacAddr, changes: &mut Vec<Change>) {
        let keys = self.links.keys().filter(|(switch, mac)| *switch == alias || *mac == alias);
        for key in keys.copied().collect::<Vec<_>>() {
            let Some(link) = self.links.get(&key).cloned() else { continue };
            self.remove(key, changes);
            let of = |mac| if mac == alias { device } else { mac };
            self.put(LinkRow { switch: of(link.switch), mac: of(link.mac), ..link }, changes);
        }
    }
}

/// What counts for more where the same two are told of.
fn weight(told: Told) -> u8 {
    match told {
        Told::Neighbour => 2,
        Told::Heard => 1,
        Told::Learned => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    fn link(switch: u8, port: u32, device: u8, told: Told, seen: i64) -> LinkRow {
        LinkRow {
            switch: mac(switch),
            mac: mac(device),
            port: Some(port),
            port_name: format!("gi{port}"),
            switch_name: String::new(),
            name: String::new(),
            told,
            seen,
        }
    }

    fn on(topology: &Topology, device: u8) -> Option<(MacAddr, u32)> {
        topology.place(mac(device)).map(|link| (link.switch, link.port.unwrap()))
    }

    #[test]
    fn what_a_switch_tells_takes_the_place_of_what_it_told() {
        let (mut topology, own) = (Topology::default(), BTreeSet::new());
        let both = vec![link(9, 1, 1, Told::Neighbour, 10), link(9, 2, 2, Told::Learned, 10)];
        assert_eq!(topology.scanned(mac(9), &own, both.clone()).len(), 2);
        assert_eq!((on(&topology, 1), on(&topology, 2)), (Some((mac(9), 1)), Some((mac(9), 2))));
        let again = both.iter().map(|old| LinkRow { seen: 20, ..old.clone() }).collect();
        assert!(topology.scanned(mac(9), &own, again).is_empty(), "nothing new to record");
        let changes = topology.scanned(mac(9), &own, vec![link(9, 3, 1, Told::Neighbour, 30)]);
        assert_eq!(changes, [((mac(9), mac(2)), None), ((mac(9), mac(1)), Some(link(9, 3, 1, Told::Neighbour, 30)))]);
        assert_eq!((on(&topology, 1), on(&topology, 2)), (Some((mac(9), 3)), None));
    }

    #[test]
    fn what_was_heard_counts_for_more_than_a_conclusion_and_later_for_more_than_before() {
        let (mut topology, own) = (Topology::default(), BTreeSet::new());
        topology.heard(link(9, 1, 1, Told::Heard, 100));
        topology.scanned(mac(9), &own, vec![link(9, 7, 1, Told::Learned, 200)]);
        topology.scanned(mac(8), &own, vec![link(8, 8, 1, Told::Learned, 300)]);
        assert_eq!(on(&topology, 1), Some((mac(9), 1)));
        topology.scanned(mac(9), &own, vec![link(9, 7, 1, Told::Learned, 100 + STALE)]);
        assert_eq!(on(&topology, 1), Some((mac(9), 7)), "too long ago");
        topology.heard(link(9, 1, 1, Told::Heard, 5000));
        let changes = topology.heard(link(7, 2, 1, Told::Heard, 5001));
        assert_eq!(changes[0], ((mac(9), mac(1)), None), "it hangs on another switch now");
        assert_eq!(on(&topology, 1), Some((mac(7), 2)));
    }

    #[test]
    fn a_switch_is_one_whichever_of_its_addresses_is_told() {
        let mut topology = Topology::default();
        topology.heard(link(0x99, 4, 1, Told::Heard, 1));
        assert!(topology.is_switch(mac(0x99)) && !topology.is_switch(mac(9)));
        topology.scanned(mac(9), &BTreeSet::from([mac(0x99), mac(9)]), Vec::new());
        assert_eq!(on(&topology, 1), Some((mac(9), 4)));
        assert_eq!(topology.known_as(mac(0x99)), mac(9));
        assert!(!topology.is_switch(mac(0x99)) && topology.is_switch(mac(9)));
        assert_eq!(topology.forget(mac(9)).len(), 1);
        assert!(topology.links().next().is_none() && topology.known_as(mac(0x99)) == mac(0x99));
    }

    #[test]
    fn a_hostile_switch_fills_nothing() {
        let mut topology = Topology::default();
        let many = (0..20_000_u32).map(|n| {
            let [_, _, a, b] = n.to_be_bytes();
            LinkRow { mac: MacAddr([4, 0, 0, 0, a, b]), ..link(9, n, 0, Told::Neighbour, 1) }
        });
        topology.scanned(mac(9), &BTreeSet::new(), many.collect());
        assert_eq!(topology.links().count(), MAX_LINKS);
    }
}
