//! All that a switch tells of its neighbours: LLDP-MIB, and its forwarding table (BRIDGE-MIB, Q-BRIDGE-MIB).
//!
//! Three tables number a switch's ports, each in its own way: its interfaces (ifIndex), the ports of the bridge, and those
//! of LLDP. Here a port is known by its ifIndex.

use std::collections::{BTreeMap, BTreeSet};

use async_snmp::Value;
use net::MacAddr;
use wire::lldp::{self, Id, Neighbour};

use super::snmp::{Session, SnmpError};

/// Ports, and neighbours, that are read of one switch.
const MAX_PORTS: usize = 4096;
/// Rows of its forwarding table.
const MAX_ADDRESSES: usize = 16_384;

/// IF-MIB ifName.
const IF_NAME: &[u32] = &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 1];
/// BRIDGE-MIB dot1dBaseBridgeAddress.
const BRIDGE_ADDRESS: &[u32] = &[1, 3, 6, 1, 2, 1, 17, 1, 1, 0];
/// BRIDGE-MIB dot1dBasePortIfIndex.
const BRIDGE_PORTS: &[u32] = &[1, 3, 6, 1, 2, 1, 17, 1, 4, 1, 2];
/// BRIDGE-MIB dot1dTpFdbPort: by address.
const FDB: &[u32] = &[1, 3, 6, 1, 2, 1, 17, 4, 3, 1, 2];
/// Q-BRIDGE-MIB dot1qTpFdbPort: by VLAN and address.
const VLAN_FDB: &[u32] = &[1, 3, 6, 1, 2, 1, 17, 7, 1, 2, 2, 1, 2];
/// LLDP-MIB lldpLocChassisIdSubtype and lldpLocChassisId.
const CHASSIS_SUBTYPE: &[u32] = &[1, 0, 8802, 1, 1, 2, 1, 3, 1, 0];
const CHASSIS: &[u32] = &[1, 0, 8802, 1, 1, 2, 1, 3, 2, 0];
/// LLDP-MIB lldpLocSysName.
const SYSTEM_NAME: &[u32] = &[1, 0, 8802, 1, 1, 2, 1, 3, 3, 0];
/// LLDP-MIB lldpLocPortEntry: column, port.
const LLDP_PORTS: &[u32] = &[1, 0, 8802, 1, 1, 2, 1, 3, 7, 1];
/// LLDP-MIB lldpRemEntry: column, time, port, number.
const NEIGHBOURS: &[u32] = &[1, 0, 8802, 1, 1, 2, 1, 4, 1, 1];
/// LLDP-MIB lldpRemManAddrIfSubtype: time, port, number, family, length, address.
const ADDRESSES: &[u32] = &[1, 0, 8802, 1, 1, 2, 1, 4, 2, 1, 3];

/// Rows by what follows the name of their table.
type Rows = Vec<(Vec<u32>, Value)>;

/// What a switch has told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// What it calls itself.
    pub(super) name: String,
    /// Its own addresses.
    pub(super) own: BTreeSet<MacAddr>,
    /// Names of its ports.
    pub(super) ports: BTreeMap<u32, String>,
    /// How its ports call themselves to neighbours.
    pub(super) ids: BTreeMap<u32, Id>,
    /// Numbers of its ports in the bridge.
    pub(super) bridge: BTreeMap<u32, u32>,
    /// Whom its ports have heard.
    pub(super) neighbours: Vec<(u32, Neighbour)>,
    /// Whose frames have come in by its ports, own addresses left out.
    pub(super) learned: BTreeMap<u32, BTreeSet<MacAddr>>,
}

/// The tables of a switch, as they come.
#[derive(Debug, Default)]
struct Tables {
    name: Option<Value>,
    bridge_address: Option<Value>,
    chassis: Option<(Value, Value)>,
    if_names: Rows,
    bridge_ports: Rows,
    fdb: Rows,
    vlan_fdb: Rows,
    lldp_ports: Rows,
    neighbours: Rows,
    addresses: Rows,
}

