//! `x bench`: how fast we are, against the programs one would use instead, in one run on one machine.

mod boot;
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
        "nfs" => nfs::run(),
        "pull" => pull::run(options),
        other => bail!("no benchmark is called {other:?}; there are boot, pull and nfs"),
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
    ours: f64,
    peer: f64,
    promise: Promise,
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
    fn ratio(&self) -> f64 {
        self.ours / self.peer
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
fn report(name: &str, peer: &str, figures: &[Figure], details: &serde_json::Value) -> Result<ExitCode> {
    println!("\n{:44} {:>12} {:>12} {:>7}  promised", "", "ours", peer, "ratio");
    for figure in figures {
        let (sign, limit) = match figure.promise {
            Promise::AtMost(limit) => ("<=", limit),
            Promise::AtLeast(limit) => (">=", limit),
        };
        let verdict = if figure.kept() { "kept" } else { "NOT KEPT" };
        let (ours, peer, ratio) = (figure.ours, figure.peer, figure.ratio());
        println!("{:44} {ours:>12.2} {peer:>12.2} {ratio:>7.2}  {sign} {limit:.2} {verdict}", figure.what);
    }
    let rows: Vec<_> = figures
        .iter()
        .map(|f| json!({"what": f.what, "ours": f.ours, "peer": f.peer, "ratio": f.ratio(), "kept": f.kept()}))
        .collect();
    let directory = crate::target_directory().join("bench");
    fs::create_dir_all(&directory)?;
    let path = directory.join(format!("{name}.json"));
    let text =
        serde_json::to_string_pretty(&json!({"bench": name, "peer": peer, "figures": rows, "details": details}))?;
    fs::write(&path, text).with_context(|| format!("cannot write {path:?}"))?;
    println!("\nall figures: {}", path.display());
    Ok(if figures.iter().all(Figure::kept) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The middle one; the mean of the middle two if there are as many on each side.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
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
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_promise_has_a_direction() {
        let figure = |promise| Figure { what: String::new(), ours: 1.0, peer: 2.0, promise };
        assert!(figure(Promise::AtMost(0.75)).kept() && !figure(Promise::AtMost(0.4)).kept());
        assert!(!figure(Promise::AtLeast(1.0)).kept() && figure(Promise::AtLeast(0.5)).kept());
    }
}
