//! What nodes tell: TCP 12347.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net::MacAddr;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use wire::node::{
    Attachment, BOOT_STREAM, BootStep, Confirmed, KEEP_ALIVE_SECONDS, LLDP_STREAM, MAX_LINE, Session, SessionEvent,
};

use super::now_us;
use crate::registry::{Issuer, LogRow, Registry};
use crate::site::Site;
use crate::timeline::Seen;

/// Connections of one node: its notification, its boot log, and log streams of its programs.
const MAX_PER_NODE: usize = 64;
/// Connections altogether.
const MAX_CONNECTIONS: usize = 8192;
/// Longest silence of a node that is up, before it is held for lost.
const MAX_SILENCE: Duration = Duration::from_secs(3 * KEEP_ALIVE_SECONDS);
/// Time to say what the connection is for.
const OPENING: Duration = Duration::from_secs(10);

/// The bound socket.
#[derive(Debug)]
pub struct NodeServer {
    listener: TcpListener,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    connections: Mutex<HashMap<MacAddr, Connections>>,
    counters: Arc<Counters>,
}

/// Connections of one node.
#[derive(Debug, Default)]
struct Connections {
    open: usize,
    /// Those that say it is up. A node that reconnects may leave a dead one behind for a while.
    notifications: usize,
}

/// What was refused, since start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections taken.
    pub connections: AtomicU64,
    /// Connections of others than nodes, or of too many.
    pub refused: AtomicU64,
    /// Connections that did not speak the protocol.
    pub malformed: AtomicU64,
}

impl NodeServer {
    /// Binds the port on `ip`.
    ///
    /// # Errors
    /// The port can not be had.
    pub async fn bind(ip: Ipv4Addr, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddrV4::new(ip, port)).await?;
        Ok(Self { listener, shared: Arc::default() })
    }

    /// What was refused.
    pub fn counters(&self) -> Arc<Counters> {
        self.shared.counters.clone()
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket has no address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves nodes for ever.
    ///
    /// # Errors
    /// The socket failed for good.
    pub async fn run(self, site: Arc<Site>) -> io::Result<()> {
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // accept(2): errors of the connection itself, or no file descriptor left. Neither
                    // is a reason to stop, the second one to wait.
                    tracing::warn!(%error, "can not accept a node's connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let SocketAddr::V4(peer) = peer else { continue };
            let node = site.node_at(*peer.ip());
            let Some(place) = node.and_then(|mac| Place::take(&self.shared, mac)) else {
                self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%peer, "connection refused");
                continue;
            };
            self.shared.counters.connections.fetch_add(1, Ordering::Relaxed);
            find_out_if_gone(&stream);
            let site = site.clone();
            tokio::spawn(async move {
                let mut place = place;
                if let Err(error) = serve(stream, &mut place, &site).await {
                    tracing::debug!(%peer, %error, "connection of a node ended");
                }
                let (shared, mac, notified) = (place.shared.clone(), place.mac, place.notifies);
                drop(place);
                if notified && shared.is_lost(mac) {
                    site.see(mac, &Seen::Lost);
                }
            });
        }
    }
}

/// A node that is switched off says nothing: its connections end all the same, or it could open no more one day.
fn find_out_if_gone(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(MAX_SILENCE).with_interval(OPENING);
    for result in [socket.set_tcp_keepalive(&keepalive), socket.set_tcp_user_timeout(Some(MAX_SILENCE))] {
        if let Err(error) = result {
            tracing::debug!(%error, "cannot set an option of a node's connection");
        }
    }
}

/// One of the connections that a node may have.
struct Place {
    shared: Arc<Shared>,
    mac: MacAddr,
    notifies: bool,
}

impl Place {
    fn take(shared: &Arc<Shared>, mac: MacAddr) -> Option<Self> {
        let mut connections = shared.lock();
        if connections.values().map(|own| own.open).sum::<usize>() >= MAX_CONNECTIONS {
            return None;
        }
        let own = connections.entry(mac).or_default();
        if own.open >= MAX_PER_NODE {
            return None;
        }
        own.open += 1;
        Some(Self { shared: shared.clone(), mac, notifies: false })
    }

    fn notifies(&mut self) {
        self.notifies = true;
        self.shared.lock().entry(self.mac).or_default().notifications += 1;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.shared.lock();
        if let Some(own) = connections.get_mut(&self.mac) {
            own.open -= 1;
            own.notifications -= usize::from(self.notifies);
            if own.open == 0 {
                connections.remove(&self.mac);
            }
        }
    }
}

