//! What the server asks of a node.

use std::fmt;

/// A request to the agent's network service, one a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Are you there?
    Ping,
    /// Reboot: the image's own program first, by force if it does not.
    Reboot,
    /// Start (true) or stop (false) the image's `/bin/blink`.
    Blink(bool),
    /// The kernel's log: it follows the `OK` line, up to the end of the connection.
    Dmesg,
}

/// The line is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The first line is not `MODE single`.
    #[error("expected \"MODE single\"")]
    BadMode,
    /// The request is not known.
    #[error("unknown request")]
    Unknown,
    /// `BLINK` takes `0` or `1`.
    #[error("BLINK takes 0 or 1")]
    BadBlink,
}

impl Request {
    /// First line of a connection: one request follows.
    pub const MODE: &'static str = "MODE single";

    /// Checks the first line of a connection.
    pub fn check_mode(line: &str) -> Result<(), RequestError> {
        if words(line).eq(["MODE", "single"]) { Ok(()) } else { Err(RequestError::BadMode) }
    }

    /// Reads the second line of a connection.
    pub fn parse(line: &str) -> Result<Self, RequestError> {
        let mut words = words(line);
        let request = match (words.next(), words.next()) {
            (Some("PING"), None) => Self::Ping,
            (Some("REBOOT"), None) => Self::Reboot,
            (Some("DMESG"), None) => Self::Dmesg,
            (Some("BLINK"), Some("0")) => Self::Blink(false),
            (Some("BLINK"), Some("1")) => Self::Blink(true),
            (Some("BLINK"), _) => return Err(RequestError::BadBlink),
            _ => return Err(RequestError::Unknown),
        };
        if words.next().is_some() { Err(RequestError::Unknown) } else { Ok(request) }
    }

    /// All that a client sends on its connection.
    pub fn encode(self) -> String {
        format!("{}\n{self}\n", Self::MODE)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ping => "PING",
            Self::Reboot => "REBOOT",
            Self::Blink(false) => "BLINK 0",
            Self::Blink(true) => "BLINK 1",
            Self::Dmesg => "DMESG",
        })
    }
}

/// The agent's answer: one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done, or begun.
    Ok,
    /// Not done, and why.
    Ko(String),
}

/// The line is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected \"OK\" or \"KO <reason>\", got {0:?}")]
pub struct AnswerError(String);

impl Answer {
    /// Reads the line (without its newline).
    pub fn parse(line: &str) -> Result<Self, AnswerError> {
        let line = printable(line);
        match line.trim_end().split_once(' ') {
            None if line.trim_end() == "OK" => Ok(Self::Ok),
            None if line.trim_end() == "KO" => Ok(Self::Ko(String::new())),
            Some(("KO", reason)) => Ok(Self::Ko(reason.to_owned())),
            _ => Err(AnswerError(line.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for Answer {
    /// The line to send, without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("OK"),
            Self::Ko(reason) => f.write_str(format!("KO {}", printable(reason)).trim_end()),
        }
    }
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_survives_the_wire() {
        for request in [Request::Ping, Request::Reboot, Request::Blink(false), Request::Blink(true), Request::Dmesg] {
            let text = request.encode();
            let mut lines = text.lines();
            assert_eq!(Request::check_mode(lines.next().unwrap()), Ok(()));
            assert_eq!(Request::parse(lines.next().unwrap()), Ok(request));
        }
    }

    #[test]
    fn a_peer_of_habit_may_end_lines_with_cr() {
        assert_eq!(Request::check_mode("MODE single\r"), Ok(()));
        assert_eq!(Request::parse("BLINK 1\r"), Ok(Request::Blink(true)));
        assert_eq!(Answer::parse("OK\r"), Ok(Answer::Ok));
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(Request::check_mode("MODE many"), Err(RequestError::BadMode));
        assert_eq!(Request::check_mode("PING"), Err(RequestError::BadMode));
        for (line, error) in [
            ("", RequestError::Unknown),
            ("ping", RequestError::Unknown),
            ("PING now", RequestError::Unknown),
            ("BLINK", RequestError::BadBlink),
            ("BLINK 2", RequestError::BadBlink),
            ("BLINK 1 2", RequestError::Unknown),
        ] {
            assert_eq!(Request::parse(line), Err(error), "{line:?}");
        }
        assert!(Answer::parse("OKAY").is_err() && Answer::parse("").is_err() && Answer::parse("OK then").is_err());
    }

    #[test]
    fn a_reason_is_one_line() {
        let answer = Answer::Ko("no /bin/blink\nOK".into());
        assert_eq!(answer.to_string(), "KO no /bin/blink OK");
        assert_eq!(Answer::parse("KO no /bin/blink"), Ok(Answer::Ko("no /bin/blink".into())));
        assert_eq!(Answer::parse("KO"), Ok(Answer::Ko(String::new())));
    }
}
