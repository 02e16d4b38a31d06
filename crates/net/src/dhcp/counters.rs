//! What the DHCP server counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams received.
    pub packets: AtomicU64,
    /// Datagrams that were no client's DHCP message.
    pub malformed: AtomicU64,
    /// Replies sent.
    pub replies: AtomicU64,
    /// Replies that the kernel did not take.
    pub send_failures: AtomicU64,
    /// Address probes begun.
    pub probes: AtomicU64,
    /// Addresses found in use by a station without a lease.
    pub conflicts: AtomicU64,
    /// Clients left without an address.
    pub exhausted: AtomicU64,
    /// Acknowledgements held back because the daemon had not taken the lease yet; the client asks again.
    pub deferred: AtomicU64,
    /// Events dropped because the daemon had no time for them.
    pub events_dropped: AtomicU64,
}

impl Counters {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
