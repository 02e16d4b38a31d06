//! HTTP boot: `GET` and `HEAD` of the files that TFTP serves, for firmware and bootloaders that speak it.
//!
//! [`answer`](answer::answer) decides, [`body`] streams, [`accept`] keeps connections within bounds. What is not for
//! boot files can be handed to a [`Handler`], on the same address or on others.

mod accept;
mod answer;
mod body;
mod handler;
mod range;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::body::Incoming;
use hyper::{Request, Response};

use crate::Events;
use crate::bootfile::BootFiles;
use accept::{Answers, Limits};
use body::Body;
pub use handler::{Answering, Handler, HandlerBody, HandlerServer};

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
    site: Site,
}

/// What all connections share.
struct Site {
    files: BootFiles,
    events: Events,
    counters: Arc<Counters>,
    handler: Option<Arc<dyn Handler>>,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("counters", &self.counters).finish_non_exhaustive()
    }
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
        let site = Site { files, events, counters: Arc::default(), handler: None };
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

    /// Hands requests over that `handler` takes.
    #[must_use]
    pub fn with_handler(mut self, handler: Arc<dyn Handler>) -> Self {
        self.site.handler = Some(handler);
        self
    }

    /// Serves until dropped; every connection ends with it.
    pub async fn run(self) -> io::Result<Infallible> {
        let limits =
            Limits { connections: self.config.max_connections, per_client: self.config.max_connections_per_client };
        accept::serve(self.listener, limits, self.site.counters.clone(), Arc::new(self.site)).await
    }
}

impl Answers for Site {
    type Body = Body;

    async fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        count(&self.counters.requests);
        if let Some(handler) = self.handler.as_ref().filter(|handler| handler.takes(request.uri().path())) {
            return handler.answer(peer, request).await.map(Body::Handed);
        }
        let client = match peer.ip() {
            IpAddr::V4(ip) => ip,
            // It listens on an IPv4 address.
            IpAddr::V6(ip) => ip.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED),
        };
        answer::answer(client, request.method(), request.uri().path(), request.headers(), self)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
