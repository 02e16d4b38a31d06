//! `x fuzz`: each parser of bytes from outside, fed by a coverage-guided fuzzer.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use testbed::process::{run, run_shown};

/// What the targets are built with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// AddressSanitizer, where the toolchain has it.
    Checked,
    /// Nothing that looks at memory: several times as many inputs in the same time, and a third less of it to build. Our own
    /// code has next to no unsafe blocks in what is fuzzed; panics and endless loops are found all the same.
    Fast,
}

/// Runs the fuzz targets, or the one that is named, for `seconds` each.
pub(crate) fn run_targets(named: Option<&str>, seconds: u32) -> Result<ExitCode> {
    let mut targets = targets()?;
    if let Some(name) = named {
        targets.retain(|target| target == name);
        if targets.is_empty() {
            bail!("no fuzz target is called {name:?}; they are the files of fuzz/fuzz_targets");
        }
    }
    prepare(Build::Checked)?;
    let mut failed = Vec::new();
    for target in &targets {
        println!("fuzz {target}: {seconds} s");
        if let Err(error) = run_one(target, seconds, Build::Checked) {
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

/// cargo-fuzz, and every target built.
pub(crate) fn prepare(build: Build) -> Result<()> {
    if run(Command::new("cargo").args(["fuzz", "--version"])).is_err() {
        run_shown(Command::new("cargo").args(["install", "--locked", "--quiet", "cargo-fuzz"]))
            .context("cargo-fuzz cannot be installed")?;
    }
    run_shown(&mut cargo_fuzz("build", build)).context("the fuzz targets do not build")
}

/// `cargo fuzz COMMAND`, on the toolchain that builds the rest.
fn cargo_fuzz(command: &str, build: Build) -> Command {
    let mut cargo = Command::new("cargo");
    // The instrumentation is the same in every toolchain; rustc only wants to be told that we know it may change.
    cargo.current_dir(crate::repository()).env("RUSTC_BOOTSTRAP", "1").args(["fuzz", command]);
    if build == Build::Fast || !has_address_sanitizer() {
        cargo.args(["--sanitizer", "none"]);
    }
    cargo
}

/// Whether the toolchain has the run-time part of AddressSanitizer: rustup's has, Debian's has not.
fn has_address_sanitizer() -> bool {
    let libraries = run(Command::new("rustc").args(["--print", "target-libdir"])).unwrap_or_default();
    fs::read_dir(libraries.trim())
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_rt.asan.")))
}

/// Runs one target; an error if it finds something.
pub(crate) fn run_one(target: &str, seconds: u32, build: Build) -> Result<()> {
    let mut command = cargo_fuzz("run", build);
    command.arg(target);
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
