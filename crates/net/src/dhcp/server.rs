//! Carries out what [`super::handle`] decides: sockets, timers, logs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use sys::Interface;
use sys::packet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, PacketSocket};
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::probe::{Schedule, Step};
use super::{
    Action, Counters, Destination, LeaseChange, LeaseTable, Meta, Reply, Request, Settings, arp, datagram, handle,
    probe_ended,
};
use crate::{Events, Exports, MacAddr, readiness};

/// A thousand nodes that are switched on together send their discovers within a millisecond: about 800 bytes of buffer
/// each, several times over.
const RECEIVE_BUFFER: usize = 16 << 20;
const SEND_BUFFER: usize = 4 << 20;
/// Messages handled before ARP and the timers get their turn.
const BATCH: usize = 64;
/// An Ethernet frame's worth. A longer message (jumbo frames) is cut; what we read stands first in it.
const MAX_MESSAGE: usize = 2048;

/// The DHCP server, bound to its interface.
#[derive(Debug)]
pub struct Server {
    udp: UdpSocket,
    frames: PacketSocket,
    arp: AsyncFd<PacketSocket>,
    mac: MacAddr,
    settings: Settings,
    leases: Leases,
    schedule: Schedule,
    exports: Arc<Exports>,
    events: Events,
    changes: mpsc::Sender<LeaseChange>,
    counters: Arc<Counters>,
    log: LogLimit,
}

