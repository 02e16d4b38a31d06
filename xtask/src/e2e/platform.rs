//! A team's day: three virtual nodes, and nothing but the `walt` command.

use std::time::Duration;

use anyhow::{Context, Result};
use testbed::process::run as run_program;
use testbed::terminal::Terminal;

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
    console(stage)?;
    survives_the_daemon(stage)?;
    reset(stage)?;
    remove(stage)
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
    let node = node(stage, name)?;
    stage.daemon()?.ssh(&node)?.run("cat /proc/sys/kernel/random/boot_id")
}

fn create(stage: &mut Stage<'_>) -> Result<()> {
    for name in ["vm1", "vm2"] {
        walt(stage, &["node", "create", name, "ram=512M"])?;
    }
    walt(stage, &["node", "create", "vm3", "ram=640M", "cpu.cores=2", "disks=64M", "networks=walt-net,lab"])?;
    let refused = refusal(stage, &["node", "create", "vm3"])?;
    stage.check("because there is one already", refused.contains("there is a device vm3 already"), "")?;
    refusal(stage, &["node", "create", "vm4", "ramm=1G"])?;
    let said = walt(stage, &["node", "wait", "all-nodes", "--timeout", "300"])?;
    let all = ["vm1", "vm2", "vm3"].iter().all(|name| said.contains(&format!("{name} is booted")));
    stage.check("three virtual nodes boot", all, said.trim().replace('\n', "; "))?;
    let third = node(stage, "vm3")?;
    let hardware = stage.daemon()?.ssh(&third)?.run(
        "grep -c ^processor /proc/cpuinfo; awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo; \
         cat /sys/bus/pci/devices/*/device | grep -c 0x1001; ls -d /sys/class/net/eth* | wc -l",
    )?;
    let numbers: Vec<u64> = hardware.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let is_it = matches!(numbers[..], [2, 540..=640, 1, 2]);
    stage.check("with the processors, RAM, disk and networks of their settings", is_it, hardware.replace('\n', " "))
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

fn survives_the_daemon(stage: &mut Stage<'_>) -> Result<()> {
    let before = boot_id(stage, "vm2")?;
    stage.daemon()?.kill();
    stage.daemon()?.resume()?;
    let after = boot_id(stage, "vm2")?;
    stage.check("a virtual node outlives the server that has started it", before == after, "")?;
    let mut command = stage.daemon()?.command("walt");
    command.args(["node", "console", "vm2"]);
    let log = stage.lab.logs().join("vm2.attached");
    let mut terminal = Terminal::start(&command, &log)?;
    std::thread::sleep(Duration::from_secs(2));
    terminal.press("\n")?;
    terminal.wait_for("login:", SOON)?;
    terminal.press("\u{1}d")?;
    terminal.end(SOON)?;
    stage.check("the next one has its console", true, "")
}

fn reset(stage: &mut Stage<'_>) -> Result<()> {
    let before = boot_id(stage, "vm1")?;
    walt(stage, &["node", "config", "vm1", "cpu.cores=2"])?;
    let said = walt(stage, &["node", "reboot", "--hard", "vm1"])?;
    stage.check("`walt node reboot --hard` resets a virtual node", said.contains("vm1 is reset"), said.trim())?;
    let mac = node(stage, "vm1")?.mac;
    let booted = stage.wait_until_booted_anew(&mac, before.trim(), TINY_BOOT)?;
    let cores = booted.ssh.run("grep -c ^processor /proc/cpuinfo")?;
    stage.check("and it is what its settings say by then", cores.trim() == "2", cores.trim())
}

fn remove(stage: &mut Stage<'_>) -> Result<()> {
    walt(stage, &["node", "rename", "vm2", "kitchen"])?;
    let renamed = node(stage, "kitchen")?;
    stage.check("a virtual node is renamed", renamed.is_virtual, "")?;
    walt(stage, &["node", "remove", "vm1,kitchen,vm3"])?;
    let left = walt(stage, &["node", "show", "--all", "--json"])?;
    stage.check("removed nodes are known no more", left.trim() == "[]", left.trim())?;
    let gone = || run_program(std::process::Command::new("sh").args(["-c", "pgrep qemu-system; ls /sys/class/net"]));
    let begun = std::time::Instant::now();
    loop {
        let left = gone()?;
        let none =
            !left.lines().any(|line| line.starts_with("wt") || line.starts_with("wn-") || line.parse::<u32>().is_ok());
        if none || begun.elapsed() > SOON {
            return stage.check("and nothing of their machines is left", none, left.replace('\n', " "));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
