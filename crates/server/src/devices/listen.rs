//! What the server itself hears by LLDP: which switch it hangs on.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::time::Duration;

use sys::packet::Listener;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use wire::lldp::{ETHERTYPE, GROUP, Id, Neighbour};

use super::links::Known;
use super::{Devices, Here};
use crate::registry::{LinkRow, Told};
use crate::site::now_ms;

/// Largest frame, in bytes.
const MAX_FRAME: usize = 1518;
/// A switch says it each 30 s. Whoever says it more often than this is not listened to all the time.
const PAUSE: Duration = Duration::from_millis(100);
/// How often is looked for interfaces that have joined the bridge.
const REJOIN: Duration = Duration::from_secs(60);

/// A socket for LLDP.
#[derive(Debug)]
pub(crate) struct Lldp {
    socket: Listener,
}

impl Lldp {
    /// Opens the socket.
    ///
    /// # Errors
    /// CAP_NET_RAW is missing.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { socket: Listener::open(ETHERTYPE)? })
    }

    /// Listens for ever.
    pub(crate) async fn run(self, devices: std::sync::Arc<Devices>) -> io::Result<Infallible> {
        let socket = watch(self.socket)?;
        let mut rejoin = tokio::time::interval(REJOIN);
        loop {
            let mut ready = tokio::select! {
                ready = socket.readable() => ready?,
                _ = rejoin.tick() => {
                    join(socket.get_ref(), devices.here());
                    continue;
                }
            };
            let mut frame = [0; MAX_FRAME];
            match socket.get_ref().receive(&mut frame) {
                Ok((payload, index)) => {
                    if is_ours(index, devices.here())
                        && let Ok(neighbour) = Neighbour::parse(payload)
                    {
                        devices.heard(&neighbour);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => {
                    // An interface that goes down says so here; it may come back.
                    tracing::debug!(%error, "LLDP");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "the replacement is unsafe: it demands what a type that owns its one descriptor, as all of `sys` do, has anyway"
)]
fn watch(socket: Listener) -> io::Result<AsyncFd<Listener>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

impl Devices {
    fn heard(&self, neighbour: &Neighbour) {
        let changes = {
            let mut state = self.site.state();
            let known = Known::of(&state, &self.here);
            let Some(switch) = known.mac_of(neighbour).filter(|mac| known.is_switch(*mac, neighbour)) else { return };
            if neighbour.ttl == 0 || switch == self.here.mac {
                return;
            }
            state.topology.heard(LinkRow {
                switch,
                mac: self.here.mac,
                port: None,
                port_name: port_name(neighbour),
                switch_name: neighbour.system_name.clone(),
                name: String::new(),
                told: Told::Heard,
                seen: now_ms() / 1000,
            })
        };
        self.site.record_links(changes);
    }
}

/// An address tells people nothing: then the description is better.
fn port_name(neighbour: &Neighbour) -> String {
    match &neighbour.port {
        Id::Mac(_) if !neighbour.port_description.is_empty() => neighbour.port_description.clone(),
        id => id.to_string(),
    }
}

/// Has the interface of the nodes, and those that are ports of it if it is a bridge, take in what is sent to the group.
fn join(socket: &Listener, here: &Here) {
    for interface in sys::Interface::all().unwrap_or_default() {
        if is_port(&interface.name, here)
            && let Err(error) = socket.join(interface.index, GROUP)
        {
            tracing::debug!(interface = interface.name, %error, "LLDP is not heard there");
        }
    }
}

fn is_ours(index: u32, here: &Here) -> bool {
    let interfaces = sys::Interface::all().unwrap_or_default();
    interfaces.iter().any(|interface| interface.index == index && is_port(&interface.name, here))
}

/// What a switch says of itself goes to the ports of a bridge, not to the bridge.
fn is_port(name: &str, here: &Here) -> bool {
    name == here.interface || Path::new("/sys/class/net").join(&here.interface).join("brif").join(name).exists()
}
