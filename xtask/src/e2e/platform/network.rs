//! The way of nodes to one another by name, and to other networks; and what they keep over a reboot.

use anyhow::Result;
use testbed::process::run_words;

use super::{boot_id, node, walt};
use crate::e2e::stage::{Stage, TINY_BOOT};

/// A machine of another network, which knows no way to the nodes.
const OUTSIDE: &str = "198.51.100.2";

pub(super) fn nat_and_names(stage: &mut Stage<'_>) -> Result<()> {
    for line in [
        "ip netns add outside",
        "ip link add to-outside type veth peer name eth0 netns outside",
        "ip address add 198.51.100.1/24 dev to-outside",
        "ip link set to-outside up",
        "ip -n outside address add 198.51.100.2/24 dev eth0",
        "ip -n outside link set eth0 up",
        "ip -n outside link set lo up",
    ] {
        run_words(line)?;
    }
    let named = walt(stage, &["node", "run", "vm1", "nslookup vm3 2>&1; true"])?;
    let address = node(stage, "vm3")?.ip;
    stage.check("nodes know one another by name", named.contains(&address), named.trim().replace('\n', "; "))?;

    let before = boot_id(stage, "vm2")?;
    walt(stage, &["node", "run", "vm2", "echo kept > /persist/note && echo gone > /root/note"])?;
    walt(stage, &["node", "config", "vm2", "netsetup=NAT"])?;
    walt(stage, &["node", "reboot", "vm2"])?;
    let mac = node(stage, "vm2")?.mac;
    stage.wait_until_booted_anew(&mac, &before, TINY_BOOT)?;
    let kept = walt(stage, &["node", "run", "vm2", "cat /persist/note; ls /root"])?;
    let is_it = kept.contains("kept") && !kept.contains("note\n");
    stage.check("/persist is kept over a reboot, the rest is not", is_it, kept.trim().replace('\n', "; "))?;
    let others = walt(stage, &["node", "run", "vm1", "ls /persist"])?;
    stage.check("another node has its own", others.trim().is_empty(), others.trim())?;

    let ping = format!("ping -c 2 -W 2 {OUTSIDE} 2>&1; true");
    let through = walt(stage, &["node", "run", "vm2", &ping])?;
    stage.check(
        "with netsetup=NAT a node reaches other networks",
        through.contains("2 packets received"),
        last(&through),
    )?;
    let lan = walt(stage, &["node", "run", "vm1", &format!("ip route add default via 192.168.152.1; {ping}")])?;
    stage.check("with netsetup=LAN it does not, even if it tries", lan.contains(" 0 packets received"), last(&lan))
}

/// The line that counts.
fn last(text: &str) -> &str {
    text.lines().find(|line| line.contains("packets")).unwrap_or(text)
}
