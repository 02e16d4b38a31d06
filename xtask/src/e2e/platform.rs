//! A team's day: three virtual nodes, and nothing but the `walt` command.

mod network;
mod power;

use std::time::Duration;

use anyhow::{Context, Result};
use testbed::terminal::Terminal;

use super::node_commands::{self, copying, saving};
use super::stage::{Stage, TINY_BOOT};
use crate::image::Recipe;

/// Where a moment of the machine is enough.
const SOON: Duration = Duration::from_secs(60);

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.image(Recipe::TinyPc)?;
    let reference = stage.push(&image)?;
    let accelerator = if testbed::machine::kvm_works() { "kvm" } else { "tcg" };
    stage.start_daemon(&reference, &format!("[virtual_nodes]\naccelerator = {accelerator:?}\n"))?;
    create(stage)?;
    on_a_set(stage)?;
    logs(stage)?;
    node_commands::shell(stage, "vm1")?;
    copying::both_ways(stage, "vm1")?;
    node_commands::reached(stage, "vm1")?;
    console(stage)?;
    power::survives_the_daemon(stage)?;
    network::nat_and_names(stage)?;
    let mac = node(stage, "vm1")?.mac;
    saving::saved_and_booted(stage, "vm1", &mac)?;
    power::reset(stage)?;
    power::remove(stage)
}

/// What `walt` prints, when all goes well.
fn walt(stage: &mut Stage<'_>, arguments: &[&str]) -> Result<String> {
    stage.daemon()?.check()?;
    stage.daemon()?.walt(arguments)
}

/// What `walt` says when it refuses.
fn refusal(stage: &mut Stage<'_>, arguments: &[&str]) -> Result<String> {
    let mut command = stage.daemon()?.command("walt");
    let output = command.args(arguments).stdin(std::process::Stdio::null()).output()?;
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    stage.check(&format!("`walt {}` is refused", arguments.join(" ")), output.status.code() == Some(1), &told)?;
    Ok(told)
}

fn node(stage: &mut Stage<'_>, name: &str) -> Result<api::Node> {
    let text = walt(stage, &["node", "show", name, "--json"])?;
    serde_json::from_str(&text).with_context(|| format!("unexpected answer of walt node show: {text}"))
}

/// Linux makes another one at each boot.
fn boot_id(stage: &mut Stage<'_>, name: &str) -> Result<String> {
    walt(stage, &["node", "run", name, "cat /proc/sys/kernel/random/boot_id"])
}

fn create(stage: &mut Stage<'_>) -> Result<()> {
    for name in ["vm1", "vm2"] {
        walt(stage, &["node", "create", name, "ram=512M"])?;
    }
    walt(stage, &["node", "create", "vm3", "ram=640M", "cpu.cores=2", "disks=64M", "networks=walt-net,lab"])?;
    let refused = refusal(stage, &["node", "create", "vm3"])?;
    stage.check("because there is one already", refused.contains("there is a device vm3 already"), "")?;
    refusal(stage, &["node", "create", "vm4", "ramm=1G"])?;
    let limit = TINY_BOOT.as_secs().to_string();
    let said = walt(stage, &["node", "wait", "all-nodes", "--timeout", &limit])?;
    let all = ["vm1", "vm2", "vm3"].iter().all(|name| said.contains(&format!("{name} is booted")));
    stage.check("three virtual nodes boot", all, said.trim().replace('\n', "; "))?;
    let look = "grep -c ^processor /proc/cpuinfo; awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo; \
                cat /sys/bus/pci/devices/*/device | grep -c 0x1001; ls -d /sys/class/net/eth* | wc -l";
    let hardware = walt(stage, &["node", "run", "vm3", look])?;
    let numbers: Vec<u64> = hardware.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let is_it = matches!(numbers[..], [2, 540..=640, 1, 2]);
    stage.check("with the processors, RAM, disk and networks of their settings", is_it, hardware.replace('\n', " "))
}

fn on_a_set(stage: &mut Stage<'_>) -> Result<()> {
    let said = walt(stage, &["node", "run", "free-nodes", "hostname"])?;
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    let each = lines.len() == 3 && lines.iter().all(|line| line.split_whitespace().count() == 2);
    stage.check("`walt node run` runs on all of a set, and says who says what", each, lines.join("; "))?;
    let command = "test $(hostname) != vm2 || exit 7";
    let mut failing = stage.daemon()?.command("walt");
    let output = failing.args(["node", "run", "all-nodes", command]).stdin(std::process::Stdio::null()).output()?;
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    stage.check("and fails if it fails on one, which is named", !output.status.success() && told.contains("vm2"), told)
}

/// From the nodes to the server, and back.
fn logs(stage: &mut Stage<'_>) -> Result<()> {
    walt(stage, &["log", "add-checkpoint", "begun"])?;
    let mut waiting = stage.daemon()?.command("walt");
    waiting.args(["log", "wait", "--timeout", "60", "--mode", "ALL", "--issuers", "all-nodes", "DONE"]);
    let waiting = waiting.args(["--time-margin", "60"]).stdout(std::process::Stdio::piped()).spawn()?;
    walt(stage, &["node", "run", "all-nodes", "walt-log-echo experiment \"$(hostname) is DONE\""])?;
    let output = waiting.wait_with_output()?;
    let lines = String::from_utf8_lossy(&output.stdout).trim().replace('\n', "; ");
    stage.check("`walt log wait --mode ALL` ends when each node has said it", output.status.success(), lines)?;
    walt(stage, &["log", "add-checkpoint", "ended"])?;
    walt(stage, &["node", "run", "vm1", "walt-log-echo experiment later"])?;
    let arguments = ["log", "show", "--history", "begun:ended", "--issuers", "all-nodes", "--streams", "experiment"];
    let shown = walt(stage, &arguments)?;
    let is_it = shown.lines().count() == 3 && shown.lines().all(|line| line.ends_with("is DONE"));
    stage.check("checkpoints begin and end what is shown", is_it, shown.trim().replace('\n', "; "))?;
    let platform = walt(stage, &["log", "show", "--history", "full", "--platform", "virtual node"])?;
    stage.check("that nodes were made is in the logs", platform.lines().count() == 3, platform.lines().count())
}

fn console(stage: &mut Stage<'_>) -> Result<()> {
    let mut command = stage.daemon()?.command("walt");
    command.args(["node", "console", "vm1"]);
    let log = stage.lab.logs().join("vm1.attached");
    let mut terminal = Terminal::start(&command, &log)?;
    // From before.
    terminal.wait_for("login:", SOON)?;
    terminal.press("\n")?;
    terminal.wait_for("login:", SOON)?;
    terminal.press("nobody-at-all\n")?;
    terminal.wait_for("assword:", SOON)?;
    stage.check("`walt node console` shows what was, and types", true, "")?;
    terminal.press("\u{1}d")?;
    let status = terminal.end(SOON)?;
    stage.check("Ctrl-a d leaves it", status.success(), status)?;
    let shown = walt(stage, &["log", "show", "--history", "full", "--issuers", "vm1", "--streams", "^console$"])?;
    let is_it = ["iPXE", "Linux version", "nobody-at-all"].iter().all(|text| shown.contains(text));
    stage.check("all of it is in the logs", is_it, format!("{} lines", shown.lines().count()))
}
