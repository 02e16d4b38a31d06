//! `walt node console`: the serial port of a virtual node, on this terminal.

use std::io::{self, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Error};
use api::Node;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::http::{Client, target};

/// What the connection is when HTTP has ended on it.
const PROTOCOL: &str = "walt-console";
/// Begins a command to us, as in screen(1).
const CTRL_A: u8 = 1;

/// A terminal whose keys all go to the console, until this is dropped.
struct Raw {
    before: Termios,
}

impl Raw {
    fn new() -> Result<Self, Error> {
        let before = tcgetattr(io::stdin()).context("reading the state of the terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).context("changing the state of the terminal")?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing is left to be done if it fails.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

pub(super) fn attach(client: &Client, node: &Node) -> Result<(), Error> {
    let path = target(&["v1", "nodes", &node.name, "console"], &[]);
    let (mut output, shown) = client.upgrade(&path, PROTOCOL)?;
    let terminal = io::stdin().is_terminal();
    if terminal {
        eprintln!("[this is the console of {}: Ctrl-a d leaves it]", node.name);
    }
    let raw = terminal.then(Raw::new).transpose()?;
    let input = output.try_clone().context("the connection to walt-server-daemon")?;
    std::thread::spawn(move || type_on(input, terminal));
    let mut stdout = io::stdout();
    let mut result = stdout.write_all(&shown).and_then(|()| stdout.flush());
    let mut piece = [0; 16 * 1024];
    while result.is_ok() {
        result = match output.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => stdout.write_all(&piece[..read]).and_then(|()| stdout.flush()),
            Err(error) => Err(error),
        };
    }
    drop(raw);
    if terminal {
        eprintln!("\n[left the console of {}]", node.name);
    }
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("the console"),
        _ => Ok(()),
    }
}

/// Sends what is typed. The end of what is not a terminal leaves the console open: its output is what is wanted then.
fn type_on(mut console: UnixStream, terminal: bool) {
    let mut keys = Keys::default();
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = io::stdin().read(&mut piece) {
        let Some(typed) = (if terminal { keys.take(&piece[..read]) } else { Some(piece[..read].to_vec()) }) else {
            break;
        };
        if console.write_all(&typed).is_err() {
            return;
        }
    }
    if terminal {
        let _ = console.shutdown(Shutdown::Both);
    }
}

/// Keys, of which some are for us.
#[derive(Debug, Default)]
struct Keys {
    command: bool,
}

impl Keys {
    /// What goes to the console; `None` to leave it.
    fn take(&mut self, typed: &[u8]) -> Option<Vec<u8>> {
        let mut passed = Vec::with_capacity(typed.len());
        for byte in typed {
            match (std::mem::take(&mut self.command), *byte) {
                (true, b'd' | b'D' | 4) => return None,
                (true, b'a' | CTRL_A) => passed.push(CTRL_A),
                // No command of ours: it was meant for the console.
                (true, other) => passed.extend([CTRL_A, other]),
                (false, CTRL_A) => self.command = true,
                (false, other) => passed.push(other),
            }
        }
        Some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_a_d_leaves_and_all_else_is_typed() {
        let take = |pieces: &[&[u8]]| {
            let mut keys = Keys::default();
            pieces.iter().map(|piece| keys.take(piece)).collect::<Option<Vec<_>>>().map(|passed| passed.concat())
        };
        assert_eq!(take(&[b"ls\r\x03"]), Some(b"ls\r\x03".to_vec()));
        assert_eq!(take(&[b"x\x01a\x01x"]), Some(b"x\x01\x01x".to_vec()));
        assert_eq!(take(&[b"x\x01", b"dy"]), None);
        assert_eq!(take(&[b"\x01\x04"]), None);
    }
}
