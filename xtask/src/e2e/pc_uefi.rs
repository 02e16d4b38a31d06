//! A UEFI PC: the firmware's own PXE, snponly.efi, Debian.

use anyhow::Result;
use testbed::machine::{Board, Firmware, Spec};

use super::stage::{DEBIAN_BOOT, Stage};
use crate::image::Recipe;

const MAC: &str = "52:54:00:ef:10:01";

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.image(Recipe::DebianPc)?;
    let spec = Spec::new("pc-uefi", MAC).on(Board::Pc(Firmware::UefiPxe));
    let booted = stage.boot_one(&image, &spec, DEBIAN_BOOT)?;
    let efi = booted.ssh.run("ls -d /sys/firmware/efi && cat /proc/1/comm && findmnt -n -o FSTYPE /")?;
    let expected = efi.split_whitespace().collect::<Vec<_>>() == ["/sys/firmware/efi", "systemd", "overlay"];
    stage.check("UEFI has started a kernel whose init is systemd, on the union", expected, efi.replace('\n', ", "))?;
    let steps = stage.steps(&booted.node.name)?;
    let loader = steps.iter().find(|step| step.detail.contains("snponly.efi") || step.detail.contains("ipxe.efi"));
    stage.check(
        "the firmware loaded our iPXE by TFTP",
        loader.is_some(),
        loader.map(|step| step.detail.clone()).unwrap_or_default(),
    )
}
