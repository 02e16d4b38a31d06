//! DNS server (RFC 1034, 1035) for the names of the platform.
//!
//! It knows the server and all devices, by their names alone and below the platform's domain, and their addresses. Other
//! names it asks the server's own name servers for, in the place of devices behind NAT; for all other devices there are
//! none. [`handle`] decides, without a socket; [`Server`] carries its decisions out.

mod counters;
mod decide;
mod forward;
mod quota;
mod request;
mod resolvers;
mod server;
mod zone;

pub use counters::Counters;
pub use decide::{Decision, handle};
pub use request::{Request, Transport};
pub use resolvers::Resolvers;
pub use server::{BindError, Server};
pub use zone::{DomainError, Network, Zone};
