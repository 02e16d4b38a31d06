//! `x bench`: how fast we are, against the programs one would use instead, in one run on one machine.

pub(crate) mod boot;

use std::process::ExitCode;

use anyhow::{Result, bail};

/// Runs the benchmark called `name`.
pub(crate) fn run(name: &str, options: &[&str]) -> Result<ExitCode> {
    match name {
        "boot" => boot::run(options),
        other => bail!("no benchmark is called {other:?}; there is boot"),
    }
}
