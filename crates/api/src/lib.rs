//! Request and response types that the server and its clients share.
//!
//! The control API is HTTP/1.1 and JSON on a Unix socket. Long operations answer with one JSON
//! object a line ([`Progress`]); the last line is `done` or `failed`. Times are seconds since
//! 1970-01-01 UTC, durations are milliseconds, unless a name says otherwise.

mod image;
mod log;
mod node;

pub use image::{Cloned, Exported, FileEntry, Image, ImageFormat, ImageState, Imported, Layer, Removed};
pub use log::{Checkpoint, LogLine};
pub use node::{
    BlinkRequest, BootRequest, ConfigRequest, CreateRequest, LeaseReport, Node, NodeKind, NodeState, RebootWay,
    Rebooted, Registration, RenameRequest, Step, StepStatus, Stuck, Trace,
};

use serde::{Deserialize, Serialize};

/// Where the daemon listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/walt/control.sock";

/// One line of a long operation's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Progress {
    /// What is being done now.
    Step {
        /// A sentence without a full stop.
        text: String,
    },
    /// Bytes of an image that have arrived.
    Bytes {
        /// Bytes so far, as the registry sends them (compressed).
        done: u64,
        /// All of them; 0 while this is not known.
        total: u64,
    },
    /// The operation ended well. Always the last line.
    Done {
        /// A sentence without a full stop.
        text: String,
    },
    /// The operation failed. Always the last line.
    Failed {
        /// Reason.
        error: Problem,
    },
}

/// Why a request was not fulfilled: what failed on what, why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// For programs.
    pub kind: ProblemKind,
    /// What failed, on what, and why.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// Class of a [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The request itself is malformed (HTTP 400).
    BadRequest,
    /// No such node (404).
    UnknownNode,
    /// No such image (404).
    UnknownImage,
    /// No such path in the image (404).
    UnknownPath,
    /// No such checkpoint (404).
    UnknownCheckpoint,
    /// The thing is in use (409).
    InUse,
    /// The image can not be used for this (422).
    UnsuitableImage,
    /// This server is not set up for it (501).
    Unsupported,
    /// A node or a registry did not answer (502).
    Unreachable,
    /// It did not happen in time (504).
    Timeout,
    /// The server itself failed (500).
    Internal,
}

impl ProblemKind {
    /// HTTP status that carries it.
    pub fn http_status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::UnknownNode | Self::UnknownImage | Self::UnknownPath | Self::UnknownCheckpoint => 404,
            Self::InUse => 409,
            Self::UnsuitableImage => 422,
            Self::Unsupported => 501,
            Self::Unreachable => 502,
            Self::Timeout => 504,
            Self::Internal => 500,
        }
    }
}

/// The user who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct User {
    /// Name: whoever boots images `<name>/…` owns the nodes that do.
    pub name: String,
}

/// The daemon, as it sees itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Seconds since it was ready.
    pub uptime_s: u64,
    /// Interface that nodes are on.
    pub interface: String,
    /// Address that nodes know it by.
    pub address: String,
    /// Packets and requests, `<service>.<counter>`, since start.
    pub counters: std::collections::BTreeMap<String, u64>,
}
