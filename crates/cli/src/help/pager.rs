//! A long text on a terminal.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Error};

use crate::report::say;

/// Shows `text`: by `$PAGER`, else `less`, if standard output is a terminal.
pub(super) fn show(text: &str, terminal: bool) -> Result<(), Error> {
    let text = text.trim_end();
    if !terminal {
        return say(text);
    }
    let asked = std::env::var("PAGER").ok().filter(|pager| !pager.trim().is_empty());
    // Short pages leave at once, and stay on the screen.
    let mut command = Command::new("sh");
    command.args(["-c", asked.as_deref().unwrap_or("less")]).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", "FRX");
    }
    let Ok(mut pager) = command.stderr(Stdio::null()).spawn() else { return say(text) };
    if let Some(mut input) = pager.stdin.take() {
        match writeln!(input, "{text}") {
            // Who has read enough leaves.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error).context("writing to the pager"),
            _ => {}
        }
    }
    let status = pager.wait().context("waiting for the pager")?;
    // 127 (sh(1)): there is no such program. Then it has shown nothing.
    if status.code() == Some(127) { say(text) } else { Ok(()) }
}
