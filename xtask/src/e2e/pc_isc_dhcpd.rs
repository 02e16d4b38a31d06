//! ISC's dhcpd gives the addresses and tells us of each lease; everything else is ours.

use std::fs;

use anyhow::{Context, Result};
use testbed::machine::Spec;
use testbed::peers::Dhcpd;

use super::stage::{Stage, TINY_BOOT};

const MAC: &str = "52:54:00:d4:cd:01";

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.images.tiny.clone();
    let reference = stage.push(&image)?;
    stage.start_daemon(&reference, "[dhcp]\nmode = \"external\"")?;
    let _dhcpd = Dhcpd::start(stage.lab, &shipped(stage, "dhcpd.conf")?)?;
    stage.switch_on(&Spec::new("pc-dhcpd", MAC))?;
    let booted = stage.wait_until_booted(MAC, TINY_BOOT)?;
    let log = fs::read_to_string(stage.lab.logs().join("dhcpd.log"))?;
    let acknowledged = log.contains(&format!("DHCPACK on {}", booted.node.ip));
    stage.check("dhcpd gave it its address", acknowledged, &booted.node.ip)
}

/// The configuration that we ship for another DHCP server, with the programs as they were built here.
pub(super) fn shipped(stage: &Stage<'_>, name: &str) -> Result<String> {
    let path = crate::repository().join("contrib/dhcp").join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
    let event = stage.programs().directory.join("walt-dhcp-event");
    Ok(text.replace("/usr/bin/walt-dhcp-event", &event.display().to_string()))
}
