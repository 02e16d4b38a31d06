//! The card for every Raspberry Pi: their firmware, a build of U-Boot for each generation, and the first stage.
//!
//! Firmware and U-Boot are other people's, and are taken from where the user has them ([`Firmware`]). A board whose
//! pieces are not there is left out, and named.

mod advice;
mod firmware;

use std::collections::BTreeMap;
use std::fmt;

pub use advice::advice;
pub use firmware::{Firmware, FirmwareError};

use super::{File, first_stage_files};
use crate::{Generation, MODELS, Model};

/// A card, and whom it serves.
#[derive(Debug)]
pub struct Card {
    /// What belongs on it.
    pub files: Vec<File>,
    /// Boards that it starts.
    pub boards: Vec<&'static Model>,
    /// Boards that it does not start, and what it would take.
    pub left_out: Vec<LeftOut>,
}

/// A board that a card can not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The board.
    pub model: &'static Model,
    /// What is missing for it.
    pub missing: Vec<Missing>,
}

/// Something that a board needs and that was not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// Files of the firmware itself.
    Firmware(Vec<&'static str>),
    /// A build of U-Boot, any of these.
    UBoot(&'static [&'static str]),
    /// The U-Boot that is there (this build) is older than the board.
    NewerUBoot(&'static str),
    /// The device tree.
    DeviceTree(&'static str),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firmware(names) => write!(f, "{} of the firmware", names.join(", ")),
            Self::UBoot(builds) => write!(f, "U-Boot ({})", builds.join(" or ")),
            Self::NewerUBoot(build) => write!(f, "a U-Boot that knows this board ({build} is there, but older)"),
            Self::DeviceTree(name) => write!(f, "the device tree {name}"),
        }
    }
}

/// No board at all can be served.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// All that was asked for is missing something.
    #[error("nothing in {root:?} starts {}", names(.left_out))]
    NoBoard {
        /// Where was looked.
        root: std::path::PathBuf,
        /// What is missing for each.
        left_out: Vec<LeftOut>,
    },
    /// A file that is there can not be read.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
}

fn names(left_out: &[LeftOut]) -> String {
    left_out.iter().map(|board| board.model.name).collect::<Vec<_>>().join(", ")
}

/// Boards that are a Raspberry Pi.
pub fn boards() -> Vec<&'static Model> {
    MODELS.iter().filter(|model| model.generation.is_some()).collect()
}

