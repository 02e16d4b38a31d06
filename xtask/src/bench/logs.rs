//! `x bench logs`: lines per second from nodes into the registry, confirmed one by one, and out of it again.

use std::fs::File;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use boot::Architecture;
use serde_json::json;
use testbed::daemon::Daemon;
use testbed::host::Host;
use testbed::lab::{Entered, SERVER, enter};

use super::{median, runs};
use crate::programs::{self, Profile};

/// Nodes that log at the same time.
const NODES: usize = 4;
/// Lines of each node in a round.
const LINES: usize = 100_000;
/// Lines per second that SPECIFICATION.md promises.
const PROMISED: f64 = 20_000.0;

pub(super) fn run(options: &[&str]) -> Result<ExitCode> {
    let rounds = runs(options, 5)?;
    let programs = programs::build(Profile::Release, &[Architecture::X86_64])?;
    let lab = match enter("bench-logs", &crate::lab_directory())? {
        Entered::Outside(code) => return Ok(code),
        Entered::Inside(lab) => lab,
    };
    let daemon = Daemon::start(&lab, &programs, "")?;
    let mut hosts = Vec::new();
    for number in 1..=NODES {
        let mac = format!("52:54:00:10:66:{number:02x}");
        let host = Host::plug_in(&lab, &format!("n{number}"), &mac)?;
        host.lease("walt.node.pc-x86-64")?;
        daemon.wait_for_node(&mac, "registered", Duration::from_secs(20), |node| node.model.is_some(), || Ok(()))?;
        hosts.push(host);
    }
    // As a program under test might log: about 80 characters.
    let text: String = (0..LINES)
        .map(|n| {
            format!("measure {n:06}: rssi -{} dBm, lqi {}, sent 127 bytes to 01:23:45:67:89:ab\n", n % 90, n % 256)
        })
        .collect();
    let input = lab.write("lines", &text)?;
    println!("{NODES} nodes send {LINES} lines each; {rounds} rounds");
    let (mut into, mut out_of) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let stream = format!("round{round}");
        let begun = Instant::now();
        let mut senders = Vec::new();
        for host in &hosts {
            let agent = programs.agents.join("x86_64/walt-node");
            let mut command = host.command(agent.to_str().context("the agent's path is no text")?);
            command.args(["walt-log-cat", "--server", &format!("{SERVER}:12347"), &stream]);
            senders.push(command.stdin(File::open(&input)?).spawn().context("cannot start walt-log-cat")?);
        }
        for mut sender in senders {
            ensure!(sender.wait()?.success(), "walt-log-cat has lost lines");
        }
        let all = (NODES * LINES) as f64;
        into.push(all / begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let mut show = daemon.command("walt");
        show.args(["log", "show", "--history", "full", "--issuers", "all-nodes", "--format", "{issuer} {line}"]);
        show.args(["--streams", &format!("^{stream}$")]).stdout(Stdio::piped());
        let output = show.output().context("cannot start walt log show")?;
        let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
        ensure!(lines == NODES * LINES, "{lines} lines of {} are shown", NODES * LINES);
        out_of.push(all / begun.elapsed().as_secs_f64());
        println!("round {round}: {:.0} lines/s in and confirmed, {:.0} lines/s out", into[round], out_of[round]);
    }
    let measured = json!({"bench": "logs", "lines_per_second_into": into, "lines_per_second_out_of": out_of});
    let (into, out_of) = (median(into.into_iter()), median(out_of.into_iter()));
    let kept = into >= PROMISED;
    let verdict = if kept { "kept" } else { "NOT KEPT" };
    println!(
        "\nlines per second, medians: {into:.0} into the registry (promised {PROMISED:.0}, {verdict}), {out_of:.0} out"
    );
    super::write_report("logs", &measured)?;
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
