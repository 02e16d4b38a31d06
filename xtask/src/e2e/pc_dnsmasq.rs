//! dnsmasq gives the addresses and tells us of each lease; everything else is ours.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use testbed::machine::Spec;
use testbed::peers::Dnsmasq;

use super::pc_isc_dhcpd::shipped;
use super::stage::{Stage, TINY_BOOT};
use crate::image::Recipe;

const MAC: &str = "52:54:00:d5:3a:01";

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.image(Recipe::TinyPc)?;
    let reference = stage.push(&image)?;
    stage.start_daemon(&reference, "[dhcp]\nmode = \"external\"")?;
    // The script finds walt-dhcp-event by a variable where it is not installed.
    let event = stage.programs().directory.join("walt-dhcp-event");
    let script = crate::repository().join("docs/external-dhcp/dnsmasq-lease");
    let hook = stage.lab.write(
        "lease",
        &format!("#!/bin/sh\nWALT_DHCP_EVENT={} exec {} \"$@\"\n", event.display(), script.display()),
    )?;
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
    let _dnsmasq = Dnsmasq::start(stage.lab, &shipped("dnsmasq.conf", &hook)?)?;
    stage.switch_on(&Spec::new("pc-dnsmasq", MAC))?;
    let booted = stage.wait_until_booted(MAC, TINY_BOOT)?;
    let log = fs::read_to_string(stage.lab.logs().join("dnsmasq.log"))?;
    let acknowledged = log.lines().any(|line| line.contains("DHCPACK") && line.contains(&booted.node.ip));
    stage.check("dnsmasq gave it its address", acknowledged, &booted.node.ip)
}
