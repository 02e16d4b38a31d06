//! `x test`: all that must hold, in one command.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::check;
use crate::e2e::{SCENARIOS, Scenario};
use crate::fuzz::{self, Build};
use crate::programs::{Profile, build, cargo};

/// How many scenarios or fuzz targets run at the same time: each keeps one processor busy.
const AT_ONCE: usize = 2;

/// Time for each fuzz target, in seconds: enough to see that it runs and that the corpus passes.
const FUZZ_SECONDS: u32 = 8;

/// What has been counted so far.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
}

impl Tally {
    fn add(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                println!("{name}: FAILED: {error:#}");
                self.failed.push(name.to_owned());
            }
        }
    }
}

/// How much of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Without what boots machines, and without fuzzing.
    Quick,
    /// What takes less than 30 minutes.
    Usual,
    /// Every scenario.
    All,
}

/// Runs the tests; fails if any has.
pub(crate) fn run(extent: Extent) -> Result<ExitCode> {
    let mut tally = Tally::default();
    timed("checks", || {
        tally.add("check", check::run().map(drop));
        Ok(())
    })?;
    timed("unit, integration and documentation tests", || cargo_tests(&mut tally))?;
    if extent != Extent::Quick {
        timed("end-to-end tests", || scenarios(extent, &mut tally))?;
        timed("fuzz targets", || fuzz_targets(&mut tally))?;
    }
    for name in &tally.failed {
        println!("failed: {name}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed.len());
    Ok(if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn timed(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    println!("\n=== {what}");
    let result = work();
    println!("=== {what}: {:.0} s", start.elapsed().as_secs_f64());
    result
}

/// `cargo test` of the whole workspace, shown as it goes; each test counts.
fn cargo_tests(tally: &mut Tally) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast", "--", "--format=pretty"]);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut counted = 0;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line.starts_with("test result:") || line.contains("FAILED") || line.contains("panicked") {
            println!("{line}");
        }
        match test_outcome(&line) {
            Some((_, true)) => counted += 1,
            Some((name, false)) => tally.failed.push(name.to_owned()),
            None => {}
        }
    }
    tally.passed += counted;
    let status = child.wait()?;
    if !status.success() && tally.failed.is_empty() {
        tally.failed.push(format!("cargo test ({status})"));
    }
    Ok(())
}

/// The name of a test and whether it passed, from a line such as `test a::b ... ok`.
fn test_outcome(line: &str) -> Option<(&str, bool)> {
    let (name, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    match outcome.split_whitespace().next()? {
        "ok" => Some((name, true)),
        "FAILED" => Some((name, false)),
        _ => None,
    }
}

/// Every scenario, as a process of its own, a few at a time. What each printed is shown when it has ended.
fn scenarios(extent: Extent, tally: &mut Tally) -> Result<()> {
    let (chosen, left_out): (Vec<_>, Vec<_>) =
        SCENARIOS.iter().partition(|scenario| extent == Extent::All || scenario.left_out().is_none());
    for scenario in left_out {
        println!("{}: only by ./x test --all: {}", scenario.name, scenario.left_out().unwrap_or_default());
    }
    // Before any starts: what is built has all processors, and the machines' clocks are not disturbed.
    let architectures: Vec<_> = chosen.iter().flat_map(|scenario| scenario.architectures()).collect();
    let programs = build(Profile::Test, &architectures)?;
    for scenario in &chosen {
        scenario.prepare(&programs)?;
    }
    several_at_once(tally, &chosen, |scenario| scenario.name.to_owned(), |scenario| run_scenario(scenario));
    Ok(())
}

/// Does `work` on each item, a few at a time, and counts it by its name.
fn several_at_once<T: Sync>(
    tally: &mut Tally,
    items: &[T],
    name: impl Fn(&T) -> String,
    work: impl Fn(&T) -> Result<()> + Sync,
) {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = work(item);
                    if let Ok(mut results) = results.lock() {
                        results.push((item, result));
                    }
                }
            });
        }
    });
    for (item, result) in results.into_inner().unwrap_or_default() {
        tally.add(&name(item), result);
    }
}

fn run_scenario(scenario: &Scenario) -> Result<()> {
    let start = Instant::now();
    let output = Command::new(std::env::current_exe()?)
        .args(["e2e", scenario.name])
        .stdin(Stdio::null())
        .output()
        .context("cannot start a scenario")?;
    print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{}: {:.0} s", scenario.name, start.elapsed().as_secs_f64());
    anyhow::ensure!(output.status.success(), "ended with {}", output.status);
    Ok(())
}

fn fuzz_targets(tally: &mut Tally) -> Result<()> {
    if let Err(error) = fuzz::prepare(Build::Fast) {
        tally.add("fuzz", Err(error));
        return Ok(());
    }
    let run = |target: &String| fuzz::run_one(target, FUZZ_SECONDS, Build::Fast);
    several_at_once(tally, &fuzz::targets()?, |target| format!("fuzz {target}"), run);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_cargo_test_is_a_test_or_nothing() {
        assert_eq!(test_outcome("test a::b ... ok"), Some(("a::b", true)));
        assert_eq!(test_outcome("test a::b ... FAILED"), Some(("a::b", false)));
        assert_eq!(test_outcome("test src/lib.rs - run (line 3) ... ok"), Some(("src/lib.rs - run (line 3)", true)));
        assert_eq!(test_outcome("test a::b ... ignored, slow"), None);
        assert_eq!(test_outcome("test result: ok. 3 passed; 0 failed"), None);
    }
}
