//! `x man`: the man pages, from the descriptions of the command lines and from docs/man.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use testbed::process::run;

use crate::deb;
use crate::programs::cargo;

/// Writes them, and says where.
pub(crate) fn build() -> Result<PathBuf> {
    let directory = crate::target_directory().join("man");
    if testbed::lab::inside() {
        return Ok(directory);
    }
    let _ = fs::remove_dir_all(&directory);
    let date = run(Command::new("date").args(["--utc", "+%Y-%m-%d", "--date", &format!("@{}", deb::epoch())]))?;
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "walt-server", "--example", "man", "--"]).arg(&directory);
    run(command.arg(date.trim()))?;
    Ok(directory)
}

/// Has groff read each page, and fails if it has anything to say.
pub(crate) fn check(directory: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // groff_man(7): with -ww it warns of all that it does not understand, on standard error.
        let mut command = Command::new("groff");
        command.args(["-ww", "-mandoc", "-Tutf8", "-Z", "-rLL=100n"]).arg(&path);
        let output = command.output().context("cannot run groff (package groff-base)")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && said.trim().is_empty(), "{}: {said}", path.display());
        ensure!(output.stdout.len() > 1000, "{} is nearly empty", path.display());
        count += 1;
    }
    ensure!(count > 30, "there are {count} pages, which can not be all");
    Ok(count)
}