impl Scan {
    /// Asks a switch for all of it.
    ///
    /// # Errors
    /// It does not answer, or not in order. A table that it lacks is an empty one.
    pub(super) async fn read(session: &Session) -> Result<Self, SnmpError> {
        let subtype = session.get(CHASSIS_SUBTYPE).await?;
        let chassis = session.get(CHASSIS).await?;
        let tables = Tables {
            name: session.get(SYSTEM_NAME).await?,
            bridge_address: session.get(BRIDGE_ADDRESS).await?,
            chassis: subtype.zip(chassis),
            if_names: session.walk(IF_NAME, MAX_PORTS).await?,
            bridge_ports: session.walk(BRIDGE_PORTS, MAX_PORTS).await?,
            fdb: session.walk(FDB, MAX_ADDRESSES).await?,
            vlan_fdb: session.walk(VLAN_FDB, MAX_ADDRESSES).await?,
            // The tables have 3 and 9 columns that can be read.
            lldp_ports: session.walk(LLDP_PORTS, 3 * MAX_PORTS).await?,
            neighbours: session.walk(NEIGHBOURS, 9 * MAX_PORTS).await?,
            addresses: session.walk(ADDRESSES, MAX_PORTS).await?,
        };
        Ok(Self::of(&tables))
    }

    /// The port with this name or id.
    pub(super) fn port_named(&self, name: &str) -> Option<u32> {
        // What nodes pass on has no spaces (`wire::node::Attachment`).
        let is = |text: &str| text.replace(char::is_whitespace, "_") == name.replace(char::is_whitespace, "_");
        let by_id = self.ids.iter().find(|(_, id)| is(&id.to_string())).map(|(port, _)| *port);
        by_id.or_else(|| self.ports.iter().find(|(_, text)| is(text)).map(|(port, _)| *port))
    }

    /// The port's name, or its number.
    pub(super) fn name_of(&self, port: u32) -> String {
        self.ports.get(&port).filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| port.to_string())
    }

    fn of(tables: &Tables) -> Self {
        let mut scan = Self { name: tables.name.as_ref().map(text).unwrap_or_default(), ..Self::default() };
        scan.own.extend(tables.bridge_address.as_ref().and_then(mac));
        if let Some((subtype, chassis)) = &tables.chassis {
            let id = Id::of_chassis(small(subtype), chassis.as_bytes().unwrap_or_default());
            scan.own.extend(id.and_then(|id| id.mac()).map(MacAddr));
        }
        scan.ports = tables.if_names.iter().filter_map(|(index, name)| Some((single(index)?, text(name)))).collect();
        let bridge: BTreeMap<u32, u32> =
            tables.bridge_ports.iter().filter_map(|(index, port)| Some((single(index)?, port.as_u32()?))).collect();
        scan.bridge = bridge.iter().map(|(number, port)| (*port, *number)).collect();
        let lldp_ports = scan.read_lldp_ports(&tables.lldp_ports, &bridge);
        scan.read_neighbours(tables, |number| lldp_ports.get(&number).copied().unwrap_or(number));
        scan.read_learned(tables, &bridge);
        scan
    }

    /// The ports of LLDP: ifIndex by number.
    fn read_lldp_ports(&mut self, rows: &Rows, bridge: &BTreeMap<u32, u32>) -> BTreeMap<u32, u32> {
        let columns = by_row(rows);
        let mut indexes = BTreeMap::new();
        for (key, columns) in &columns {
            let Some(number) = single(key) else { continue };
            let bytes = |column: u32| columns.get(&column).and_then(|value| value.as_bytes()).unwrap_or_default();
            let id = Id::of_port(columns.get(&2).map_or(0, |value| small(value)), bytes(3));
            let description = lldp::text(bytes(4));
            let named = |name: &str| self.ports.iter().find(|(_, known)| *known == name).map(|(port, _)| *port);
            let by_name = id.as_ref().and_then(|id| named(&id.to_string())).or_else(|| named(&description));
            // IEEE 802.1AB has the numbers of the bridge, where there is one; many switches have ifIndex.
            let port = by_name.or_else(|| bridge.get(&number).copied()).unwrap_or(number);
            indexes.insert(number, port);
            if let Some(id) = id {
                let said = || if id.mac().is_some() { description.clone() } else { id.to_string() };
                self.ports.entry(port).or_insert_with(said);
                self.ids.insert(port, id);
            }
        }
        indexes
    }

    fn read_neighbours(&mut self, tables: &Tables, port_of: impl Fn(u32) -> u32) {
        let mut management = BTreeMap::new();
        for (key, _) in &tables.addresses {
            // IANA address family 1: IPv4.
            if let [time, port, number, 1, 4, ref octets @ ..] = key[..]
                && let Some(octets) = octets.iter().map(|octet| u8::try_from(*octet).ok()).collect::<Option<Vec<_>>>()
                && let Ok(address) = <[u8; 4]>::try_from(octets)
            {
                management.entry(vec![time, port, number]).or_insert(address.into());
            }
        }
        for (key, columns) in by_row(&tables.neighbours) {
            let [_, port, _] = key[..] else { continue };
            let bytes = |column: u32| columns.get(&column).and_then(|value| value.as_bytes()).unwrap_or_default();
            let subtype = |column: u32| columns.get(&column).map_or(0, |value| small(value));
            let chassis = Id::of_chassis(subtype(4), bytes(5));
            let id = Id::of_port(subtype(6), bytes(7));
            let (Some(chassis), Some(id)) = (chassis, id) else { continue };
            let neighbour = Neighbour {
                chassis,
                port: id,
                ttl: u16::MAX,
                port_description: lldp::text(bytes(8)),
                system_name: lldp::text(bytes(9)),
                capabilities: capabilities(bytes(12)),
                management: management.get(&key).copied(),
            };
            self.neighbours.push((port_of(port), neighbour));
        }
    }

    fn read_learned(&mut self, tables: &Tables, bridge: &BTreeMap<u32, u32>) {
        let plain = tables.fdb.iter().map(|(key, port)| (&key[..], port));
        let by_vlan = tables.vlan_fdb.iter().map(|(key, port)| (key.get(1..).unwrap_or_default(), port));
        for (key, number) in plain.chain(by_vlan) {
            let (Some(mac), Some(number)) = (mac_of_key(key), number.as_u32()) else { continue };
            // Port 0: "not learned" (RFC 4188). A group is no device.
            if number > 0 && mac.0[0] & 1 == 0 && !self.own.contains(&mac) {
                let port = bridge.get(&number).copied().unwrap_or(number);
                self.learned.entry(port).or_default().insert(mac);
            }
        }
    }
}

