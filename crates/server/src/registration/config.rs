//! Settings of devices: `key=value`, as people write them with `walt node config` and `walt device config`.
//!
//! A value is checked and brought into one form when it is set. What was not set has the default of [`KEYS`].

use std::collections::BTreeMap;

use api::{Problem, ProblemKind};

use super::{Action, Registrar, switches};
use crate::names;
use crate::registry::DeviceRow;

/// What a device may be told to be or to have.
#[derive(Debug)]
pub struct Key {
    /// Name, such as `cpu.cores`.
    pub name: &'static str,
    /// Value that counts when none was set.
    pub default: &'static str,
    /// What has it.
    pub of: Of,
    /// Brings a value into the form in which it is kept; the error says what is expected.
    check: fn(&str) -> Result<String, &'static str>,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Any device.
    Device,
    /// Nodes.
    Node,
    /// Nodes that the daemon itself runs.
    VirtualNode,
    /// Devices that are no nodes.
    Other,
    /// Devices that were declared switches.
    Switch,
}

/// All of them.
pub const KEYS: &[Key] = &[
    Key { name: "netsetup", default: "LAN", of: Of::Device, check: netsetup },
    Key { name: "mount.persist", default: "true", of: Of::Node, check: boolean },
    Key { name: "cpu.cores", default: "1", of: Of::VirtualNode, check: cores },
    Key { name: "ram", default: "1G", of: Of::VirtualNode, check: ram },
    Key { name: "disks", default: "none", of: Of::VirtualNode, check: disks },
    Key { name: "networks", default: "walt-net", of: Of::VirtualNode, check: networks },
    Key { name: switches::TYPE, default: switches::UNKNOWN, of: Of::Other, check: switches::kind },
    Key { name: "snmp.version", default: "2", of: Of::Switch, check: switches::version },
    Key { name: switches::COMMUNITY, default: switches::NO_COMMUNITY, of: Of::Switch, check: switches::community },
    Key { name: switches::ADDRESS, default: switches::NO_ADDRESS, of: Of::Switch, check: switches::address },
    Key { name: "snmp.port", default: "161", of: Of::Switch, check: switches::port },
    Key { name: switches::EXPLORE, default: "false", of: Of::Switch, check: boolean },
    Key { name: switches::POE, default: "false", of: Of::Switch, check: boolean },
    Key { name: "poe.delay", default: "5", of: Of::Switch, check: switches::delay },
];

impl Of {
    /// Whether a device has keys of this kind.
    fn includes(self, row: &DeviceRow) -> bool {
        match self {
            Self::Device => true,
            Self::Node => row.model.is_some(),
            Self::VirtualNode => row.is_virtual,
            Self::Other => row.model.is_none(),
            Self::Switch => switches::is_switch(row),
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Device => "devices",
            Self::Node => "nodes",
            Self::VirtualNode => "virtual nodes",
            Self::Other => "devices that are no nodes",
            Self::Switch => "switches",
        }
    }
}

/// Value of `key`, the default unless another was set. Empty if there is no such key.
pub fn value<'a>(row: &'a DeviceRow, key: &str) -> &'a str {
    let default = || KEYS.iter().find(|known| known.name == key).map_or("", |known| known.default);
    row.config.get(key).map_or_else(default, String::as_str)
}

/// All settings that this device has.
pub fn effective(row: &DeviceRow) -> BTreeMap<String, String> {
    let keys = KEYS.iter().filter(|key| key.of.includes(row));
    keys.map(|key| (key.name.to_owned(), value(row, key.name).to_owned())).collect()
}

/// Whether the server is to be this device's way to other networks.
pub fn is_behind_nat(row: &DeviceRow) -> bool {
    value(row, "netsetup") == "NAT"
}

impl Registrar {
    /// Changes settings of a device: all of them, or none if one makes no sense.
    pub(super) fn configure(
        &mut self,
        device: &str,
        changes: &BTreeMap<String, String>,
        actions: &mut Vec<Action>,
    ) -> Result<(), Problem> {
        let mac = self.find_node(device)?;
        let Some(device) = self.devices.get_mut(&mac) else { return Ok(()) };
        change(&mut device.row, changes)?;
        if matches!(device.problem, Some(("nat", _))) && !is_behind_nat(&device.row) {
            device.problem = None;
        }
        self.name_by_type(mac);
        actions.extend([Action::Save(mac), Action::Configured(mac)]);
        Ok(())
    }

    /// Notes with the devices behind NAT whether it works.
    pub(super) fn nat_set(&mut self, result: &Result<(), String>, actions: &mut Vec<Action>) {
        for device in self.devices.values_mut().filter(|device| is_behind_nat(&device.row)) {
            let mac = device.row.mac;
            let noted = matches!(device.problem, Some(("nat", _)));
            match result {
                Err(cause) if device.problem.is_none() => {
                    actions.push(Action::Note { mac, step: "nat", detail: cause.clone(), ok: false });
                    device.problem = Some(("nat", cause.clone()));
                }
                Err(cause) if noted => device.problem = Some(("nat", cause.clone())),
                Ok(()) if noted => {
                    let detail = "the server is its way to other networks".to_owned();
                    actions.push(Action::Note { mac, step: "nat", detail, ok: true });
                    device.problem = None;
                }
                // Something worse is the matter with it.
                Err(_) | Ok(()) => {}
            }
        }
    }
}

