//! Talking with the agents of nodes (see [`wire::node`]): the server that they connect to, requests to
//! them, and their kernels' netconsole.

mod client;
mod netconsole;
mod server;
#[cfg(test)]
mod tests;

pub use client::{RequestError, ask};
pub use netconsole::Netconsole;
pub use server::NodeServer;

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970.
fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
