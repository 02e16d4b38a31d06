//! Our own server in the lab, and the `walt` command to talk to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::lab::{BRIDGE, Lab};
use crate::process::{Background, run, tail};
use crate::ssh::Ssh;

/// Our programs, as they were built.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Directory with `walt-server-daemon`, `walt` and `walt-dhcp-event`.
    pub directory: PathBuf,
    /// Directory with the agents, `<architecture>/walt-node`.
    pub agents: PathBuf,
}

/// `walt-server-daemon` on the lab's bridge.
#[derive(Debug)]
pub struct Daemon {
    programs: Programs,
    state: PathBuf,
    configuration: PathBuf,
    log: PathBuf,
    process: Option<Background>,
}

impl Daemon {
    /// Starts it on a fresh state directory, with `configuration` as its TOML file.
    ///
    /// # Errors
    /// When it does not come up; the error holds the end of its log.
    pub fn start(lab: &Lab, programs: &Programs, configuration: &str) -> Result<Self> {
        let mut daemon = Self {
            programs: programs.clone(),
            state: lab.state().join("server"),
            configuration: lab.write("server.toml", configuration)?,
            log: lab.logs().join("daemon.log"),
            process: None,
        };
        fs::create_dir_all(&daemon.state)?;
        daemon.resume()?;
        Ok(daemon)
    }

    /// Starts it again, after [`Daemon::kill`], on the state it had.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn resume(&mut self) -> Result<()> {
        let mut command = Command::new(self.programs.directory.join("walt-server-daemon"));
        command.args(["--interface", BRIDGE, "--log", "info", "--config"]).arg(&self.configuration);
        command.arg("--state-dir").arg(&self.state).arg("--agent-dir").arg(&self.programs.agents);
        let mut process = Background::start("walt-server-daemon", &mut command, &self.log)?;
        let answers = || std::os::unix::net::UnixStream::connect("/run/walt/control.sock").is_ok();
        process.wait_until("answering", Duration::from_secs(60), answers)?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills it as a power cut would (SIGKILL).
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks it to stop, as systemd does (SIGTERM).
    ///
    /// # Errors
    /// When it does not run.
    pub fn ask_to_stop(&self) -> Result<()> {
        let process = self.process.as_ref().context("the daemon does not run")?;
        run(Command::new("kill").arg(process.id().to_string())).map(drop)
    }

    /// Waits until it has ended, and gives back how long that took.
    ///
    /// # Errors
    /// When it ends with a failure, or not within `limit`.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        let process = self.process.as_mut().context("the daemon does not run")?;
        while begun.elapsed() < limit {
            if let Some(status) = process.ended()? {
                self.process = None;
                if !status.success() {
                    bail!("the daemon has ended ({status}):\n{}", self.log_tail(40));
                }
                return Ok(begun.elapsed());
            }
            sleep(Duration::from_millis(20));
        }
        bail!("the daemon has not ended within {limit:?}:\n{}", self.log_tail(40))
    }

    /// Whether it runs; an error tells how it ended if it ended by itself.
    ///
    /// # Errors
    /// When it has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        match self.process.as_mut().map(Background::ended).transpose()?.flatten() {
            Some(status) => bail!("the daemon has ended ({status}):\n{}", self.log_tail(40)),
            None => Ok(()),
        }
    }

    /// Its state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The private key that opens its nodes.
    pub fn key(&self) -> PathBuf {
        self.state.join("keys/id_ecdsa")
    }

    /// The last lines it has logged.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// All it has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).context("cannot read the daemon's log")
    }

    /// One of our command line programs, ready for its arguments.
    pub fn command(&self, program: &str) -> Command {
        Command::new(self.programs.directory.join(program))
    }

    /// Runs `walt` with these arguments and gives back what it printed.
    ///
    /// # Errors
    /// When it ends with another code than 0.
    pub fn walt(&self, arguments: &[&str]) -> Result<String> {
        run(self.command("walt").args(arguments))
    }

    /// What the server knows of all devices it has seen.
    ///
    /// # Errors
    /// When `walt node show` fails or prints something else.
    pub fn nodes(&self) -> Result<Vec<api::Node>> {
        let json = self.walt(&["node", "show", "--all", "--json"])?;
        serde_json::from_str(&json).with_context(|| format!("unexpected answer of walt node show: {json}"))
    }

    /// What the server knows of the device with this MAC address, if it has seen it.
    ///
    /// # Errors
    /// As [`Daemon::nodes`].
    pub fn node(&self, mac: &str) -> Result<Option<api::Node>> {
        Ok(self.nodes()?.into_iter().find(|node| node.mac.eq_ignore_ascii_case(mac)))
    }

    /// The timeline of the node's last boot.
    ///
    /// # Errors
    /// When `walt node trace` fails or prints something else.
    pub fn trace(&self, name: &str) -> Result<api::Trace> {
        let json = self.walt(&["node", "trace", name, "--json"])?;
        serde_json::from_str(&json).with_context(|| format!("unexpected answer of walt node trace: {json}"))
    }

    /// Waits until `wanted` holds for the node with this MAC address; `alive` may end the waiting by an error.
    ///
    /// # Errors
    /// When `limit` passes first, or `alive` fails.
    pub fn wait_for_node(
        &self,
        mac: &str,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&api::Node) -> bool,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<api::Node> {
        let start = Instant::now();
        loop {
            let node = self.node(mac)?;
            match node {
                Some(node) if wanted(&node) => return Ok(node),
                _ => {}
            }
            alive()?;
            if start.elapsed() > limit {
                bail!("{mac} is not {what} after {limit:?}; the server knows {node:?}");
            }
            sleep(Duration::from_millis(300));
        }
    }

    /// A login on `node` with the server's own key, as `walt` users have it.
    ///
    /// # Errors
    /// When the node has no address that can be read.
    pub fn ssh(&self, node: &api::Node) -> Result<Ssh> {
        let address = node.ip.parse().with_context(|| format!("{:?} is no address", node.ip))?;
        Ok(Ssh::new(address, &self.key(), &self.state.join("lab-known-hosts")))
    }
}