/// Changes settings of a device: all of them, or none if one makes no sense.
pub(super) fn change(row: &mut DeviceRow, changes: &BTreeMap<String, String>) -> Result<(), Problem> {
    let mut changed = row.clone();
    // What the others may be depends on what the device is.
    let (first, others): (Vec<_>, Vec<_>) = changes.iter().partition(|(key, _)| *key == switches::TYPE);
    for (key, value) in first.into_iter().chain(others) {
        let (key, value) = check(&changed, key, value)?;
        match value {
            Some(value) => changed.config.insert(key.to_owned(), value),
            None => changed.config.remove(key),
        };
    }
    switches::check(&changed)?;
    row.config = changed.config;
    Ok(())
}

/// The key, and the value that is kept; `None` for the default.
fn check(row: &DeviceRow, name: &str, value: &str) -> Result<(&'static str, Option<String>), Problem> {
    let wrong = |message: String, hint: Option<String>| Problem { kind: ProblemKind::BadRequest, message, hint };
    let fitting = || KEYS.iter().filter(|key| key.of.includes(row)).map(|key| key.name);
    let Some(key) = KEYS.iter().find(|key| key.name == name) else {
        let hint = match names::nearest(name, fitting()) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("{} has {}", row.name, fitting().collect::<Vec<_>>().join(", ")),
        };
        return Err(wrong(format!("there is no setting {name:?}"), Some(hint)));
    };
    if !key.of.includes(row) {
        let mut hint = format!("{} has {}", row.name, fitting().collect::<Vec<_>>().join(", "));
        if key.of == Of::Switch && row.model.is_none() {
            hint = "say type=switch, too, if it is one".into();
        }
        return Err(wrong(format!("{name} is a setting of {}, and {} is none", key.of.plural(), row.name), Some(hint)));
    }
    if value.is_empty() {
        return Ok((key.name, None));
    }
    let kept = (key.check)(value).map_err(|expected| {
        wrong(format!("{name}={value} makes no sense: expected {expected}"), Some(format!("default: {}", key.default)))
    })?;
    Ok((key.name, Some(kept).filter(|kept| kept != key.default)))
}

fn netsetup(text: &str) -> Result<String, &'static str> {
    let upper = text.to_ascii_uppercase();
    if ["LAN", "NAT"].contains(&upper.as_str()) { Ok(upper) } else { Err("LAN or NAT") }
}

/// `true` or `false`.
fn boolean(text: &str) -> Result<String, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok("true".into()),
        "false" | "no" | "off" | "0" => Ok("false".into()),
        _ => Err("true or false"),
    }
}

fn cores(text: &str) -> Result<String, &'static str> {
    let expected = "a number from 1 to 255";
    let cores: u8 = text.parse().map_err(|_| expected)?;
    if cores == 0 { Err(expected) } else { Ok(cores.to_string()) }
}

fn ram(text: &str) -> Result<String, &'static str> {
    match mebibytes(text) {
        Some(64..=16_777_216) => Ok(text.to_ascii_uppercase()),
        _ => Err("an amount such as 512M or 2G, 64M at least"),
    }
}

fn disks(text: &str) -> Result<String, &'static str> {
    if text.eq_ignore_ascii_case("none") {
        return Ok("none".into());
    }
    let sizes: Vec<_> = text.split(',').map(|size| size.trim().to_ascii_uppercase()).collect();
    // QEMU's machines have room for more, nobody's desk has.
    let sound = sizes.len() <= 16 && sizes.iter().all(|size| mebibytes(size).is_some_and(|mib| mib > 0));
    if sound { Ok(sizes.join(",")) } else { Err("none, or up to 16 sizes such as 8G,32G") }
}

fn networks(text: &str) -> Result<String, &'static str> {
    let names: Vec<_> = text.split(',').map(str::trim).collect();
    // Linux: the name of an interface has 15 bytes at most, and ours begin with `wn-`.
    let sound = |name: &&str| name.len() <= 12 && names::is_device_name(name);
    let mut seen = std::collections::BTreeSet::new();
    let once = names.iter().all(|name| seen.insert(*name));
    if once && names.len() <= 8 && names[0] == "walt-net" && names.iter().all(sound) {
        Ok(names.join(","))
    } else {
        Err(
            "walt-net, then up to 7 networks of your own such as walt-net,home-net, of up to 12 letters, digits and dashes",
        )
    }
}

/// MiB of an amount such as `512M`, `2G` or `1T`.
pub fn mebibytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let factor: u64 = match unit {
        "M" | "m" => 1,
        "G" | "g" => 1024,
        "T" | "t" => 1024 * 1024,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    number.checked_mul(factor).filter(|mib| *mib <= 1 << 40)
}

