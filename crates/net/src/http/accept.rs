//! Connections: how many there may be, and how long they may take.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Counters, count};

/// Longest wait for a request on an open connection.
const IDLE: Duration = Duration::from_secs(30);
/// Longest time that a client may leave bytes unread or unacknowledged, or be silent while it is to send some.
const STALL: Duration = Duration::from_secs(60);
/// Longest request head, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// How many connections there may be at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections: usize,
    /// From one client address.
    pub(super) per_client: usize,
}

/// Answers requests.
pub(super) trait Answers: Send + Sync + 'static {
    type Body: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    fn answer(&self, peer: SocketAddr, request: Request<Incoming>)
    -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Serves until dropped; every connection ends with it.
pub(super) async fn serve<A: Answers>(
    listener: TcpListener,
    limits: Limits,
    counters: Arc<Counters>,
    answers: Arc<A>,
) -> io::Result<Infallible> {
    let mut running: JoinSet<IpAddr> = JoinSet::new();
    let mut per_client: HashMap<IpAddr, usize> = HashMap::new();
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
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let client = peer.ip();
                    let open = per_client.get(&client).copied().unwrap_or(0);
                    if running.len() >= limits.connections || open >= limits.per_client {
                        count(&counters.overload);
                        continue;
                    }
                    per_client.insert(client, open + 1);
                    count(&counters.connections);
                    running.spawn(converse(stream, peer, counters.clone(), answers.clone()));
                }
                Err(error) => {
                    // Out of descriptors, or the connection is gone already: the next may do better.
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
        }
    }
}

async fn converse<A: Answers>(stream: TcpStream, peer: SocketAddr, counters: Arc<Counters>, answers: Arc<A>) -> IpAddr {
    let socket = SockRef::from(&stream);
    let keepalive = TcpKeepalive::new().with_time(STALL);
    for result in
        [socket.set_tcp_nodelay(true), socket.set_tcp_user_timeout(Some(STALL)), socket.set_tcp_keepalive(&keepalive)]
    {
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "cannot set an option of an HTTP connection");
        }
    }
    let service = service_fn(|request: Request<Incoming>| {
        let answers = answers.clone();
        async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let response = answers.answer(peer, request).await;
            tracing::debug!(client = %peer.ip(), %method, path, status = %response.status(), "HTTP");
            Ok::<_, Infallible>(response)
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_HEAD).keep_alive(true);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
        count(&counters.failed);
        tracing::debug!(client = %peer.ip(), %error, "HTTP connection");
    }
    peer.ip()
}
