//! Power over Ethernet: the port of a switch gives a node no power for some seconds (POWER-ETHERNET-MIB).
//!
//! A wrong port would cut the power of somebody else. So the switch is asked anew where the node hangs, who else is there,
//! and whether the port gives power at all; and if the port's link is still up without power, that was not its power.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use net::MacAddr;

use super::Devices;
use super::links::Known;
use super::memory::NotBegun;
use super::power::{Blocked, Way};
use super::scan::Scan;
use super::snmp::{Access, Session, SnmpError};
use crate::registration::config::value;
use crate::registration::switches;
use crate::registry::DeviceRow;

/// POWER-ETHERNET-MIB pethPsePortAdminEnable: by group and port; 1 is true, 2 is false.
const ENABLED: &[u32] = &[1, 3, 6, 1, 2, 1, 105, 1, 1, 1, 3];
const ON: i32 = 1;
const OFF: i32 = 2;
/// POWER-ETHERNET-MIB pethPsePortDetectionStatus; 3 is deliveringPower.
const STATUS: &[u32] = &[1, 3, 6, 1, 2, 1, 105, 1, 1, 1, 6];
const DELIVERING: i32 = 3;
/// IF-MIB ifOperStatus; 1 is up.
const LINK: &[u32] = &[1, 3, 6, 1, 2, 1, 2, 2, 1, 8];
const UP: i32 = 1;
/// Time for a switch to say that a link is down: some look for themselves each 15 s only.
const SLOW_LINK: Duration = Duration::from_secs(20);
/// Ports of a stack of switches.
const MAX_PORTS: usize = 4096;
/// How often a port is switched on before it is left to the next round.
const ATTEMPTS: u32 = 5;
/// Pause between two of them.
const PAUSE: Duration = Duration::from_secs(2);
/// Key of the registry's value that holds the ports which are without power because of us.
pub(super) const MEMORY: &str = "poe_off";

/// What is to be done about a port of something that is no switch any more.
const UNDECLARED: &str = "declare it a switch again, and it is switched on; else do so by the switch's own means";

/// A port that gives power: group and number.
pub(super) type PowerPort = (u32, u32);

impl Devices {
    /// Switches the power of the node's port off and on.
    pub(super) async fn cycle_port(&self, node: &DeviceRow) -> Result<Way, Blocked> {
        let switch = self.switch_of(node)?;
        // Nothing has been cut yet.
        let telling = |cause: SnmpError| Blocked::NoWay(format!("it hangs on {}: {cause}", switch.name));
        let (scan, _) = self.explore(&switch).await.map_err(telling)?;
        let index = self.port_of(node, &switch, &scan)?;
        let session = Access::of(&switch).open().await.map_err(telling)?;
        let rows = session.walk(ENABLED, MAX_PORTS).await.map_err(telling)?;
        let ports: BTreeSet<PowerPort> =
            rows.iter().filter_map(|(key, _)| if let [a, b] = key[..] { Some((a, b)) } else { None }).collect();
        let name = scan.name_of(index);
        let port = power_port(&ports, index, scan.bridge.get(&index).copied(), &name)
            .map_err(|reason| Blocked::NoWay(format!("{reason} of {}", switch.name)))?;
        let status = number(&session, STATUS, &[port.0, port.1]).await.map_err(telling)?;
        let enabled = number(&session, ENABLED, &[port.0, port.1]).await.map_err(telling)?;
        if enabled == Some(ON) && status.is_some_and(|status| status != DELIVERING) {
            return Err(Blocked::NoWay(format!("port {name} of {} gives it no power", switch.name)));
        }
        let seconds = value(&switch, "poe.delay").parse().unwrap_or(5);
        self.without_power(node, &switch, &session, port, (index, &name), Duration::from_secs(seconds)).await?;
        Ok(Way::Port { switch: switch.name, port: name, seconds })
    }

