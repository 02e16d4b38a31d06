//! Directories of the host's own file system, served read-write: what nodes see as `/persist`.
//!
//! A file handle holds the kernel's handle of the file (name_to_handle_at(2)), so it survives restarts and renames, and
//! never means another file. Each call runs on a thread that acts as the caller (fsuid, fsgid, groups), so that the
//! host's kernel decides what is permitted. What the protocol wants durable is on disk before it is answered.
//!
//! Nothing but [`HostDirectory::open`](HostDirectory) by a signed handle, and names looked up in such a directory without
//! following anything, leads to a file: no path that a client sends is ever resolved.

mod attributes;
mod call;
mod change;
mod create;
mod durable;
mod handle;
mod listing;
mod object;
mod pending;
mod read;
mod replies;
mod set;
mod status;
mod tree;
mod who;
mod workers;

pub use pending::PendingCall;
pub use tree::{HostDirectory, HostError, HostTree};

pub(super) use handle::HostHandle;
pub(super) use pending::refuse;
pub(super) use workers::Workers;

/// Largest WRITE over a connection, in bytes.
pub(super) const WRITE_SIZE: u32 = 256 << 10;
