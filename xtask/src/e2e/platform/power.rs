//! Virtual nodes and the server that keeps them: its end, the reset button, their end.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use testbed::process::run as run_program;
use testbed::terminal::Terminal;

use super::{SOON, boot_id, node, walt};
use crate::e2e::stage::{Stage, TINY_BOOT};

pub(super) fn survives_the_daemon(stage: &mut Stage<'_>) -> Result<()> {
    let before = boot_id(stage, "vm2")?;
    stage.daemon()?.kill();
    stage.daemon()?.resume()?;
    let after = boot_id(stage, "vm2")?;
    stage.check("a virtual node outlives the server that has started it", before == after, "")?;
    let mut command = stage.daemon()?.command("walt");
    command.args(["node", "console", "vm2"]);
    let mut terminal = Terminal::start(&command, &stage.lab.logs().join("vm2.attached"))?;
    // Nothing is kept of what was shown before: the login asks again.
    let begun = Instant::now();
    while let Err(error) = terminal.press("\n").and_then(|()| terminal.wait_for("login:", Duration::from_secs(2))) {
        if begun.elapsed() > SOON {
            return Err(error);
        }
    }
    terminal.press("\u{1}d")?;
    terminal.end(SOON)?;
    stage.check("the next one has its console", true, "")
}

pub(super) fn reset(stage: &mut Stage<'_>) -> Result<()> {
    let before = boot_id(stage, "vm1")?;
    walt(stage, &["node", "config", "vm1", "cpu.cores=2"])?;
    let said = walt(stage, &["node", "reboot", "--hard", "vm1"])?;
    stage.check("`walt node reboot --hard` resets a virtual node", said.contains("vm1 is reset"), said.trim())?;
    let mac = node(stage, "vm1")?.mac;
    stage.wait_until_booted_anew(&mac, &before, TINY_BOOT)?;
    let cores = walt(stage, &["node", "run", "vm1", "grep -c ^processor /proc/cpuinfo"])?;
    stage.check("and it is what its settings say by then", cores.trim() == "2", cores.trim())
}

pub(super) fn remove(stage: &mut Stage<'_>) -> Result<()> {
    walt(stage, &["node", "rename", "vm2", "kitchen"])?;
    let renamed = node(stage, "kitchen")?;
    stage.check("a virtual node is renamed", renamed.is_virtual, "")?;
    walt(stage, &["node", "remove", "vm1,kitchen,vm3"])?;
    let left = walt(stage, &["node", "show", "--all", "--json"])?;
    stage.check("removed nodes are known no more", left.trim() == "[]", left.trim())?;
    let begun = Instant::now();
    loop {
        let left = run_program(Command::new("sh").args(["-c", "pgrep -r R,S,D qemu-system; ls /sys/class/net"]))?;
        let ours = |line: &str| line.starts_with("wt") || line.starts_with("wn-") || line.parse::<u32>().is_ok();
        let none = !left.lines().any(ours);
        if none || begun.elapsed() > SOON {
            return stage.check("and nothing of their machines is left", none, left.replace('\n', " "));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
