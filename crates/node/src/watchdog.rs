//! The NFS watchdog: reboots a node whose root file system is gone.
//!
//! A program on an NFS share that does not answer can't even be killed, so whoever waits for the
//! server may wait for ever. The watchdog therefore needs nothing of it: walt-init starts it with its
//! root and working directory in RAM, and it locks its own pages there.

mod nfs_client;

use std::ffi::OsString;
use std::fs::File;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use rustix::mm::{MlockAllFlags, mlockall};

use crate::console::{Level, say};
use crate::failure::{Doing as _, Failure};
use crate::kernel_arguments::NfsShare;
use crate::options::Options;
use crate::power;

use self::nfs_client::NfsClient;

const NAME: &str = "walt-watchdog";

/// Time between two probes, and the longest that one step of a probe may take, for a grace time of at
/// least six times that; see [`interval`].
const LONGEST_INTERVAL: Duration = Duration::from_secs(5);

pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    match watch(arguments) {
        Ok(never) => match never {},
        Err(failure) => {
            say(Level::Error, NAME, &failure.to_string());
            ExitCode::FAILURE
        }
    }
}

fn watch(arguments: Vec<OsString>) -> Result<std::convert::Infallible, Failure> {
    let mut options = Options::new(arguments)?;
    let server: Ipv4Addr = options.required("--server")?;
    let share = NfsShare {
        server: Some(server),
        path: options.required("--path")?,
        options: options.value("--options")?.unwrap_or_default(),
    };
    let grace = Duration::from_secs(options.required("--grace")?);
    // Tests say what would happen instead of doing it.
    let dry_run = options.flag("--dry-run");
    options.end()?;
    if !dry_run {
        let _ = rustix::process::setsid();
        mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).doing(|| "lock the watchdog into memory".into())?;
    }
    let interval = interval(grace);
    let mut client = NfsClient::new(server, share, interval);
    let mut silence = Silence::new(grace, Instant::now());
    loop {
        let answer = client.probe();
        match silence.note(Instant::now(), answer.is_ok()) {
            Verdict::Nothing => {}
            Verdict::Began => {
                let why = answer.err().map(|failure| failure.to_string()).unwrap_or_default();
                let text = format!(
                    "the NFS server {server} does not answer ({why}); rebooting in {} s unless it comes back",
                    grace.as_secs()
                );
                say(Level::Error, NAME, &text);
            }
            Verdict::Ended(time) => {
                say(Level::Error, NAME, &format!("the NFS server {server} answers again, after {} s", time.as_secs()));
            }
            Verdict::Reboot => {
                let text = format!("the NFS server {server} has not answered for {} s: REBOOTING", grace.as_secs());
                say(Level::Error, NAME, &text);
                if dry_run {
                    println!("REBOOT");
                    return Err(Failure::new("dry run"));
                }
                // Standard input is /proc/sysrq-trigger, opened by walt-init. Nothing is written back:
                // what is dirty belongs to the share that is gone.
                power::reboot_now(rustix::io::dup(rustix::stdio::stdin()).ok().map(File::from));
            }
        }
        thread::sleep(interval);
    }
}

/// At least six probes within the grace time, so that one lost reboots nobody.
fn interval(grace: Duration) -> Duration {
    (grace / 6).min(LONGEST_INTERVAL)
}

/// How long the server has been silent.
#[derive(Debug)]
struct Silence {
    grace: Duration,
    last_answer: Instant,
    silent: bool,
}

/// What a probe's outcome means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Nothing,
    /// The first probe without an answer.
    Began,
    /// The first answer after a silence of this length.
    Ended(Duration),
    /// The grace time is over.
    Reboot,
}

impl Silence {
    fn new(grace: Duration, now: Instant) -> Self {
        Self { grace, last_answer: now, silent: false }
    }

    fn note(&mut self, now: Instant, answered: bool) -> Verdict {
        let time = now.saturating_duration_since(self.last_answer);
        let was_silent = std::mem::replace(&mut self.silent, !answered);
        if answered {
            self.last_answer = now;
        }
        match (was_silent, answered) {
            (true, true) => Verdict::Ended(time),
            (false, true) => Verdict::Nothing,
            (_, false) if time >= self.grace => Verdict::Reboot,
            (false, false) => Verdict::Began,
            (true, false) => Verdict::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_shorter_than_the_grace_time_reboots_nobody() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::new(Duration::from_secs(60), start);
        let probes = [
            (0, true, Verdict::Nothing),
            (5, true, Verdict::Nothing),
            (10, false, Verdict::Began),
            (15, false, Verdict::Nothing),
            // 60 s are counted from the last answer (at 5), not from the first failure.
            (64, false, Verdict::Nothing),
            (64, true, Verdict::Ended(Duration::from_secs(59))),
            (70, false, Verdict::Began),
            (123, false, Verdict::Nothing),
            (124, false, Verdict::Reboot),
            // A reboot that did not happen is asked for again.
            (130, false, Verdict::Reboot),
        ];
        for (seconds, answered, expected) in probes {
            assert_eq!(silence.note(at(seconds), answered), expected, "at {seconds} s");
        }
    }

    #[test]
    fn a_server_that_never_answers_counts_from_the_start() {
        let start = Instant::now();
        let mut silence = Silence::new(Duration::from_secs(5), start);
        assert_eq!(silence.note(start + Duration::from_secs(5), false), Verdict::Reboot);
    }

    #[test]
    fn probes_fit_into_the_grace_time() {
        for (grace, expected) in [(5, 833), (30, 5000), (60, 5000), (600, 5000)] {
            assert_eq!(interval(Duration::from_secs(grace)).as_millis(), expected);
        }
    }
}
