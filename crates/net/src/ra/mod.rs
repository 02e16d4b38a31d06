//! One answer to router solicitations: "I am no router, and there is nothing to configure".
//!
//! Stock iPXE solicits a router after its DHCPACK and waits 12.7 s for an advertisement before it loads anything. An
//! advertisement with lifetime 0, no prefix and no flags ends this wait, and makes us nobody's router
//! (RFC 4861 §6.3.4: a lifetime of 0 is no default router).

mod rate;
mod server;
mod solicitation;

pub use rate::RateLimit;
pub use server::{BindError, Counters, Server};
pub use solicitation::{ADVERTISEMENT, Malformed, Solicitation};
