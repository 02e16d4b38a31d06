//! The files of a card and of an image for boards: their names and sizes are real, their content is not.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use testbed::boards::{KINDS, Loaded};

use crate::image::{self, Built};

/// The image that all boards boot.
pub(super) const IMAGE: &str = "walt/boards:1";

/// As `walt media sd` writes it: the newest generation first, for firmware older than a filter ignores it.
const CONFIGURATION: &str = "\
enable_uart=1
upstream_kernel=1

[pi5]
arm_64bit=1
kernel=u-boot-rpi_arm64.bin

[pi4]
arm_64bit=1
kernel=u-boot-rpi_4.bin

[pi3]
arm_64bit=1
kernel=u-boot-rpi_3.bin

[all]
";

/// Names and sizes of raspi-firmware 1.20220830 and u-boot-rpi 2023.01.
const FILES: [(&str, usize); 13] = [
    ("bootcode.bin", 52_476),
    ("start.elf", 2_979_264),
    ("fixup.dat", 7_265),
    ("start4.elf", 2_256_320),
    ("fixup4.dat", 5_405),
    ("u-boot-rpi_3.bin", 580_000),
    ("u-boot-rpi_4.bin", 613_120),
    ("u-boot-rpi_arm64.bin", 617_696),
    ("bcm2837-rpi-3-b.dtb", 15_872),
    ("bcm2837-rpi-3-b-plus.dtb", 16_213),
    ("bcm2711-rpi-4-b.dtb", 22_528),
    ("bcm2712-rpi-5-b.dtb", 77_600),
    ("overlays/disable-bt.dtbo", 1_073),
];

/// The directory of a card's files.
pub(super) struct Card(BTreeMap<String, Vec<u8>>);

impl Card {
    pub(super) fn new() -> Self {
        let mut files: BTreeMap<_, _> = FILES.map(|(name, size)| (name.to_owned(), noise(name, size))).into();
        files.insert("config.txt".to_owned(), CONFIGURATION.into());
        files.insert("boot.scr".to_owned(), boot::uboot::script_image("echo first stage\nreset\n"));
        // A card has none, and a server must not take it from there.
        files.insert("start.uboot".to_owned(), b"never".to_vec());
        Self(files)
    }

    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        for (name, content) in &self.0 {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().unwrap_or(directory))?;
            fs::write(&path, content).with_context(|| format!("cannot write {path:?}"))?;
        }
        Ok(())
    }

    pub(super) fn file(&self, name: &str) -> &[u8] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Names of files that a board has loaded and that are not the card's.
    pub(super) fn differences<'a>(&self, loaded: &'a Loaded) -> Vec<&'a str> {
        let other = loaded.files.iter().filter(|(name, content)| self.0.get(*name) != Some(content));
        other.map(|(name, _)| name.as_str()).collect()
    }
}

/// What the image has for a model: path below `/boot/<model>`, and content.
pub(super) fn boot_files(model: &str) -> [(&'static str, Vec<u8>); 4] {
    [
        ("start.uboot", boot::uboot::script_image(&format!("echo second stage of {model}\n"))),
        ("kernel", noise(model, 1_500_000)),
        ("dtb", noise(&format!("{model}.dtb"), 20_000)),
        // Its own, where our firmware directory has none.
        ("cmdline.txt", format!("console=serial0 {model}\n").into_bytes()),
    ]
}

/// The image of all boards.
pub(super) fn image() -> Result<Built> {
    let models = KINDS.each_ref().map(|kind| kind.model);
    let mut files = vec![("/sbin/init".to_owned(), arm64_program())];
    for model in models {
        files.extend(boot_files(model).map(|(name, content)| (format!("/boot/{model}/{name}"), content)));
    }
    let files: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
    image::of_files(IMAGE, &models, ::boot::Architecture::Aarch64, &files)
}

/// The header of a program for 64-bit ARM (System V ABI, "ELF Header"): this is what tells an image's architecture.
fn arm64_program() -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    // ET_EXEC, EM_AARCH64, EV_CURRENT.
    for (value, size) in [(2, 2), (183, 2), (1, 4)] {
        header.extend(&u64::to_le_bytes(value)[..size]);
    }
    header.resize(64, 0);
    header
}

/// `size` bytes that repeat nowhere near and are the same for one name.
fn noise(name: &str, size: usize) -> Vec<u8> {
    let mut state = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
