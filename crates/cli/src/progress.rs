//! Long operations: shows how they go on, up to their end.

use std::io::{self, BufRead, BufReader, IsTerminal, Write};

use anyhow::{Context, Error};
use api::Progress;

use crate::http::{Body, HttpError};
use crate::report;

/// Shows what comes on standard error, and returns the last line's text.
pub(crate) fn follow(body: Body) -> Result<String, Error> {
    let mut shown = Shown::new();
    for line in BufReader::new(body).lines() {
        let line = line.map_err(HttpError::Broken)?;
        let news: Progress = serde_json::from_str(&line).map_err(|error| HttpError::Nonsense(error.to_string()))?;
        match news {
            Progress::Step { text } => shown.step(&text)?,
            Progress::Bytes { done, total } => shown.bytes(done, total)?,
            Progress::Done { text } => {
                shown.close()?;
                return Ok(text);
            }
            Progress::Failed { error } => {
                shown.close()?;
                return Err(error.into());
            }
        }
    }
    Err(HttpError::Nonsense("it stopped telling".into()).into())
}

/// Progress on standard error.
pub(crate) struct Shown {
    terminal: bool,
    /// The cursor stands behind a line that may be written again.
    open: bool,
    last_percent: Option<u64>,
}

impl Shown {
    pub(crate) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), open: false, last_percent: None }
    }

    fn step(&mut self, text: &str) -> Result<(), Error> {
        self.close()?;
        self.write(&format!("{text}\n"))
    }

    pub(crate) fn bytes(&mut self, done: u64, total: u64) -> Result<(), Error> {
        let percent = (done.saturating_mul(100)).checked_div(total);
        let text = match percent {
            Some(percent) => {
                format!("{percent:3} %  {} of {}", report::bytes(done), report::bytes(total))
            }
            None => format!("{} have arrived", report::bytes(done)),
        };
        if self.terminal {
            self.open = true;
            return self.write(&format!("\r\x1b[K{text}"));
        }
        // A log file: a line for each tenth.
        let tenth = percent.map(|percent| percent / 10);
        if tenth.is_some() && tenth != self.last_percent {
            self.last_percent = tenth;
            self.write(&format!("{text}\n"))?;
        }
        Ok(())
    }

    pub(crate) fn close(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.open) { self.write("\n") } else { Ok(()) }
    }

    fn write(&self, text: &str) -> Result<(), Error> {
        let mut stderr = io::stderr().lock();
        stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).context("writing to standard error")
    }
}
