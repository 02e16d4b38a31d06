//! The command line of `walt media`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum MediaCommand {
    /// Write the SD card of a board, as an image for `dd` or as a directory
    #[command(after_help = sd_help())]
    Sd {
        #[command(flatten)]
        target: MediaTarget,
        /// For every Raspberry Pi (`rpi`), or for this model alone (`rpi-4-b`) [default: rpi]
        #[arg(long, value_name = "MODEL")]
        model: Option<String>,
        /// For a board that has its U-Boot elsewhere, in flash memory for example
        #[arg(long, value_name = "BOARD", conflicts_with = "model")]
        board: Option<String>,
        /// Where firmware, U-Boot and device trees are
        #[arg(long, value_name = "DIR", default_value = "/")]
        firmware: PathBuf,
    },
    /// Write a USB stick for PCs that can not boot over the network by themselves (BIOS and UEFI)
    #[command(after_help = "\
iPXE, SYSLINUX and GRUB are not part of WalT: on Debian, `apt install ipxe syslinux syslinux-common mtools \
grub-efi-amd64-bin` brings them.

Examples:
  walt media usb --out usb.img
  dd if=usb.img of=/dev/sdX bs=4M conv=fsync status=progress")]
    Usb {
        /// Image to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Write over a file that is there
        #[arg(long)]
        force: bool,
        /// JSON, for programs
        #[arg(long)]
        json: bool,
        /// Root directory below which the packages are installed or unpacked
        #[arg(long, value_name = "DIR", default_value = "/")]
        firmware: PathBuf,
    },
}

/// What `walt media sd --help` says at its end: examples, and the boards of the table of models.
fn sd_help() -> String {
    let boards: String = boot::MODELS
        .iter()
        .filter(|model| model.bootloader == boot::Bootloader::UBoot)
        .map(|model| {
            let option = if model.generation.is_some() { "--model" } else { "--board" };
            format!("  {:21} {}\n", format!("{option} {}", model.name), model.description)
        })
        .collect();
    format!(
        "\
One card serves every Raspberry Pi. Their firmware and U-Boot are not part of WalT: the card gets them from \
--firmware, which is a root directory below which Debian's packages raspi-firmware, u-boot-rpi and linux-image-* are \
installed or unpacked, or a directory that has the files by their names on the card. What is missing is said, with the \
commands that bring it.

Boards:
{boards}
Examples:
  walt media sd --out rpi.img --firmware firmware/
  walt media sd --out rpi.img --firmware firmware/ --json | jq '.left_out'
  dd if=rpi.img of=/dev/sdX bs=4M conv=fsync status=progress
  walt media sd --out-dir rpi-firmware/ --firmware firmware/   # for boards that need no card
  walt media sd --out card.img --board qemu-arm-64"
    )
}

/// Where a card is written.
#[derive(Debug, clap::Args)]
pub(crate) struct MediaTarget {
    /// Image to write
    #[arg(long, value_name = "FILE", required_unless_present = "out_dir", conflicts_with = "out_dir")]
    pub(crate) out: Option<PathBuf>,
    /// Directory to write the files into
    #[arg(long, value_name = "DIR")]
    pub(crate) out_dir: Option<PathBuf>,
    /// Write over files that are there
    #[arg(long)]
    pub(crate) force: bool,
    /// JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}
