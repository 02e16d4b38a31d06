//! Answers datagrams.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
/// Calls into directories of the host under way on one socket. Others are dropped, so that they never make images wait:
/// whoever calls by datagrams calls again.
const CALLS: usize = 16;
/// Those of one address among them.
const CALLS_PER_CLIENT: usize = 2;

/// Serves a socket.
pub(super) async fn serve<E: Exporter>(socket: UdpSocket, shared: Arc<Shared<E>>) {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    let calls = Calls::default();
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
            Answer::Work(call) => match calls.place(*v4.ip()) {
                Some(place) => {
                    tokio::spawn(work(Arc::clone(&socket), Arc::clone(&shared), (call, place), peer));
                }
                None => drop(shared.counters.calls_dropped.fetch_add(1, Relaxed)),
            },
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
    // A panic is in the log already, and the client asks again.
    if let Ok(reply) = done.await {
        send(&socket, &shared, reply.bytes(), peer).await;
    }
}

async fn work<E: Exporter>(
    socket: Arc<UdpSocket>,
    shared: Arc<Shared<E>>,
    (call, _place): (Box<PendingCall>, Place),
    peer: SocketAddr,
) {
    if let Some(reply) = shared.workers.run(*call, Writer::new()).await {
        send(&socket, &shared, reply.bytes(), peer).await;
    }
}

async fn send<E: Exporter>(socket: &UdpSocket, shared: &Shared<E>, reply: &[u8], peer: SocketAddr) {
    if socket.send_to(reply, peer).await.is_err() {
        shared.counters.replies_lost.fetch_add(1, Relaxed);
    }
}

/// Who has calls under way.
#[derive(Debug, Default)]
struct Calls(Arc<Mutex<Vec<Ipv4Addr>>>);

/// The right to one call; given back when it is dropped.
struct Place {
    calls: Calls,
    ip: Ipv4Addr,
}

impl Calls {
    fn place(&self, ip: Ipv4Addr) -> Option<Place> {
        let mut of = self.lock();
        if of.len() >= CALLS || of.iter().filter(|other| **other == ip).count() >= CALLS_PER_CLIENT {
            return None;
        }
        of.push(ip);
        Some(Place { calls: Self(Arc::clone(&self.0)), ip })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Ipv4Addr>> {
        // Nothing that panics is done under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of = self.calls.lock();
        if let Some(index) = of.iter().position(|ip| *ip == self.ip) {
            of.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_takes_all_places() {
        let calls = Calls::default();
        let ip = |n: usize| Ipv4Addr::new(10, 0, 0, n as u8);
        let mut places: Vec<Place> = (0..CALLS_PER_CLIENT).map(|_| calls.place(ip(0)).unwrap()).collect();
        assert!(calls.place(ip(0)).is_none());
        places.extend((CALLS_PER_CLIENT..CALLS).map(|n| calls.place(ip(n)).unwrap()));
        assert!(calls.place(ip(99)).is_none());
        places.remove(0);
        assert!(calls.place(ip(0)).is_some());
    }
}
