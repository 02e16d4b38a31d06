//! `walt-log-monitor COMMAND…`: runs a command on a terminal of its own and logs what it prints.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::{LogStream, Options};
use crate::failure::{Doing as _, Failure};
use crate::timeout::exit_code;

/// Longest line kept before it is sent in pieces.
const MAX_PIECE: usize = 16 * 1024;

pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let watch = || -> Result<ExitCode, Failure> {
        let (options, command) = Options::split(&arguments)?;
        let Some((program, arguments)) = command.split_first() else {
            eprintln!("usage: walt-log-monitor [--server ADDRESS:PORT] [--patience SECONDS] COMMAND [ARGUMENT]...");
            return Ok(ExitCode::from(2));
        };
        let log = LogStream::open(&options.to, &stream_name(program))?;
        let (mut terminal, mut child) = start(program, arguments)?;
        let raw = forward_input(&terminal);
        let copied = copy_output(&mut terminal, &options, &log);
        let status = child.wait().doing(|| "wait for the command".into());
        drop(raw);
        copied?;
        log.close()?;
        status.map(exit_code)
    };
    watch().unwrap_or_else(|failure| {
        eprintln!("walt-log-monitor: {failure}");
        ExitCode::FAILURE
    })
}

/// The stream is named by the program.
fn stream_name(program: &OsString) -> String {
    let name = Path::new(program).file_name().unwrap_or(program).as_bytes();
    let good = |b: u8| if b.is_ascii_alphanumeric() || b"-_.+".contains(&b) { b as char } else { '_' };
    name.iter().take(64).map(|&b| good(b)).collect()
}

/// Runs the program with a new pseudo-terminal as its standard input, output and error.
fn start(program: &OsString, arguments: &[OsString]) -> Result<(File, Child), Failure> {
    let open = || -> io::Result<(File, File)> {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&controller)?;
        unlockpt(&controller)?;
        let name = ptsname(&controller, Vec::new())?;
        let user = OpenOptions::new().read(true).write(true).open(std::ffi::OsStr::from_bytes(name.to_bytes()))?;
        if let Ok(size) = tcgetwinsize(rustix::stdio::stdout()) {
            tcsetwinsize(&user, size)?;
        }
        Ok((File::from(controller), user))
    };
    let (controller, user) = open().doing(|| "open a pseudo-terminal".into())?;
    let end = || user.try_clone().map(Stdio::from).doing(|| "share the pseudo-terminal".into());
    let mut command = Command::new(program);
    command.args(arguments).stdin(end()?).stdout(end()?).stderr(end()?);
    sys::child::on_terminal(&mut command);
    // `user` is closed on return: the controller then sees the end when the command ends.
    Ok((controller, command.spawn().doing(|| format!("run {program:?}"))?))
}

/// Restores the caller's terminal when it is dropped.
struct RawInput(Termios);

impl Drop for RawInput {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What is typed goes to the command as it is, interrupt characters included.
fn forward_input(terminal: &File) -> Option<RawInput> {
    let input = rustix::stdio::stdin();
    if !isatty(input) {
        return None;
    }
    let before = tcgetattr(input).ok()?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(input, OptionalActions::Now, &raw).ok()?;
    if let Ok(mut terminal) = terminal.try_clone() {
        // Ends with the process: standard input may never say anything.
        thread::spawn(move || io::copy(&mut io::stdin(), &mut terminal));
    }
    Some(RawInput(before))
}

/// Copies to standard output and, a line at a time, to the log.
fn copy_output(terminal: &mut File, options: &Options, log: &LogStream) -> Result<(), Failure> {
    let mut buffer = [0; 4096];
    let mut line = Vec::new();
    // A pseudo-terminal whose last user is gone reads as EIO.
    while let Ok(length @ 1..) = terminal.read(&mut buffer) {
        let text = &buffer[..length];
        let mut output = io::stdout();
        output.write_all(text).and_then(|()| output.flush()).doing(|| "write standard output".into())?;
        for &byte in text {
            if byte == b'\n' || line.len() >= MAX_PIECE {
                log.push(options.line(line.strip_suffix(b"\r").unwrap_or(&line))?);
                line.clear();
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
    }
    if !line.is_empty() {
        log.push(options.line(&line)?);
    }
    Ok(())
}