    /// The switch that may cut the node's power.
    fn switch_of(&self, node: &DeviceRow) -> Result<DeviceRow, Blocked> {
        let state = self.site.state();
        let no_way = |reason: String| Blocked::NoWay(reason);
        let place = state.topology.place(node.mac);
        let place = place.ok_or_else(|| no_way("which switch it hangs on is not known".into()))?;
        let switch = state.registrar.device(place.switch).map(|device| device.row.clone());
        let switch = switch
            .filter(switches::is_switch)
            .ok_or_else(|| no_way(format!("it hangs on {}, which was not declared a switch", place.switch)))?;
        if switches::may_cut_power(&switch) {
            Ok(switch)
        } else {
            Err(no_way(format!("it hangs on {}, whose poe.reboots is false", switch.name)))
        }
    }

    /// The port of the switch that leads to the node, and to nothing else.
    fn port_of(&self, node: &DeviceRow, switch: &DeviceRow, scan: &Scan) -> Result<u32, Blocked> {
        let state = self.site.state();
        let known = Known::of(&state, &self.here);
        let place = state.topology.place(node.mac).filter(|place| place.switch == switch.mac).cloned();
        let place = place.ok_or_else(|| Blocked::NoWay(format!("it hangs on {} no more", switch.name)))?;
        drop(state);
        let index = place.port.or_else(|| scan.port_named(&place.port_name));
        let index = index.ok_or_else(|| Blocked::NoWay(format!("{} has no port {}", switch.name, place.port_name)))?;
        let elsewhere = scan.learned.iter().find(|(port, macs)| **port != index && macs.contains(&node.mac));
        if let Some((port, _)) = elsewhere {
            // What a node says of its switch is not to be relied on alone.
            let (port, said) = (scan.name_of(*port), scan.name_of(index));
            return Err(Blocked::NoWay(format!("{} has seen it behind port {port}, not {said}", switch.name)));
        }
        let others = others(node.mac, index, scan, &known);
        if others.is_empty() {
            return Ok(index);
        }
        let (others, port) = (others.into_iter().collect::<Vec<_>>().join(", "), scan.name_of(index));
        Err(Blocked::NoWay(format!("{others} is behind port {port} of {}, too", switch.name)))
    }

    async fn without_power(
        &self,
        node: &DeviceRow,
        switch: &DeviceRow,
        session: &Session,
        port: PowerPort,
        (index, name): (u32, &str),
        time: Duration,
    ) -> Result<(), Blocked> {
        let which = format!("port {name} of {}", switch.name);
        let was_on = self.begin_off(switch.mac, port).await.map_err(|not| match not {
            NotBegun::UnderWay => {
                let message = format!("{} is being switched off and on already, by {which}", node.name);
                Blocked::failed(message, "wait until that is done")
            }
            NotBegun::NotRecorded(cause) => {
                Blocked::NoWay(format!("{which} is not switched off, since that could not be recorded: {cause}"))
            }
        })?;
        let what = [ENABLED, &[port.0, port.1]].concat();
        let off = session.set(&what, OFF).await;
        if let Err(cause @ SnmpError::Failed { .. }) = off {
            // It has said that it does not: nothing has changed.
            self.end_off(switch.mac, port, was_on);
            return Err(Blocked::NoWay(format!(
                "{which} can not be switched off: {cause}; its community must be one that may write"
            )));
        }
        let stays_up = off.is_ok() && {
            tokio::time::sleep(time).await;
            stays_up(session, index).await
        };
        // Even if it has not answered: the answer alone may have got lost.
        let on = power_on(session, &what).await;
        self.end_off(switch.mac, port, on.is_ok());
        if let Err(cause) = on {
            // Whoever reads the log must see it; the next round tries again.
            tracing::error!(switch = switch.name, port = name, node = node.name, %cause, "a port is left without power");
            let message = format!("{which}, which powers {}, could not be switched on again: {cause}", node.name);
            return Err(Blocked::failed(
                message,
                "the server goes on trying; else switch it on by the switch's own means",
            ));
        }
        off.map_err(|cause| Blocked::NoWay(format!("{which} can not be switched off: {cause}")))?;
        if stays_up {
            let message = format!("{which} stays up without power: {} has power from elsewhere", node.name);
            return Err(Blocked::NoWay(message));
        }
        Ok(())
    }

