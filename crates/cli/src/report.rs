//! What a person reads: answers, and why there is none.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error};
use api::{Problem, Status};
use serde::Serialize;

use crate::http::{Client, HttpError};
use crate::media;

/// Prints why the command failed, and what to do; returns its exit code.
pub(crate) fn failure(error: &Error) -> ExitCode {
    // `walt image cat ... | head`: the reader has what it wanted.
    let pipe = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    if pipe.into_iter().any(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::from(141);
    }
    let mut stderr = io::stderr().lock();
    // Nothing can be done about a standard error that can not be written.
    let _ = writeln!(stderr, "{} {error:#}", paint(Colour::Red, "walt:", stderr.is_terminal()));
    if let Some(hint) = hint(error) {
        for line in hint.lines() {
            let _ = writeln!(stderr, "      {line}");
        }
    }
    ExitCode::FAILURE
}

fn hint(error: &Error) -> Option<String> {
    if let Some(HttpError::Connect { cause, .. }) = error.downcast_ref() {
        return Some(match cause.kind() {
            io::ErrorKind::PermissionDenied => "be root, or a member of the group `walt`".into(),
            _ => "is it running (`systemctl status walt-server`)? another socket is named by --socket or WALT_SOCKET"
                .into(),
        });
    }
    if let Some(error) = error.downcast_ref::<boot::media::output::OutputError>() {
        return error.hint();
    }
    if let Some(media::Advised { advice, .. }) = error.downcast_ref() {
        return Some(advice.clone());
    }
    problem(error)?.hint.clone()
}

fn problem(error: &Error) -> Option<&Problem> {
    match error.downcast_ref() {
        Some(HttpError::Refused(problem)) => Some(problem),
        _ => error.downcast_ref(),
    }
}

/// Prints something that a person should know of, and that is no failure.
pub(crate) fn warn(text: impl Display) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{} {text}", paint(Colour::Yellow, "walt:", stderr.is_terminal()));
}

/// Prints a line on standard output.
pub(crate) fn say(text: impl Display) -> Result<(), Error> {
    writeln!(io::stdout().lock(), "{text}").context("writing to standard output")
}

/// Prints a value as JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<(), Error> {
    say(serde_json::to_string_pretty(value).context("writing JSON")?)
}

/// Colours that are used.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Colour {
    Red,
    Green,
    Yellow,
    Dim,
}

/// `text` in a colour, if it goes to a terminal (ECMA-48 §8.3.117).
pub(crate) fn paint(colour: Colour, text: &str, to_terminal: bool) -> String {
    let code = match colour {
        Colour::Red => 31,
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Dim => 2,
    };
    tint(code, text, to_terminal)
}

/// `text` in the colour of this number, if it goes to a terminal.
pub(crate) fn tint(code: u8, text: &str, to_terminal: bool) -> String {
    // https://no-color.org
    if !to_terminal || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return text.to_owned();
    }
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Prints what the server says of itself.
pub(crate) fn status(client: &Client, as_json: bool) -> Result<(), Error> {
    let status: Status = client.get("/v1/status")?;
    if as_json {
        return json(&status);
    }
    say(format_args!("walt-server-daemon {} on {} ({})", status.version, status.interface, status.address))?;
    say(format_args!("up for {}", duration(status.uptime_s)))?;
    for (name, value) in status.counters.iter().filter(|(_, value)| **value > 0) {
        say(format_args!("{value:>12}  {name}"))?;
    }
    Ok(())
}

/// `3 s`, `5 min`, `2 h`, `4 d`.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `5 min ago`.
pub(crate) fn ago(at: i64) -> String {
    format!("{} ago", duration(u64::try_from(now() - at).unwrap_or(0)))
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// `4.2 MB`: powers of ten, as disks are sold and as registries count.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.5 {
        format!("{value:.0} {}", units[unit])
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        for (size, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (732_000_000, "732 MB"), (999_950_000, "1.0 GB")]
        {
            assert_eq!(bytes(size), text);
        }
        for (seconds, text) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d")] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn colour_is_for_terminals() {
        assert_eq!(paint(Colour::Red, "x", false), "x");
    }
}
