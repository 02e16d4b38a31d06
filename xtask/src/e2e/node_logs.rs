//! No machine: the log programs of nodes and `walt log`, while the server is killed and comes back.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::host::Host;
use testbed::lab::SERVER;
use testbed::process::run as run_program;

use super::stage::Stage;

const NODES: [(&str, &str, &str); 2] =
    [("one", "52:54:00:10:65:01", "node-106501"), ("two", "52:54:00:10:65:02", "node-106502")];
/// Lines of the stream during which the server is killed.
const LINES: u32 = 100_000;

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    // Nodes that never get an image: to log, a device must have said what it is.
    stage.start_daemon("lab/none", "")?;
    let mut hosts = Vec::new();
    for (name, mac, node) in NODES {
        let host = Host::plug_in(stage.lab, name, mac)?;
        host.lease("walt.node.pc-x86-64")?;
        stage.wait_for_node(mac, "registered", Duration::from_secs(20), |found| found.name == node)?;
        hosts.push(host);
    }
    every_form(stage, &hosts)?;
    waiting(stage, &hosts)?;
    checkpoints(stage, &hosts[0])?;
    killed(stage, &hosts[0])?;
    over_the_network(stage, &hosts[1])?;
    away_for_too_long(stage, &hosts[1])
}

/// A log program of a node, on a host that is one.
fn agent(stage: &Stage<'_>, host: &Host, program: &str, options: &[&str]) -> Command {
    let binary = stage.programs().agents.join("x86_64/walt-node");
    let mut command = host.command(binary.to_str().unwrap_or_default());
    command.arg(program).args(["--server", &format!("{SERVER}:12347")]).args(options);
    command
}

fn every_form(stage: &mut Stage<'_>, hosts: &[Host]) -> Result<()> {
    run_program(&mut agent(stage, &hosts[0], "walt-log-echo", &["app", "hello", "you"]))?;
    run_program(&mut agent(stage, &hosts[0], "walt-log-echo", &["--timestamp", "1000000000.25", "app", "long ago"]))?;
    run_program(&mut agent(stage, &hosts[1], "walt-log-monitor", &["sh", "-c", "test -t 1 && echo on a terminal"]))?;
    let shown = stage.daemon()?.walt(&["log", "show", "--history", "full", "--issuers", "all-nodes"])?;
    let expected = ["node-106501.app -> hello you", "node-106501.app -> long ago", "node-106502.sh -> on a terminal"];
    let all = expected.iter().all(|line| shown.contains(line));
    stage.check("`walt log show` has what the nodes have logged", all, shown.trim().replace('\n', "; "))?;
    let format = "{timestamp:%s.%f};{issuer};{line}";
    let arguments = ["log", "show", "--history", "full", "--issuers", "node-106501", "--format", format, "ago$"];
    let shown = stage.daemon()?.walt(&arguments)?;
    let is_it = shown == "1000000000.250000;node-106501;long ago\n";
    stage.check("in the format that was asked for, with the node's own time", is_it, shown.trim())?;
    let platform = stage.daemon()?.walt(&["log", "show", "--history", "-5m:", "--platform", "is a new node"])?;
    stage.check(
        "the platform's events are logs",
        platform.lines().count() == 2,
        platform.trim().replace('\n', "; "),
    )?;
    let server = stage.daemon()?.walt(&["log", "show", "--history", "-5m:", "--server", "ready"])?;
    stage.check("so is the daemon's own log", server.contains("server.daemon -> INFO ready"), server.trim())
}

fn waiting(stage: &mut Stage<'_>, hosts: &[Host]) -> Result<()> {
    let wait = |stage: &mut Stage<'_>, options: &[&str]| -> Result<Child> {
        let mut command = stage.daemon()?.command("walt");
        command.args(["log", "wait", "--timeout", "60", "--issuers", "all-nodes"]).args(options);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start walt log wait")
    };
    let (any, all) = (wait(stage, &["DONE"])?, wait(stage, &["--mode", "ALL", "DONE"])?);
    let mut all = all;
    // Long enough for both to listen; with --time-margin a script need not care.
    thread::sleep(Duration::from_secs(2));
    run_program(&mut agent(stage, &hosts[0], "walt-log-echo", &["app", "it is DONE"]))?;
    let output = any.wait_with_output()?;
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    stage.check("`walt log wait` ends with the line", output.status.success() && line.ends_with("it is DONE"), line)?;
    thread::sleep(Duration::from_millis(500));
    stage.check("with --mode ALL it waits for the other node", all.try_wait()?.is_none(), "")?;
    run_program(&mut agent(stage, &hosts[1], "walt-log-echo", &["app", "DONE as well"]))?;
    let output = all.wait_with_output()?;
    let lines = String::from_utf8_lossy(&output.stdout).trim().replace('\n', "; ");
    stage.check("and ends when that has said it, too", output.status.success(), lines)?;
    let margin = ["log", "wait", "--time-margin", "60", "--timeout", "20", "--issuers", "node-106502", "DONE as well"];
    let found = stage.daemon()?.walt(&margin)?;
    stage.check("--time-margin finds what has come just before", found.contains("DONE as well"), found.trim())?;
    let mut late = stage.daemon()?.command("walt");
    late.args(["log", "wait", "--timeout", "1", "--issuers", "all-nodes", "never said"]);
    let output = late.output()?;
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    stage.check("--timeout ends it with a failure", output.status.code() == Some(1) && told.contains("in 1 s"), told)
}

