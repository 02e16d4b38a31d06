//! What a node tells the server: that it is up, and log lines.

use std::fmt;
use std::time::Duration;

use super::{CLOSE, NEW_CONFIRMED_LOGS, NEW_INCOMING_LOGS, NOTIFY_BOOTUP_STATUS};

/// Name of a log stream: 1 to 64 bytes of ASCII letters, digits, `-`, `_`, `.`, `:`, `/`, `@`, `+`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamName(String);

/// The text is no name of a log stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a stream name (1 to 64 letters, digits or -_.:/@+)")]
pub struct StreamNameError(String);

impl StreamName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, StreamNameError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/@+".contains(&b);
        if (1..=64).contains(&text.len()) && text.bytes().all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(StreamNameError(text.chars().take(80).collect()))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether the server tells the node which lines it has kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// `REQ_NEW_INCOMING_LOGS`: it tells nothing.
    No,
    /// `REQ_NEW_CONFIRMED_LOGS`.
    Yes,
}

/// Whether the node put a time in front of each line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamps {
    /// `NO_TIMESTAMPS`: the server takes the time of arrival.
    None,
    /// `TIMESTAMPS_INSIDE`: each line is `<seconds since 1970, with fraction> <text>`.
    Inside,
}

/// The server's side of one connection to [`SERVER_PORT`](super::SERVER_PORT): feed it the lines,
/// do what the [`SessionEvent`] says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Session {
    /// Nothing was read yet.
    #[default]
    Start,
    /// A node that is up, as long as the connection lasts.
    Notified,
    /// A log stream whose name comes next.
    Name(Confirmed),
    /// A log stream whose kind of timestamps comes next.
    Timestamps(Confirmed, StreamName),
    /// A log stream.
    Lines(StreamName, Timestamps),
    /// The stream was closed by its node.
    Closed,
}

/// What a line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent<'a> {
    /// Part of the opening, or a keep-alive: nothing to do.
    Nothing,
    /// The node has booted: answer `OK\n`, and hold it for up until the connection ends.
    Booted,
    /// A log stream begins.
    Opened(Confirmed, StreamName, Timestamps),
    /// A line of the stream.
    Line {
        /// Time since 1970 that the node gave, if the stream has timestamps.
        timestamp: Option<Duration>,
        /// The text, any bytes but newline.
        text: &'a [u8],
    },
    /// The stream ended: close the connection.
    Closed,
}

/// The peer does not speak the protocol: close the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The first line names no request.
    #[error("unknown request {0:?}")]
    UnknownRequest(String),
    /// The second line of a log stream.
    #[error(transparent)]
    BadName(#[from] StreamNameError),
    /// The third line of a log stream.
    #[error("expected NO_TIMESTAMPS or TIMESTAMPS_INSIDE, got {0:?}")]
    BadTimestamps(String),
    /// A line of a stream with timestamps does not begin with one.
    #[error("line without its timestamp")]
    NoTimestamp,
    /// More than keep-alives from a node that has booted, or a line after `CLOSE`.
    #[error("unexpected line")]
    Unexpected,
}

impl Session {
    /// Takes the next line, without its newline.
    pub fn line<'a>(&mut self, line: &'a [u8]) -> Result<SessionEvent<'a>, SessionError> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self {
            Self::Start => match line {
                _ if line == NOTIFY_BOOTUP_STATUS.as_bytes() => {
                    *self = Self::Notified;
                    Ok(SessionEvent::Booted)
                }
                _ if line == NEW_INCOMING_LOGS.as_bytes() => {
                    *self = Self::Name(Confirmed::No);
                    Ok(SessionEvent::Nothing)
                }
                _ if line == NEW_CONFIRMED_LOGS.as_bytes() => {
                    *self = Self::Name(Confirmed::Yes);
                    Ok(SessionEvent::Nothing)
                }
                _ => Err(SessionError::UnknownRequest(excerpt(line))),
            },
            Self::Notified if line.is_empty() => Ok(SessionEvent::Nothing),
            Self::Name(confirmed) => {
                *self = Self::Timestamps(*confirmed, StreamName::parse(&String::from_utf8_lossy(line))?);
                Ok(SessionEvent::Nothing)
            }
            Self::Timestamps(confirmed, name) => {
                let timestamps = match line {
                    b"NO_TIMESTAMPS" => Timestamps::None,
                    b"TIMESTAMPS_INSIDE" => Timestamps::Inside,
                    _ => return Err(SessionError::BadTimestamps(excerpt(line))),
                };
                let event = SessionEvent::Opened(*confirmed, name.clone(), timestamps);
                *self = Self::Lines(name.clone(), timestamps);
                Ok(event)
            }
            Self::Lines(..) if line == CLOSE.as_bytes() => {
                *self = Self::Closed;
                Ok(SessionEvent::Closed)
            }
            Self::Lines(_, Timestamps::None) => Ok(SessionEvent::Line { timestamp: None, text: line }),
            Self::Lines(_, Timestamps::Inside) => {
                let end = line.iter().position(|&b| b == b' ').unwrap_or(line.len());
                let timestamp = timestamp(&line[..end]).ok_or(SessionError::NoTimestamp)?;
                Ok(SessionEvent::Line { timestamp: Some(timestamp), text: line.get(end + 1..).unwrap_or_default() })
            }
            Self::Notified | Self::Closed => Err(SessionError::Unexpected),
        }
    }

    /// What a node sends to open a log stream.
    pub fn open_stream(confirmed: Confirmed, name: &StreamName, timestamps: Timestamps) -> String {
        let request = match confirmed {
            Confirmed::No => NEW_INCOMING_LOGS,
            Confirmed::Yes => NEW_CONFIRMED_LOGS,
        };
        let timestamps = match timestamps {
            Timestamps::None => "NO_TIMESTAMPS",
            Timestamps::Inside => "TIMESTAMPS_INSIDE",
        };
        format!("{request}\n{name}\n{timestamps}\n")
    }
}

