//! The card of a Raspberry Pi as its user writes it, in a Raspberry Pi 3 B with its real U-Boot.
//!
//! QEMU's has no network interface that U-Boot could use: DHCP fails, as it does on a board whose cable is out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use boot::Model;
use boot::media::disk::PARTITION_START;
use testbed::machine::{Board, Spec};
use testbed::process::run as run_program;

use super::stage::Stage;
use crate::firmware;

pub(super) const NAME: &str = "rpi-3-b-sdcard";

/// The longest that U-Boot may take from its start to the end of its first stage: many times what it takes.
const ROUND: Duration = Duration::from_secs(120);

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let card = card(stage)?;
    let model = Model::by_name("rpi-3-b").context("the table has no rpi-3-b")?;
    // What the firmware of the board would do with the card: read config.txt, and load what that names.
    let configuration = fs::read_to_string(take(stage, &card, "config.txt")?)?;
    let kernel = kernel_of(&configuration, "[pi3]").context("config.txt names no kernel for [pi3]")?;
    stage.check("config.txt on the card names a U-Boot for this board", kernel == "u-boot-rpi_3.bin", kernel)?;
    let uboot = take(stage, &card, kernel)?;
    let dtb = take(stage, &card, model.dtb.context("the table has no device tree of it")?)?;

    let spec = Spec::new("rpi-3-b", "").on(Board::RaspberryPi3 { uboot, dtb, card });
    stage.switch_on(&spec)?;
    for round in ["first", "second", "third"] {
        // In this order: each wait begins where the last one has ended.
        for line in [
            "U-Boot 20",
            "RPI 3 Model B",
            "WalT: this is a rpi-3-b",
            "WalT: asking DHCP for an address as walt.node.rpi-3-b",
            "WalT: no answer, looking for interfaces on USB",
            "WalT: DHCP failed, rebooting in 5 seconds",
            "resetting ...",
        ] {
            stage.machine(0)?.wait_for(line, ROUND).with_context(|| format!("in the {round} round"))?;
        }
        stage.check(&format!("U-Boot knows the board and, DHCP failing, resets: {round} round"), true, "")?;
    }
    let console = fs::read_to_string(stage.machine(0)?.console_log())?;
    let wrong: Vec<_> =
        console.lines().filter(|line| line.contains("Unknown command") || line.contains("syntax error")).collect();
    stage.check("no command of the script is unknown to this U-Boot", wrong.is_empty(), wrong.join("; "))
}

/// Writes the card with the firmware that was unpacked before.
fn card(stage: &mut Stage<'_>) -> Result<PathBuf> {
    let card = stage.lab.state().join("rpi.img");
    let mut walt = Command::new(stage.programs().directory.join("walt"));
    walt.args(["media", "sd", "--json", "--out"]).arg(&card).arg("--firmware").arg(firmware::tree()?);
    let written: serde_json::Value = serde_json::from_str(&run_program(&mut walt)?).context("the answer of walt")?;
    let models: Vec<_> = written["models"].as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
    let all = ["rpi-3-b", "rpi-3-b-plus", "rpi-4-b", "rpi-400"].iter().all(|model| models.contains(model));
    stage.check("one card starts every 64-bit board that Debian 12 knows", all, models.join(" "))?;
    let size = fs::metadata(&card)?.len();
    stage.check(
        "its size is a power of two, as that of real cards",
        size.is_power_of_two(),
        format!("{size} bytes"),
    )?;
    Ok(card)
}

/// Takes a file from the card, by a program that is not ours.
fn take(stage: &Stage<'_>, card: &Path, name: &str) -> Result<PathBuf> {
    let to = stage.lab.state().join(name);
    let image = format!("{}@@{PARTITION_START}", card.display());
    run_program(Command::new("mcopy").args(["-n", "-i", &image, &format!("::{name}")]).arg(&to))
        .with_context(|| format!("{name} of the card"))?;
    if !to.exists() {
        bail!("mcopy has not written {to:?}");
    }
    Ok(to)
}

/// The value of `kernel=` in a section of config.txt.
fn kernel_of<'a>(configuration: &'a str, filter: &str) -> Option<&'a str> {
    let section = configuration.lines().skip_while(|line| *line != filter).skip(1);
    section.take_while(|line| !line.starts_with('[')).find_map(|line| line.strip_prefix("kernel="))
}
