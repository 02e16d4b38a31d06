//! The network services of the daemon: DHCP, DNS, TFTP, HTTP boot, portmap + MOUNT + NFS, SNTP, and the
//! IPv6 router advertisement that ends iPXE's wait.
//!
//! Decisions are functions from (state, message, now) to actions; sockets and timers stand around
//! them. Everything a service must know about nodes it reads from [`Exports`]; everything it has
//! to tell goes into an [`Events`] channel.

mod boards;
pub mod bootfile;
mod devices;
pub mod dhcp;
pub mod dns;
mod events;
mod exports;
pub mod http;
pub mod nfs;
mod persist;
pub mod ra;
mod readiness;
pub mod sntp;
pub mod tftp;

pub use boards::{BoardSeen, BoardStage, BoardTransfer, Boards, is_raspberry_pi};
pub use devices::{Device, Devices};
pub use events::{Event, Events, LeaseEvent, MacAddr};
pub use exports::{Exports, NodeExport};
pub use persist::PersistTable;
