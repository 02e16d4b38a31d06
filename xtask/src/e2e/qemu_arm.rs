//! Boards with U-Boot and a card, as QEMU has them: `virt` with a 64-bit and with a 32-bit processor.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use testbed::machine::{Board, Spec, Width};
use testbed::process::run as run_program;

use super::in_node;
use super::stage::{DEBIAN_BOOT, Stage};
use crate::image::Recipe;

pub(super) fn run_64(stage: &mut Stage<'_>) -> Result<()> {
    run(stage, "qemu-arm-64", Width::Bits64, Recipe::DebianArm64)
}

pub(super) fn run_32(stage: &mut Stage<'_>) -> Result<()> {
    run(stage, "qemu-arm", Width::Bits32, Recipe::DebianArmhf)
}

fn run(stage: &mut Stage<'_>, model: &str, width: Width, recipe: Recipe) -> Result<()> {
    let image = stage.image(recipe)?;
    let spec = Spec::new(model, "52:54:00:a2:64:01").on(Board::Virt { width, card: card(stage, model)? });
    let booted = stage.boot_one(&image, &spec, DEBIAN_BOOT)?;
    let seen = booted.node.model.clone().unwrap_or_default();
    stage.check("the board was recognised", seen == model, &seen)?;
    let console = std::fs::read_to_string(stage.machine(0)?.console_log())?;
    for line in [
        format!("WalT: this is a {model}"),
        format!("WalT: asking DHCP for an address as walt.node.{model}"),
        format!("WalT: starting {model} at {}", booted.node.ip),
        "WalT: starting the kernel".to_owned(),
    ] {
        stage.check(&format!("the console says {line:?}"), console.contains(&line), "")?;
    }
    let machine = booted.ssh.run("uname -m")?;
    let expected = match width {
        Width::Bits64 => "aarch64",
        Width::Bits32 => "armv7l",
    };
    stage.check("the kernel is one for this processor", machine.trim() == expected, &machine)?;
    in_node::check(stage, &booted)
}

/// A card for this board, as its user would write it.
pub(super) fn card(stage: &mut Stage<'_>, model: &str) -> Result<PathBuf> {
    let card = stage.lab.state().join(format!("{model}.img"));
    let mut walt = Command::new(stage.programs().directory.join("walt"));
    let said = run_program(walt.args(["media", "sd", "--board", model, "--out"]).arg(&card))?;
    stage.check(&format!("`walt media sd` has written a card for {model}"), card.exists(), said.replace('\n', ", "))?;
    Ok(card)
}
