//! The node protocol: what the agent on a node and the daemon say to each other over TCP.
//!
//! * The agent listens on [`NET_SERVICE_PORT`]; the daemon connects and sends one [`Request`]
//!   ([`Request::encode`]), the agent answers with an [`Answer`].
//! * The daemon listens on [`SERVER_PORT`]; an agent connects and opens a [`Session`]: either the
//!   notification that the node is up, which lasts as long as the node, or a stream of log lines.
//! * A boot sends its steps on the log stream [`BOOT_STREAM`], one [`BootStep`] a line.
//! * What switches tell a node of themselves (LLDP) goes to the log stream [`LLDP_STREAM`], one [`Attachment`] a line.
//!
//! All of it is lines that end with `\n`; a line is at most [`MAX_LINE`] bytes, so that a reader can
//! bound its buffer.

mod attachment;
mod boot_step;
mod capability;
mod request;
mod session;

pub use attachment::{Attachment, AttachmentError};
pub use boot_step::{BootStep, BootStepError};
pub use capability::{CAPABILITY_LIST, CapabilityError, FileCapability};
pub use request::{Answer, AnswerError, Request, RequestError};
pub use session::{Confirmed, Session, SessionError, SessionEvent, StreamName, StreamNameError, Timestamps, timestamp};

/// TCP port of the agent's network service.
pub const NET_SERVICE_PORT: u16 = 12346;

/// TCP port of the daemon for bootup notifications and log streams.
pub const SERVER_PORT: u16 = 12347;

/// UDP port of the daemon for the kernel's netconsole.
pub const NETCONSOLE_PORT: u16 = 12342;

/// Longest line of the protocol in bytes, its `\n` not counted. A longer one is a reason to close.
pub const MAX_LINE: usize = 64 * 1024;

/// Log stream that carries the steps of a boot, one [`BootStep`] a line.
pub const BOOT_STREAM: &str = "walt-boot";

/// Log stream that says which switch a node hangs on, one [`Attachment`] a line.
pub const LLDP_STREAM: &str = "walt-lldp";

/// First line of a bootup notification.
pub const NOTIFY_BOOTUP_STATUS: &str = "REQ_NOTIFY_BOOTUP_STATUS";

/// First line of a log stream.
pub const NEW_INCOMING_LOGS: &str = "REQ_NEW_INCOMING_LOGS";

/// First line of a log stream whose lines the server confirms: from time to time it sends a line with the number of lines
/// of this connection that it has kept so far, all of them after [`CLOSE`]. What was not confirmed when a connection ends
/// is sent again on the next one.
pub const NEW_CONFIRMED_LOGS: &str = "REQ_NEW_CONFIRMED_LOGS";

/// Last line of a log stream.
pub const CLOSE: &str = "CLOSE";

/// Seconds between two newlines on the connection of a bootup notification.
pub const KEEP_ALIVE_SECONDS: u64 = 20;

/// Directory of an image in which the server's layer keeps what only the agent uses.
pub const INTERNAL_DIRECTORY: &str = "/bin/_walt_internal_";

/// Directories that every booted image must have, because the agent mounts file systems on them
/// while the root is still read-only: the server's layer adds those that the image lacks.
pub const MOUNT_POINTS: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

/// Names under `/bin` by which the one program of the agent is called in an image.
pub const PROGRAM_NAMES: [&str; 10] = [
    "walt-init",
    "walt-clock-sync",
    "walt-log-echo",
    "walt-log-cat",
    "walt-log-tee",
    "walt-log-monitor",
    "walt-timeout",
    "walt-echo",
    "walt-cat",
    "walt-tee",
];
