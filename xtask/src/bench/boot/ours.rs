//! The boot that is ours: the daemon as users run it, the image from a registry.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use testbed::daemon::{Daemon, Programs};
use testbed::lab::Lab;
use testbed::machine::{Machine, Spec};
use testbed::peers::Registry;

use crate::image::Built;

const MAC: &str = "52:54:00:00:00:66";

/// The registry, and the reference that the image has in it.
pub(super) struct Pushed {
    _registry: Registry,
    reference: String,
}

/// Puts the image into a registry.
pub(super) fn push(lab: &Lab, image: &Built) -> Result<Pushed> {
    let registry = Registry::start(lab)?;
    let reference = registry.push(&image.archive, &image.name)?;
    Ok(Pushed { _registry: registry, reference })
}

/// Boots the PC once, with the image on the server already, as it is on the peers' side; seconds from power-on to the
/// greeting of its ssh server, and the timeline.
pub(super) fn boot(lab: &Lab, programs: &Programs, pushed: &Pushed, run: usize) -> Result<(f64, String)> {
    let configuration = format!(
        "[registries]\ninsecure = [{:?}]\n[images]\ndefault.pc-x86-64 = {:?}\n",
        Registry::HOST,
        pushed.reference
    );
    let mut daemon = Daemon::start(lab, programs, &configuration)?;
    daemon.walt(&["image", "clone", &pushed.reference])?;
    let machine = Machine::switch_on(lab, &Spec::new(&format!("ours-{run}"), MAC))?;
    let limit = Duration::from_secs(600);
    let node = daemon.wait_for_node(MAC, "known", limit, |node| node.kind == api::NodeKind::Node, || Ok(()))?;
    let address: IpAddr = node.ip.parse().with_context(|| format!("{:?} is no address", node.ip))?;
    let ssh = testbed::ssh::Ssh::new(address, &daemon.key(), &lab.state().join("known"));
    let ready = ssh.wait_for_greeting(limit, || daemon.check())?;
    let seconds = ready.duration_since(machine.switched_on).as_secs_f64();
    let root = ssh.run("findmnt -n -o FSTYPE /")?;
    anyhow::ensure!(root.trim() == "overlay", "the root is no union: {root}");
    std::thread::sleep(Duration::from_secs(3));
    let trace = daemon.walt(&["node", "trace", &node.name])?;
    Ok((seconds, trace))
}
