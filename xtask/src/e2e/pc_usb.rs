//! A PC that can not boot over the network by itself: the stick as its user writes it, by BIOS and by UEFI.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use testbed::machine::{Board, Spec};
use testbed::process::run as run_program;

use super::stage::{Stage, TINY_BOOT};
use crate::image::Recipe;

/// What GRUB on the stick says.
const FROM_GRUB: &str = "WalT: starting iPXE";

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let stick = stage.lab.state().join("usb.img");
    let mut walt = Command::new(stage.programs().directory.join("walt"));
    let written = run_program(walt.args(["media", "usb", "--json", "--out"]).arg(&stick))?;
    let written: serde_json::Value = serde_json::from_str(&written).context("the answer of walt media usb")?;
    let left_out = &written["left_out"];
    let whole = left_out.as_array().is_some_and(Vec::is_empty);
    stage.check("`walt media usb` has written a stick that lacks nothing", whole, left_out)?;

    // An iPXE that does not know scripts beside itself is started by GRUB.
    let files = written["files"].as_array().context("walt media usb names no files")?;
    let with_grub = files.iter().any(|file| file == "EFI/debian/grub.cfg");
    let started_by_uefi = if with_grub { FROM_GRUB } else { "iPXE initialising devices" };

    let image = stage.image(Recipe::TinyPc)?;
    let reference = stage.push(&image)?;
    stage.start_daemon(&reference, "")?;
    boot(stage, &stick, "pc-usb-bios", "52:54:00:05:b0:01", None)?;
    boot(stage, &stick, "pc-usb-uefi", "52:54:00:05:b0:02", Some(started_by_uefi))
}

/// Boots a PC with BIOS or, if a loader of UEFI's is named, with UEFI.
fn boot(stage: &mut Stage<'_>, stick: &Path, name: &str, mac: &str, loader: Option<&str>) -> Result<()> {
    let (uefi, firmware) = if loader.is_some() { (true, "UEFI") } else { (false, "BIOS") };
    let loader = loader.unwrap_or("SYSLINUX");
    // QEMU lets no two machines have one stick.
    let own = stick.with_file_name(format!("{name}.img"));
    fs::copy(stick, &own).with_context(|| format!("cannot copy the stick to {own:?}"))?;
    let machine = stage.switch_on(&Spec::new(name, mac).on(Board::PcWithStick { uefi, stick: own }))?;
    let booted = stage.wait_until_booted(mac, TINY_BOOT)?;

    let console = String::from_utf8_lossy(&fs::read(stage.machine(machine)?.console_log())?).into_owned();
    stage.check(&format!("its stick was started by {firmware}"), console.contains(loader), loader)?;
    let efi = booted.ssh.run("ls -d /sys/firmware/efi 2>/dev/null; true")?;
    let as_started = efi.contains("efi") == uefi;
    stage.check(&format!("so was its kernel: {firmware}"), as_started, efi.trim())?;
    let steps = stage.steps(&booted.node.name)?;
    // Below pxe/ are the server's own loaders and its first stage: the stick has its own, but for an iPXE that takes no
    // script from it.
    let loaded: Vec<_> =
        steps.iter().map(|step| step.detail.as_str()).filter(|detail| detail.contains("pxe/")).collect();
    let expected = match loader {
        FROM_GRUB => loaded.len() == 1 && loaded[0].contains("pxe/walt.ipxe"),
        _ => loaded.is_empty(),
    };
    stage.check("it has loaded no bootloader from the server", expected, loaded.join("; "))
}
