//! `x bench nfs`: operations per second and bytes per second of our NFS server and of nfs-ganesha, on the same tree.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testbed::lab::{Entered, Lab, SERVER, enter};
use testbed::peers::Ganesha;
use testbed::process::{Background, run as run_program, run_shown};

use super::{Figure, Promise, median, report};
use crate::image::{Recipe, build};
use crate::programs::{agent, cargo};

/// Times that each server is measured.
const ROUNDS: usize = 3;

pub(super) fn run() -> Result<ExitCode> {
    let image = build(Recipe::DebianPc, &agent()?)?;
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
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        ours.push(measure_ours(&lab, &tree)?);
        peers.push(measure_ganesha(&lab, &tree)?);
        println!("round {} of {ROUNDS}", round + 1);
    }
    let figures = figures(&ours, &peers)?;
    report("nfs", "nfs-ganesha", &figures, &json!({"ours": ours, "nfs-ganesha": peers}))
}

fn measure_ours(lab: &Lab, tree: &Path) -> Result<Value> {
    let mut command = example("nfs-serve");
    command.args(["--address", &SERVER.to_string(), "--client", &SERVER.to_string(), "--state"]);
    command.arg(lab.state().join("layers")).arg("--tree").arg(tree);
    let mut server = Background::start("nfs-serve", &mut command, &lab.logs().join("nfs-serve.log"))?;
    let up = || std::net::TcpStream::connect((SERVER, 2049)).is_ok();
    server.wait_until("listening", Duration::from_secs(120), up)?;
    load("ours", &format!("/var/lib/walt/nodes/{SERVER}/fs"), 2049)
}

fn measure_ganesha(lab: &Lab, tree: &Path) -> Result<Value> {
    let _server = Ganesha::start(lab, tree)?;
    load("nfs-ganesha", &tree.display().to_string(), 20048)
}

fn load(label: &str, path: &str, mount_port: u16) -> Result<Value> {
    let mut command = example("nfs-load");
    command.args([
        "--server",
        &SERVER.to_string(),
        "--path",
        path,
        "--mount-port",
        &mount_port.to_string(),
        "--label",
        label,
    ]);
    let text = run_program(&mut command)?;
    serde_json::from_str(&text).with_context(|| format!("nfs-load printed {text:?}"))
}

fn example(name: &str) -> Command {
    Command::new(crate::target_directory().join("release/examples").join(name))
}

/// One figure for each operation and number of connections: the medians over the rounds.
fn figures(ours: &[Value], peers: &[Value]) -> Result<Vec<Figure>> {
    let rows = |report: &Value| report["figures"].as_array().cloned().unwrap_or_default();
    let first = rows(ours.first().context("nothing was measured")?);
    let mut figures = Vec::new();
    for (index, row) in first.iter().enumerate() {
        let operation = row["operation"].as_str().context("a figure without an operation")?;
        let unit = match operation {
            "read" => "megabytes_per_second",
            "readdirplus" => "entries_per_second",
            _ => "calls_per_second",
        };
        let values = |reports: &[Value]| -> Vec<f64> {
            reports.iter().filter_map(|report| rows(report).get(index)?[unit].as_f64()).collect()
        };
        let what = format!("{operation}, {} connections: {}", row["connections"], unit.replace('_', " "));
        let promise = Promise::AtLeast(1.0);
        figures.push(Figure { what, ours: median(&values(ours)), peer: median(&values(peers)), promise });
    }
    Ok(figures)
}
