//! A program on a pseudo-terminal, at which somebody types.

use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::Follow;

/// The program. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keys: Option<ChildStdin>,
    shown: Follow,
}

impl Terminal {
    /// Starts `command` on a terminal of 80 columns and 24 lines; what it shows goes to the file `log`, too. script(1)
    /// holds the terminal.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &Command, log: &Path) -> Result<Self> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))).collect();
        let file = std::fs::File::create(log).with_context(|| format!("cannot create {log:?}"))?;
        let line = format!("stty rows 24 cols 80; {}", words.join(" "));
        let mut script = Command::new("script");
        script.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]);
        script.stdin(Stdio::piped()).stdout(file).stderr(Stdio::inherit());
        let mut child = script.spawn().context("cannot start script (package bsdutils)")?;
        let keys = child.stdin.take();
        Ok(Self { child, keys, shown: Follow::new(log) })
    }

    /// Types.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        let typed = self.keys.as_mut().context("the terminal is closed")?;
        typed.write_all(keys.as_bytes()).and_then(|()| typed.flush()).context("the terminal is gone")
    }

    /// Waits until the terminal shows `text`, after what the last wait has found.
    ///
    /// # Errors
    /// When `limit` passes first.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<()> {
        self.shown.wait_for(text, limit, || Ok(()))
    }

    /// Waits for the end of the program.
    ///
    /// # Errors
    /// When `limit` passes first.
    pub fn end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > limit {
                bail!("the program on the terminal has not ended within {limit:?}");
            }
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
