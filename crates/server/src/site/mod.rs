//! The site: its nodes, images and boots, and the one task that changes them.
//!
//! [`Site`] is shared by everything in the daemon. Readers (the control API) lock its [`State`] for
//! as long as it takes to copy something out, never across I/O. Changes of registration pass through
//! [`Site::run`], one after the other, so that actions are carried out in the order in which they
//! were decided.

mod act;
mod archives;
mod boot_times;
#[cfg(test)]
pub(crate) mod for_tests;
mod images;
mod observe;
mod persist;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::{Problem, ProblemKind};
use net::nfs::HostTree;
use net::{Event, Exports, MacAddr};
use tokio::sync::{mpsc, oneshot, watch};

pub use archives::{Exported, Upload};
pub use boot_times::{BOUNDS_S, BootTimes};
pub use images::Images;
pub use observe::client_kind;

use crate::devices::Topology;
use crate::hooks::Hooks;
use crate::logs::{self, Checkpoints};
use crate::machines::Machines;
use crate::registration::{Input, Registrar};
use crate::registry::{Issuer, Loaded, LogRow, Registry};
use crate::timeline::Timeline;

/// Requests that may wait for the task that decides.
const QUEUE: usize = 1024;

/// What is known, in memory.
#[derive(Debug)]
pub struct State {
    /// Devices, images, and what is decided about them.
    pub registrar: Registrar,
    /// Moments that users gave names to.
    pub checkpoints: Checkpoints,
    /// Which device hangs on which switch.
    pub topology: Topology,
    timelines: HashMap<MacAddr, Timeline>,
    next_boot: i64,
}

/// The nodes and images of this server.
#[derive(Debug)]
pub struct Site {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    requests: mpsc::Sender<Request>,
    registry: Registry,
    exports: Arc<Exports>,
    images: Images,
    hooks: Hooks,
    machines: Machines,
    links: mpsc::UnboundedSender<MacAddr>,
    state_dir: PathBuf,
    boot_times: BootTimes,
    /// Where nodes keep files over a reboot, if this machine can.
    persist: OnceLock<Arc<HostTree>>,
}

/// An input, and who waits to hear whether it was accepted.
#[derive(Debug)]
struct Request {
    input: Input,
    reply: Option<oneshot::Sender<Result<(), Problem>>>,
}

/// What [`Site::run`] receives.
#[derive(Debug)]
pub struct Inbox {
    requests: mpsc::Receiver<Request>,
    links: mpsc::UnboundedReceiver<MacAddr>,
}

impl Site {
    /// A site as the registry has kept it.
    #[expect(clippy::too_many_arguments, reason = "one for each part that it puts together")]
    pub fn new(
        loaded: &Loaded,
        default_image: impl Fn(&str) -> String + Send + Sync + 'static,
        registry: Registry,
        exports: Arc<Exports>,
        images: Images,
        hooks: Hooks,
        machines: Machines,
        state_dir: PathBuf,
    ) -> (Arc<Self>, Inbox) {
        let (requests, inbox) = mpsc::channel(QUEUE);
        // One entry a change of links, taken off as fast as the file system can: bounded by the
        // number of nodes, since a node's links change only after its lease or its image did.
        let (links, links_inbox) = mpsc::unbounded_channel();
        let boots = loaded.boots.iter().cloned();
        let timelines =
            boots.map(|(boot, steps)| (boot.mac, Timeline::restore(boot.id, boot.started_ms, steps))).collect();
        let registrar = Registrar::new(loaded, default_image);
        let checkpoints = Checkpoints::new(loaded.checkpoints.iter().cloned());
        let topology = Topology::new(loaded.links.iter().cloned());
        let state = Mutex::new(State { registrar, checkpoints, topology, timelines, next_boot: loaded.next_boot });
        let (changed, _) = watch::channel(0);
        let site = Self {
            state,
            changed,
            requests,
            registry,
            exports,
            images,
            hooks,
            machines,
            links,
            state_dir,
            boot_times: BootTimes::default(),
            persist: OnceLock::new(),
        };
        (Arc::new(site), Inbox { requests: inbox, links: links_inbox })
    }

    /// Decides and acts, for ever: on what the services tell, on requests, and when it is time to
    /// try again what failed.
    pub async fn run(self: Arc<Self>, mut events: mpsc::Receiver<Event>, inbox: Inbox) {
        let Inbox { mut requests, links } = inbox;
        let links = tokio::spawn(self.clone().set_links(links));
        self.apply(Input::Start).ok();
        loop {
            let retry = self.state().registrar.next_retry_ms();
            let pause = retry.map_or(Duration::from_secs(3600), |at| {
                Duration::from_millis(u64::try_from(at - now_ms()).unwrap_or(0))
            });
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.event(event),
                    None => break,
                },
                request = requests.recv() => match request {
                    Some(Request { input, reply }) => {
                        let result = self.apply(input);
                        if let Some(reply) = reply {
                            // Nobody waits any more: the client has gone.
                            let _ = reply.send(result);
                        }
                    }
                    None => break,
                },
                () = tokio::time::sleep(pause) => { self.apply(Input::Tick).ok(); }
            }
        }
        links.abort();
    }

    /// Has `input` decided upon, after all that came before it.
    ///
    /// # Errors
    /// It can not be done.
    pub async fn request(&self, input: Input) -> Result<(), Problem> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Problem { kind: ProblemKind::Internal, message: "the server is stopping".into(), hint: None };
        self.requests.send(Request { input, reply: Some(reply) }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    /// As [`request`](Self::request), for the results of the daemon's own work.
    pub(crate) async fn report(&self, input: Input) {
        // Fails only when the daemon stops.
        let _ = self.requests.send(Request { input, reply: None }).await;
    }

    /// What is known. Hold it no longer than it takes to copy something out.
    pub fn state(&self) -> MutexGuard<'_, State> {
        // A panic in a decision is fatal for the daemon (see `supervise`), and readers may finish.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever something may have changed that a client waits for.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The images on disk.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// Virtual nodes.
    pub fn machines(&self) -> &Machines {
        &self.machines
    }

    /// Where images, links and the registry live.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// How long boots took.
    pub fn boot_times(&self) -> &BootTimes {
        &self.boot_times
    }

    /// The registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The node at this address, if it is one.
    pub fn node_at(&self, ip: Ipv4Addr) -> Option<MacAddr> {
        let state = self.state();
        let mut devices = state.registrar.devices();
        devices.find(|device| device.row.ip == ip && device.row.model.is_some()).map(|device| device.row.mac)
    }

    /// Decides upon `input` and acts.
    fn apply(self: &Arc<Self>, input: Input) -> Result<(), Problem> {
        let actions = self.state().registrar.handle(input, now_ms())?;
        for action in actions {
            self.act(action);
        }
        self.tell_waiting();
        Ok(())
    }

    /// Logs what happens to the platform.
    pub fn tell(&self, line: String) {
        let at_us = now_ms() * 1000;
        self.registry.log(LogRow { issuer: Issuer::Server, stream: logs::PLATFORM.to_owned(), at_us, line });
    }

    fn tell_waiting(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }
}

impl State {
    /// The timeline of a device; `None` if it was never seen booting.
    pub fn timeline(&self, mac: MacAddr) -> Option<&Timeline> {
        self.timelines.get(&mac)
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
