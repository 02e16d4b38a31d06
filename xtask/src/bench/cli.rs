//! `x bench cli`: how long a command takes from its start to its end, where the server has next to nothing to do.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot::Architecture;
use serde_json::{Value, json};
use testbed::daemon::Daemon;
use testbed::host::Host;
use testbed::lab::{Entered, enter};
use testbed::process::run;

use super::runs;
use crate::programs::{self, Profile};

/// Milliseconds that SPECIFICATION.md promises, in the median.
const PROMISED: f64 = 30.0;
/// Nodes that the server knows.
const NODES: usize = 20;

/// What is measured: a command of `walt`, and whether it asks the server.
const COMMANDS: &[(&str, bool)] = &[
    ("--version", false),
    ("--help", false),
    ("node --help", false),
    ("help list", false),
    ("help show logs", false),
    ("completion bash", false),
    ("complete fish -- walt node boot --fo", false),
    ("complete fish -- walt node show n", true),
    ("complete fish -- walt node boot n1 ", true),
    ("status", true),
    ("node show", true),
    ("node show --json", true),
    ("image show", true),
    ("log list-checkpoints", true),
];

pub(super) fn run_bench(options: &[&str]) -> Result<ExitCode> {
    let rounds = runs(options, 50)?;
    let programs = programs::build(Profile::Release, &[Architecture::X86_64])?;
    let lab = match enter("bench-cli", &crate::lab_directory())? {
        Entered::Outside(code) => return Ok(code),
        Entered::Inside(lab) => lab,
    };
    let daemon = Daemon::start(&lab, &programs, "")?;
    for number in 1..=NODES {
        let mac = format!("52:54:00:10:88:{number:02x}");
        let host = Host::plug_in(&lab, &format!("n{number}"), &mac)?;
        host.lease("walt.node.pc-x86-64")?;
    }
    let last = format!("52:54:00:10:88:{NODES:02x}");
    daemon.wait_for_node(&last, "registered", Duration::from_secs(20), |node| node.model.is_some(), || Ok(()))?;
    let walt = programs.directory.join("walt");
    let results = lab.state().join("hyperfine.json");
    let mut hyperfine = Command::new("hyperfine");
    // Without a shell between: its start would be in each figure.
    hyperfine.args(["--shell=none", "--warmup=5", "--style=none", "--output=null", &format!("--runs={rounds}")]);
    hyperfine.arg("--export-json").arg(&results);
    for (command, _) in COMMANDS {
        // The last word may be empty: what is completed has not been begun.
        let line = format!("{} {command}{}", walt.display(), if command.ends_with(' ') { "''" } else { "" });
        hyperfine.arg(line);
    }
    run(&mut hyperfine).context("hyperfine (package hyperfine)")?;
    let measured: Value = serde_json::from_str(&fs::read_to_string(&results)?)?;
    let measured = measured["results"].as_array().context("hyperfine tells nothing")?;
    ensure!(measured.len() == COMMANDS.len(), "hyperfine has measured {} commands", measured.len());

    println!("{:42} {:>8} {:>8}  promised, with a server that knows {NODES} nodes", "walt ...", "median", "worst");
    let mut rows = Vec::new();
    let mut all_kept = true;
    for ((command, asks), result) in COMMANDS.iter().zip(measured) {
        let ms =
            |field: &str| result[field].as_f64().map(|seconds| seconds * 1000.0).context("hyperfine tells no times");
        let (median, worst) = (ms("median")?, ms("max")?);
        let kept = median <= PROMISED;
        all_kept &= kept;
        let verdict = if kept { "kept" } else { "NOT KEPT" };
        let asks = if *asks { " (asks)" } else { "" };
        println!("{:42} {median:>5.1} ms {worst:>5.1} ms  <= {PROMISED:.0} ms {verdict}", format!("{command}{asks}"));
        rows.push(json!({"command": command, "asks_server": !asks.is_empty(), "median_ms": median, "max_ms": worst, "kept": kept}));
    }
    super::write_report("cli", &json!({"bench": "cli", "runs": rounds, "commands": rows}))?;
    Ok(if all_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
