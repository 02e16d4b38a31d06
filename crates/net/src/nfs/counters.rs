//! What the service has done since it started.

use std::sync::atomic::AtomicU64;

/// Counts, each only ever growing except where it says "now". Read them with `Relaxed`.
#[derive(Debug, Default)]
pub struct Counters {
    /// RPC messages received.
    pub messages: AtomicU64,
    /// Messages that are no RPC call, or arguments that can't be decoded.
    pub malformed: AtomicU64,
    /// Calls denied: wrong RPC version or a credential that is not served.
    pub denied: AtomicU64,
    /// Calls for a program, version or procedure that is not here.
    pub unavailable: AtomicU64,
    /// Mounts granted.
    pub mounts: AtomicU64,
    /// Mounts refused.
    pub mounts_refused: AtomicU64,
    /// Handles with a wrong MAC.
    pub bad_handles: AtomicU64,
    /// Handles into a file system that is not the caller's.
    pub stale_handles: AtomicU64,
    /// Bytes of file content sent.
    pub bytes_read: AtomicU64,
    /// Reads that had to wait for the disk.
    pub reads_from_disk: AtomicU64,
    /// Calls that change something in a host directory.
    pub changes: AtomicU64,
    /// Waits until something is on disk.
    pub syncs: AtomicU64,
    /// Calls that came again and were given the answer from before.
    pub replayed: AtomicU64,
    /// Calls by UDP into host directories that were dropped, as too many were under way.
    pub calls_dropped: AtomicU64,
    /// TCP connections open now.
    pub connections: AtomicU64,
    /// TCP connections closed at once because a limit was reached.
    pub connections_refused: AtomicU64,
    /// UDP replies that could not be sent.
    pub replies_lost: AtomicU64,
}
