//! Log lines and checkpoints.

use serde::{Deserialize, Serialize};

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// When it was written, by the clock of its issuer (microseconds since 1970).
    pub timestamp_us: i64,
    /// Name of the node that sent it, or `server`; the mac of a node that was forgotten.
    pub issuer: String,
    /// Stream that it belongs to.
    pub stream: String,
    /// Its text, without its end.
    pub line: String,
}

/// A moment with a name, to begin or end a range of log lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Checkpoint {
    /// Name: letters, digits, `-`, `_` and `.`, the first a letter.
    pub name: String,
    /// The moment (microseconds since 1970); now, if a request leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_us: Option<i64>,
}
