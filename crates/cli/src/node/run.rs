//! `walt node run` and `shell`.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Error, bail};
use api::Node;

use super::args::{RunArgs, ShellArgs};
use super::interrupt::{Ended, Interrupt, TIMED_OUT};
use super::login::{Login, expect_booted, start};
use super::set::members;
use crate::http::{Client, target};
use crate::report;

/// Nodes on which a command runs at a time.
const AT_ONCE: usize = 64;

/// Longest piece of a line that is printed at once, in bytes.
const MAX_PIECE: u64 = 64 * 1024;

/// A terminal with the user's keys on this side and a shell on the other.
pub(super) fn shell(client: &Client, args: &ShellArgs) -> Result<ExitCode, Error> {
    let node: Node = client.get(&target(&["v1", "nodes", &args.node], &[]))?;
    expect_booted(&node)?;
    let login = Login::open(client)?;
    // Ctrl-C is a key like others for the shell, but before ssh has the terminal it is a signal for both of us.
    let interrupt = Interrupt::watch()?;
    let mut child = start(login.ssh(&node.ip).arg("-tt"))?;
    Ok(code(interrupt.wait(&mut child, None)?))
}

pub(super) fn run(client: &Client, args: &RunArgs) -> Result<ExitCode, Error> {
    let nodes = members(client, &args.nodes)?;
    let command = args.command.join(" ");
    let limit = args.timeout.map(Duration::from_secs);
    if let [node] = &nodes[..] {
        expect_booted(node)?;
    }
    let login = Login::open(client)?;
    let interrupt = Interrupt::watch()?;
    if let [node] = &nodes[..] {
        let mut child = start(&mut login.agent(&node.ip, "walt-run", Some(&command)))?;
        let ended = interrupt.wait(&mut child, limit)?;
        if ended == Ended::Late {
            report::warn(format_args!("{} has not done it within {} s", node.name, args.timeout.unwrap_or_default()));
        }
        return Ok(code(ended));
    }
    let job = Job { login, interrupt, command, limit, output: Mutex::new(()) };
    let next = AtomicUsize::new(0);
    let codes = Mutex::new(vec![1; nodes.len()]);
    std::thread::scope(|scope| {
        for _ in 0..nodes.len().min(AT_ONCE) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(node) = nodes.get(at) else { return };
                    let code = job.on(node).unwrap_or_else(|error| {
                        job.print(
                            io::stderr(),
                            &prefix(&node.name, io::stderr().is_terminal()),
                            format!("{error:#}").as_bytes(),
                        );
                        1
                    });
                    if let Ok(mut codes) = codes.lock() {
                        codes[at] = code;
                    }
                }
            });
        }
    });
    if let Some(code) = job.interrupt.code() {
        return Ok(ExitCode::from(code));
    }
    let codes = codes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let failed: Vec<_> = nodes.iter().zip(&codes).filter(|(_, code)| **code != 0).collect();
    if !failed.is_empty() {
        let names: Vec<_> = failed.iter().map(|(node, code)| format!("{} ({code})", node.name)).collect();
        report::warn(format_args!("it failed on {} of {} nodes: {}", failed.len(), nodes.len(), names.join(", ")));
    }
    Ok(ExitCode::from(codes.into_iter().max().unwrap_or(0)))
}

fn code(ended: Ended) -> ExitCode {
    ExitCode::from(match ended {
        Ended::With(code) | Ended::Interrupted(code) => code,
        Ended::Late => TIMED_OUT,
    })
}

/// A command that runs on several nodes.
struct Job {
    login: Login,
    interrupt: Interrupt,
    command: String,
    limit: Option<Duration>,
    /// Held for a line, so that lines of two nodes do not mix.
    output: Mutex<()>,
}

impl Job {
    /// Runs it on one of them; gives its exit code.
    fn on(&self, node: &Node) -> Result<u8, Error> {
        if self.interrupt.code().is_some() {
            bail!("not begun");
        }
        expect_booted(node)?;
        let mut command = self.login.agent(&node.ip, "walt-run", Some(&self.command));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = start(&mut command)?;
        let (stdout, stderr) = child.stdout.take().zip(child.stderr.take()).context("ssh has no output")?;
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| self.copy(stdout, io::stdout, &prefix(&node.name, io::stdout().is_terminal())));
            scope.spawn(|| self.copy(stderr, io::stderr, &prefix(&node.name, io::stderr().is_terminal())));
            self.interrupt.wait(&mut child, self.limit)
        })?;
        match ended {
            Ended::With(code) | Ended::Interrupted(code) => Ok(code),
            Ended::Late => {
                let seconds = self.limit.unwrap_or_default().as_secs();
                let text = format!("not done within {seconds} s");
                self.print(io::stderr(), &prefix(&node.name, io::stderr().is_terminal()), text.as_bytes());
                Ok(TIMED_OUT)
            }
        }
    }

    fn copy<W: Write>(&self, from: impl Read, to: impl Fn() -> W, prefix: &str) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut from).take(MAX_PIECE).read_until(b'\n', &mut line) {
                Ok(read) if read > 0 => self.print(to(), prefix, line.strip_suffix(b"\n").unwrap_or(&line)),
                _ => return,
            }
        }
    }

    fn print(&self, mut to: impl Write, prefix: &str, line: &[u8]) {
        let _alone = self.output.lock();
        // A reader that has gone (`| head`) is no reason to leave the command half done.
        let _ = to.write_all(&[prefix.as_bytes(), line, b"\n"].concat()).and_then(|()| to.flush());
    }
}

/// The node's name in the colour that it always has.
fn prefix(name: &str, to_terminal: bool) -> String {
    // Red is for failures, black and white are backgrounds (ECMA-48 §8.3.117).
    const COLOURS: [u8; 10] = [32, 33, 34, 35, 36, 92, 93, 94, 95, 96];
    let sum = name.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("{} ", report::tint(COLOURS[sum % COLOURS.len()], &format!("{name}:"), to_terminal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_colour_and_none_without_a_terminal() {
        assert_eq!(prefix("node-1", false), "node-1: ");
        assert_eq!(prefix("node-1", true), prefix("node-1", true));
        assert_ne!(prefix("node-1", true), prefix("node-2", true).replace("node-2", "node-1"));
    }
}