impl Shared {
    /// True if no connection says any more that the node is up.
    fn is_lost(&self, mac: MacAddr) -> bool {
        self.lock().get(&mac).is_none_or(|own| own.notifications == 0)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MacAddr, Connections>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one connection to its end.
async fn serve(stream: TcpStream, place: &mut Place, site: &Site) -> Result<(), Ended> {
    let (reading, writing) = stream.into_split();
    let mut stream = BufReader::new(reading);
    let mut writing = Some(writing);
    let mut session = Session::default();
    let mut line = Vec::new();
    // Lines of this connection that were taken, and who tells the node so, if it wants to know.
    let taken = watch::Sender::new(0);
    let mut confirming = None;
    loop {
        let limit = match session {
            Session::Start | Session::Name(_) | Session::Timestamps(..) => Some(OPENING),
            Session::Notified => Some(MAX_SILENCE),
            Session::Lines(..) | Session::Closed => None,
        };
        let read = read_line(&mut stream, &mut line);
        let more = match limit {
            Some(limit) => tokio::time::timeout(limit, read).await.map_err(|_| Ended::Silent)??,
            None => read.await?,
        };
        if !more {
            return Ok(());
        }
        let event = session.line(&line).map_err(|error| {
            place.shared.counters.malformed.fetch_add(1, Ordering::Relaxed);
            Ended::Protocol(error)
        })?;
        match event {
            SessionEvent::Nothing | SessionEvent::Opened(Confirmed::No, ..) => {}
            SessionEvent::Opened(Confirmed::Yes, ..) => {
                let confirm = |writing| confirm(writing, taken.subscribe(), site.registry().clone());
                confirming = writing.take().map(|writing| tokio::spawn(confirm(writing)));
            }
            SessionEvent::Booted => {
                place.notifies();
                site.see(place.mac, &Seen::Up);
                if let Some(writing) = &mut writing {
                    writing.write_all(b"OK\n").await?;
                }
            }
            SessionEvent::Line { timestamp, text } => {
                let text = String::from_utf8_lossy(text).into_owned();
                let at_us = timestamp.and_then(|at| i64::try_from(at.as_micros()).ok()).unwrap_or_else(now_us);
                let Session::Lines(name, _) = &session else { continue };
                record(site, place.mac, name.as_str(), at_us, text).await;
                taken.send_modify(|taken| *taken += 1);
            }
            SessionEvent::Closed => break,
        }
    }
    drop(taken);
    if let Some(confirming) = confirming {
        // Its end is the end of the connection; if it panicked, the node learns of it by that.
        let _ = confirming.await;
    }
    Ok(())
}

/// Tells a node how many of the lines that were taken from its connection are written, until there are no more.
async fn confirm(mut writing: OwnedWriteHalf, mut taken: watch::Receiver<u64>, registry: Registry) {
    let mut told = 0;
    loop {
        let goes_on = taken.changed().await.is_ok();
        let count = *taken.borrow_and_update();
        if count > told {
            registry.settle_logs().await;
            if writing.write_all(format!("{count}\n").as_bytes()).await.is_err() {
                return;
            }
            told = count;
        }
        if !goes_on {
            return;
        }
    }
}

/// A node that sends more than the disk takes waits: no line of a stream is lost here.
async fn record(site: &Site, node: MacAddr, stream: &str, at_us: i64, line: String) {
    if stream == BOOT_STREAM {
        match BootStep::parse(&line) {
            Ok(step) => site.see(node, &Seen::Agent(step)),
            Err(error) => tracing::debug!(mac = %node, %error, line, "a boot step is malformed"),
        }
    }
    if stream == LLDP_STREAM {
        match Attachment::parse(&line) {
            Ok(attachment) => site.attached(node, attachment),
            Err(error) => tracing::debug!(mac = %node, %error, line, "what a node hears of its switch is malformed"),
        }
        // It is no log: what is true now is kept, not what was said.
        return;
    }
    let row = LogRow { issuer: Issuer::Device(node), stream: stream.to_owned(), at_us, line };
    site.registry().log_in_turn(row).await;
}

/// Reads a line without its newline into `line`; false at the end of the connection.
async fn read_line(stream: &mut BufReader<OwnedReadHalf>, line: &mut Vec<u8>) -> Result<bool, Ended> {
    line.clear();
    // One byte more than allowed, to tell a line of the greatest length from one that is longer.
    let mut bounded = stream.take(MAX_LINE as u64 + 1);
    bounded.read_until(b'\n', line).await?;
    if line.pop_if(|last| *last == b'\n').is_some() {
        return Ok(true);
    }
    if line.len() > MAX_LINE { Err(Ended::LongLine) } else { Ok(false) }
}

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Protocol(wire::node::SessionError),
    #[error("line of more than {MAX_LINE} bytes")]
    LongLine,
    #[error("silent for too long")]
    Silent,
}
