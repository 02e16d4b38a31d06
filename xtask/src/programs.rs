//! Builds our programs the way an installation has them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use testbed::daemon::Programs;
use testbed::process::{run, run_shown};

/// How the server's programs are built. The agent is always built as it is shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// What `cargo test` has built already.
    Test,
    /// What users run, and what is measured.
    Release,
}

/// Builds the daemon, the command line programs and the agent.
///
/// Inside of a lab, which has no way to a package registry, they were built before it was entered.
pub(crate) fn build(profile: Profile) -> Result<Programs> {
    let target = crate::target_directory();
    let directory = target.join(match profile {
        Profile::Test => "debug",
        Profile::Release => "release",
    });
    let programs = Programs { directory, agent: agent()? };
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

/// Builds the agent: static, small, for x86-64.
pub(crate) fn agent() -> Result<PathBuf> {
    // musl makes it half as large; a toolchain without it (Debian's) links glibc statically.
    let musl = "x86_64-unknown-linux-musl";
    let libraries = run(Command::new("rustc").args(["--print", "target-libdir", "--target", musl]));
    let has_musl = libraries.is_ok_and(|path| Path::new(path.trim()).exists());
    let target = if has_musl { musl } else { "x86_64-unknown-linux-gnu" };
    if !testbed::lab::inside() {
        let mut command = cargo();
        command.args(["build", "--quiet", "--package", "walt-node", "--profile", "agent", "--target", target]);
        command.env("RUSTFLAGS", "-C target-feature=+crt-static");
        run_shown(&mut command).context("the agent does not build")?;
    }
    Ok(crate::target_directory().join(target).join("agent/walt-node"))
}

/// The cargo that runs us, in the repository.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::repository());
    command
}
