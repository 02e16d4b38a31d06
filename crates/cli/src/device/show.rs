//! `walt device show`.

use anyhow::Error;
use api::{Device, Place, Told};

use crate::http::{Client, target};
use crate::report::{self, ago, say};
use crate::table;

pub(super) fn show(client: &Client, set: Option<&str>, json: bool) -> Result<(), Error> {
    let query: Vec<_> = set.iter().map(|set| ("set", *set)).collect();
    let devices: Vec<Device> = client.get(&target(&["v1", "devices"], &query))?;
    if json {
        return report::json(&devices);
    }
    match (&devices[..], set) {
        ([device], Some(_)) => print_one(device),
        _ => print_all(&devices),
    }
}

fn print_all(devices: &[Device]) -> Result<(), Error> {
    let row = |device: &Device| {
        [
            device.name.clone(),
            device.kind.as_str().into(),
            device.mac.clone(),
            ip(device),
            device.model.clone().unwrap_or_else(none),
            device.first_seen.map_or_else(none, ago),
            device.last_seen.map_or_else(none, ago),
            match &device.place {
                Some(found) => place(found),
                None if device.is_virtual => "the server itself".into(),
                None => none(),
            },
        ]
    };
    let titles = ["name", "type", "mac", "ip", "model", "first seen", "last seen", "reachable through"];
    table::print(titles, &devices.iter().map(row).collect::<Vec<_>>())
}

fn print_one(device: &Device) -> Result<(), Error> {
    let told = |place: &Place| {
        let by = match place.told {
            Told::Neighbour => "the switch has heard it (LLDP)",
            Told::Heard => "it has heard the switch (LLDP)",
            Told::Learned => "no other address is behind the port",
        };
        format!("{}; {by}, {}", self::place(place), ago(place.seen))
    };
    for (title, text) in [
        ("name", device.name.clone()),
        ("type", device.kind.as_str().into()),
        ("mac", device.mac.clone()),
        ("ip", ip(device)),
        ("model", device.model.clone().unwrap_or_else(none)),
        ("virtual", if device.is_virtual { "yes" } else { "no" }.into()),
        ("state", device.state.map_or_else(none, |state| state.as_str().into())),
        ("first seen", device.first_seen.map_or_else(none, ago)),
        ("last seen", device.last_seen.map_or_else(none, ago)),
        ("reachable", device.place.as_ref().map_or_else(none, told)),
    ] {
        say(format_args!("{title:<13} {text}"))?;
    }
    device.config.iter().try_for_each(|(key, value)| say(format_args!("{key:<13} {value}")))
}

fn place(place: &Place) -> String {
    format!("{} port {}", place.switch, place.port)
}

fn ip(device: &Device) -> String {
    if device.ip.is_empty() { none() } else { device.ip.clone() }
}

fn none() -> String {
    "-".into()
}
