//! What is logged: lines of nodes, events of the platform, and the daemon's own log; and who reads it.
//!
//! A line goes to the registry, and whoever wants it reads it there, the newest ones as soon as they are written.
//! So a reader that is slow misses nothing, and one that begins with the past goes on into the present without a gap.

mod checkpoints;
mod range;
mod read;

pub use checkpoints::Checkpoints;
pub use range::{Range, RangeError};
pub use read::{Filter, ReadError, Reading, Wanted};

/// Stream of what happens to the nodes and images of the platform.
pub const PLATFORM: &str = "platform";
/// Stream of the daemon's own log.
pub const DAEMON: &str = "daemon";
