//! Accepts connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::connection::Connection;
use super::filesystem::Exporter;
use super::server::Shared;

/// Pause after a failed accept: it is the process that lacks something (file descriptors, memory).
const BREATH: Duration = Duration::from_millis(100);

/// Serves a listening socket; the connections end with it.
pub(super) async fn serve<E: Exporter>(listener: TcpListener, shared: Arc<Shared<E>>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "an NFS connection ended in a panic");
                }
                continue;
            }
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an NFS connection");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let SocketAddr::V4(peer) = peer else { continue };
        let Some(admission) = shared.clients.admit(*peer.ip()) else {
            shared.counters.connections_refused.fetch_add(1, Relaxed);
            continue;
        };
        // Replies are written whole: nothing is gained by waiting for more.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "the connection is gone already");
            continue;
        }
        connections.spawn(Connection::new(stream, peer, admission, Arc::clone(&shared)).run());
    }
}
