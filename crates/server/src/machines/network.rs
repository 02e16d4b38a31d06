//! Ports of bridges for machines.
//!
//! A tap belongs to the user that QEMU runs as and stays when QEMU or the daemon ends, so QEMU needs no privilege to use it.
//! Networks among virtual nodes are bridges without any other port.

use std::path::Path;
use std::process::Stdio;

use net::MacAddr;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{Host, Spec};

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
    Path::new("/sys/class/net").join(interface).join("bridge").is_dir()
}

/// The ports of a machine: that of the platform first.
pub(super) fn ports(host: &Host, mac: MacAddr, spec: &Spec) -> Vec<Port> {
    let bridges = std::iter::once((host.bridge.clone(), false))
        .chain(spec.networks.iter().map(|name| (format!("wn-{name}"), true)));
    let bridges = bridges.enumerate();
    bridges.map(|(number, (bridge, private))| Port { tap: tap(mac, number), bridge, private }).collect()
}

/// Name of a tap. Linux: 15 bytes at most. What is left out of the address is QEMU's prefix, which all of ours have.
fn tap(mac: MacAddr, number: usize) -> String {
    let MacAddr(bytes) = mac;
    format!("wt{:02x}{:02x}{:02x}{:02x}.{number}", bytes[2], bytes[3], bytes[4], bytes[5])
}

/// Makes what is missing.
pub(super) async fn set_up(ports: &[Port], user: Option<u32>) -> Result<(), String> {
    let exists = |name: &str| Path::new("/sys/class/net").join(name).exists();
    let mut commands = String::new();
    for Port { tap, bridge, private } in ports {
        if *private && !exists(bridge) {
            // Without forward_delay 0 a bridge is deaf for its first 15 s.
            commands += &format!("link add {bridge} type bridge forward_delay 0 stp_state 0\nlink set {bridge} up\n");
        }
        if !exists(tap) {
            let owner = user.map(|user| format!(" user {user}")).unwrap_or_default();
            commands += &format!("tuntap add dev {tap} mode tap{owner}\n");
        }
        commands += &format!("link set {tap} master {bridge} up\n");
    }
    ip(&commands).await
}

/// Removes the taps of a machine, and bridges of ours that nobody is on any more.
pub(super) async fn tear_down(ports: &[Port]) {
    let mut commands = String::new();
    for port in ports {
        commands += &format!("tuntap del dev {} mode tap\n", port.tap);
    }
    if let Err(error) = ip(&commands).await {
        tracing::warn!(error, "can not remove the network interfaces of a machine");
    }
    for port in ports.iter().filter(|port| port.private) {
        let members = std::fs::read_dir(Path::new("/sys/class/net").join(&port.bridge).join("brif"));
        if members.is_ok_and(|mut members| members.next().is_none()) {
            let _ = ip(&format!("link del {}\n", port.bridge)).await;
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