    /// Switches on what an earlier daemon, or an earlier attempt, has left off.
    pub(super) async fn restore_power(&self) {
        for (mac, port) in self.left_off() {
            let row = self.site.state().registrar.device(mac).map(|device| device.row.clone());
            // Giving power needs no leave: `poe.reboots` is about cutting it.
            let row = match row {
                Some(row) if switches::is_switch(&row) => row,
                Some(row) => {
                    self.stays_off(mac, port, &row.name, "it is not declared a switch any more", UNDECLARED);
                    continue;
                }
                None => {
                    self.stays_off(mac, port, &mac.to_string(), "that device was forgotten", UNDECLARED);
                    continue;
                }
            };
            if !self.begin_on(mac, port) {
                continue;
            }
            let what = [ENABLED, &[port.0, port.1]].concat();
            let done = match Access::of(&row).open().await {
                Ok(session) => power_on(&session, &what).await,
                Err(cause) => Err(cause),
            };
            match done {
                Ok(()) => {
                    self.site.tell(format!("{}: the power port {}.{} is on again", row.name, port.0, port.1));
                    self.end_off(mac, port, true);
                }
                Err(cause) => {
                    self.end_off(mac, port, false);
                    self.stays_off(mac, port, &row.name, &cause.to_string(), "it is tried again");
                }
            }
        }
    }

    /// Says so, once for each reason: a node is without power, and somebody must look after it.
    fn stays_off(&self, mac: MacAddr, (group, port): PowerPort, switch: &str, reason: &str, what_now: &str) {
        if self.is_news(mac, (group, port), reason) {
            tracing::error!(switch, group, port, reason, "a port is still without power");
            self.site
                .tell(format!("{switch}: the power port {group}.{port} was left without power: {reason}; {what_now}"));
        }
    }
}

