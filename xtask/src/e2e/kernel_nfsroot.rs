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
    let steps = stage.steps(&booted.node.name)?;
    let fetched: Vec<String> = steps.into_iter().filter(|step| step.name == "file").map(|step| step.detail).collect();
    // Details such as "http /boot/kernel 2122752 B in 0.110 s".
    let kernels = fetched.iter().filter(|detail| detail.contains("/boot/kernel ")).count();
    let alone = kernels == 1 && !fetched.iter().any(|detail| detail.contains("initrd"));
    stage.check("the server was asked for the kernel and for no initrd", alone, fetched.join("; "))?;
    // Linux, Documentation/x86/boot.rst: ramdisk_image and ramdisk_size, at 0x218 of what the bootloader tells the kernel.
    let ramdisk = booted
        .ssh
        .run("dd if=/sys/kernel/boot_params/data bs=4 skip=134 count=2 2>/dev/null | hexdump -v -e '2/4 \"%08x \"'")?;
    stage.check("the bootloader gave the kernel no initramfs", ramdisk.trim() == "00000000 00000000", ramdisk)?;
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
    let first = log.lines().next().unwrap_or_default();
    stage.check("the kernel's log is whole", first.starts_with("Linux version "), first)?;
    // Of init/initramfs.c and arch/x86/kernel/setup.c in Linux.
    let initramfs = ["Unpacking initramfs", "rootfs image", "RAMDISK", "Freeing initrd memory"].map(line).concat();
    stage.check("it knows of no initramfs", initramfs.is_empty(), initramfs)?;
    // Of net/ipv4/ipconfig.c.
    let configured = [line("IP-Config: Complete"), line("device=eth0"), line("rootserver=")].join(" ");
    let node = format!("ipaddr={}, ", booted.node.ip);
    let as_given = [&node, "IP-Config: Complete", &format!("rootserver={SERVER}, ")];
    stage.check(
        "the kernel gave the interface the node's address, and our server is its root's",
        as_given.iter().all(|text| configured.contains(*text)),
        configured,
    )?;
    let mounted = line("VFS: Mounted root (nfs filesystem) readonly");
    stage.check("the kernel mounted its root over NFS, read-only", !mounted.is_empty(), mounted)?;
    // NFS version, server, port, device, fsid, as fs/nfs/client.c writes them: numbers in hexadecimal.
    let volumes = booted.ssh.run("grep ^v3 /proc/fs/nfsfs/volumes")?;
    let server = SERVER.octets().map(|byte| format!("{byte:02x}")).concat();
    let of_us = |line: &str| line.split_whitespace().nth(1) == Some(server.as_str());
    // The other one is /persist.
    let from_us = volumes.lines().all(of_us) && volumes.lines().count() == 2;
    stage.check("that root and /persist, the only NFS volumes, are our server's", from_us, volumes)
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
