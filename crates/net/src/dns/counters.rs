//! What the DNS server counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages received, over UDP and TCP.
    pub queries: AtomicU64,
    /// Messages that are no query.
    pub malformed: AtomicU64,
    /// Queries of strangers, of kinds that are not served, and for other names of devices that are not behind NAT.
    pub refused: AtomicU64,
    /// Queries that were passed on to another name server.
    pub forwarded: AtomicU64,
    /// Queries of these that nobody could answer.
    pub failed: AtomicU64,
    /// Queries and connections turned away because there were too many.
    pub overload: AtomicU64,
}

impl Counters {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
