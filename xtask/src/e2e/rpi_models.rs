//! Every board that starts by U-Boot, as far as its name: the real first stage, run by a real U-Boot that has the
//! environment which the board's own U-Boot has.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use boot::media::{File, disk};
use boot::{Bootloader, MODELS, uboot};
use testbed::machine::{Board, Machine, Spec, Width};
use testbed::peers::Registry;

use super::qemu_arm;
use super::stage::Stage;

/// How many machines run at a time: each keeps a processor busy for some seconds.
const AT_ONCE: usize = 3;

/// The longest that U-Boot may take until it asks DHCP: many times what it takes on an idle machine.
const STARTS: Duration = Duration::from_secs(120);

/// What U-Boot says of a Raspberry Pi.
struct Pi {
    /// Which one, for the name of its machine.
    name: &'static str,
    /// Model that it must ask DHCP for.
    model: &'static str,
    /// Which table of U-Boot's it is in: 0, the first boards, or 1.
    scheme: u8,
    /// Its number there.
    rev: &'static str,
    board_name: &'static str,
    /// Without the directory.
    dtb: &'static str,
    /// Processor that its U-Boot is built for.
    cpu: &'static str,
}

/// U-Boot, board/raspberrypi/rpi/rpi.c: `rpi_models_new_scheme` and `rpi_models_old_scheme` have `board_name`,
/// `fdtfile`, and, by their index, `board_rev`; `set_board_info` has the form of the numbers. `cpu` is CONFIG_SYS_CPU of
/// the build for that board.
const PIS: [Pi; 14] = [
    pi("rpi-b", "rpi-b", 1, "0x1", "Model B", "bcm2835-rpi-b.dtb", "arm1176"),
    // The number of the B+ in the other table.
    pi("rpi-b-first", "rpi-b", 0, "0x3", "Model B", "bcm2835-rpi-b.dtb", "arm1176"),
    // That of the 2 B.
    pi("rpi-b-rev2", "rpi-b", 0, "0x4", "Model B rev2", "bcm2835-rpi-b-rev2.dtb", "arm1176"),
    pi("rpi-b-plus", "rpi-b-plus", 1, "0x3", "Model B+", "bcm2835-rpi-b-plus.dtb", "arm1176"),
    // That of the 400. Most boards of this model have it.
    pi("rpi-b-plus-first", "rpi-b-plus", 0, "0x13", "Model B+", "bcm2835-rpi-b-plus.dtb", "arm1176"),
    pi("rpi-2-b", "rpi-2-b", 1, "0x4", "2 Model B", "bcm2836-rpi-2-b.dtb", "armv7"),
    pi("rpi-3-b", "rpi-3-b", 1, "0x8", "3 Model B", "bcm2837-rpi-3-b.dtb", "armv8"),
    pi("rpi-3-b-plus", "rpi-3-b-plus", 1, "0xD", "3 Model B+", "bcm2837-rpi-3-b-plus.dtb", "armv8"),
    pi("rpi-4-b", "rpi-4-b", 1, "0x11", "4 Model B", "bcm2711-rpi-4-b.dtb", "armv8"),
    pi("rpi-400", "rpi-400", 1, "0x13", "400", "bcm2711-rpi-400.dtb", "armv8"),
    pi("rpi-5-b", "rpi-5-b", 1, "0x17", "5 Model B", "bcm2712-rpi-5-b.dtb", "armv8"),
    // As a U-Boot says that is older than the board: that of Debian 12 (2023.01) has no 0x17.
    pi("rpi-5-b-old", "rpi-5-b", 1, "0x17", "Unknown model", "bcm283x-rpi-other.dtb", "armv8"),
    // Boards that we do not know, one of them with the number of the 4 B in the other table.
    pi("cm4", "unknown-bcm2711-rpi-cm4", 1, "0x14", "Compute Module 4", "bcm2711-rpi-cm4.dtb", "armv8"),
    pi("cm1", "unknown-bcm2835-rpi-cm", 0, "0x11", "Compute Module", "bcm2835-rpi-cm.dtb", "arm1176"),
];

/// A board of others: name, model that it must ask DHCP for, what its U-Boot says of it.
type Other = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const OTHERS: [Other; 1] = [
    // U-Boot, include/configs/sunxi-common.h (FDTFILE), configs/pine64_plus_defconfig, arch/arm/mach-sunxi/Kconfig.
    (
        "pine64-plus",
        "unknown-sun50i-a64-pine64-plus",
        &[
            ("board", "sunxi"),
            ("vendor", ""),
            ("soc", "sunxi"),
            ("cpu", "armv8"),
            ("fdtfile", "allwinner/sun50i-a64-pine64-plus.dtb"),
        ],
    ),
];

const fn pi(
    name: &'static str,
    model: &'static str,
    scheme: u8,
    rev: &'static str,
    board_name: &'static str,
    dtb: &'static str,
    cpu: &'static str,
) -> Pi {
    Pi { name, model, scheme, rev, board_name, dtb, cpu }
}

