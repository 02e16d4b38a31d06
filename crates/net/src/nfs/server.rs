//! Configuration, sockets, and the task that runs them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::buffers::Buffers;
use super::clients::Clients;
use super::host::Workers;
use super::{Counters, Dispatcher, Exporter, HandleKey, NodeExports, tcp, udp};
use crate::{Events, Exports};

/// Connections that may wait to be accepted: a rack that is switched on mounts all at once.
const BACKLOG: u32 = 1024;
/// Bytes that each UDP socket may queue, for the same burst.
const UDP_BUFFER: usize = 4 << 20;

/// What the service needs to know.
#[derive(Debug, Clone)]
pub struct NfsConfig {
    /// Address to serve on: the one of the nodes' interface, so that replies over UDP leave from it.
    pub address: Ipv4Addr,
    /// Port of the port mapper (111), TCP and UDP; `None` if there is to be none.
    pub portmap_port: Option<u16>,
    /// Port of NFS and MOUNT (2049), TCP and UDP. 0 takes a free one.
    pub nfs_port: u16,
    /// Directories that may stand before `nodes/<key>/fs` in a path to mount.
    pub roots: Vec<String>,
    /// Key of the file handles.
    pub key: HandleKey,
    /// What clients may take of the server.
    pub limits: Limits,
}

/// What clients may take of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// TCP connections in all.
    pub connections: usize,
    /// TCP connections of one address. (Linux makes 16 at most: mount option `nconnect`.)
    pub connections_per_client: usize,
    /// READs from disk under way, of one address over TCP, up to the moment their reply is sent.
    pub reads_per_client: usize,
    /// READs from disk under way, in all.
    pub reads: usize,
    /// Calls into directories of the host under way, of one address over TCP, up to the moment their reply is sent.
    pub calls_per_client: usize,
    /// Threads for calls into directories of the host, in all. Most of the time they wait for the disk, and those that
    /// wait together are served by one write of its journal.
    pub workers: usize,
    /// A connection that is silent for this long is closed (within twice that time). The Linux client
    /// closes its own after 5 minutes.
    pub idle: Duration,
    /// A reply that the peer does not take within this time ends its connection.
    pub stalled: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            connections_per_client: 96,
            reads_per_client: 16,
            reads: 32,
            calls_per_client: 8,
            workers: 32,
            idle: Duration::from_secs(360),
            stalled: Duration::from_secs(60),
        }
    }
}

/// A socket could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve {service} on {protocol} {address}: {source}")]
pub struct BindError {
    /// `the port mapper` or `NFS`.
    pub service: &'static str,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Address and port.
    pub address: SocketAddrV4,
    /// Cause.
    #[source]
    pub source: io::Error,
}

/// The service with its sockets open.
#[derive(Debug)]
pub struct NfsServer<E: Exporter = NodeExports> {
    sockets: Vec<(TcpListener, UdpSocket)>,
    shared: Arc<Shared<E>>,
    portmap_port: Option<u16>,
    nfs_port: u16,
}

/// What all tasks of the service share.
#[derive(Debug)]
pub(super) struct Shared<E: Exporter> {
    pub(super) dispatcher: Dispatcher<E>,
    pub(super) buffers: Buffers,
    pub(super) clients: Arc<Clients>,
    pub(super) reads: Semaphore,
    pub(super) workers: Workers,
    pub(super) counters: Arc<Counters>,
    pub(super) limits: Limits,
}

impl NfsServer {
    /// Opens the sockets. Needs the right to bind ports below 1024 (and a runtime to register them in).
    pub fn bind(config: NfsConfig, exports: Arc<Exports>, events: Events) -> Result<Self, BindError> {
        let counters = Arc::new(Counters::default());
        let exporter = NodeExports::new(exports, events, config.roots.clone(), Arc::clone(&counters));
        Self::bind_exporter(&config, exporter, counters)
    }
}

impl<E: Exporter> NfsServer<E> {
    /// As [`bind`](NfsServer::bind), for another source of file systems.
    pub fn bind_exporter(config: &NfsConfig, exporter: E, counters: Arc<Counters>) -> Result<Self, BindError> {
        let mut sockets = Vec::new();
        let mut open = |service, port| -> Result<u16, BindError> {
            let pair = bind_pair(service, SocketAddrV4::new(config.address, port))?;
            let port = pair.0.local_addr().map_or(port, |address| address.port());
            sockets.push(pair);
            Ok(port)
        };
        let portmap_port = config.portmap_port.map(|port| open("the port mapper", port)).transpose()?;
        let nfs_port = open("NFS", config.nfs_port)?;
        let dispatcher =
            Dispatcher::new(exporter, config.key.clone(), portmap_port.unwrap_or(0), nfs_port, Arc::clone(&counters));
        let shared = Shared {
            dispatcher,
            buffers: Buffers::default(),
            clients: Arc::new(Clients::new(config.limits)),
            reads: Semaphore::new(config.limits.reads),
            workers: Workers::new(config.limits.workers),
            counters,
            limits: config.limits,
        };
        Ok(Self { sockets, shared: Arc::new(shared), portmap_port, nfs_port })
    }

    /// Port of the port mapper, if there is one.
    pub fn portmap_port(&self) -> Option<u16> {
        self.portmap_port
    }

    /// Port of NFS and MOUNT.
    pub fn nfs_port(&self) -> u16 {
        self.nfs_port
    }

    /// What the service has done.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Serves until it is dropped, or until one of its sockets is no longer served.
    pub async fn run(self) {
        let mut tasks = JoinSet::new();
        for (listener, socket) in self.sockets {
            tasks.spawn(tcp::serve(listener, Arc::clone(&self.shared)));
            tasks.spawn(udp::serve(socket, Arc::clone(&self.shared)));
        }
        // Half a service would look alive: whoever runs it is to know.
        if let Some(Err(error)) = tasks.join_next().await {
            tracing::error!(%error, "an NFS socket is no longer served");
        }
    }
}

/// The same port of TCP and UDP.
fn bind_pair(service: &'static str, address: SocketAddrV4) -> Result<(TcpListener, UdpSocket), BindError> {
    let failed = |protocol| move |source| BindError { service, protocol, address, source };
    let listener = bind_tcp(address).map_err(failed("tcp"))?;
    let local = listener.local_addr().map_err(failed("tcp"))?;
    let socket = bind_udp(local).map_err(failed("udp"))?;
    Ok((listener, socket))
}

fn bind_tcp(address: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Connections of the server before us may linger: it must be able to come back at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address.into())?;
    socket.listen(BACKLOG)
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    use rustix::net::sockopt;
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    // Beyond net.core.rmem_max with CAP_NET_ADMIN, else up to it.
    if sockopt::set_socket_recv_buffer_size_force(&socket, UDP_BUFFER).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, UDP_BUFFER)?;
    }
    sockopt::set_socket_send_buffer_size(&socket, UDP_BUFFER)?;
    UdpSocket::from_std(socket)
}