/// `1700000000.25`, up to nanoseconds: the time in front of a line.
pub fn timestamp(text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{:0<9.9}", fraction).parse().ok()?;
    Some(Duration::new(seconds.parse().ok()?, nanos))
}

fn excerpt(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(text: &str) -> Vec<Result<SessionEvent<'_>, SessionError>> {
        let mut session = Session::default();
        text.lines().map(|line| session.line(line.as_bytes())).collect()
    }

    #[test]
    fn a_notification_is_followed_by_keep_alives_only() {
        let events = feed("REQ_NOTIFY_BOOTUP_STATUS\n\n\nhello");
        assert_eq!(
            events,
            [
                Ok(SessionEvent::Booted),
                Ok(SessionEvent::Nothing),
                Ok(SessionEvent::Nothing),
                Err(SessionError::Unexpected)
            ]
        );
    }

    #[test]
    fn a_stream_is_opened_by_what_the_node_sends() {
        let name = StreamName::parse("walt-boot").unwrap();
        let text = Session::open_stream(Confirmed::Yes, &name, Timestamps::None) + "a line\n\nCLOSE\n";
        assert_eq!(
            feed(&text),
            [
                Ok(SessionEvent::Nothing),
                Ok(SessionEvent::Nothing),
                Ok(SessionEvent::Opened(Confirmed::Yes, name, Timestamps::None)),
                Ok(SessionEvent::Line { timestamp: None, text: b"a line" }),
                Ok(SessionEvent::Line { timestamp: None, text: b"" }),
                Ok(SessionEvent::Closed),
            ]
        );
    }

    #[test]
    fn timestamps_are_taken_off_the_line() {
        let events =
            feed("REQ_NEW_INCOMING_LOGS\nx\nTIMESTAMPS_INSIDE\n1700000000.25 hello you\n17 \n18\n-1 x\n1.x y\n. z");
        let line = |secs, nanos, text| Ok(SessionEvent::Line { timestamp: Some(Duration::new(secs, nanos)), text });
        assert_eq!(events[3], line(1_700_000_000, 250_000_000, b"hello you"));
        assert_eq!(events[4], line(17, 0, b""));
        assert_eq!(events[5], line(18, 0, b""));
        assert!(events[6..].iter().all(|e| *e == Err(SessionError::NoTimestamp)), "{events:?}");
    }

    #[test]
    fn strangers_are_refused_at_their_first_wrong_line() {
        assert_eq!(feed("GET / HTTP/1.1"), [Err(SessionError::UnknownRequest("GET / HTTP/1.1".into()))]);
        assert!(matches!(feed("REQ_NEW_INCOMING_LOGS\na b")[1], Err(SessionError::BadName(_))));
        assert!(matches!(feed("REQ_NEW_INCOMING_LOGS\na\nmaybe")[2], Err(SessionError::BadTimestamps(_))));
        assert_eq!(feed("REQ_NEW_INCOMING_LOGS\na\nNO_TIMESTAMPS\nCLOSE\nx")[4], Err(SessionError::Unexpected));
        assert!(StreamName::parse("").is_err() && StreamName::parse(&"x".repeat(65)).is_err());
    }
}
