//! Builds our programs the way an installation has them.

use std::process::Command;

use anyhow::{Context, Result};
use boot::Architecture;
use testbed::daemon::Programs;
use testbed::process::run_shown;

use crate::agents;

/// How the server's programs are built. The agent is always built as it is shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// What `cargo test` has built already.
    Test,
    /// What users run, and what is measured.
    Release,
}

/// Builds the daemon, the command line programs, and the agents for nodes of these architectures.
///
/// Inside of a lab, which has no way to a package registry, they were built before it was entered.
pub(crate) fn build(profile: Profile, architectures: &[Architecture]) -> Result<Programs> {
    let target = crate::target_directory();
    let directory = target.join(match profile {
        Profile::Test => "debug",
        Profile::Release => "release",
    });
    let programs = Programs { directory, agents: agents::built(architectures)? };
    if !testbed::lab::inside() {
        let mut command = cargo();
        command.args(["build", "--quiet", "--package", "walt-server", "--package", "walt-cli", "--bins"]);
        if profile == Profile::Release {
            command.arg("--release");
        }
        run_shown(&mut command).context("the server does not build")?;
    }
    Ok(programs)
}

/// The cargo that runs us, in the repository.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::repository());
    command
}
