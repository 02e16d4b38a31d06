//! The server is killed with -9 and started again under a node that keeps reading files.

use std::time::Duration;

use anyhow::Result;
use testbed::machine::Spec;
use testbed::ssh::Ssh;

use super::stage::{Stage, TINY_BOOT};
use crate::image::Recipe;

const MAC: &str = "52:54:00:5e:a7:01";

/// Reads the same files again and again, from the server each time; one line for each round, and one for each error.
const READER: &str = "\
sum() { find /usr/sbin /lib/modules/*/kernel/fs -type f -exec md5sum {} + 2>>/root/errors | sort | md5sum; }
while :; do echo 3 > /proc/sys/vm/drop_caches; sum >> /root/rounds; done";

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.image(Recipe::TinyPc)?;
    let booted = stage.boot_one(&image, &Spec::new("pc-restart", MAC), TINY_BOOT)?;
    let before = booted.ssh.run("cat /proc/sys/kernel/random/boot_id")?;
    booted.ssh.run(&format!(
        "echo '{READER}' > /root/reader; : > /root/errors; : > /root/rounds; setsid sh /root/reader > /dev/null 2>> /root/errors < /dev/null &"
    ))?;
    wait_for_rounds(stage, &booted.ssh, 1)?;
    for round in 1..=3 {
        stage.daemon()?.kill();
        std::thread::sleep(Duration::from_secs(4));
        stage.daemon()?.resume()?;
        println!("      killed and started again, {round} of 3");
        std::thread::sleep(Duration::from_secs(8));
    }
    wait_for_rounds(stage, &booted.ssh, 2)?;
    let sums = booted.ssh.run("sort -u /root/rounds | wc -l; cat /root/errors")?;
    stage.check(
        "each round has read the same, without an error (no ESTALE)",
        sums.trim() == "1",
        sums.replace('\n', ", "),
    )?;
    let after = booted.ssh.run("cat /proc/sys/kernel/random/boot_id")?;
    stage.check("the node was not rebooted", before == after, after)?;
    let node =
        stage.wait_for_node(MAC, "booted", Duration::from_secs(120), |node| node.state == api::NodeState::Booted)?;
    stage.check("the server that was started again knows that the node is booted", true, node.name)
}

/// Waits until the reader has done `more` rounds from now on. The node itself waits: each login costs it seconds.
fn wait_for_rounds(stage: &mut Stage<'_>, ssh: &Ssh, more: usize) -> Result<()> {
    let counts = ssh.run(&format!(
        "rounds() {{ wc -l < /root/rounds; }}; first=$(rounds); tries=0
         while [ $(rounds) -lt $((first + {more})) ] && [ $tries -lt 300 ]; do sleep 1; tries=$((tries + 1)); done
         echo $first $(rounds)"
    ))?;
    let numbers: Vec<usize> = counts.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let goes_on = matches!(numbers[..], [first, now] if now >= first + more);
    stage.check("the node goes on reading", goes_on, format!("rounds so far, before and after the wait: {counts}"))
}
