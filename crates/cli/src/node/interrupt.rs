//! Ctrl-C while other programs run for us: they end, and we live until what we made is removed.

use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Error};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Exit code when the time is over, as of coreutils' timeout.
pub(super) const TIMED_OUT: u8 = 124;

/// Longest time between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// The signal that asked us to end, if one did.
#[derive(Debug, Clone)]
pub(super) struct Interrupt(Arc<AtomicUsize>);

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    With(u8),
    /// Its time was over.
    Late,
    /// We were asked to end.
    Interrupted(u8),
}

impl Interrupt {
    /// From now on these signals do not end this process.
    pub(super) fn watch() -> Result<Self, Error> {
        let interrupt = Self(Arc::default());
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let number = usize::try_from(signal).unwrap_or_default();
            signal_hook::flag::register_usize(signal, interrupt.0.clone(), number)
                .context("can not wait for signals")?;
        }
        Ok(interrupt)
    }

    /// The signal, as an exit code.
    pub(super) fn code(&self) -> Option<u8> {
        let signal = u8::try_from(self.0.load(Ordering::Relaxed)).ok().filter(|signal| *signal > 0);
        signal.map(|signal| signal.saturating_add(128))
    }

    /// Waits for a program; ends it when we are asked to end, or when its time is over.
    pub(super) fn wait(&self, child: &mut Child, limit: Option<Duration>) -> Result<Ended, Error> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = child.try_wait().context("can not wait for ssh")? {
                return Ok(self.code().map_or_else(|| Ended::With(code_of(status)), Ended::Interrupted));
            }
            let late = limit.is_some_and(|limit| begun.elapsed() >= limit);
            let code = self.code();
            if late || code.is_some() {
                // It may have ended just now.
                let _ = child.kill();
                let _ = child.wait();
                return Ok(code.map_or(Ended::Late, Ended::Interrupted));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LOOK);
        }
    }

    /// Ends the program when we are asked to end, for as long as the guard lives: whoever reads what it prints waits for
    /// that, and not here. Drop the guard before the program's end is waited for.
    pub(super) fn guard(&self, child: &Child) -> Guard {
        let guard = Guard(Arc::default());
        let (interrupt, over) = (self.clone(), guard.0.clone());
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        std::thread::spawn(move || {
            while !over.load(Ordering::Acquire) {
                if let (Some(_), Some(pid)) = (interrupt.code(), pid) {
                    // Not waited for yet, so the number is still its own.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                    return;
                }
                std::thread::sleep(LOOK);
            }
        });
        guard
    }
}

/// See [`Interrupt::guard`].
#[derive(Debug)]
pub(super) struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// As shells tell it.
pub(super) fn code_of(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