/// The card that starts as many of `boards` as `firmware` has the pieces for.
///
/// # Errors
/// When it starts none, or a piece can't be read.
pub fn card(firmware: &Firmware, boards: &[&'static Model]) -> Result<Card, CardError> {
    let (mut served, mut left_out) = (Vec::new(), Vec::new());
    let mut files = BTreeMap::new();
    let mut builds = BTreeMap::new();
    for &model in boards {
        let Some(generation) = model.generation else { continue };
        let missing = pieces(firmware, model, generation, &mut files, &mut builds)?;
        if missing.is_empty() {
            served.push(model);
        } else {
            left_out.push(LeftOut { model, missing });
        }
    }
    if served.is_empty() {
        return Err(CardError::NoBoard { root: firmware.root().to_owned(), left_out });
    }
    let mut files: Vec<_> = files.into_iter().map(|(path, content)| File { path, content }).collect();
    files.push(File::new("config.txt", configuration(&builds)));
    files.extend(first_stage_files());
    Ok(Card { files, boards: served, left_out })
}

/// Adds what `model` needs to `files`, and its generation's U-Boot to `builds`. What is missing is given back, and then
/// nothing is added.
fn pieces(
    firmware: &Firmware,
    model: &'static Model,
    generation: Generation,
    files: &mut BTreeMap<String, Vec<u8>>,
    builds: &mut BTreeMap<Generation, String>,
) -> Result<Vec<Missing>, FirmwareError> {
    let mut missing = Vec::new();
    let mut found = BTreeMap::new();
    let needed = needed_firmware(generation);
    let mut absent = Vec::new();
    for &name in needed {
        match firmware.own(name)? {
            Some(content) => drop(found.insert(name.to_owned(), content)),
            None => absent.push(name),
        }
    }
    if !absent.is_empty() {
        missing.push(Missing::Firmware(absent));
    }
    for name in optional_firmware(generation) {
        found.extend(firmware.own(name)?.map(|content| (name.to_string(), content)));
    }

    let dtb = model.dtb.unwrap_or_default();
    match firmware.device_tree(dtb)? {
        Some(content) => drop(found.insert(dtb.to_owned(), content)),
        None => missing.push(Missing::DeviceTree(dtb)),
    }
    for name in other_device_trees(dtb) {
        found.extend(firmware.device_tree(name)?.map(|content| (name.to_string(), content)));
    }

    let mut too_old = None;
    let mut build = None;
    for &name in model.uboot {
        let Some(content) = firmware.uboot(name)? else { continue };
        // U-Boot names each board's device tree (`fdtfile` in rpi.c): a build that does not is older than the board.
        if contains(&content, dtb.as_bytes()) {
            build = Some((name, content));
            break;
        }
        too_old = Some(name);
    }
    match (build, too_old) {
        (Some((name, content)), _) => {
            found.insert(card_name(name), content);
            if missing.is_empty() {
                builds.insert(generation, card_name(name));
            }
        }
        (None, Some(name)) => missing.push(Missing::NewerUBoot(name)),
        (None, None) => missing.push(Missing::UBoot(model.uboot)),
    }
    if missing.is_empty() {
        files.append(&mut found);
    }
    Ok(missing)
}

/// What a build of U-Boot is called on the card.
fn card_name(build: &str) -> String {
    format!("u-boot-{build}.bin")
}

/// Files without which the firmware does not come up (Raspberry Pi documentation, "Boot folder contents").
fn needed_firmware(generation: Generation) -> &'static [&'static str] {
    match generation {
        Generation::One | Generation::Two | Generation::Three => &["bootcode.bin", "start.elf", "fixup.dat"],
        Generation::Four => &["start4.elf", "fixup4.dat"],
        // Its firmware is in its EEPROM as a whole.
        Generation::Five => &[],
    }
}

/// What the firmware takes instead if `config.txt` says `gpu_mem=16` or `start_x=1`.
fn optional_firmware(generation: Generation) -> &'static [&'static str] {
    match generation {
        Generation::One | Generation::Two | Generation::Three => {
            &["start_cd.elf", "fixup_cd.dat", "start_x.elf", "fixup_x.dat"]
        }
        Generation::Four => &["start4cd.elf", "fixup4cd.dat", "start4x.elf", "fixup4x.dat"],
        Generation::Five => &[],
    }
}

/// Device trees of other revisions of the same model: the firmware asks for them by name.
fn other_device_trees(dtb: &str) -> &'static [&'static str] {
    match dtb {
        "bcm2835-rpi-b.dtb" => &["bcm2835-rpi-b-rev2.dtb"],
        _ => &[],
    }
}

fn contains(content: &[u8], text: &[u8]) -> bool {
    content.windows(text.len()).any(|window| window == text)
}

/// The filter of `config.txt` that is true on a generation (Raspberry Pi documentation, "Conditional filters").
fn filter(generation: Generation) -> &'static str {
    match generation {
        Generation::One => "[pi1]",
        Generation::Two => "[pi2]",
        Generation::Three => "[pi3]",
        Generation::Four => "[pi4]",
        Generation::Five => "[pi5]",
    }
}

/// `config.txt`, which makes the firmware start a generation's own U-Boot.
fn configuration(builds: &BTreeMap<Generation, String>) -> String {
    let mut text = String::from(
        "\
# Written by `walt media sd`.

# U-Boot's console, and Linux', on the pins. The Raspberry Pi 3's U-Boot does not start without it.
enable_uart=1
# Device trees have the names that they have in Linux, not those of the firmware's makers.
upstream_kernel=1

",
    );
    if let Some(build) = builds.get(&Generation::One) {
        text.push_str(&format!("arm_64bit=0\nkernel={build}\n\n"));
    }
    // The newest first: firmware older than a filter does not know it, and takes what follows for its own.
    for (&generation, build) in builds.iter().rev() {
        // 32-bit boards are the first two generations.
        let wide = u8::from(generation >= Generation::Three);
        text.push_str(&format!("{}\narm_64bit={wide}\nkernel={build}\n\n", filter(generation)));
    }
    text.push_str("[all]\n");
    text
}

#[cfg(test)]
mod tests;
