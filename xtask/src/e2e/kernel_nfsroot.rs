//! An image without an initrd: its kernel configures the network and mounts the NFS root itself.

use std::fs;

use anyhow::{Context, Result};
use testbed::lab::SERVER;
use testbed::machine::Spec;
use testbed::ssh::Ssh;

use super::in_node::{clock_is_right, reads_are_nfs_calls, reboot_forgets, timeline_is_whole, watchdog_is_in_ram};
use super::stage::{Booted, Stage, TINY_BOOT};
use crate::image::{Built, Recipe, derive};
use crate::kernel;

pub(super) const NAME: &str = "kernel-nfsroot";

const MAC: &str = "52:54:00:6e:f5:01";

/// Where the image has its kernel.
const KERNEL: &str = "/boot/pc-x86-64/kernel";

const START_SCRIPT: &[u8] = include_bytes!("../../kernel/start.ipxe");

/// `tiny` with another kernel and start script, and without its initrd.
pub(super) fn image(tiny: &Built) -> Result<Built> {
    let kernel = kernel::build()?;
    let kernel = fs::read(&kernel).with_context(|| format!("cannot read {kernel:?}"))?;
    let files: [(&str, &[u8]); 3] =
        [(KERNEL, &kernel), ("/boot/pc-x86-64/start.ipxe", START_SCRIPT), ("/boot/pc-x86-64/.wh.initrd", b"")];
    derive(tiny, "walt/tiny-pc:nfsroot", &files)
}

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = image(&stage.image(Recipe::TinyPc)?)?;
    let booted = stage.boot_one(&image, &Spec::new("pc-nfsroot", MAC), TINY_BOOT)?;
    let name = booted.node.name.clone();
    kernel_came_alone(stage, &booted)?;
    kernel_mounted_its_root(stage, &booted)?;
    agent_was_first(stage, &name)?;
    union_is_root(stage, &booted.ssh)?;
    clock_is_right(stage, &booted.ssh, "sh")?;
    watchdog_is_in_ram(stage, &booted.ssh)?;
    timeline_is_whole(stage, &name)?;
    reboot_forgets(stage, &booted, TINY_BOOT)
}

fn kernel_came_alone(stage: &mut Stage<'_>, booted: &Booted) -> Result<()> {
    let release = booted.ssh.run("uname -r")?;
    stage.check("the kernel is the one built for it", release.trim().ends_with("-walt-nfsroot"), release)?;
    let files = booted.ssh.run("ls /boot/pc-x86-64")?;
    let names: Vec<&str> = files.split_whitespace().collect();
    stage.check("the image has no initrd", names == ["kernel", "start.ipxe"], names.join(" "))?;
    let fetched: Vec<String> = stage.steps(&booted.node.name)?.into_iter().map(|s| s.name + " " + &s.detail).collect();
    let fetched: Vec<&String> = fetched.iter().filter(|step| step.contains("file")).collect();
    let all = fetched.iter().map(|step| step.as_str()).collect::<Vec<_>>().join("; ");
    let alone = fetched.iter().any(|step| step.contains("kernel")) && !all.contains("initrd");
    stage.check("the server was asked for the kernel and for no initrd", alone, all)?;
    let arguments = booted.ssh.run("cat /proc/cmdline")?;
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let share = format!("nfsroot={SERVER}:/var/lib/walt/nodes/{}/fs,nfsvers=3,", booted.node.ip);
    let as_told = ["root=/dev/nfs", "init=/bin/walt-init"].iter().all(|word| words.contains(word))
        && words.iter().any(|word| word.starts_with(&share))
        && !arguments.contains("initrd");
    stage.check("its arguments name the NFS root and no initrd", as_told, &arguments)
}

fn kernel_mounted_its_root(stage: &mut Stage<'_>, booted: &Booted) -> Result<()> {
    let log = booted.ssh.run("dmesg")?;
    let line = |text: &str| log.lines().find(|line| line.contains(text)).unwrap_or_default().to_owned();
    // Of init/initramfs.c and init/do_mounts_initrd.c in Linux.
    let initramfs = ["unpack rootfs image", "RAMDISK", "Freeing initrd memory"].map(line).concat();
    stage.check("the kernel's log knows of no initramfs", initramfs.is_empty(), initramfs)?;
    let address = line("device=eth0");
    let configured = line("IP-Config: Complete") + " " + &address;
    let as_given = address.contains(&format!("ipaddr={},", booted.node.ip)) || address.contains(&booted.node.ip);
    stage.check(
        "the kernel gave the interface the node's address",
        configured.contains("Complete") && as_given,
        configured,
    )?;
    let mounted = line("VFS: Mounted root (nfs filesystem) readonly");
    stage.check("the kernel mounted its root over NFS, read-only", !mounted.is_empty(), mounted)?;
    // NFS version, server, port, device, fsid, as fs/nfs/client.c writes them: numbers in hexadecimal.
    let volumes = booted.ssh.run("grep ^v3 /proc/fs/nfsfs/volumes")?;
    let server = SERVER.octets().map(|byte| format!("{byte:02x}")).concat();
    let fields: Vec<&str> = volumes.split_whitespace().collect();
    let from_us = fields.get(1) == Some(&server.as_str()) && volumes.lines().count() == 1;
    stage.check("that root, the only NFS volume, is our server's", from_us, volumes)
}

/// Nothing ran before walt-init, so it found only what the kernel itself mounts.
fn agent_was_first(stage: &mut Stage<'_>, node: &str) -> Result<()> {
    let steps = stage.steps(node)?;
    let step = steps.iter().find(|step| step.name.contains("mount-kernel-filesystems"));
    let detail = step.map(|step| step.detail.clone()).context("the timeline has no step mount-kernel-filesystems")?;
    stage.check(
        "walt-init came first: it mounted /proc, /sys and /run",
        detail.starts_with("mounted /proc /sys /run ("),
        detail,
    )
}

fn union_is_root(stage: &mut Stage<'_>, ssh: &Ssh) -> Result<()> {
    let first = ssh.run("cat /proc/1/comm")?;
    stage.check("process 1 is the image's init", first.trim() == "init", first)?;
    let root = ssh.run("grep ' / ' /proc/mounts")?;
    let overlay = root.split_whitespace().nth(2) == Some("overlay")
        && ["lowerdir=/,", "upperdir=", "metacopy=on"].iter().all(|part| root.contains(part));
    stage.check("/ is an overlay, with the features that the agent likes best", overlay, root)?;
    reads_are_nfs_calls(stage, ssh, KERNEL)?;
    let kernel = kernel::build()?;
    let expected = crate::image::sha256_of_file(&kernel)?;
    let read = ssh.run(&format!("sha256sum {KERNEL}"))?;
    stage.check("what was read is the file of the image", read.starts_with(&expected), read)
}
