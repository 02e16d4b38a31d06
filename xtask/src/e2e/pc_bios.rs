//! The main story: a BIOS PC with stock iPXE, Debian from a registry, systemd.

use anyhow::Result;
use testbed::machine::Spec;

use super::in_node;
use super::stage::{DEBIAN_BOOT, Stage};
use crate::image::Recipe;

const MAC: &str = "52:54:00:b1:05:01";

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.image(Recipe::DebianPc)?;
    let booted = stage.boot_one(&image, &Spec::new("pc-bios", MAC), DEBIAN_BOOT)?;
    let name = booted.node.name.clone();
    stage.check("the node is named after its address", name == "node-b10501", &name)?;
    in_node::check(stage, &booted)?;
    booted.ssh.run("echo '<3>the kernel says hello' > /dev/kmsg")?;
    let wait =
        ["log", "wait", "--issuers", &name, "--streams", "^netconsole$", "--time-margin", "60", "--timeout", "60"];
    let line = stage.daemon()?.walt(&[&wait[..], &["kernel says hello"]].concat())?;
    stage.check("what its kernel says is in the logs", line.contains("netconsole"), line.trim())
}
