//! An image with busybox init and dropbear, through our own initramfs.

use anyhow::Result;
use testbed::machine::{Nic, Spec};

use super::stage::{Stage, TINY_BOOT};
use crate::image::Recipe;

const MAC: &str = "52:54:00:71:4e:01";

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.image(Recipe::TinyPc)?;
    // The interface of an old PC, for once.
    let spec = Spec { nic: Nic::E1000, ..Spec::new("pc-tiny", MAC) };
    let booted = stage.boot_one(&image, &spec, TINY_BOOT)?;
    let first = booted.ssh.run("cat /proc/1/comm; readlink -f /sbin/init")?;
    let expected = first.split_whitespace().collect::<Vec<_>>() == ["init", "/bin/busybox"];
    stage.check("process 1 is busybox init", expected, first.replace('\n', ", "))?;
    let root = booted.ssh.run("grep ' / ' /proc/mounts")?;
    stage.check("/ is an overlay", root.contains(" overlay "), root)?;
    let year = booted.ssh.run("date +%Y")?;
    stage.check("the clock does not say 2001", year.trim().parse::<u32>().is_ok_and(|year| year > 2020), year)?;
    let programs = booted.ssh.run("walt-echo lab hello && . /bin/walt-env && echo $walt_server_ip")?;
    stage.check(
        "the agent's programs work in a shell without glibc's tools",
        programs.contains("192.168.152.1"),
        programs,
    )
}
