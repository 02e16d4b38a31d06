//! Port mapper, MOUNT and NFSv3: nodes read their image, read and write the directory that is theirs, and nothing else.
//!
//! One dispatcher answers all three programs on every socket. It is a function from (caller,
//! message) to reply bytes; only the content of files may have to wait, and then comes back as a
//! [`PendingRead`] that a bounded pool of threads finishes; so does every call into a directory of the host, a
//! [`PendingCall`].
//!
//! What a caller may see is decided by its address alone, through [`Exporter`]. A file handle
//! carries a MAC, so that a node can't even ask for what it has not been shown.

mod attributes;
mod buffers;
mod clients;
mod connection;
mod content;
mod counters;
mod dispatch;
mod export_path;
mod filesystem;
mod handle;
mod host;
mod mount;
mod node_exports;
mod permission;
mod portmap;
mod procedures;
mod server;
mod tcp;
mod udp;

pub use content::Content;
pub use counters::Counters;
pub use dispatch::{Answer, Caller, Dispatcher, PendingRead, Transport};
pub use filesystem::{Exporter, Filesystem, MountPoint, OwnExport};
pub use handle::HandleKey;
pub use host::{HostDirectory, HostError, HostTree, PendingCall};
pub use node_exports::NodeExports;
pub use server::{BindError, Limits, NfsConfig, NfsServer};
