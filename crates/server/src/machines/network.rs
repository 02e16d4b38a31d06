//! Ports of bridges for machines.
//!
//! A tap is made by the daemon and handed to QEMU as an open file, so QEMU needs no privilege to use it, and it is gone when
//! QEMU ends. Networks among virtual nodes are bridges without any other port.

use std::os::fd::OwnedFd;
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

/// Makes them: one file for each, in their order.
pub(super) async fn set_up(ports: &[Port]) -> Result<Vec<OwnedFd>, String> {
    let exists = |name: &str| Path::new("/sys/class/net").join(name).exists();
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

/// Removes bridges of ours that nobody is on any more.
pub(super) async fn tear_down(ports: &[Port]) {
    for port in ports.iter().filter(|port| port.private) {
        let members = std::fs::read_dir(Path::new("/sys/class/net").join(&port.bridge).join("brif"));
        if members.is_ok_and(|mut members| members.next().is_none())
            && let Err(error) = ip(&format!("link del {}\n", port.bridge)).await
        {
            tracing::warn!(error, bridge = port.bridge, "can not remove a network of virtual nodes");
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
