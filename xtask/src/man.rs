//! `x man`: the man pages, from the descriptions of the command lines and from docs/man.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
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
        // As man(1) would show it; warnings go to standard error.
        let mut command = Command::new("man");
        command.args(["--warnings=all", "--encoding=UTF-8", "--local-file", "--ditroff", "--troff-device=utf8"]);
        command.arg(&path).env("LC_ALL", "C.UTF-8").env("MANROFFSEQ", "").env("MANWIDTH", "100");
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && said.trim().is_empty(), "{}: {said}", path.display());
        ensure!(output.stdout.len() > 1000, "{} is nearly empty", path.display());
        count += 1;
    }
    ensure!(count > 30, "there are {count} pages, which can not be all");
    Ok(count)
}
