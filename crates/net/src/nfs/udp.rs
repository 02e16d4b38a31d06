//! Answers datagrams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use wire::xdr::Writer;

use super::PendingCall;
use super::dispatch::{Answer, Caller, PendingRead, Transport};
use super::filesystem::Exporter;
use super::server::Shared;

/// Largest datagram.
const DATAGRAM: usize = 65_536;
/// Pause after a failed receive: it is the process or the interface that is not well.
const BREATH: Duration = Duration::from_millis(100);
/// READs from disk under way on one socket; while there are so many, it is not read.
const WAITING: usize = 16;

/// Serves a socket.
pub(super) async fn serve<E: Exporter>(socket: UdpSocket, shared: Arc<Shared<E>>) {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    let mut input = vec![0; DATAGRAM];
    let mut reply = Writer::new();
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut input), if waiting.len() < WAITING => received,
            Some(_) = waiting.join_next() => continue,
        };
        let (length, peer) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "cannot receive NFS datagrams");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let SocketAddr::V4(v4) = peer else { continue };
        let caller = Caller::new(v4, Transport::Udp);
        reply.clear();
        match shared.dispatcher.answer(caller, &input[..length], &mut reply) {
            // Data without a copy is for connections.
            Answer::Silence | Answer::Data(_) => {}
            Answer::Reply => send(&socket, &shared, reply.bytes(), peer).await,
            Answer::Wait(read) => {
                waiting.spawn(finish(Arc::clone(&socket), Arc::clone(&shared), read, peer));
            }
            Answer::Work(call) => {
                waiting.spawn(work(Arc::clone(&socket), Arc::clone(&shared), call, peer));
            }
        }
    }
}

async fn finish<E: Exporter>(
    socket: Arc<UdpSocket>,
    shared: Arc<Shared<E>>,
    read: PendingRead<E::Fs>,
    peer: SocketAddr,
) {
    let Ok(_permit) = shared.reads.acquire().await else { return };
    let mut reply = Writer::new();
    let done = tokio::task::spawn_blocking(move || {
        read.finish(&mut reply);
        reply
    });
    if let Ok(reply) = done.await {
        send(&socket, &shared, reply.bytes(), peer).await;
    }
}

async fn work<E: Exporter>(socket: Arc<UdpSocket>, shared: Arc<Shared<E>>, call: Box<PendingCall>, peer: SocketAddr) {
    if let Some(reply) = shared.workers.run(*call, Writer::new()).await {
        send(&socket, &shared, reply.bytes(), peer).await;
    }
}

async fn send<E: Exporter>(socket: &UdpSocket, shared: &Shared<E>, reply: &[u8], peer: SocketAddr) {
    if socket.send_to(reply, peer).await.is_err() {
        shared.counters.replies_lost.fetch_add(1, Relaxed);
    }
}
