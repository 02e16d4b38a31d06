//! The server stays away: the watchdog reboots the node after its grace time.

use std::time::{Duration, Instant};

use anyhow::Result;
use testbed::machine::Spec;

use super::stage::{Stage, TINY_BOOT};
use crate::image::Recipe;

const MAC: &str = "52:54:00:60:4e:01";

/// The watchdog's default.
const GRACE: Duration = Duration::from_secs(60);

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.image(Recipe::TinyPc)?;
    let booted = stage.boot_one(&image, &Spec::new("pc-gone", MAC), TINY_BOOT)?;
    let before = booted.ssh.run("cat /proc/sys/kernel/random/boot_id")?;
    stage.machine(0)?.skip_console();
    let start = Instant::now();
    stage.daemon()?.kill();
    stage.machine(0)?.wait_for("REBOOTING", GRACE * 3)?;
    let took = start.elapsed();
    let seen = format!("{:.1} s", took.as_secs_f64());
    // The last answer it had may be one probe older than the kill.
    let in_time = took >= GRACE - Duration::from_secs(6) && took <= GRACE + Duration::from_secs(20);
    stage.check("the watchdog reboots the machine after 60 s of silence", in_time, seen)?;
    stage.machine(0)?.wait_for("iPXE", Duration::from_secs(90))?;
    stage.check("the machine is back in its boot loader", true, "")?;
    // Until the server is there the machine tries, fails, and tries again: nobody presses a key.
    std::thread::sleep(Duration::from_secs(20));
    stage.daemon()?.resume()?;
    let again = stage.wait_until_booted_anew(MAC, &before, TINY_BOOT)?;
    let root = again.ssh.run("grep ' / ' /proc/mounts")?;
    stage.check("when the server is back the node boots by itself", root.contains("overlay"), root)
}