impl Pi {
    fn environment(&self) -> Vec<(&'static str, String)> {
        // `DTB_DIR` in rpi.c: Linux has the device trees of 64-bit boards in a directory.
        let directory = if self.cpu == "armv8" { "broadcom/" } else { "" };
        // Kconfig of mach-bcm283x: SYS_BOARD, SYS_VENDOR, SYS_SOC.
        vec![
            ("board", "rpi".to_owned()),
            ("vendor", "raspberrypi".to_owned()),
            ("soc", "bcm283x".to_owned()),
            ("cpu", self.cpu.to_owned()),
            ("board_name", self.board_name.to_owned()),
            ("board_rev_scheme", self.scheme.to_string()),
            ("board_rev", self.rev.to_owned()),
            ("fdtfile", format!("{directory}{}", self.dtb)),
        ]
    }
}

/// The first stage, behind what makes this U-Boot say what that of the board says.
fn script(environment: &[(&str, String)]) -> String {
    let lines: String = environment.iter().map(|(name, value)| format!("setenv {name} \"{value}\"\n")).collect();
    lines + &uboot::first_stage()
}

/// A machine to come, and what it must ask for.
struct Candidate {
    spec: Spec,
    model: &'static str,
}

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    // Only their coming is looked at: their images are nowhere.
    stage.start_daemon(&format!("{}/walt/nowhere:1", Registry::HOST), "")?;
    let mut candidates = Vec::new();
    let pis = PIS.iter().map(|pi| (pi.name, pi.model, pi.environment()));
    let others = OTHERS.iter().map(|(name, model, environment)| {
        (*name, *model, environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
    });
    for (name, model, environment) in pis.chain(others) {
        let card = stage.lab.state().join(format!("{name}.img"));
        let content = uboot::script_image(&script(&environment));
        let files = [File { path: uboot::SCRIPT_NAME.to_owned(), content }];
        fs::write(&card, disk::image(&files, b"WALT       ", &[])?)
            .with_context(|| format!("cannot write {card:?}"))?;
        candidates.push((name, model, Width::Bits64, card));
    }
    for (model, width) in [("qemu-arm", Width::Bits32), ("qemu-arm-64", Width::Bits64)] {
        candidates.push((model, model, width, qemu_arm::card(stage, model)?));
    }
    let candidates: Vec<_> = (1..)
        .zip(candidates)
        .map(|(number, (name, model, width, card))| {
            let mac = format!("52:54:00:de:15:{number:02x}");
            let spec = Spec { memory: 256, ..Spec::new(name, &mac).on(Board::Virt { width, card }) };
            Candidate { spec, model }
        })
        .collect();

    for together in candidates.chunks(AT_ONCE) {
        let machines = together.iter().map(|candidate| Machine::switch_on(stage.lab, &candidate.spec));
        for (machine, candidate) in machines.collect::<Result<Vec<_>>>()?.iter_mut().zip(together) {
            asks_for_its_model(stage, machine, candidate)
                .with_context(|| format!("{} as {}", candidate.spec.name, candidate.model))?;
        }
    }

    let with_uboot = MODELS.iter().filter(|model| model.bootloader == Bootloader::UBoot);
    let not_tried: Vec<_> =
        with_uboot.map(|model| model.name).filter(|name| candidates.iter().all(|board| board.model != *name)).collect();
    stage.check("no board of the table was left out", not_tried.is_empty(), not_tried.join(" "))?;
    let nodes = stage.daemon()?.nodes()?.len();
    stage.check("the server has seen these machines and no other", nodes == candidates.len(), nodes)
}

fn asks_for_its_model(stage: &mut Stage<'_>, machine: &mut Machine, candidate: &Candidate) -> Result<()> {
    let Candidate { spec, model } = candidate;
    let not_known = model.strip_prefix("unknown-");
    match not_known {
        None => machine.wait_for(&format!("WalT: this is a {model}\n"), STARTS)?,
        Some(_) => machine.wait_for("WalT: this board is not known. What U-Boot says of it:", STARTS)?,
    }
    machine.wait_for(&format!("WalT: asking DHCP for an address as walt.node.{model}\n"), STARTS)?;
    // U-Boot has no other name before: any kind that is known of it comes from this exchange.
    let told = |node: &api::Node| node.model.is_some() || node.board.is_some();
    let node = stage.wait_for_node(&spec.mac, "known by what it is", STARTS, told)?;
    let Some(board) = not_known else {
        let is_it = node.kind == api::NodeKind::Node && node.model.as_deref() == Some(model);
        return stage.check(&format!("{}: registered as {model}", spec.name), is_it, node.model.unwrap_or_default());
    };
    let is_it = node.kind == api::NodeKind::Unsupported && node.board.as_deref() == Some(board) && node.image.is_none();
    stage.check(&format!("{}: not supported, and given no image", spec.name), is_it, node.board.unwrap_or_default())?;
    machine.wait_for("WalT: this board is listed by: walt node show --all", STARTS)?;
    let listed = stage.daemon()?.walt(&["node", "show", "--all"])?;
    let line = listed.lines().find(|line| line.starts_with(&node.name)).unwrap_or_default().to_owned();
    stage.check(&format!("{}: listed as what it is", spec.name), line.contains(model), line)
}
