//! ISC's dhcpd gives the addresses and tells us of each lease; everything else is ours.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use testbed::lab::{BRIDGE, SERVER};
use testbed::machine::Spec;
use testbed::peers::Dhcpd;

use super::stage::{Stage, TINY_BOOT};
use crate::image::Recipe;

const MAC: &str = "52:54:00:d4:cd:01";

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.image(Recipe::TinyPc)?;
    let reference = stage.push(&image)?;
    stage.start_daemon(&reference, "[dhcp]\nmode = \"external\"")?;
    let hook = stage.programs().directory.join("walt-dhcp-event");
    let _dhcpd = Dhcpd::start(stage.lab, &shipped("isc-dhcpd.conf", &hook)?)?;
    stage.switch_on(&Spec::new("pc-dhcpd", MAC))?;
    let booted = stage.wait_until_booted(MAC, TINY_BOOT)?;
    let log = fs::read_to_string(stage.lab.logs().join("dhcpd.log"))?;
    let acknowledged = log.contains(&format!("DHCPACK on {}", booted.node.ip));
    stage.check("dhcpd gave it its address", acknowledged, &booted.node.ip)
}

/// The template that we ship for another DHCP server, filled in for the lab; `hook` is what it runs for each lease.
pub(super) fn shipped(name: &str, hook: &Path) -> Result<String> {
    let path = crate::repository().join("docs/external-dhcp").join(name);
    let mut text = fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
    let hook = hook.display().to_string();
    for (word, value) in [
        ("@SERVER@", SERVER.to_string().as_str()),
        ("@INTERFACE@", BRIDGE),
        ("@NETWORK@", "192.168.152.0"),
        ("@NETMASK@", "255.255.255.0"),
        ("@BROADCAST@", "192.168.152.255"),
        ("@FIRST@", "192.168.152.100"),
        ("@LAST@", "192.168.152.200"),
        ("@HOOK@", &hook),
    ] {
        text = text.replace(word, value);
    }
    Ok(text)
}
