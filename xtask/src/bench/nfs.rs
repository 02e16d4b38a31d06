//! `x bench nfs`: operations per second and bytes per second of our NFS server and of nfs-ganesha, on the same tree.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use boot::Architecture;
use serde_json::Value;
use testbed::lab::{Entered, Lab, SERVER, enter};
use testbed::peers::Ganesha;
use testbed::process::{Background, run as run_program, run_shown};

use super::{Figure, Promise, Round, report, runs};
use crate::agents;
use crate::image::{Recipe, build};
use crate::programs::cargo;

/// Where ours listens: nfs-ganesha has the usual port.
const OUR_PORT: u16 = 2050;

/// Seconds of one measurement.
const SLICE: &str = "0.5";

pub(super) fn run(options: &[&str]) -> Result<ExitCode> {
    // Several and short: a noisy machine then spoils some of them instead of all.
    let rounds = runs(options, 5)?;
    let image = build(Recipe::DebianPc, &agents::built(&[Architecture::X86_64])?)?;
    if !testbed::lab::inside() {
        let examples = ["--example", "nfs-serve", "--example", "nfs-load"];
        run_shown(cargo().args(["build", "--quiet", "--release", "--package", "walt-net"]).args(examples))?;
    }
    let lab = match enter("bench-nfs", &crate::lab_directory())? {
        Entered::Outside(code) => return Ok(code),
        Entered::Inside(lab) => lab,
    };
    let tree = lab.state().join("tree");
    image.unpack(&tree)?;
    take_precedence();
    let _ours = serve(&lab, &tree)?;
    let _peer = Ganesha::start(&lab, &tree)?;
    // What the unpacking left to be written would be written now, beside the first rounds.
    run_program(&mut Command::new("sync"))?;
    println!("both serve the same tree; {rounds} rounds of {SLICE} s for each figure");
    let mut load = example("nfs-load");
    load.args(["--seconds", SLICE, "--rounds", &rounds.to_string()])
        .arg(format!("{SERVER},{OUR_PORT},{OUR_PORT},/var/lib/walt/nodes/{SERVER}/fs"))
        .arg(format!("{SERVER},2049,20048,{}", tree.display()));
    let measured = run_program(&mut load)?;
    let figures = figures(&measured).with_context(|| format!("nfs-load printed {measured:?}"))?;
    report("nfs", "nfs-ganesha", &figures)
}

/// Gives this process, and so both servers and the load, a real-time priority.
///
/// Beside other busy programs the scheduler gives each thread the same time, and the server with the most threads wins.
fn take_precedence() {
    let pid = std::process::id().to_string();
    if let Err(error) = run_program(Command::new("chrt").args(["--rr", "--pid", "1", &pid])) {
        println!("no real-time priority, so what else runs on this machine counts: {error:#}");
    }
}

/// Starts our server with this tree as an image.
fn serve(lab: &Lab, tree: &Path) -> Result<Background> {
    let mut command = example("nfs-serve");
    command.args(["--address", &SERVER.to_string(), "--client", &SERVER.to_string(), "--state"]);
    command.arg(lab.state().join("layers")).args(["--port", &OUR_PORT.to_string(), "--tree"]).arg(tree);
    let mut server = Background::start("nfs-serve", &mut command, &lab.logs().join("nfs-serve.log"))?;
    let up = || std::net::TcpStream::connect((SERVER, OUR_PORT)).is_ok();
    server.wait_until("listening", Duration::from_secs(120), up)?;
    Ok(server)
}

fn example(name: &str) -> Command {
    Command::new(crate::target_directory().join("release/examples").join(name))
}

/// Reads what nfs-load printed: each round is our rate and the peer's.
fn figures(measured: &str) -> Result<Vec<Figure>> {
    let measured: Value = serde_json::from_str(measured)?;
    let rows = measured["figures"].as_array().context("no figures")?;
    rows.iter()
        .map(|row| {
            let word = |name: &str| row[name].as_str().with_context(|| format!("a figure without {name}"));
            let connections = row["connections"].as_u64().context("a figure without connections")?;
            let plural = if connections == 1 { "" } else { "s" };
            let what = format!("{}, {connections} connection{plural}: {}", word("operation")?, word("unit")?);
            let round = |round: &Value| Some(Round { ours: round[0].as_f64()?, peer: round[1].as_f64()? });
            let rounds = row["rounds"].as_array().context("a figure without rounds")?;
            let rounds = rounds.iter().map(round).collect::<Option<_>>().context("a round without two rates")?;
            Ok(Figure { what, rounds, promise: Promise::AtLeast(1.0) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_has_two_rates() -> Result<()> {
        let text = r#"{"figures":[{"operation":"read","connections":8,"unit":"MB per second","rounds":[[3.0,2.0]]}]}"#;
        let figures = figures(text)?;
        assert_eq!((figures[0].what.as_str(), figures[0].ratio()), ("read, 8 connections: MB per second", 1.5));
        assert!(super::figures(&text.replace("[3.0,2.0]", "[3.0]")).is_err());
        Ok(())
    }
}
