//! TFTP server, read-only (RFC 1350 with the options of RFC 2347, 2348, 2349 and 7440).
//!
//! [`session`] decides, `transfer` moves the bytes of one session, this file accepts requests.

pub mod session;
mod transfer;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wire::tftp::{ErrorCode, MAX_REQUEST, Options, Packet, Request};

use crate::Events;
use crate::bootfile::BootFiles;
use transfer::{Ended, Transfers};

/// Bytes of receive buffer: some 3,000 requests, for a room that is powered on at once arrives as one
/// burst, and the kernel counts more than a kilobyte for each.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Settings of the server.
#[derive(Debug, Clone, Copy)]
pub struct TftpConfig {
    /// Address to listen on: the interface's own, port 69. Transfers use other ports of it.
    pub listen: SocketAddrV4,
    /// Most transfers at a time.
    pub max_sessions: usize,
    /// Most transfers at a time with one client address.
    pub max_sessions_per_client: usize,
}

impl TftpConfig {
    /// The usual limits, at this address.
    pub fn new(listen: SocketAddrV4) -> Self {
        // A session holds at most about 1.3 MB, nearly always 260 kB.
        Self { listen, max_sessions: 1024, max_sessions_per_client: 16 }
    }
}

/// What the server has seen since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams received on the listening port.
    pub requests: AtomicU64,
    /// Datagrams that are no request: unknown opcodes, strings without end, stray DATA or ACK.
    pub malformed: AtomicU64,
    /// Requests to write, or in a mode that is not `octet`.
    pub refused: AtomicU64,
    /// Requests for a file that is not there, or not ready.
    pub unavailable: AtomicU64,
    /// Requests beyond the limits of sessions.
    pub overload: AtomicU64,
    /// Transfers that ended with the last acknowledgement, or after the size where only that was asked.
    pub complete: AtomicU64,
    /// Transfers that ended otherwise.
    pub incomplete: AtomicU64,
    /// Bytes of files sent, retransmissions included.
    pub bytes: AtomicU64,
}

/// The listening socket cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for TFTP on {address}")]
pub struct BindError {
    /// Address from the configuration.
    pub address: SocketAddrV4,
    /// Cause.
    #[source]
    pub source: io::Error,
}

/// The TFTP server, bound to its address.
#[derive(Debug)]
pub struct Server {
    socket: UdpSocket,
    address: SocketAddrV4,
    config: TftpConfig,
    transfers: Arc<Transfers>,
}

impl Server {
    /// Opens the listening socket (port 69, normally): needs the privilege. Must be called within a
    /// Tokio runtime.
    pub fn bind(config: TftpConfig, files: BootFiles, events: Events) -> Result<Self, BindError> {
        let open = || {
            let socket = std::net::UdpSocket::bind(config.listen)?;
            if let Err(error) = sys::enlarge_receive_buffer(&socket, RECEIVE_BUFFER) {
                tracing::debug!(%error, "cannot enlarge a receive buffer");
            }
            socket.set_nonblocking(true)?;
            let port = socket.local_addr()?.port();
            Ok((UdpSocket::from_std(socket)?, SocketAddrV4::new(*config.listen.ip(), port)))
        };
        let (socket, address) = open().map_err(|source| BindError { address: config.listen, source })?;
        let transfers = Arc::new(Transfers { files, events, local: *address.ip(), counters: Arc::default() });
        Ok(Self { socket, address, config, transfers })
    }

    /// Address that it listens on.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Its counters.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.transfers.counters)
    }

    /// Serves until dropped; every transfer ends with it.
    pub async fn run(self) -> io::Result<Infallible> {
        let mut listener = Listener {
            counters: self.counters(),
            transfers: self.transfers,
            config: self.config,
            sessions: HashMap::new(),
            per_client: HashMap::new(),
            running: JoinSet::new(),
            generation: 0,
        };
        let mut buffer = [0; MAX_REQUEST + 1];
        loop {
            tokio::select! {
                Some(ended) = listener.running.join_next() => match ended {
                    Ok(ended) => listener.on_ended(ended),
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((len, SocketAddr::V4(peer))) => {
                        if let Some(answer) = listener.on_datagram(peer, &buffer[..len]) {
                            // A full send buffer loses an error message, as the network may.
                            let _ = self.socket.try_send_to(&answer, peer.into());
                        }
                    }
                    Ok(_) => {}
                    // Errors that an earlier answer met on its way are reported here: not ours.
                    Err(error) if is_transient(&error) => tracing::debug!(%error, "TFTP receive"),
                    Err(error) => return Err(error),
                },
            }
        }
    }
}

