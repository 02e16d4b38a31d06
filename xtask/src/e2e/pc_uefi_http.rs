//! A UEFI PC that boots over HTTP: no TFTP at all.

use anyhow::Result;
use testbed::machine::{Board, Firmware, Spec};

use super::stage::{Stage, TINY_BOOT};
use crate::image::Recipe;

const MAC: &str = "52:54:00:ef:80:01";

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.image(Recipe::TinyPc)?;
    let spec = Spec::new("pc-uefi-http", MAC).on(Board::Pc(Firmware::UefiHttp));
    let booted = stage.boot_one(&image, &spec, TINY_BOOT)?;
    let efi = booted.ssh.run("ls -d /sys/firmware/efi")?;
    stage.check("UEFI has started the kernel", efi.starts_with("/sys"), efi)?;
    let steps = stage.steps(&booted.node.name)?;
    let loader = steps.iter().find(|step| step.detail.contains(".efi"));
    let detail = loader.map(|step| format!("{} {}", step.name, step.detail)).unwrap_or_default();
    stage.check("the firmware loaded our iPXE", loader.is_some(), &detail)?;
    let tftp =
        steps.iter().filter(|step| format!("{} {}", step.name, step.detail).to_lowercase().contains("tftp")).count();
    stage.check("nothing was loaded by TFTP", tftp == 0, format!("{tftp} steps"))
}
