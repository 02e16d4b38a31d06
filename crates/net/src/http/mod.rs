//! HTTP boot: `GET` and `HEAD` of the files that TFTP serves, for firmware and bootloaders that speak it.
//!
//! [`answer`](answer::answer) decides, [`body`] streams, this file accepts connections.

mod answer;
mod body;
mod range;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Events;
use crate::bootfile::BootFiles;
use body::Body;

/// Longest wait for a request on an open connection.
const IDLE: Duration = Duration::from_secs(30);
/// Longest time that a client may leave bytes unread or unacknowledged.
const STALL: Duration = Duration::from_secs(60);
/// Longest request head, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// Settings of the server.
#[derive(Debug, Clone, Copy)]
pub struct HttpConfig {
    /// Address to listen on: the interface's own, port 80.
    pub listen: SocketAddrV4,
    /// Most connections at a time.
    pub max_connections: usize,
    /// Most connections at a time from one client address.
    pub max_connections_per_client: usize,
}

impl HttpConfig {
    /// The usual limits, at this address.
    pub fn new(listen: SocketAddrV4) -> Self {
        // A connection holds at most about 300 kB.
        Self { listen, max_connections: 1024, max_connections_per_client: 32 }
    }
}

/// What the server has seen since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections closed at once because there were too many.
    pub overload: AtomicU64,
    /// Requests that could be read.
    pub requests: AtomicU64,
    /// Connections that ended in an error: no HTTP, too long, too slow, cut.
    pub failed: AtomicU64,
    /// Requests with another method than GET and HEAD.
    pub refused: AtomicU64,
    /// Requests for a file that is not there, or not ready.
    pub unavailable: AtomicU64,
}

/// The listening socket cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for HTTP on {address}")]
pub struct BindError {
    /// Address from the configuration.
    pub address: SocketAddrV4,
    /// Cause.
    #[source]
    pub source: io::Error,
}

/// The HTTP boot server, bound to its address.
#[derive(Debug)]
pub struct Server {
    listener: tokio::net::TcpListener,
    address: SocketAddrV4,
    config: HttpConfig,
    site: Arc<Site>,
}

/// What all connections share.
#[derive(Debug)]
struct Site {
    files: BootFiles,
    events: Events,
    counters: Arc<Counters>,
}

impl Server {
    /// Opens the listening socket (port 80, normally): needs the privilege. Must be called within a
    /// Tokio runtime.
    pub fn bind(config: HttpConfig, files: BootFiles, events: Events) -> Result<Self, BindError> {
        let open = || {
            let listener = TcpListener::bind(config.listen)?;
            listener.set_nonblocking(true)?;
            let port = listener.local_addr()?.port();
            Ok((tokio::net::TcpListener::from_std(listener)?, SocketAddrV4::new(*config.listen.ip(), port)))
        };
        let (listener, address) = open().map_err(|source| BindError { address: config.listen, source })?;
        let site = Arc::new(Site { files, events, counters: Arc::default() });
        Ok(Self { listener, address, config, site })
    }

    /// Address that it listens on.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Its counters.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.site.counters)
    }

    /// Serves until dropped; every connection ends with it.
    pub async fn run(self) -> io::Result<Infallible> {
        let mut running: JoinSet<Ipv4Addr> = JoinSet::new();
        let mut per_client: HashMap<Ipv4Addr, usize> = HashMap::new();
        loop {
            tokio::select! {
                Some(ended) = running.join_next() => match ended {
                    Ok(client) => {
                        if let Some(open) = per_client.get_mut(&client) {
                            *open -= 1;
                        }
                        if per_client.get(&client) == Some(&0) {
                            per_client.remove(&client);
                        }
                    }
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, SocketAddr::V4(peer))) => {
                        let client = *peer.ip();
                        let open = per_client.get(&client).copied().unwrap_or(0);
                        if running.len() >= self.config.max_connections || open >= self.config.max_connections_per_client {
                            count(&self.site.counters.overload);
                            continue;
                        }
                        per_client.insert(client, open + 1);
                        count(&self.site.counters.connections);
                        running.spawn(converse(stream, client, Arc::clone(&self.site)));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        // Out of descriptors, or the connection is gone already: the next may do better.
                        tracing::warn!(%error, "cannot accept an HTTP connection");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                },
            }
        }
    }
}

async fn converse(stream: TcpStream, client: Ipv4Addr, site: Arc<Site>) -> Ipv4Addr {
    let socket = SockRef::from(&stream);
    for result in [socket.set_tcp_nodelay(true), socket.set_tcp_user_timeout(Some(STALL))] {
        if let Err(error) = result {
            tracing::debug!(%client, %error, "cannot set an option of an HTTP connection");
        }
    }
    let service = service_fn(|request| {
        let response = site.respond(client, &request);
        async { Ok::<_, Infallible>(response) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_HEAD).keep_alive(true);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        count(&site.counters.failed);
        tracing::debug!(%client, %error, "HTTP connection");
    }
    client
}

impl Site {
    fn respond(&self, client: Ipv4Addr, request: &Request<Incoming>) -> Response<Body> {
        count(&self.counters.requests);
        let response = answer::answer(client, request.method(), request.uri().path(), request.headers(), self);
        tracing::debug!(%client, method = %request.method(), path = request.uri().path(), status = %response.status(), "HTTP");
        response
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
