//! Files on their way between a node and its server: out of a directory into a tar, and out of such a tar into a
//! directory. The agent on the node and `walt node cp` are the two ends.
//!
//! Whoever receives does not trust the sender: see [`receive()`].

mod receive;
mod send;
mod stream;

pub use receive::{Keep, ReceiveError, receive};
pub use send::{SendError, Sent, send, total};
pub use stream::{Missing, TarStream};

/// How far a transfer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// So many bytes of content will come, as the sender has counted them.
    Total(u64),
    /// So many more bytes of content have come.
    Bytes(u64),
}
