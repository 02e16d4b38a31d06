//! One reference, three processors: a PC, a 64-bit and a 32-bit board boot the same name, each its own variant of it.

use anyhow::{Context, Result};
use testbed::machine::{Board, Spec, Width};

use super::qemu_arm::card;
use super::stage::{Stage, TINY_BOOT};
use crate::image::Recipe;

/// What a node is, and what `uname -m` says there.
const NODES: [(&str, &str, &str); 3] = [
    ("pc-x86-64", "52:54:00:3a:86:64", "x86_64"),
    ("qemu-arm-64", "52:54:00:3a:a6:40", "aarch64"),
    ("qemu-arm", "52:54:00:3a:a3:20", "armv7l"),
];

/// What the scenario boots, in the order of [`NODES`].
pub(super) const IMAGES: &[Recipe] = &[Recipe::TinyPc, Recipe::TinyArm64, Recipe::TinyArmhf];

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let images = IMAGES.iter().map(|recipe| stage.image(*recipe)).collect::<Result<Vec<_>>>()?;
    stage.start_registry()?;
    let variants: Vec<_> = images.iter().map(|image| (image.archive.as_path(), image.platform())).collect();
    let reference = stage.registry()?.push_index(&variants, "walt/tiny", "any")?;
    stage.start_daemon(&reference, "")?;
    for (model, mac, _) in NODES {
        let board = match model {
            "qemu-arm-64" => Some(Board::Virt { width: Width::Bits64, card: card(stage, model)? }),
            "qemu-arm" => Some(Board::Virt { width: Width::Bits32, card: card(stage, model)? }),
            _ => None,
        };
        let spec = Spec { memory: 512, ..Spec::new(model, mac) };
        stage.switch_on(&board.map_or(spec.clone(), |board| spec.on(board)))?;
    }
    let ids = boot_all(stage, &reference)?;
    let shown = stage.daemon()?.walt(&["image", "show"])?;
    let all_shown = ["amd64", "arm64", "arm/v7"].iter().all(|platform| shown.contains(platform));
    stage.check("`walt image show` tells the three variants", all_shown, shown.trim().replace('\n', "; "))?;

    // What is known of the variants outlives the daemon, and needs no registry then.
    stage.registry()?.stop();
    stage.daemon()?.kill();
    stage.daemon()?.resume()?;
    for machine in 0..NODES.len() {
        stage.machine(machine)?.reset()?;
    }
    let mut booted = Vec::new();
    for ((_, mac, _), (_, boot_id)) in NODES.iter().zip(&ids) {
        booted.push(stage.wait_until_booted_anew(mac, boot_id, TINY_BOOT)?.node);
    }
    let same = booted.iter().zip(&ids).all(|(node, (image, _))| node.image_id.as_ref() == Some(image));
    let seen: Vec<_> = booted.iter().map(|node| format!("{} {:?}", node.name, node.image_id)).collect();
    let what = "after a restart of the server and without the registry, each boots the same again";
    stage.check(what, same, format!("{}, before {ids:?}", seen.join(", ")))
}

/// Waits for all nodes; gives back each one's image id and boot id.
fn boot_all(stage: &mut Stage<'_>, reference: &str) -> Result<Vec<(String, String)>> {
    let mut ids = Vec::new();
    for (model, mac, machine) in NODES {
        let booted = stage.wait_until_booted(mac, TINY_BOOT)?;
        let is_it = booted.node.model.as_deref() == Some(model) && booted.node.image.as_deref() == Some(reference);
        let seen = format!("{:?}, {:?}", booted.node.model, booted.node.image);
        stage.check(&format!("the {model} boots {reference}"), is_it, seen)?;
        let uname = booted.ssh.run("uname -m")?;
        stage.check(&format!("its programs are for {machine}"), uname.trim() == machine, &uname)?;
        let boot_id = booted.ssh.run("cat /proc/sys/kernel/random/boot_id")?;
        ids.push((booted.node.image_id.context("a booted node has no image id")?, boot_id));
    }
    let different = ids[0].0 != ids[1].0 && ids[1].0 != ids[2].0 && ids[0].0 != ids[2].0;
    stage.check("each has an image id of its own", different, "")?;
    Ok(ids)
}
