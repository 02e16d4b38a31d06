//! How much of the server each address has taken.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::Limits;

/// Admits connections, in total and by address.
#[derive(Debug)]
pub(super) struct Clients {
    limits: Limits,
    table: Mutex<HashMap<Ipv4Addr, Client>>,
    total: Arc<Semaphore>,
}

#[derive(Debug)]
struct Client {
    connections: usize,
    reads: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    held: Arc<AtomicUsize>,
}

/// The right to one connection; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Admission {
    clients: Arc<Clients>,
    ip: Ipv4Addr,
    /// READs from disk that this address may have under way, over all its connections: each holds a
    /// reply buffer until it is sent.
    pub(super) reads: Arc<Semaphore>,
    /// The same for calls into a directory of the host: apart, so that they never make the image wait.
    pub(super) calls: Arc<Semaphore>,
    /// Bytes of such calls.
    pub(super) held: Arc<AtomicUsize>,
    _total: tokio::sync::OwnedSemaphorePermit,
}

impl Clients {
    pub(super) fn new(limits: Limits) -> Self {
        let total = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
        Self { limits, table: Mutex::default(), total }
    }

    /// Admits a connection from `ip`; `None` if there are too many.
    pub(super) fn admit(self: &Arc<Self>, ip: Ipv4Addr) -> Option<Admission> {
        let total = Arc::clone(&self.total).try_acquire_owned().ok()?;
        let mut table = self.lock();
        let client = table.entry(ip).or_insert_with(|| Client {
            connections: 0,
            reads: Arc::new(Semaphore::new(self.limits.reads_per_client)),
            calls: Arc::new(Semaphore::new(self.limits.calls_per_client)),
            held: Arc::default(),
        });
        if client.connections >= self.limits.connections_per_client {
            return None;
        }
        client.connections += 1;
        let (reads, calls, held) = (Arc::clone(&client.reads), Arc::clone(&client.calls), Arc::clone(&client.held));
        drop(table);
        Some(Admission { clients: Arc::clone(self), ip, reads, calls, held, _total: total })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Ipv4Addr, Client>> {
        // Nothing that panics is done under the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Whether something is under way for it.
    fn is_busy(&self, limits: Limits) -> bool {
        self.reads.available_permits() < limits.reads_per_client.min(Semaphore::MAX_PERMITS)
            || self.calls.available_permits() < limits.calls_per_client.min(Semaphore::MAX_PERMITS)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut table = self.clients.lock();
        if let Some(client) = table.get_mut(&self.ip) {
            client.connections -= 1;
            if client.connections == 0 {
                // What is still under way counts for the next connection, too.
                let limits = self.clients.limits;
                table.retain(|_, client| client.connections > 0 || client.is_busy(limits));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_limited_by_address_and_in_total() {
        let limits = Limits { connections: 3, connections_per_client: 2, ..Limits::default() };
        let clients = Arc::new(Clients::new(limits));
        let [one, two, three] = [1, 2, 3].map(|n| Ipv4Addr::new(10, 0, 0, n));
        let first = clients.admit(one).unwrap();
        let second = clients.admit(one).unwrap();
        assert!(Arc::ptr_eq(&first.reads, &second.reads));
        assert!(clients.admit(one).is_none(), "a third of the same address");
        let other = clients.admit(two).unwrap();
        assert!(clients.admit(three).is_none(), "a fourth in all");
        drop(first);
        assert!(clients.admit(one).is_some());
        drop(other);
        let under_way = Arc::clone(&second.calls).try_acquire_owned().unwrap();
        let calls = Arc::clone(&second.calls);
        drop(second);
        let again = clients.admit(one).unwrap();
        assert!(Arc::ptr_eq(&again.calls, &calls), "a new connection gives no more room");
        drop(under_way);
        drop(again);
        assert!(clients.lock().is_empty());
        assert_eq!(clients.total.available_permits(), 3);
    }

    #[test]
    fn zero_means_none() {
        let clients = Arc::new(Clients::new(Limits { connections_per_client: 0, ..Limits::default() }));
        assert!(clients.admit(Ipv4Addr::LOCALHOST).is_none());
    }
}