fn checkpoints(stage: &mut Stage<'_>, host: &Host) -> Result<()> {
    stage.daemon()?.walt(&["log", "add-checkpoint", "begun"])?;
    run_program(&mut agent(stage, host, "walt-log-echo", &["app", "between"]))?;
    stage.daemon()?.walt(&["log", "add-checkpoint", "ended"])?;
    run_program(&mut agent(stage, host, "walt-log-echo", &["app", "after"]))?;
    let shown = stage.daemon()?.walt(&["log", "show", "--history", "begun:ended", "--issuers", "all-nodes"])?;
    let is_it = shown.lines().count() == 1 && shown.trim().ends_with("between");
    stage.check("checkpoints begin and end what is shown", is_it, shown.trim())
}

/// The server is killed twice while a node logs: every line is there, in order.
fn killed(stage: &mut Stage<'_>, host: &Host) -> Result<()> {
    let input = (0..LINES).map(|number| format!("{number}\n")).collect::<String>();
    let input = stage.lab.write("lines", &input)?;
    let mut command = agent(stage, host, "walt-log-cat", &["--patience", "60", "numbers"]);
    let child = command.stdin(std::fs::File::open(&input)?).stderr(Stdio::piped()).spawn()?;
    for _ in 0..2 {
        thread::sleep(Duration::from_millis(300));
        stage.daemon()?.kill();
        thread::sleep(Duration::from_millis(700));
        stage.daemon()?.resume()?;
    }
    let output = child.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    stage.check("walt-log-cat ends well though the server was killed twice", output.status.success(), told)?;
    let shown = stage.daemon()?.walt(&[
        "log",
        "show",
        "--history",
        "full",
        "--issuers",
        "all-nodes",
        "--streams",
        "^numbers$",
        "--format",
        "{line}",
    ])?;
    let numbers = shown.lines().map(str::parse).collect::<Result<Vec<u32>, _>>()?;
    let mut distinct = numbers.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let again = numbers.len() - distinct.len();
    let all = distinct == (0..LINES).collect::<Vec<_>>();
    stage.check("every line is there", all, format!("{} of {LINES}, {again} of them twice", distinct.len()))
}

/// Other systems read the same lines, and hear how nodes fare.
fn over_the_network(stage: &mut Stage<'_>, host: &Host) -> Result<()> {
    let ask = |path: &str| -> Result<serde_json::Value> {
        let text = run_program(host.command("curl").args(["-sSf", "-m", "60", &format!("http://{SERVER}{path}")]))?;
        Ok(serde_json::from_str(&text)?)
    };
    let found = ask("/api/v1/logs?from=0&to=1e10&issuer=node-106501&stream=numbers")?;
    let (count, lines) = (found["num_logs"].as_u64(), found["logs"].as_array().map_or(0, Vec::len));
    let detail = format!("{lines} lines, the last is {}", found["logs"][lines.saturating_sub(1)]);
    let is_all = lines >= LINES as usize && count == Some(lines as u64);
    stage.check("the web API tells the same lines to a node", is_all, detail)?;
    let nodes = ask("/api/v1/nodes?model=pc-x86-64")?;
    stage.check("and which nodes there are", nodes["num_nodes"] == NODES.len(), nodes["nodes"][0]["name"].to_string())
}

/// A server that stays away is told of, with what is lost.
fn away_for_too_long(stage: &mut Stage<'_>, host: &Host) -> Result<()> {
    stage.daemon()?.kill();
    let output = agent(stage, host, "walt-log-echo", &["--patience", "1", "app", "nobody hears"]).output()?;
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(!output.status.success(), "it claims that the line has arrived");
    stage.check("a line that no server takes is told of", told.contains("1 line is lost"), told)
}