#[cfg(test)]
mod tests {
    use net::MacAddr;

    use super::*;

    fn row(model: Option<&str>, is_virtual: bool) -> DeviceRow {
        DeviceRow {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            ip: [10, 0, 0, 1].into(),
            name: "n".into(),
            model: model.map(str::to_owned),
            board: None,
            host_name: String::new(),
            first_seen: 0,
            last_seen: 0,
            image: None,
            served: None,
            served_as: None,
            held: Vec::new(),
            runs_as: None,
            is_virtual,
            config: BTreeMap::new(),
        }
    }

    #[test]
    fn values_are_kept_in_one_form_and_nonsense_is_refused() {
        let machine = row(Some("pc-x86-64"), true);
        for (key, value, kept) in [
            ("netsetup", "nat", Some("NAT")),
            ("netsetup", "lan", None),
            ("netsetup", "", None),
            ("mount.persist", "no", Some("false")),
            ("cpu.cores", "04", Some("4")),
            ("ram", "512m", Some("512M")),
            ("disks", "8g, 1T", Some("8G,1T")),
            ("networks", "walt-net,home", Some("walt-net,home")),
        ] {
            assert_eq!(check(&machine, key, value), Ok((key, kept.map(str::to_owned))), "{key}={value}");
        }
        for (key, value) in [
            ("netsetup", "x"),
            ("cpu.cores", "0"),
            ("ram", "1"),
            ("ram", "63M"),
            ("ram", "99999999999999999999G"),
            ("ram", "18446744073709551615T"),
            ("ram", "é"),
            ("disks", "8G,"),
            ("disks", "0G"),
            ("networks", "home"),
            ("networks", "walt-net,walt-net"),
            ("networks", "walt-net,$(x)"),
            ("ramm", "1G"),
        ] {
            check(&machine, key, value).expect_err(value);
        }
    }

    #[test]
    fn a_key_is_for_what_has_it() {
        let (device, node, machine) = (row(None, false), row(Some("rpi-4-b"), false), row(Some("pc-x86-64"), true));
        assert!(check(&device, "netsetup", "NAT").is_ok() && check(&device, "mount.persist", "false").is_err());
        assert!(check(&node, "mount.persist", "false").is_ok() && check(&node, "ram", "1G").is_err());
        assert!(check(&machine, "ram", "1G").is_ok());
        assert_eq!(effective(&device).into_keys().collect::<Vec<_>>(), ["netsetup", "type"]);
        let of_nodes = KEYS.iter().filter(|key| !matches!(key.of, Of::Other | Of::Switch));
        assert_eq!(effective(&machine).len(), of_nodes.count());
        assert_eq!(effective(&machine)["ram"], "1G");
    }

    #[test]
    fn what_a_switch_has_comes_with_its_being_one() {
        let mut registrar = Registrar::new(&crate::registry::Loaded::default(), |_| String::new());
        let mac = MacAddr([2, 0, 0, 0x18, 0xd5, 0x5d]);
        let device = DeviceRow { mac, name: "unknown-18d55d".into(), ..row(None, false) };
        registrar.devices.insert(mac, super::super::Device { row: device, problem: None });
        let mut set = |changes: &[(&str, &str)]| {
            let changes = changes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            registrar.configure(&mac.to_string(), &changes, &mut Vec::new())?;
            let row = &registrar.device(mac).unwrap().row;
            Ok::<_, Problem>((row.name.clone(), effective(row)))
        };
        for changes in [
            &[("snmp.version", "2")][..],
            &[("type", "switch"), ("lldp.explore", "true")],
            &[("type", "switch"), ("snmp.community", "private"), ("poe.reboots", "true")],
            &[("type", "router")],
            &[("type", "switch"), ("snmp.version", "3")],
            &[("type", "switch"), ("snmp.address", "rack-1")],
            &[("type", "switch"), ("snmp.address", "0.0.0.0")],
            &[("type", "switch"), ("snmp.address", "224.0.0.1")],
            &[("type", "switch"), ("snmp.address", "255.255.255.255")],
        ] {
            set(changes).unwrap_err();
        }
        let all = [("lldp.explore", "yes"), ("poe.reboots", "true"), ("snmp.community", "private"), ("type", "switch")];
        let (name, config) = set(&all).unwrap();
        assert_eq!((name.as_str(), config["snmp.version"].as_str()), ("switch-18d55d", "2"));
        assert_eq!(config["snmp.address"], "none");
        assert_eq!(set(&[("snmp.address", "10.9.0.2")]).unwrap().1["snmp.address"], "10.9.0.2");
        set(&[("lldp.explore", "false")]).unwrap_err();
        let (name, config) = set(&[("type", "unknown")]).unwrap();
        assert_eq!((name.as_str(), config.len()), ("unknown-18d55d", 2));
    }

    #[test]
    fn the_defaults_make_sense() {
        for key in KEYS {
            assert_eq!((key.check)(key.default).as_deref(), Ok(key.default), "{}", key.name);
        }
    }
}
