//! `x fuzz`: each parser of bytes from outside, fed by a coverage-guided fuzzer.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use testbed::process::{run, run_shown};

/// Runs every fuzz target for `seconds`.
pub(crate) fn run_all(seconds: u32) -> Result<ExitCode> {
    let targets = targets()?;
    prepare()?;
    let mut failed = Vec::new();
    for target in &targets {
        println!("fuzz {target}: {seconds} s");
        if let Err(error) = run_one(target, seconds) {
            println!("fuzz {target}: FAILED: {error:#}");
            failed.push(target.as_str());
        }
    }
    println!("fuzz: {} passed, {} failed {}", targets.len() - failed.len(), failed.len(), failed.join(" "));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The names of the targets: those of the files in `fuzz/fuzz_targets/`.
pub(crate) fn targets() -> Result<Vec<String>> {
    let directory = crate::repository().join("fuzz/fuzz_targets");
    let mut names: Vec<String> = fs::read_dir(&directory)
        .with_context(|| format!("cannot list {directory:?}"))?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    if names.is_empty() {
        bail!("there is no fuzz target in {directory:?}");
    }
    Ok(names)
}

/// Fuzzing wants a nightly compiler, for the sanitizers, and cargo-fuzz.
pub(crate) fn prepare() -> Result<()> {
    if run(Command::new("cargo").args(["+nightly", "--version"])).is_err() {
        run_shown(Command::new("rustup").args(["toolchain", "install", "nightly", "--profile", "minimal"]))
            .context("fuzzing needs a nightly toolchain, which rustup installs")?;
    }
    if run(Command::new("cargo").args(["fuzz", "--version"])).is_err() {
        run_shown(Command::new("cargo").args(["install", "--locked", "--quiet", "cargo-fuzz"]))
            .context("cargo-fuzz cannot be installed")?;
    }
    Ok(())
}

/// Runs one target; an error if it finds something.
pub(crate) fn run_one(target: &str, seconds: u32) -> Result<()> {
    let mut command = Command::new("cargo");
    command.current_dir(crate::repository()).args(["+nightly", "fuzz", "run", target]);
    // New inputs go to a directory of their own; the corpus in the repository is for what somebody chose to keep.
    let found = crate::target_directory().join("fuzz-corpus").join(target);
    let kept = crate::repository().join("fuzz/corpus").join(target);
    fs::create_dir_all(&found).with_context(|| format!("cannot create {found:?}"))?;
    command.arg(&found);
    if kept.exists() {
        command.arg(&kept);
    }
    command.arg("--").arg(format!("-max_total_time={seconds}")).args([
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]);
    run(&mut command).map(drop)
}
