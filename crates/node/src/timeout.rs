//! `walt-timeout SECONDS COMMAND…`: ends a command that takes too long.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Exit code when the time is over, as of coreutils' timeout.
const TIMED_OUT: u8 = 124;

/// Between SIGTERM and SIGKILL.
const TIME_TO_END: Duration = Duration::from_secs(5);

pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let seconds = arguments.first().and_then(|text| text.to_str()?.parse().ok());
    let limit = seconds.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    let (Some(limit), Some(program)) = (limit, arguments.get(1)) else {
        eprintln!("usage: walt-timeout SECONDS COMMAND [ARGUMENT]...");
        return ExitCode::from(2);
    };
    // A group of its own, so that the command's children end with it.
    let mut child = match Command::new(program).args(&arguments[2..]).process_group(0).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("walt-timeout: {program:?}: {error}");
            return ExitCode::from(127);
        }
    };
    if let Some(status) = wait(&mut child, limit) {
        return exit_code(status);
    }
    for signal in [Signal::TERM, Signal::KILL] {
        if let Some(group) = Pid::from_raw(child.id() as i32) {
            // The group may have ended by itself just now.
            let _ = kill_process_group(group, signal);
        }
        if wait(&mut child, TIME_TO_END).is_some() {
            break;
        }
    }
    ExitCode::from(TIMED_OUT)
}

/// The child's end, if it comes within `limit`.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        let left = limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            return None;
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// As a shell would give it: 128 plus the signal for a command that was killed.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}
