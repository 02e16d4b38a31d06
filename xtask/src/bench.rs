//! `x bench`: how fast we are, against the programs one would use instead, in one run on one machine.

mod boot;
mod cli;
mod logs;
mod nfs;
mod pull;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::json;

/// Runs the benchmark called `name`.
pub(crate) fn run(name: &str, options: &[&str]) -> Result<ExitCode> {
    match name {
        "boot" => boot::run(options),
        "cli" => cli::run_bench(options),
        "logs" => logs::run(options),
        "nfs" => nfs::run(options),
        "pull" => pull::run(options),
        other => bail!("no benchmark is called {other:?}; there are boot, cli, logs, nfs and pull"),
    }
}

/// The number of runs of each side: `--runs N`, or `usual`.
fn runs(options: &[&str], usual: usize) -> Result<usize> {
    match options {
        [] => Ok(usual),
        ["--runs", count] => count.parse().context("--runs wants a number"),
        other => bail!("unknown options {other:?}; there is --runs N"),
    }
}

/// What one measure came to on both sides.
struct Figure {
    /// What was measured, with its unit.
    what: String,
    /// One after the other in time: what else the machine does meets both sides of a round.
    rounds: Vec<Round>,
    promise: Promise,
}

/// Both sides measured right after each other.
#[derive(Clone, Copy)]
struct Round {
    ours: f64,
    peer: f64,
}

/// The ratio ours / peer that [SPECIFICATION.md] promises.
///
/// [SPECIFICATION.md]: ../../../SPECIFICATION.md
#[derive(Clone, Copy)]
enum Promise {
    /// For times.
    AtMost(f64),
    /// For rates.
    AtLeast(f64),
}

impl Figure {
    fn ours(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.ours))
    }

    fn peer(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.peer))
    }

    /// The middle one of the rounds' ratios: a machine that slows down for some rounds changes the two medians above,
    /// which may be of different rounds, but hardly this.
    fn ratio(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.ours / round.peer))
    }

    fn kept(&self) -> bool {
        match self.promise {
            Promise::AtMost(limit) => self.ratio() <= limit,
            Promise::AtLeast(limit) => self.ratio() >= limit,
        }
    }
}

/// Shows the figures as a table, writes them to `bench/<name>.json` in the target directory, and fails if a promise is
/// not kept.
fn report(name: &str, peer: &str, figures: &[Figure]) -> Result<ExitCode> {
    println!("\n{:44} {:>12} {:>12} {:>7}  promised", "medians of all rounds", "ours", peer, "ratio");
    for figure in figures {
        let (sign, limit) = match figure.promise {
            Promise::AtMost(limit) => ("<=", limit),
            Promise::AtLeast(limit) => (">=", limit),
        };
        let verdict = if figure.kept() { "kept" } else { "NOT KEPT" };
        let (ours, peer, ratio) = (figure.ours(), figure.peer(), figure.ratio());
        println!("{:44} {ours:>12.2} {peer:>12.2} {ratio:>7.2}  {sign} {limit:.2} {verdict}", figure.what);
    }
    let rows: Vec<_> = figures
        .iter()
        .map(|f| {
            let rounds: Vec<_> = f.rounds.iter().map(|r| json!({"ours": r.ours, "peer": r.peer})).collect();
            json!({"what": f.what, "ours": f.ours(), "peer": f.peer(), "ratio": f.ratio(), "kept": f.kept(),
                "rounds": rounds})
        })
        .collect();
    write_report(name, &json!({"bench": name, "peer": peer, "figures": rows}))?;
    Ok(if figures.iter().all(Figure::kept) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes what was measured to `bench/<name>.json` in the target directory.
fn write_report(name: &str, report: &serde_json::Value) -> Result<()> {
    let directory = crate::target_directory().join("bench");
    fs::create_dir_all(&directory)?;
    let path = directory.join(format!("{name}.json"));
    fs::write(&path, serde_json::to_string_pretty(report)?).with_context(|| format!("cannot write {path:?}"))?;
    println!("\nall rounds: {}", path.display());
    Ok(())
}

/// The middle one; the mean of the middle two if there are as many on each side.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }

    fn figure(rounds: &[(f64, f64)], promise: Promise) -> Figure {
        let rounds = rounds.iter().map(|&(ours, peer)| Round { ours, peer }).collect();
        Figure { what: String::new(), rounds, promise }
    }

    #[test]
    fn a_promise_has_a_direction() {
        let kept = |promise| figure(&[(1.0, 2.0)], promise).kept();
        assert!(kept(Promise::AtMost(0.75)) && !kept(Promise::AtMost(0.4)));
        assert!(!kept(Promise::AtLeast(1.0)) && kept(Promise::AtLeast(0.5)));
    }

    #[test]
    fn ratios_are_of_rounds() {
        // A machine that was slow for two rounds in three, on both sides: the medians stay, and so does the ratio.
        assert_eq!(figure(&[(1.0, 2.0), (5.0, 10.0), (6.0, 12.0)], Promise::AtMost(1.0)).ratio(), 0.5);
        assert_eq!(figure(&[(1.0, 2.0), (9.0, 10.0), (2.0, 20.0)], Promise::AtMost(1.0)).ratio(), 0.5);
    }

    #[test]
    fn nothing_measured_keeps_no_promise() {
        for promise in [Promise::AtMost(1.0), Promise::AtLeast(1.0)] {
            assert!(!figure(&[], promise).kept());
            assert!(!figure(&[(0.0, 0.0)], promise).kept());
        }
    }
}
