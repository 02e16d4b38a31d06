//! What the scenarios are played on: one lab with a registry, our server, and machines.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use boot::MODELS;
use testbed::daemon::{Daemon, Programs};
use testbed::lab::Lab;
use testbed::machine::{Machine, Spec};
use testbed::peers::Registry;
use testbed::ssh::Ssh;

use crate::image::{Built, Recipe};

/// The longest that a boot of the tiny image may take: many times what it takes on an idle machine.
pub(super) const TINY_BOOT: Duration = Duration::from_secs(300);

/// The same for Debian.
pub(super) const DEBIAN_BOOT: Duration = Duration::from_secs(600);

/// One lab, and what was put on it. Machines are dropped before the server, and the server before the registry.
pub(super) struct Stage<'a> {
    machines: Vec<Machine>,
    daemon: Option<Daemon>,
    registry: Option<Registry>,
    pub(super) lab: &'a Lab,
    images: HashMap<Recipe, Built>,
    programs: Programs,
    checks: usize,
}

/// A machine that runs, as the server knows it.
pub(super) struct Booted {
    pub(super) node: api::Node,
    pub(super) ssh: Ssh,
}

impl<'a> Stage<'a> {
    pub(super) fn new(lab: &'a Lab, programs: Programs, images: HashMap<Recipe, Built>) -> Self {
        Self { machines: Vec::new(), daemon: None, registry: None, lab, images, programs, checks: 0 }
    }

    /// An image that the scenario has said it needs.
    pub(super) fn image(&self, recipe: Recipe) -> Result<Built> {
        self.images.get(&recipe).cloned().with_context(|| format!("the scenario does not list {recipe:?}"))
    }

    /// How many checks have been made.
    pub(super) fn checks(&self) -> usize {
        self.checks
    }

    /// One thing that must be true; says so if it is, and ends the scenario if it is not.
    pub(super) fn check(&mut self, what: &str, holds: bool, seen: impl std::fmt::Display) -> Result<()> {
        let seen = seen.to_string();
        if !holds {
            bail!("{what}: no, but: {seen}");
        }
        self.checks += 1;
        println!("  ok  {what}{}{}", if seen.is_empty() { "" } else { ": " }, seen.trim());
        Ok(())
    }

    /// Starts a registry.
    pub(super) fn start_registry(&mut self) -> Result<()> {
        self.registry = Some(Registry::start(self.lab)?);
        Ok(())
    }

    /// The registry.
    pub(super) fn registry(&mut self) -> Result<&mut Registry> {
        self.registry.as_mut().context("the scenario has no registry")
    }

    /// Pushes `image` and gives back its reference.
    pub(super) fn push(&mut self, image: &Built) -> Result<String> {
        if self.registry.is_none() {
            self.start_registry()?;
        }
        self.registry()?.push(&image.archive, &image.name)
    }

    /// Starts our server with `default` as the image of new nodes, whatever their model; `more` is added to its configuration.
    pub(super) fn start_daemon(&mut self, default: &str, more: &str) -> Result<()> {
        let registries = format!("[registries]\ninsecure = [{:?}]\n", Registry::HOST);
        let defaults = MODELS.iter().map(|model| format!("{} = {default:?}\n", model.name)).collect::<String>();
        let images = format!("[images.default]\n{defaults}");
        self.daemon = Some(Daemon::start(self.lab, &self.programs, &format!("{more}\n{registries}{images}"))?);
        Ok(())
    }

    /// Our server.
    pub(super) fn daemon(&mut self) -> Result<&mut Daemon> {
        self.daemon.as_mut().context("the scenario has no server")
    }

    /// Where our programs are.
    pub(super) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Switches a machine on; gives back its number for [`Stage::machine`].
    pub(super) fn switch_on(&mut self, spec: &Spec) -> Result<usize> {
        self.machines.push(Machine::switch_on(self.lab, spec)?);
        Ok(self.machines.len() - 1)
    }

    /// A machine that was switched on.
    pub(super) fn machine(&mut self, number: usize) -> Result<&mut Machine> {
        self.machines.get_mut(number).context("no such machine")
    }

    /// The usual beginning: `image` in a registry, our server with it as default, and one machine that boots it.
    pub(super) fn boot_one(&mut self, image: &Built, spec: &Spec, limit: Duration) -> Result<Booted> {
        let reference = self.push(image)?;
        self.start_daemon(&reference, "")?;
        self.switch_on(spec)?;
        self.wait_until_booted(&spec.mac, limit)
    }

    /// Waits until the server says that the node is booted, and logs in once.
    pub(super) fn wait_until_booted(&mut self, mac: &str, limit: Duration) -> Result<Booted> {
        let node = self.wait_for_node(mac, "booted", limit, |node| node.state == api::NodeState::Booted)?;
        let ssh = self.daemon()?.ssh(&node)?;
        let kernel = ssh.run("uname -sr")?;
        self.check(
            &format!("{} is booted and its root logs in with the server's key", node.name),
            kernel.starts_with("Linux"),
            kernel,
        )?;
        Ok(Booted { node, ssh })
    }

    /// As [`Stage::wait_until_booted`], for another boot than the one whose id (of Linux) is `before`.
    pub(super) fn wait_until_booted_anew(&mut self, mac: &str, before: &str, limit: Duration) -> Result<Booted> {
        // A machine that comes back fast may never have been seen down: what counts is the id.
        let start = std::time::Instant::now();
        loop {
            let node = self.wait_for_node(mac, "booted again", limit, |node| node.state == api::NodeState::Booted)?;
            let ssh = self.daemon()?.ssh(&node)?;
            let now = ssh.run("cat /proc/sys/kernel/random/boot_id").unwrap_or_else(|_| before.to_owned());
            if now != before {
                self.check(&format!("{} was rebooted and is booted again", node.name), true, "")?;
                return Ok(Booted { node, ssh });
            }
            if start.elapsed() > limit {
                bail!("{} has not been rebooted after {limit:?}", node.name);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Waits for a state of the node.
    pub(super) fn wait_for_node(
        &mut self,
        mac: &str,
        what: &str,
        limit: Duration,
        wanted: impl FnMut(&api::Node) -> bool,
    ) -> Result<api::Node> {
        let daemon = self.daemon.as_mut().context("the scenario has no server")?;
        daemon.check()?;
        daemon.wait_for_node(mac, what, limit, wanted, || Ok(()))
    }

    /// The step of this name in the timeline of a node's last boot.
    pub(super) fn steps(&mut self, node: &str) -> Result<Vec<api::Step>> {
        Ok(self.daemon()?.trace(node)?.steps)
    }

    /// Prints what is needed to understand a failure.
    pub(super) fn tell_what_happened(&mut self) {
        for machine in &self.machines {
            println!("--- {} ends with", machine.console_log().display());
            println!("{}", machine.console_tail(50));
        }
        if let Some(daemon) = &self.daemon {
            println!("--- the daemon's log ends with\n{}", daemon.log_tail(60));
            for node in daemon.nodes().into_iter().flatten() {
                println!(
                    "--- {}",
                    daemon.walt(&["node", "trace", &node.name]).unwrap_or_else(|error| format!("{error:#}"))
                );
            }
        }
    }
}
