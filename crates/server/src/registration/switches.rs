//! Devices that people declare to be switches, and how the server is to speak with them.

use std::net::Ipv4Addr;

use api::{Problem, ProblemKind};
use net::MacAddr;

use super::Registrar;
use super::config::value;
use crate::registry::DeviceRow;

pub(super) const TYPE: &str = "type";
pub(super) const UNKNOWN: &str = "unknown";
const SWITCH: &str = "switch";
pub(super) const COMMUNITY: &str = "snmp.community";
/// No community was given: the switch can not be spoken with.
pub(super) const NO_COMMUNITY: &str = "none";
pub(super) const ADDRESS: &str = "snmp.address";
/// It is spoken with at the address of its lease.
pub(super) const NO_ADDRESS: &str = "none";
pub(super) const EXPLORE: &str = "lldp.explore";
pub(super) const POE: &str = "poe.reboots";

/// Whether somebody has said that it is a switch.
pub fn is_switch(row: &DeviceRow) -> bool {
    row.model.is_none() && row.config.get(TYPE).is_some_and(|kind| kind == SWITCH)
}

/// Whether the server may ask it for what hangs on it.
pub fn may_explore(row: &DeviceRow) -> bool {
    is_switch(row) && value(row, EXPLORE) == "true"
}

/// Whether the server may switch the power of its ports.
pub fn may_cut_power(row: &DeviceRow) -> bool {
    is_switch(row) && value(row, POE) == "true"
}

/// Address at which it is spoken with. That of its lease belongs to whoever asks DHCP with the switch's mac: such a
/// node would be told the community. So people may say where the switch is.
pub fn snmp_address(row: &DeviceRow) -> Ipv4Addr {
    // The setting was checked when it was made: what is no address is the default.
    value(row, ADDRESS).parse().unwrap_or(row.ip)
}

/// Whether the value of this setting is not to be repeated in logs: whoever knows it commands the switch.
pub fn is_secret(key: &str) -> bool {
    key == COMMUNITY
}

/// What makes no sense together.
pub(super) fn check(row: &DeviceRow) -> Result<(), Problem> {
    let wrong = |message: &str, hint: &str| Problem {
        kind: ProblemKind::BadRequest,
        message: format!("{}: {message}", row.name),
        hint: Some(hint.into()),
    };
    if may_explore(row) && value(row, COMMUNITY) == NO_COMMUNITY {
        return Err(wrong("a switch can not be asked without its SNMP community", "say snmp.community=…, too"));
    }
    if may_cut_power(row) && !may_explore(row) {
        return Err(wrong(
            "poe.reboots needs lldp.explore: else nobody knows which port a node hangs on",
            "say lldp.explore=true, too",
        ));
    }
    Ok(())
}

impl Registrar {
    /// `unknown-18d55d` that turns out to be a switch is called `switch-18d55d`, unless people gave it a name.
    pub(super) fn name_by_type(&mut self, mac: MacAddr) {
        let Some(row) = self.devices.get(&mac).map(|device| &device.row) else { return };
        let (from, to) = if is_switch(row) { (UNKNOWN, SWITCH) } else { (SWITCH, UNKNOWN) };
        let hex: String = mac.to_string().split(':').collect();
        let made_up = row.name.strip_prefix(from).and_then(|rest| rest.strip_prefix('-'));
        if row.model.is_none() && made_up.is_some_and(|end| end.len() >= 6 && hex.ends_with(end)) {
            let name = self.free_name(to, mac);
            if let Some(device) = self.devices.get_mut(&mac) {
                device.row.name = name;
            }
        }
    }
}

pub(super) fn kind(text: &str) -> Result<String, &'static str> {
    if [SWITCH, UNKNOWN].contains(&text) { Ok(text.to_owned()) } else { Err("switch or unknown") }
}

pub(super) fn version(text: &str) -> Result<String, &'static str> {
    match text {
        "1" | "2" => Ok(text.to_owned()),
        "2c" => Ok("2".into()),
        _ => Err("1 or 2"),
    }
}

pub(super) fn community(text: &str) -> Result<String, &'static str> {
    // RFC 1157 sets no limit; agents have theirs at 32 to 255 bytes.
    let sound = text.len() <= 255 && !text.chars().any(char::is_control);
    if sound { Ok(text.to_owned()) } else { Err("up to 255 printable characters") }
}

pub(super) fn address(text: &str) -> Result<String, &'static str> {
    if text.eq_ignore_ascii_case(NO_ADDRESS) {
        return Ok(NO_ADDRESS.into());
    }
    match text.parse::<Ipv4Addr>() {
        Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast() => Ok(ip.to_string()),
        _ => Err("the IPv4 address of the switch, or none: that of its lease"),
    }
}

pub(super) fn port(text: &str) -> Result<String, &'static str> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port.to_string()),
        _ => Err("a UDP port"),
    }
}

pub(super) fn delay(text: &str) -> Result<String, &'static str> {
    match text.parse::<u8>() {
        Ok(seconds) if (1..=60).contains(&seconds) => Ok(seconds.to_string()),
        _ => Err("1 to 60 seconds without power"),
    }
}