pub(crate) fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | HostUnreachable | Interrupted | NetworkUnreachable)
}

/// The part of a read request that a session needs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ReadRequest {
    path: Vec<u8>,
    options: Options,
}

/// Accepts requests: one session for each client port.
struct Listener {
    transfers: Arc<Transfers>,
    config: TftpConfig,
    counters: Arc<Counters>,
    sessions: HashMap<SocketAddrV4, Entry>,
    per_client: HashMap<Ipv4Addr, usize>,
    running: JoinSet<Ended>,
    generation: u64,
}

struct Entry {
    request: ReadRequest,
    /// Tells the session that its request came again; closed, that another one took its place.
    repeats: mpsc::Sender<()>,
    generation: u64,
}

impl Listener {
    /// Returns the datagram to answer with from the listening port, if any.
    fn on_datagram(&mut self, peer: SocketAddrV4, datagram: &[u8]) -> Option<Vec<u8>> {
        count(&self.counters.requests);
        let (code, message) = match Packet::parse(datagram) {
            Ok(Packet::Read(request)) => return self.on_read(peer, &request),
            Ok(Packet::Write(_)) => {
                count(&self.counters.refused);
                (ErrorCode::AccessViolation, "this server is read-only")
            }
            // RFC 1350 §4: not of this port. An ERROR is never answered; the rest could be a forged
            // packet that would make us and somebody else's server talk to each other.
            Ok(Packet::Data { .. } | Packet::Ack { .. } | Packet::Error { .. } | Packet::OptionAck(_)) | Err(_) => {
                count(&self.counters.malformed);
                return None;
            }
        };
        Some(error_packet(code, message))
    }

    fn on_read(&mut self, peer: SocketAddrV4, request: &Request<'_>) -> Option<Vec<u8>> {
        if request.mode != wire::tftp::Mode::Octet {
            count(&self.counters.refused);
            // Boot files are binary, and nothing that boots a machine asks for another mode.
            return Some(error_packet(ErrorCode::Undefined, "only mode octet (binary) is served"));
        }
        let request = ReadRequest { path: request.path.to_vec(), options: request.options };
        if let Some(entry) = self.sessions.get(&peer) {
            // The same again: the session knows whether the client lost our answer or starts anew.
            // A full inbox means that it has been told. A closed one: it has just ended.
            if entry.request == request && !entry.repeats.is_closed() {
                let _ = entry.repeats.try_send(());
                return None;
            }
        }
        let running = self.per_client.get(peer.ip()).copied().unwrap_or(0);
        if self.running.len() >= self.config.max_sessions || running >= self.config.max_sessions_per_client {
            count(&self.counters.overload);
            return Some(error_packet(ErrorCode::Undefined, "too many transfers, try again"));
        }
        self.start(peer, request);
        None
    }

    fn start(&mut self, peer: SocketAddrV4, request: ReadRequest) {
        self.generation += 1;
        let (repeats, inbox) = mpsc::channel(1);
        *self.per_client.entry(*peer.ip()).or_default() += 1;
        let session = Arc::clone(&self.transfers).serve(peer, request.clone(), inbox, self.generation);
        self.running.spawn(session);
        self.sessions.insert(peer, Entry { request, repeats, generation: self.generation });
    }

    fn on_ended(&mut self, ended: Ended) {
        if let Some(running) = self.per_client.get_mut(ended.peer.ip()) {
            *running -= 1;
            if *running == 0 {
                self.per_client.remove(ended.peer.ip());
            }
        }
        if self.sessions.get(&ended.peer).is_some_and(|entry| entry.generation == ended.generation) {
            let entry = self.sessions.remove(&ended.peer);
            if let (true, Some(entry)) = (ended.again, entry) {
                self.start(ended.peer, entry.request);
            }
        }
    }
}

fn error_packet(code: ErrorCode, message: &str) -> Vec<u8> {
    Packet::Error { code, message: message.as_bytes() }.to_vec()
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
