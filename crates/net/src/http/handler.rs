//! Requests that are not for boot files, and an HTTP server for these alone.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;

use hyper::body::{Body, Bytes, Incoming};
use hyper::{Request, Response};

use super::accept::{self, Answers, Limits};
use super::{Counters, count};

/// Body of an answer that a [`Handler`] gives: it is taken as fast as the client reads.
pub type HandlerBody = Pin<Box<dyn Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Send>>;

/// An answer on its way.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Response<HandlerBody>> + Send + 'a>>;

/// Answers requests that are not for boot files.
pub trait Handler: Send + Sync + 'static {
    /// Whether the boot server is to hand over requests for this path (percent-encoded, without the query).
    fn takes(&self, path: &str) -> bool;

    /// Answers.
    fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> Answering<'_>;
}

/// An HTTP server, bound to an address of its own, that hands all requests to one handler.
#[derive(Debug)]
pub struct HandlerServer {
    listener: tokio::net::TcpListener,
    address: SocketAddr,
    counters: Arc<Counters>,
}

impl HandlerServer {
    /// Opens the listening socket; `counters` may be those of other servers, too. Must be called within a Tokio
    /// runtime.
    ///
    /// # Errors
    /// The socket can not be had.
    pub fn bind(address: SocketAddr, counters: Arc<Counters>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener: tokio::net::TcpListener::from_std(listener)?, address, counters })
    }

    /// Address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until dropped; every connection ends with it.
    ///
    /// # Errors
    /// None.
    pub async fn run(self, handler: Arc<dyn Handler>) -> io::Result<Infallible> {
        // A proxy in front of it is one client.
        let limits = Limits { connections: 256, per_client: 128 };
        let answers = Arc::new(Handed { handler, counters: self.counters.clone() });
        accept::serve(self.listener, limits, self.counters, answers).await
    }
}

struct Handed {
    handler: Arc<dyn Handler>,
    counters: Arc<Counters>,
}

impl Answers for Handed {
    type Body = HandlerBody;

    async fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<HandlerBody> {
        count(&self.counters.requests);
        self.handler.answer(peer, request).await
    }
}
