//! `walt-run COMMAND`: runs a command of `walt node run`, and ends it when the connection is gone.
//!
//! Without a terminal an ssh server leaves a command alone whose client has gone: `Ctrl-C` or a time limit would end what
//! is seen of it, and not the command.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getppid, kill_process_group};

use crate::timeout::exit_code;

/// How often we look whether somebody is still there.
const LOOK: Duration = Duration::from_millis(250);

/// Between SIGHUP and SIGKILL.
const TIME_TO_END: Duration = Duration::from_secs(2);

pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let [command] = &arguments[..] else {
        eprintln!("usage: walt-run COMMAND");
        return ExitCode::from(2);
    };
    let parent = getppid();
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
    // A group of its own, so that the command's children end with it.
    let mut child = match Command::new(&shell).arg("-c").arg(command).process_group(0).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("walt-run: {shell:?}: {error}");
            return ExitCode::from(127);
        }
    };
    let group = Pid::from_raw(child.id() as i32);
    let watch = move || {
        // When the ssh server's process for this connection ends, we get another parent; it may have ended before we began.
        while getppid() == parent && !is_unheard() {
            thread::sleep(LOOK);
        }
        for signal in [Signal::HUP, Signal::KILL] {
            if let Some(group) = group {
                // It may have ended by itself just now.
                let _ = kill_process_group(group, signal);
            }
            thread::sleep(TIME_TO_END);
        }
        std::process::exit(129);
    };
    // Without the thread the command runs all the same.
    let _ = thread::Builder::new().stack_size(64 * 1024).spawn(watch);
    match child.wait() {
        Ok(status) => exit_code(status),
        Err(error) => {
            eprintln!("walt-run: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Nobody reads what the command says, neither its output nor its errors.
fn is_unheard() -> bool {
    let (out, err) = (rustix::stdio::stdout(), rustix::stdio::stderr());
    let mut streams = [PollFd::new(&out, PollFlags::empty()), PollFd::new(&err, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // poll(2): the writing end of a pipe without a reader has POLLERR, a socket without its peer POLLHUP.
    let gone = PollFlags::ERR | PollFlags::HUP;
    poll(&mut streams, Some(&at_once)).is_ok() && streams.iter().all(|stream| stream.revents().intersects(gone))
}
