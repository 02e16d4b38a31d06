//! The programs that live as long as the node.
//!
//! They are children of process 1, which walt-init shares with the image's init: that init reaps them
//! like any orphan. systemd moves what it finds running into its `init.scope` and leaves it alone; at
//! shutdown it kills everything but processes whose `argv[0]` begins with `@` (the "root storage
//! daemons" convention, systemd.io/ROOT_STORAGE_DAEMONS). Watchdog and net service have that mark: a
//! shutdown that hangs is what they are there to end. The bootup notification has not: its end tells
//! the server that the node goes down.

use std::fs::{self, File, OpenOptions};
use std::process::{Command, Stdio};

use rustix::fd::OwnedFd;
use wire::node::SERVER_PORT;

use super::ram::{PROGRAM, Ram};
use crate::changes::NET_SERVICE;
use crate::console::{Level, say};
use crate::failure::{Doing as _, Failure};
use crate::kernel_arguments::NfsShare;
use crate::settings::Settings;

/// The least that the out-of-memory killer takes (proc(5)): never.
const OOM_NEVER: &str = "-1000";

pub(super) fn start_watchdog(ram: &Ram, settings: &Settings) -> Result<String, Failure> {
    let Some(share) = &settings.share else { return Ok("not started: the root is not on NFS".into()) };
    let NfsShare { server, path, options } = share;
    let server = server.unwrap_or(settings.server);
    let grace = settings.grace.as_secs().to_string();
    // Its standard input is its way out when reboot(2) hangs.
    let trigger = OpenOptions::new().write(true).open("/proc/sysrq-trigger").map_or(Stdio::null(), Stdio::from);
    let arguments = ["--server", &server.to_string(), "--path", path, "--options", options, "--grace", &grace];
    let pid = start(ram, "@walt-watchdog", &arguments, trigger, log(), &[])?;
    Ok(format!("process {pid} watches {server}:{path}, grace {grace} s"))
}

/// Its standard output is the directory of what changes on the node: nothing else of ours stays, and somebody must hold
/// it open (see `changes`).
pub(super) fn start_net_service(ram: &Ram, settings: &Settings, changes: Option<OwnedFd>) -> Result<String, Failure> {
    let arguments = ["--server", &settings.server.to_string()];
    let changes = changes.map_or_else(log, Stdio::from);
    let pid = start(ram, NET_SERVICE, &arguments, proc()?, changes, &settings.environment)?;
    Ok(format!("process {pid}"))
}

pub(super) fn start_notify_bootup(ram: &Ram, settings: &Settings) -> Result<String, Failure> {
    let server = format!("{}:{SERVER_PORT}", settings.server);
    let pid = start(ram, "walt-notify-bootup", &["--server", &server], proc()?, log(), &settings.environment)?;
    Ok(format!("process {pid}"))
}

/// `/proc`, open: the services have no other way to the image's root.
fn proc() -> Result<Stdio, Failure> {
    File::open("/proc").map(Stdio::from).doing(|| "open /proc".into())
}

fn log() -> Stdio {
    OpenOptions::new().write(true).open("/dev/kmsg").map_or(Stdio::null(), Stdio::from)
}

fn start(
    ram: &Ram,
    name: &str,
    arguments: &[&str],
    input: Stdio,
    output: Stdio,
    environment: &[(String, String)],
) -> Result<u32, Failure> {
    let mut command = Command::new(PROGRAM);
    // Nothing else is inherited: neither the console, which the image's init will own, nor a
    // descriptor on NFS (every file that Rust opens is close-on-exec).
    command.args(arguments).stdin(input).stdout(output).stderr(log());
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    std::os::unix::process::CommandExt::arg0(&mut command, name);
    sys::child::in_root(&mut command, ram.open()?);
    let child = command.spawn().doing(|| format!("start {name}"))?;
    // Not reached by the service itself, which sees no /proc. It is only a precaution.
    let score = format!("/proc/{}/oom_score_adj", child.id());
    if let Err(error) = fs::write(&score, OOM_NEVER) {
        say(Level::Error, "walt-init", &format!("{name} is not kept from the out-of-memory killer: {error}"));
    }
    Ok(child.id())
}
