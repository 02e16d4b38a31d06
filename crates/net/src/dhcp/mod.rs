//! DHCPv4 server (RFC 2131, 2132), made for network boot (PXE 2.1, RFC 4578).
//!
//! [`handle`] and [`probe_ended`] decide, without a socket or a clock; [`Server`] carries their decisions out.

#[cfg(test)]
mod allocation_tests;
mod arp;
mod client;
mod counters;
mod datagram;
mod decide;
mod lease;
mod probe;
mod reply;
mod request;
mod search;
mod server;
mod settings;
#[cfg(test)]
mod testing;

pub use client::Client;
pub use counters::Counters;
pub use decide::{Action, LeaseChange, Meta, handle, probe_ended};
pub use lease::LeaseTable;
pub use reply::{Destination, Reply, ReplyError};
pub use request::{Request, RequestError, RequestKind};
pub use search::{FoundServer, SearchError, find_servers};
pub use server::{BindError, Leases, Server};
pub use settings::{Settings, Subnet, SubnetError, UefiLoader};

/// RFC 2131 §4.1: ports of servers and of clients.
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