/// The columns of each row of a table whose rows are named `column.key`.
fn by_row(rows: &Rows) -> BTreeMap<Vec<u32>, BTreeMap<u32, &Value>> {
    let mut found: BTreeMap<Vec<u32>, BTreeMap<u32, &Value>> = BTreeMap::new();
    for (name, value) in rows {
        if let [column, key @ ..] = &name[..] {
            found.entry(key.to_vec()).or_default().insert(*column, value);
        }
    }
    found
}

fn single(key: &[u32]) -> Option<u32> {
    if let [number] = key { Some(*number) } else { None }
}

fn small(value: &Value) -> u8 {
    value.as_u32().and_then(|number| u8::try_from(number).ok()).unwrap_or(0)
}

fn text(value: &Value) -> String {
    value.as_bytes().map(lldp::text).unwrap_or_default()
}

fn mac(value: &Value) -> Option<MacAddr> {
    value.as_bytes().and_then(|bytes| bytes.try_into().ok()).map(MacAddr).filter(|mac| mac.0 != [0; 6])
}

fn mac_of_key(key: &[u32]) -> Option<MacAddr> {
    let bytes: Option<Vec<u8>> = key.iter().map(|byte| u8::try_from(*byte).ok()).collect();
    bytes?.try_into().ok().map(MacAddr)
}

/// LLDP-MIB LldpSystemCapabilitiesMap: the first bit is the highest one of the first byte, unlike in a frame.
fn capabilities(bytes: &[u8]) -> u16 {
    let bit = |n: usize| bytes.get(n / 8).is_some_and(|byte| byte >> (7 - n % 8) & 1 == 1);
    (0..16).filter(|n| bit(*n)).fold(0, |all, n| all | 1 << n)
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
