//! Ports of bridges for machines.
//!
//! A tap is made by the daemon and handed to QEMU as an open file, so QEMU needs no privilege to use it, and it is gone when
//! QEMU ends. Networks among virtual nodes are bridges without any other port.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use net::MacAddr;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{Host, Spec};

/// Where the kernel shows network interfaces.
pub(super) const INTERFACES: &str = "/sys/class/net";
/// What the names of networks of virtual nodes begin with, as bridges.
const PRIVATE: &str = "wn-";
/// Networks that one machine can be on, see the setting `networks`.
const MOST: usize = 8;

/// A tap, and the bridge that it is a port of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) tap: String,
    pub(super) bridge: String,
    /// Whether the bridge is ours to make.
    private: bool,
}

/// Whether an interface is a bridge.
pub(super) fn is_bridge(interface: &str) -> bool {
    Path::new(INTERFACES).join(interface).join("bridge").is_dir()
}

/// The ports of a machine: that of the platform first.
pub(super) fn ports(host: &Host, mac: MacAddr, spec: &Spec) -> Vec<Port> {
    let bridges = std::iter::once((host.bridge.clone(), false))
        .chain(spec.networks.iter().map(|name| (format!("{PRIVATE}{name}"), true)));
    let bridges = bridges.enumerate();
    bridges.map(|(number, (bridge, private))| Port { tap: tap(mac, number), bridge, private }).collect()
}

/// Name of a tap. Linux: 15 bytes at most. What is left out of the address is QEMU's prefix, which all of ours have.
fn tap(mac: MacAddr, number: usize) -> String {
    let MacAddr(bytes) = mac;
    format!("wt{:02x}{:02x}{:02x}{:02x}.{number}", bytes[2], bytes[3], bytes[4], bytes[5])
}

/// Makes them: one file for each, in their order.
pub(super) async fn set_up(ports: &[Port]) -> Result<Vec<OwnedFd>, String> {
    let exists = |name: &str| Path::new(INTERFACES).join(name).exists();
    let mut commands = String::new();
    let mut files = Vec::new();
    for Port { tap, bridge, private } in ports {
        if *private && !exists(bridge) {
            // Without forward_delay 0 a bridge is deaf for its first 15 s.
            commands += &format!(
                "link add {bridge} type bridge forward_delay 0 stp_state 0\nlink set {bridge} addrgenmode none up\n"
            );
        }
        let opened = sys::tap::open(tap);
        files.push(opened.map_err(|cause| format!("can not make the network interface {tap}: {cause}"))?);
        commands += &format!("link set {tap} master {bridge} up\n");
    }
    ip(&commands).await?;
    Ok(files)
}

/// The bridges of ours among these ports.
pub(super) fn private(ports: &[Port]) -> BTreeSet<String> {
    ports.iter().filter(|port| port.private).map(|port| port.bridge.clone()).collect()
}

/// The bridges of ours that a machine is on while it runs, whatever its settings are by now; as `interfaces` shows
/// them.
pub(super) fn joined(mac: MacAddr, interfaces: &Path) -> BTreeSet<String> {
    let masters = (1..MOST).filter_map(|number| {
        let master = std::fs::read_link(interfaces.join(tap(mac, number)).join("master")).ok()?;
        Some(master.file_name()?.to_str()?.to_owned())
    });
    masters.filter(|bridge| bridge.starts_with(PRIVATE)).collect()
}

/// Removes those of these bridges of ours that nobody is on any more. Nobody else may be at work on networks meanwhile.
pub(super) async fn tear_down(bridges: impl IntoIterator<Item = &String>) {
    for bridge in bridges {
        let members = std::fs::read_dir(Path::new(INTERFACES).join(bridge).join("brif"));
        if members.is_ok_and(|mut members| members.next().is_none())
            && let Err(error) = ip(&format!("link del {bridge}\n")).await
        {
            tracing::warn!(error, bridge, "can not remove a network of virtual nodes");
        }
    }
}

/// Runs commands of ip(8).
async fn ip(commands: &str) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|cause| format!("can not run ip (package iproute2): {cause}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(commands.as_bytes()).await.map_err(|cause| format!("ip does not listen: {cause}"))?;
    }
    let output = child.wait_with_output().await.map_err(|cause| format!("ip does not end: {cause}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("can not set up the network: ip says {:?}", said.lines().next().unwrap_or_default()))
}
