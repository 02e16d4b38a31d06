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

use crate::bootfile::BootFiles;
use crate::{Events, rcvbuf};
use transfer::{Ended, Transfers};

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
    /// Transfers that ended with the last acknowledgement.
    pub complete: AtomicU64,
    /// Transfers that ended otherwise.
    pub incomplete: AtomicU64,
    /// Bytes of files sent, retransmissions included.
    pub bytes: AtomicU64,
}

/// Why the server cannot work.
#[derive(Debug, thiserror::Error)]
pub enum TftpError {
    /// The listening socket cannot be had.
    #[error("cannot listen for TFTP on {address}")]
    Bind {
        /// Address from the configuration.
        address: SocketAddrV4,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The listening socket is lost.
    #[error("cannot receive TFTP requests")]
    Receive(#[source] io::Error),
}

/// A server that has its socket, and so needs no privilege from now on.
#[derive(Debug)]
pub struct Tftp {
    socket: UdpSocket,
    address: SocketAddrV4,
    config: TftpConfig,
    counters: Arc<Counters>,
}

impl Tftp {
    /// Opens the listening socket. Must be called within a Tokio runtime.
    pub async fn bind(config: TftpConfig) -> Result<Self, TftpError> {
        let error = |source| TftpError::Bind { address: config.listen, source };
        let socket = UdpSocket::bind(config.listen).await.map_err(error)?;
        rcvbuf::enlarge(&socket);
        let SocketAddr::V4(address) = socket.local_addr().map_err(error)? else {
            return Err(error(io::ErrorKind::Unsupported.into()));
        };
        Ok(Self { socket, address, config, counters: Arc::default() })
    }

    /// Address that it listens on.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Its counters.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves until dropped; every transfer ends with it.
    pub async fn run(self, files: BootFiles, events: Events) -> Result<Infallible, TftpError> {
        let transfers = Transfers { files, events, local: *self.address.ip(), counters: Arc::clone(&self.counters) };
        let mut listener = Listener {
            transfers: Arc::new(transfers),
            config: self.config,
            counters: self.counters,
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
                    Err(error) => return Err(TftpError::Receive(error)),
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