/// The server can't start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// No UDP socket.
    #[error("open a udp socket for dhcp")]
    OpenUdp(#[source] io::Error),
    /// `SO_BINDTODEVICE` refused.
    #[error("bind the dhcp socket to interface {interface}")]
    BindDevice {
        /// Name of the interface.
        interface: String,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// Port 67 is taken or needs privileges.
    #[error("bind udp port 67 on {interface} (is another dhcp server running?)")]
    BindPort {
        /// Name of the interface.
        interface: String,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// No packet socket.
    #[error("open a packet socket on {interface} (needs CAP_NET_RAW)")]
    OpenPacket {
        /// Name of the interface.
        interface: String,
        /// Cause.
        #[source]
        cause: io::Error,
    },
}

impl Server {
    /// Opens the privileged sockets. Needs CAP_NET_BIND_SERVICE and CAP_NET_RAW, and a tokio runtime around it.
    ///
    /// `leases` are those that were kept; each change of them goes into `changes`, and no address is acknowledged that
    /// this channel has not taken. Nodes' names (option 12) come from `exports`.
    ///
    /// # Errors
    /// A socket can't be opened or bound.
    pub fn bind(
        interface: &Interface,
        settings: Settings,
        leases: impl IntoIterator<Item = (MacAddr, Ipv4Addr)>,
        exports: Arc<Exports>,
        events: Events,
        changes: mpsc::Sender<LeaseChange>,
    ) -> Result<Self, BindError> {
        let packet = |cause| BindError::OpenPacket { interface: interface.name.clone(), cause };
        let udp = udp_socket(interface)?;
        let frames = PacketSocket::open(interface.index, None).map_err(packet)?;
        let arp = PacketSocket::open(interface.index, Some(ETHERTYPE_ARP)).map_err(packet)?;
        Ok(Self {
            udp: UdpSocket::from_std(udp.into()).map_err(BindError::OpenUdp)?,
            frames,
            arp: readiness::watch(arp).map_err(packet)?,
            mac: MacAddr(interface.mac),
            settings,
            leases: Leases { table: Arc::new(Mutex::new(LeaseTable::new(leases))) },
            schedule: Schedule::default(),
            exports,
            events,
            changes,
            counters: Arc::default(),
            log: LogLimit::default(),
        })
    }

    /// The leases, for the daemon to look into and to drop.
    pub fn leases(&self) -> Leases {
        self.leases.clone()
    }

    /// What is counted.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves until it is dropped.
    ///
    /// # Errors
    /// The kernel takes a socket away (the interface is removed).
    pub async fn run(mut self) -> io::Result<Infallible> {
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let next = self.schedule.next();
            tokio::select! {
                ready = self.udp.readable() => {
                    ready?;
                    self.receive_messages(&mut buffer)?;
                }
                ready = self.arp.readable() => {
                    ready?.clear_ready();
                    self.receive_arp(&mut buffer);
                }
                () = until(next) => {}
            }
            self.run_probes(Instant::now());
        }
    }

    fn receive_messages(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..BATCH {
            match self.udp.try_recv_from(buffer) {
                Ok((length, SocketAddr::V4(source))) => self.receive_message(&buffer[..length], *source.ip()),
                Ok((_, SocketAddr::V6(_))) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // An ICMP "unreachable" for something that we sent, or a link that is down for a moment.
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive_message(&mut self, bytes: &[u8], source: Ipv4Addr) {
        Counters::count(&self.counters.packets);
        let request = match Request::parse(bytes) {
            Ok(request) => request,
            Err(error) => {
                Counters::count(&self.counters.malformed);
                return tracing::debug!(%source, %error, "not a dhcp request");
            }
        };
        let host_name = self.exports.by_mac(request.mac).map(|node| node.name.clone());
        let behind_nat = self.exports.devices().by_mac(request.mac).is_some_and(|device| device.behind_nat);
        let meta = Meta { source, host_name, behind_nat, closing: self.exports.boards().is_closing() };
        let actions = handle(&mut self.leases.lock(), &self.settings, request, meta, Instant::now());
        self.carry_out(actions);
    }

    fn receive_arp(&mut self, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            let Ok(payload) = self.arp.get_ref().receive(buffer) else { return };
            if let Some(claim) = arp::claim(payload).filter(|claim| claim.mac != self.mac) {
                self.end_probe(claim.ip, Some(claim.mac));
            }
        }
    }

    fn run_probes(&mut self, now: Instant) {
        while let Some(step) = self.schedule.due(now) {
            match step {
                Step::Again(ip) => self.send_probe(ip),
                Step::Silent(ip) => self.end_probe(ip, None),
            }
        }
    }

    fn end_probe(&mut self, ip: Ipv4Addr, answered_by: Option<MacAddr>) {
        let actions = probe_ended(&mut self.leases.lock(), &self.settings, ip, answered_by, Instant::now());
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::LeaseChanged(change) => {
                    if self.changes.try_send(change).is_err() {
                        Counters::count(&self.counters.deferred);
                        self.log.warn(Topic::Deferred, format_args!("leases come faster than they are saved"));
                        return;
                    }
                    self.leases.lock().mark_saved(change.mac);
                }
                Action::Send(reply) => self.send(*reply),
                Action::Board(mac, seen) => self.exports.boards().see(mac, seen, Instant::now()),
                Action::ProbeAddress(ip) => {
                    Counters::count(&self.counters.probes);
                    self.send_probe(ip);
                    self.schedule.begin(ip, Instant::now());
                }
                Action::Emit(event) => {
                    if !self.events.send(event) {
                        Counters::count(&self.counters.events_dropped);
                    }
                }
                Action::PoolExhausted(mac) => {
                    Counters::count(&self.counters.exhausted);
                    self.log.warn(Topic::Exhausted, format_args!("no address left in the dhcp range for {mac}"));
                }
                Action::UnknownLink(link) => {
                    self.log.warn(Topic::Link, format_args!("no subnet is configured for dhcp relay {link}"));
                }
                Action::Conflict(ip) => {
                    Counters::count(&self.counters.conflicts);
                    self.log.warn(Topic::Conflict, format_args!("{ip} is in use by a station without a lease"));
                }
            }
        }
    }

    fn send(&mut self, reply: Reply) {
        let to = reply.to;
        let sent = match reply.encode() {
            Ok(bytes) => self.send_bytes(to, &bytes),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        match sent {
            Ok(()) => Counters::count(&self.counters.replies),
            Err(error) => {
                Counters::count(&self.counters.send_failures);
                self.log.warn(Topic::Send, format_args!("send a dhcp reply to {to:?}: {error}"));
            }
        }
    }

    fn send_bytes(&self, to: Destination, bytes: &[u8]) -> io::Result<()> {
        let (ip, port) = match to {
            Destination::Broadcast => (Ipv4Addr::BROADCAST, 68),
            Destination::Relay(ip) => (ip, 67),
            Destination::Client(ip) => (ip, 68),
            Destination::Hardware { mac, ip } => {
                let datagram = datagram::to_client(self.settings.server, ip, bytes)
                    .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
                return self.frames.send(mac, ETHERTYPE_IPV4, &datagram);
            }
        };
        self.udp.try_send_to(bytes, SocketAddrV4::new(ip, port).into()).map(drop)
    }

    fn send_probe(&mut self, ip: Ipv4Addr) {
        if let Err(error) = self.arp.get_ref().send([0xff; 6], ETHERTYPE_ARP, &arp::probe(self.mac, ip)) {
            self.log.warn(Topic::Send, format_args!("send an arp probe for {ip}: {error}"));
        }
    }
}

/// The lease table of a running server.
#[derive(Debug, Clone)]
pub struct Leases {
    table: Arc<Mutex<LeaseTable>>,
}

impl Leases {
    /// Forgets what is known of `mac`; its address may go to another client. False if nothing was known.
    pub fn forget(&self, mac: MacAddr) -> bool {
        self.lock().forget(mac)
    }

    /// The address leased to `mac`.
    pub fn address_of(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        self.lock().address_of(mac)
    }

    /// Every lease, in no order.
    pub fn all(&self) -> Vec<(MacAddr, Ipv4Addr)> {
        self.lock().leases().collect()
    }

    fn lock(&self) -> MutexGuard<'_, LeaseTable> {
        // A panic under this lock can only be one of `HashMap`: the table stays usable.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn udp_socket(interface: &Interface) -> Result<Socket, BindError> {
    let open = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        socket.set_broadcast(true)?;
        sys::enlarge_receive_buffer(&socket, RECEIVE_BUFFER)?;
        socket.set_send_buffer_size(SEND_BUFFER)?;
        Ok(socket)
    };
    let socket = open().map_err(BindError::OpenUdp)?;
    let name = || interface.name.clone();
    socket
        .bind_device(Some(interface.name.as_bytes()))
        .map_err(|cause| BindError::BindDevice { interface: name(), cause })?;
    // No SO_REUSEADDR: a second server on the interface is to be refused, not to steal every other message.
    socket
        .bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 67).into())
        .map_err(|cause| BindError::BindPort { interface: name(), cause })?;
    Ok(socket)
}

fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused
            | Kind::Interrupted
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::PermissionDenied
    )
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Topic {
    Deferred,
    Exhausted,
    Link,
    Conflict,
    Send,
}

/// One warning of a topic each ten seconds: strangers on the wire must not fill the log.
#[derive(Debug, Default)]
struct LogLimit {
    last: HashMap<Topic, (Instant, u64)>,
}

impl LogLimit {
    fn warn(&mut self, topic: Topic, text: std::fmt::Arguments<'_>) {
        let now = Instant::now();
        let suppressed = match self.last.get_mut(&topic) {
            Some((at, suppressed)) if now.duration_since(*at) < Duration::from_secs(10) => {
                *suppressed += 1;
                return;
            }
            last => last.map_or(0, |(_, suppressed)| *suppressed),
        };
        tracing::warn!(suppressed, "{text}");
        self.last.insert(topic, (now, 0));
    }
}