/// Whether the link of a port without power is up all the same. A switch may be slow to say that it is not.
async fn stays_up(session: &Session, index: u32) -> bool {
    let begun = Instant::now();
    while number(session, LINK, &[index]).await.unwrap_or(None) == Some(UP) {
        if begun.elapsed() > SLOW_LINK {
            return true;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    false
}

/// Switches a port on.
async fn power_on(session: &Session, what: &[u32]) -> Result<(), SnmpError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let done = session.set(what, ON).await;
        match done {
            Ok(()) => return Ok(()),
            Err(cause) if attempt >= ATTEMPTS => return Err(cause),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn number(session: &Session, table: &[u32], key: &[u32]) -> Result<Option<i32>, SnmpError> {
    Ok(session.get(&[table, key].concat()).await?.and_then(|value| value.as_i32()))
}

/// Who else is behind the port: a device that the platform knows or not, or a switch.
fn others(node: MacAddr, index: u32, scan: &Scan, known: &Known) -> BTreeSet<String> {
    let here = scan.neighbours.iter().filter(|(port, _)| *port == index);
    let heard = here.filter_map(|(_, neighbour)| match known.mac_of(neighbour) {
        Some(mac) => (mac != node).then(|| mac.to_string()),
        // It gives no address: the node itself may be so, but not if it forwards for others.
        None => neighbour.is_bridge().then(|| neighbour.chassis.to_string()),
    });
    let learned = scan.learned.get(&index).into_iter().flatten().filter(|mac| **mac != node);
    heard.chain(learned.map(MacAddr::to_string)).collect()
}

/// The power port of the interface `index`, which has the number `bridge` in the bridge. No table says which one it is:
/// the numbers must leave no doubt.
fn power_port(ports: &BTreeSet<PowerPort>, index: u32, bridge: Option<u32>, name: &str) -> Result<PowerPort, String> {
    let words = name.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u32> = words.filter_map(|digits| digits.parse().ok()).collect();
    let groups: BTreeSet<u32> = ports.iter().map(|(group, _)| *group).collect();
    let found: BTreeSet<PowerPort> = match (groups.len(), &numbers[..]) {
        (0, _) => return Err("there is no table of power".into()),
        // A stack: the name begins with the unit, as in `2/0/7`.
        (2.., [unit, .., port]) => ports.get(&(*unit, *port)).copied().into_iter().collect(),
        (2.., _) => BTreeSet::new(),
        (1, _) => {
            let candidates = [Some(index), bridge, numbers.last().copied()];
            ports.iter().filter(|(_, port)| candidates.contains(&Some(*port))).copied().collect()
        }
    };
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(port), None) => Ok(port),
        (None, _) => Err(format!("no power is given by port {name}")),
        (Some(_), Some(_)) => Err(format!("it is not clear which power port is port {name}")),
    }
}

#[cfg(test)]
#[path = "poe_tests.rs"]
mod ports_off_tests;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wire::lldp::{CAPABILITY_BRIDGE, Id, Neighbour};

    use super::*;

    #[test]
    fn whoever_else_is_behind_the_port_is_seen() {
        let mac = |last: u8| MacAddr([2, 0, 0, 0, 0, last]);
        let neighbour = |chassis: Id, capabilities| Neighbour {
            chassis,
            port: Id::Text("eth0".into()),
            ttl: 120,
            port_description: String::new(),
            system_name: String::new(),
            capabilities,
            management: None,
        };
        let scan = |neighbours: &[Neighbour], learned: &[u8]| Scan {
            neighbours: neighbours.iter().map(|neighbour| (3, neighbour.clone())).collect(),
            learned: BTreeMap::from([
                (3, learned.iter().map(|last| mac(*last)).collect()),
                (4, BTreeSet::from([mac(9)])),
            ]),
            ..Scan::default()
        };
        let others = |scan: &Scan| others(mac(1), 3, scan, &Known::default()).len();
        let (itself, nameless) = (neighbour(Id::Mac(mac(1).0), 0), Id::Text("machine-id".into()));
        assert_eq!(others(&scan(&[], &[])), 0, "it is off, and forgotten by the switch");
        assert_eq!(others(&scan(&[itself.clone(), neighbour(nameless.clone(), 0)], &[1])), 0);
        assert_eq!(others(&scan(&[], &[1, 2])), 1);
        assert_eq!(others(&scan(&[itself, neighbour(Id::Mac(mac(8).0), 0)], &[])), 1);
        assert_eq!(others(&scan(&[neighbour(nameless, CAPABILITY_BRIDGE)], &[1])), 1);
    }

    #[test]
    fn a_power_port_is_found_only_if_there_is_no_doubt() {
        let one: BTreeSet<_> = (1..=8).map(|port| (1, port)).collect();
        let stack: BTreeSet<_> = [(1, 7), (2, 7), (2, 8)].into();
        for (ports, index, bridge, name, found) in [
            (&one, 3, Some(3), "g3", Some((1, 3))),
            (&one, 10103, Some(3), "Gi1/0/3", Some((1, 3))),
            (&one, 51, Some(51), "gi3", Some((1, 3))),
            (&one, 49, None, "uplink", None),
            (&one, 4, Some(3), "port 3", None),
            (&stack, 107, Some(7), "2/0/7", Some((2, 7))),
            (&stack, 7, Some(7), "port 7", None),
            (&stack, 7, Some(7), "x", None),
            (&BTreeSet::new(), 1, None, "1", None),
        ] {
            assert_eq!(power_port(ports, index, bridge, name).ok(), found, "{index} {bridge:?} {name}");
        }
    }
}
