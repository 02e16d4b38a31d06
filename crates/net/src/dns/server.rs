//! Carries out what [`super::handle`] decides: sockets and limits.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::forward::Forwarder;
use super::quota::Quota;
use super::{Counters, Decision, Request, Resolvers, Transport, Zone, handle};
use crate::Exports;

/// A burst of some thousand queries, such as nodes have that come up together.
const RECEIVE_BUFFER: usize = 4 << 20;
/// No query is longer. The rest of a longer datagram is cut off, and then it makes no sense.
const MAX_QUERY: usize = 1500;
/// Queries that other name servers are being asked for.
const FORWARDS: usize = 512;
/// Of these, those of one client.
const FORWARDS_EACH: usize = 64;
/// Connections, and those of one client.
const CONNECTIONS: usize = 256;
const CONNECTIONS_EACH: usize = 16;
/// How long a connection may be silent (RFC 7766 §6.2.3 leaves it to us), or not take an answer.
const IDLE: Duration = Duration::from_secs(10);

/// The DNS server, bound to its address.
#[derive(Debug)]
pub struct Server {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
    address: SocketAddrV4,
    shared: Arc<Shared>,
}

/// What all queries need.
#[derive(Debug)]
struct Shared {
    zone: Zone,
    exports: Arc<Exports>,
    forwarder: Forwarder,
    forwards: Arc<Quota>,
    connections: Arc<Quota>,
    counters: Arc<Counters>,
}

/// A listening socket cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for DNS on {protocol} {address}")]
pub struct BindError {
    /// `udp` or `tcp`.
    pub protocol: &'static str,
    /// Address that was asked for.
    pub address: SocketAddrV4,
    /// Cause.
    #[source]
    pub source: io::Error,
}

impl Server {
    /// Opens the listening sockets (port 53, normally): needs the privilege. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// The port is taken, or needs privileges.
    pub fn bind(
        listen: SocketAddrV4,
        zone: Zone,
        exports: Arc<Exports>,
        resolvers: Resolvers,
    ) -> Result<Self, BindError> {
        let open_udp = || -> io::Result<(UdpSocket, SocketAddrV4)> {
            let socket = std::net::UdpSocket::bind(listen)?;
            sys::enlarge_receive_buffer(&socket, RECEIVE_BUFFER)?;
            socket.set_nonblocking(true)?;
            let port = socket.local_addr()?.port();
            Ok((UdpSocket::from_std(socket)?, SocketAddrV4::new(*listen.ip(), port)))
        };
        let (udp, address) = open_udp().map_err(|source| BindError { protocol: "udp", address: listen, source })?;
        let open_tcp = || -> io::Result<TcpListener> {
            let socket = std::net::TcpListener::bind(address)?;
            socket.set_nonblocking(true)?;
            TcpListener::from_std(socket)
        };
        let tcp = open_tcp().map_err(|source| BindError { protocol: "tcp", address, source })?;
        let shared = Shared {
            zone,
            exports,
            forwarder: Forwarder::new(resolvers),
            forwards: Quota::new(FORWARDS, FORWARDS_EACH),
            connections: Quota::new(CONNECTIONS, CONNECTIONS_EACH),
            counters: Arc::default(),
        };
        Ok(Self { udp: Arc::new(udp), tcp, address, shared: Arc::new(shared) })
    }

    /// Address that it listens on.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Its counters.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Answers until dropped.
    ///
    /// # Errors
    /// The kernel takes a socket away.
    pub async fn run(self) -> io::Result<Infallible> {
        let Self { udp, tcp, shared, .. } = self;
        tokio::select! {
            ended = serve_datagrams(&udp, &shared) => ended,
            ended = serve_connections(&tcp, &shared) => ended,
        }
    }
}

