//! Virtual nodes: QEMU machines on the platform's bridge, which boot by firmware and iPXE as a PC does.
//!
//! A machine outlives the daemon: QEMU runs as a process of its own, as an unprivileged user, and the next daemon finds it by
//! its control socket. It ends with each reboot of its guest, and is started again with what it is configured to be by
//! then; so there is one way to start, and each boot begins with a machine that was just switched on.

mod accelerator;
mod console;
mod keep;
mod network;
mod qemu;
mod qmp;
mod spec;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::{Problem, ProblemKind};
use net::MacAddr;
use tokio::sync::{mpsc, oneshot, watch};

pub use accelerator::Accelerator;
pub use console::{Attached, Console, Heard};
pub use spec::Spec;

use crate::logs;
use crate::registry::{Issuer, LogRow, Registry};
use crate::site::now_ms;

/// The program.
const QEMU: &str = "qemu-system-x86_64";
/// Requests to one machine that may wait.
const QUEUE: usize = 16;

/// What all machines have in common.
#[derive(Debug, Clone)]
pub struct Host {
    /// The platform's interface: machines need it to be a bridge.
    pub bridge: String,
    /// Where disks are, one directory a machine.
    pub state_dir: PathBuf,
    /// Where sockets are: a short path (unix(7): 107 bytes), which is empty after a restart of the computer.
    pub runtime_dir: PathBuf,
    /// User that QEMU runs as, if it exists.
    pub user: String,
    /// How processors are run.
    pub accelerator: Accelerator,
}

/// The machines of this server.
#[derive(Debug)]
pub struct Machines {
    shared: Arc<Shared>,
    machines: Mutex<HashMap<MacAddr, Machine>>,
}

/// What the tasks of the machines share.
#[derive(Debug)]
struct Shared {
    host: Host,
    registry: Registry,
    /// Whether KVM works, once somebody has looked.
    kvm: tokio::sync::OnceCell<bool>,
    /// One at a time: two machines may want the same private network.
    network: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Machine {
    wanted: watch::Sender<Spec>,
    requests: mpsc::Sender<Request>,
    status: Arc<Status>,
}

/// What others see of a machine.
#[derive(Debug)]
struct Status {
    console: Console,
    trouble: Mutex<Option<String>>,
}

/// What a machine is asked.
#[derive(Debug)]
enum Request {
    /// The reset button.
    Reset(oneshot::Sender<()>),
    /// It is to be no more, nor are its disks.
    Remove,
}

impl Machines {
    /// Without any machine yet.
    pub fn new(host: Host, registry: Registry) -> Self {
        let shared = Shared { host, registry, kvm: Default::default(), network: Default::default() };
        Self { shared: Arc::new(shared), machines: Mutex::default() }
    }

    /// Whether a machine could run here at all.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn check(&self) -> Result<(), Problem> {
        let problem = |message: String, hint: &str| Problem {
            kind: ProblemKind::Unsupported,
            message,
            hint: Some(hint.to_owned()),
        };
        let bridge = &self.shared.host.bridge;
        if !network::is_bridge(bridge) {
            let message =
                format!("virtual nodes need a bridge to be on, and the platform's interface {bridge} is none");
            return Err(problem(message, "walt-server-setup makes one with the interface as its port"));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|directory| directory.join(QEMU).is_file()) {
            let message = format!("virtual nodes need {QEMU}, which is not on this server");
            return Err(problem(message, "on Debian, `apt install qemu-system-x86 ipxe-qemu` brings it"));
        }
        Ok(())
    }

    /// Has a machine be there and run as `spec` says: from now on if it is new, after its next reboot otherwise.
    pub fn configure(&self, mac: MacAddr, spec: Spec) {
        let mut machines = self.lock();
        if let Some(machine) = machines.get(&mac) {
            machine.wanted.send_if_modified(|wanted| {
                let differs = *wanted != spec;
                *wanted = spec;
                differs
            });
            return;
        }
        let (wanted, wants) = watch::channel(spec);
        let (requests, inbox) = mpsc::channel(QUEUE);
        let status = Arc::new(Status { console: Console::default(), trouble: Mutex::default() });
        tokio::spawn(keep::keep(mac, wants, inbox, status.clone(), self.shared.clone()));
        machines.insert(mac, Machine { wanted, requests, status });
    }

    /// Ends machines that a daemon before has left and that are none of `known`: their nodes were removed while it ended.
    pub async fn end_strangers(&self, known: &BTreeSet<MacAddr>) {
        let host = &self.shared.host;
        let in_directory = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut found: BTreeSet<MacAddr> = BTreeSet::new();
        found.extend(
            in_directory(host.state_dir.join("machines"))
                .filter_map(|entry| entry.file_name().to_str()?.parse::<MacAddr>().ok()),
        );
        found.extend(
            in_directory(host.runtime_dir.clone())
                .filter_map(|entry| qemu::mac_of_pid_file(entry.file_name().to_str()?)),
        );
        for mac in found.difference(known) {
            tracing::warn!(%mac, "a machine whose node was removed is ended");
            let places = qemu::Places::of(host, *mac);
            let joined = network::joined(*mac, Path::new(network::INTERFACES));
            keep::kill(&places).await;
            self.shared.leave(&joined).await;
            keep::remove(&places).await;
        }
    }

    /// Ends a machine for good; its disks go, too. Nothing happens if there is none.
    pub fn remove(&self, mac: MacAddr) {
        if let Some(machine) = self.lock().remove(&mac) {
            tokio::spawn(async move { machine.requests.send(Request::Remove).await });
        }
    }

    /// Presses the reset button, and waits until the machine is on again; false if there is no such machine.
    ///
    /// # Errors
    /// It does not start.
    pub async fn reset(&self, mac: MacAddr) -> Result<bool, Problem> {
        let found = self.lock().get(&mac).map(|machine| (machine.requests.clone(), machine.status.clone()));
        let Some((requests, status)) = found else { return Ok(false) };
        let (done, is_done) = oneshot::channel();
        let ended = requests.send(Request::Reset(done)).await.is_err() || is_done.await.is_err();
        match status.trouble().filter(|_| ended) {
            None => Ok(true),
            Some(trouble) => Err(Problem {
                kind: ProblemKind::Internal,
                message: format!("the machine does not start: {trouble}"),
                hint: Some("it is tried again; `walt log show --platform --history -5m:` shows when".into()),
            }),
        }
    }

    /// The console of a machine, from what it showed last; `None` if there is no such machine.
    pub fn attach(&self, mac: MacAddr) -> Option<Attached> {
        self.lock().get(&mac).map(|machine| machine.status.console.attach())
    }

    /// Why a machine does not run, if it does not.
    pub fn trouble(&self, mac: MacAddr) -> Option<String> {
        self.lock().get(&mac)?.status.trouble()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MacAddr, Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Status {
    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

impl Shared {
    /// A machine is on these networks no more: those that nobody is on are removed.
    async fn leave(&self, bridges: impl IntoIterator<Item = &String>) {
        let _turn = self.network.lock().await;
        network::tear_down(bridges).await;
    }

    /// An event of the platform.
    fn tell(&self, line: String) {
        let stream = logs::PLATFORM.to_owned();
        self.registry.log(LogRow { issuer: Issuer::Server, stream, at_us: now_ms() * 1000, line });
    }
}