async fn serve_datagrams(socket: &Arc<UdpSocket>, shared: &Arc<Shared>) -> io::Result<Infallible> {
    let mut buffer = [0; MAX_QUERY];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok((length, SocketAddr::V4(client))) => (length, client),
            Ok((_, SocketAddr::V6(_))) => continue,
            // What an earlier answer met on its way is reported here.
            Err(error) if crate::tftp::is_transient(&error) => continue,
            Err(error) => return Err(error),
        };
        match shared.decide(&buffer[..length], *client.ip(), Transport::Udp) {
            Next::Nothing => {}
            // Lost if the send buffer is full, as on the network; the client asks again.
            Next::Send(answer) => drop(socket.try_send_to(&answer, client.into())),
            Next::Forward(request) => {
                let Some(share) = shared.forwards.take(*client.ip()) else {
                    let _ = socket.try_send_to(&shared.overloaded(&request), client.into());
                    continue;
                };
                let (socket, shared) = (socket.clone(), shared.clone());
                tokio::spawn(async move {
                    let _ = socket.send_to(&shared.forward(&request).await, client).await;
                    drop(share);
                });
            }
        }
    }
}

async fn serve_connections(listener: &TcpListener, shared: &Arc<Shared>) -> io::Result<Infallible> {
    loop {
        let (stream, client) = match listener.accept().await {
            Ok((stream, SocketAddr::V4(client))) => (stream, *client.ip()),
            Ok((_, SocketAddr::V6(_))) => continue,
            // accept(2): errors of the new connection alone come out here, and those of being short of descriptors pass.
            Err(error) => {
                tracing::debug!(%error, "DNS connection");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        if !shared.zone.serves(client) {
            Counters::count(&shared.counters.refused);
            continue;
        }
        let Some(share) = shared.connections.take(client) else {
            Counters::count(&shared.counters.overload);
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            if let Err(error) = converse(stream, client, &shared).await {
                tracing::debug!(%client, %error, "DNS connection");
            }
            drop(share);
        });
    }
}

/// RFC 7766: any number of queries on one connection, each behind its length; the answers come in their order.
async fn converse(mut stream: TcpStream, client: Ipv4Addr, shared: &Shared) -> io::Result<()> {
    let silent = |_| io::Error::from(io::ErrorKind::TimedOut);
    loop {
        let length = match timeout(IDLE, stream.read_u16()).await.map_err(silent)? {
            Ok(length) => usize::from(length),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut buffer = [0; MAX_QUERY];
        let Some(query) = buffer.get_mut(..length) else {
            Counters::count(&shared.counters.queries);
            Counters::count(&shared.counters.malformed);
            return Ok(());
        };
        timeout(IDLE, stream.read_exact(query)).await.map_err(silent)??;
        let answer = match shared.decide(query, client, Transport::Tcp) {
            Next::Nothing => return Ok(()),
            Next::Send(answer) => answer,
            Next::Forward(request) => match shared.forwards.take(client) {
                Some(_share) => shared.forward(&request).await,
                None => shared.overloaded(&request),
            },
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        timeout(IDLE, stream.write_all(&framed)).await.map_err(silent)??;
    }
}

/// What follows from a decision.
enum Next {
    Nothing,
    Send(Vec<u8>),
    Forward(Box<Request>),
}

impl Shared {
    fn decide(&self, bytes: &[u8], client: Ipv4Addr, transport: Transport) -> Next {
        let counters = &self.counters;
        Counters::count(&counters.queries);
        match handle(&self.zone, self.exports.devices(), bytes, client, transport) {
            Decision::Stranger => {
                Counters::count(&counters.refused);
                Next::Nothing
            }
            Decision::Malformed(answer) => {
                Counters::count(&counters.malformed);
                answer.map_or(Next::Nothing, Next::Send)
            }
            Decision::Refused(answer) => {
                Counters::count(&counters.refused);
                Next::Send(answer)
            }
            Decision::Answer(answer) => Next::Send(answer),
            Decision::Forward(request) => Next::Forward(request),
        }
    }

    async fn forward(&self, request: &Request) -> Vec<u8> {
        Counters::count(&self.counters.forwarded);
        self.forwarder.resolve(request).await.unwrap_or_else(|failure| {
            Counters::count(&self.counters.failed);
            failure
        })
    }

    /// The answer to a query for which there is no room.
    fn overloaded(&self, request: &Request) -> Vec<u8> {
        Counters::count(&self.counters.overload);
        request.finish(request.reply(ResponseCode::ServFail))
    }
}
