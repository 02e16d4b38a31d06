//! Node models: what a machine calls itself, and which images it can run.

use std::fmt;

/// One kind of machine, as in the label `walt.node.models`, the DHCP class `walt.node.<model>` and
/// the image directory `/boot/<model>`.
///
/// All that depends on the model is here: DHCP, TFTP, boot media, start scripts and image recipes read it.
#[derive(Debug, PartialEq, Eq)]
pub struct Model {
    /// Name, for example `pc-x86-64`.
    pub name: &'static str,
    /// What a person calls it.
    pub description: &'static str,
    /// Architectures of the images that it can run, the best one first.
    pub architectures: &'static [Architecture],
    /// What loads its kernel.
    pub bootloader: Bootloader,
    /// How the first stage knows it.
    pub recognition: Recognition,
    /// Name of its device tree's file in Linux, below `dts` without directories; `None` where the firmware or the
    /// virtual machine brings it.
    pub dtb: Option<&'static str>,
    /// Serial console of Linux, for `console=`.
    pub console: &'static str,
    /// What its own firmware does over the network, before any bootloader of ours.
    pub netboot: Netboot,
    /// Builds of U-Boot that can start it, the best one first, by the names that they have in Debian (u-boot-rpi,
    /// u-boot-qemu), which are those of U-Boot's defconfigs without `_defconfig`.
    pub uboot: &'static [&'static str],
    /// For a Raspberry Pi: which one.
    pub generation: Option<Generation>,
}

/// How a first-stage script tells which machine it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognition {
    /// iPXE: the processor says whether it has 64 bits.
    Cpuid,
    /// U-Boot: the board is of this model if all the variables of one of these lists have the values given there.
    UBoot(&'static [&'static [(&'static str, &'static str)]]),
}

/// Which Raspberry Pi it is, as `config.txt` tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generation {
    /// BCM2835: B and B+.
    One,
    /// BCM2836.
    Two,
    /// BCM2837.
    Three,
    /// BCM2711.
    Four,
    /// BCM2712.
    Five,
}

/// What a machine's firmware can boot over the network by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Netboot {
    /// Nothing: the bootloader comes from a card or a stick.
    None,
    /// PXE, or UEFI's HTTP boot.
    Pxe,
    /// The boot ROM of a Raspberry Pi 2 (v1.2), 3 or 3+, which loads `bootcode.bin` first; it may need a bit set (OTP).
    RaspberryPiRom,
    /// The boot EEPROM of a Raspberry Pi 4 or later, which loads `config.txt` and `start4.elf`, or a kernel, itself.
    RaspberryPiEeprom,
}

/// Every model that we know.
pub const MODELS: &[Model] = {
    use Architecture::{Aarch64, Armv6, Armv7, X86, X86_64};
    use Netboot::{None as Nothing, Pxe, RaspberryPiEeprom, RaspberryPiRom};
    use Recognition::{Cpuid, UBoot};
    const fn pi(
        name: &'static str,
        description: &'static str,
        generation: Generation,
        recognition: Recognition,
        dtb: &'static str,
    ) -> Model {
        let (architectures, console, netboot, uboot): (&[_], _, _, &[_]) = match generation {
            Generation::One => (&[Armv6], PIN, Nothing, &["rpi"]),
            Generation::Two => (&[Armv7, Armv6], PIN, Nothing, &["rpi_2"]),
            Generation::Three => (&[Aarch64, Armv7, Armv6], MINI, RaspberryPiRom, &["rpi_3", "rpi_arm64"]),
            Generation::Four => (&[Aarch64, Armv7, Armv6], MINI, RaspberryPiEeprom, &["rpi_4", "rpi_arm64"]),
            // Its firmware starts 64-bit kernels alone, and below these the processor (Cortex-A76) runs 32-bit programs.
            Generation::Five => (&[Aarch64, Armv7, Armv6], "ttyAMA10,115200", RaspberryPiEeprom, &["rpi_arm64"]),
        };
        Model {
            name,
            description,
            architectures,
            bootloader: Bootloader::UBoot,
            recognition,
            dtb: Some(dtb),
            console,
            netboot,
            uboot,
            generation: Some(generation),
        }
    }
    const fn pc(name: &'static str, description: &'static str, architectures: &'static [Architecture]) -> Model {
        Model {
            name,
            description,
            architectures,
            bootloader: Bootloader::Ipxe,
            recognition: Cpuid,
            dtb: None,
            console: "ttyS0,115200",
            netboot: Pxe,
            uboot: &[],
            generation: None,
        }
    }
    const fn virt(
        name: &'static str,
        description: &'static str,
        architectures: &'static [Architecture],
        recognition: Recognition,
        uboot: &'static [&'static str],
    ) -> Model {
        Model {
            name,
            description,
            architectures,
            bootloader: Bootloader::UBoot,
            recognition,
            dtb: None,
            console: "ttyAMA0,115200",
            netboot: Nothing,
            uboot,
            generation: None,
        }
    }
    // On boards with Bluetooth the full UART (ttyAMA) is Bluetooth's; the mini UART (ttyS1) is on the pins.
    const PIN: &str = "ttyAMA0,115200";
    const MINI: &str = "ttyS1,115200";
    // U-Boot, board/raspberrypi/rpi/rpi.c: `board_name` is the text of `rpi_models_old_scheme` (the first boards) or
    // `rpi_models_new_scheme`. Beside it, `board_rev` is the number in that table and `board_rev_scheme` says which of
    // the two: a build that is older than the board calls it "Unknown model", but has its number right.
    const B: Recognition = UBoot(&[
        &[("board_name", "Model B")],
        &[("board_name", "Model B rev2")],
        &[("board_rev_scheme", "1"), ("board_rev", "0x1")],
    ]);
    const B_PLUS: Recognition =
        UBoot(&[&[("board_name", "Model B+")], &[("board_rev_scheme", "1"), ("board_rev", "0x3")]]);
    const TWO_B: Recognition =
        UBoot(&[&[("board_name", "2 Model B")], &[("board_rev_scheme", "1"), ("board_rev", "0x4")]]);
    const THREE_B: Recognition =
        UBoot(&[&[("board_name", "3 Model B")], &[("board_rev_scheme", "1"), ("board_rev", "0x8")]]);
    const THREE_B_PLUS: Recognition =
        UBoot(&[&[("board_name", "3 Model B+")], &[("board_rev_scheme", "1"), ("board_rev", "0xD")]]);
    const FOUR_B: Recognition =
        UBoot(&[&[("board_name", "4 Model B")], &[("board_rev_scheme", "1"), ("board_rev", "0x11")]]);
    const FOUR_HUNDRED: Recognition =
        UBoot(&[&[("board_name", "400")], &[("board_rev_scheme", "1"), ("board_rev", "0x13")]]);
    const FIVE_B: Recognition =
        UBoot(&[&[("board_name", "5 Model B")], &[("board_rev_scheme", "1"), ("board_rev", "0x17")]]);
    // U-Boot, board/emulation/qemu-arm/Kconfig: both widths are the board "qemu-arm"; `cpu` is CONFIG_SYS_CPU.
    const QEMU_ARM: Recognition = UBoot(&[&[("board", "qemu-arm"), ("cpu", "armv7")]]);
    const QEMU_ARM_64: Recognition = UBoot(&[&[("board", "qemu-arm"), ("cpu", "armv8")]]);
    use Generation::{Five, Four, One, Three, Two};
    &[
        pc("pc-x86-64", "PC, 64-bit", &[X86_64, X86]),
        pc("pc-x86-32", "PC, 32-bit", &[X86]),
        pi("rpi-b", "Raspberry Pi B", One, B, "bcm2835-rpi-b.dtb"),
        pi("rpi-b-plus", "Raspberry Pi B+", One, B_PLUS, "bcm2835-rpi-b-plus.dtb"),
        pi("rpi-2-b", "Raspberry Pi 2 B", Two, TWO_B, "bcm2836-rpi-2-b.dtb"),
        pi("rpi-3-b", "Raspberry Pi 3 B", Three, THREE_B, "bcm2837-rpi-3-b.dtb"),
        pi("rpi-3-b-plus", "Raspberry Pi 3 B+", Three, THREE_B_PLUS, "bcm2837-rpi-3-b-plus.dtb"),
        pi("rpi-4-b", "Raspberry Pi 4 B", Four, FOUR_B, "bcm2711-rpi-4-b.dtb"),
        pi("rpi-400", "Raspberry Pi 400", Four, FOUR_HUNDRED, "bcm2711-rpi-400.dtb"),
        pi("rpi-5-b", "Raspberry Pi 5", Five, FIVE_B, "bcm2712-rpi-5-b.dtb"),
        virt("qemu-arm", "QEMU virtual machine, 32-bit ARM", &[Armv7, Armv6], QEMU_ARM, &["qemu_arm"]),
        virt("qemu-arm-64", "QEMU virtual machine, 64-bit ARM", &[Aarch64, Armv7, Armv6], QEMU_ARM_64, &["qemu_arm64"]),
    ]
};

/// The model that a DHCP vendor class (option 60) or user class (option 77) names, if it has the form
/// `walt.node.<model>` and we know the model.
pub fn model_of_class(class: &str) -> Option<&'static Model> {
    Model::by_name(class.strip_prefix("walt.node.")?)
}

impl Model {
    /// The model of this name.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        MODELS.iter().find(|model| model.name == name)
    }

    /// The architecture to choose where an image offers several.
    pub fn architecture(&self) -> Architecture {
        self.architectures[0]
    }

    /// File below `/boot/<model>` that the bootloader runs.
    pub fn second_stage(&self) -> &'static str {
        self.bootloader.second_stage()
    }

    /// DHCP class by which a node says that it is of this model.
    pub fn class(&self) -> String {
        format!("walt.node.{}", self.name)
    }
}

/// Instruction set of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// 64-bit PC.
    X86_64,
    /// 32-bit PC.
    X86,
    /// 32-bit ARM with hardware floating point, as in the first Raspberry Pi.
    Armv6,
    /// 32-bit ARM.
    Armv7,
    /// 64-bit ARM.
    Aarch64,
}

impl Architecture {
    /// All of them, in the order in which they are preferred where nothing else decides.
    pub const ALL: [Self; 5] = [Self::X86_64, Self::X86, Self::Aarch64, Self::Armv7, Self::Armv6];

    /// The architecture that people call so: as `uname -m` has it, or as OCI platforms do (`arm64`, `arm/v7`,
    /// `linux/arm/v7`).
    pub fn by_name(name: &str) -> Option<Self> {
        if let Some(known) = Self::ALL.into_iter().find(|architecture| architecture.to_string() == name) {
            return Some(known);
        }
        let platform = name.strip_prefix("linux/").unwrap_or(name);
        match platform.split_once('/') {
            Some((_, "")) => None,
            Some((architecture, variant)) => Self::of_oci_platform(architecture, Some(variant)),
            None => Self::of_oci_platform(platform, None),
        }
    }

    /// Architectures whose agent runs beside programs of this one, the best first.
    pub fn agents(self) -> &'static [Self] {
        match self {
            Self::X86_64 => &[Self::X86_64],
            Self::X86 => &[Self::X86],
            Self::Armv6 => &[Self::Armv6],
            // A processor that runs v7 runs v6 (Arm Architecture Reference Manual, ARMv7-A, "Architecture versions").
            Self::Armv7 => &[Self::Armv7, Self::Armv6],
            Self::Aarch64 => &[Self::Aarch64],
        }
    }

    /// `architecture` and `variant` of an OCI platform (OCI image index specification, and the table
    /// of Go's `GOARCH`, which it refers to).
    pub fn oci_platform(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::X86_64 => ("amd64", None),
            Self::X86 => ("386", None),
            Self::Armv6 => ("arm", Some("v6")),
            Self::Armv7 => ("arm", Some("v7")),
            Self::Aarch64 => ("arm64", Some("v8")),
        }
    }

    /// The architecture of an OCI platform. A missing variant is the usual one (`arm` is v7, as
    /// containerd has it); 64-bit ARM variants beyond v8 still run v8 code, so not the reverse.
    pub fn of_oci_platform(architecture: &str, variant: Option<&str>) -> Option<Self> {
        match (architecture, variant.unwrap_or_default()) {
            ("amd64", "" | "v1") => Some(Self::X86_64),
            ("386", _) => Some(Self::X86),
            // No node is older than v6, and what is built for v5 runs there.
            ("arm", "v5" | "v6") => Some(Self::Armv6),
            ("arm", "" | "v7") => Some(Self::Armv7),
            ("arm64", "" | "v8") => Some(Self::Aarch64),
            _ => None,
        }
    }
}

/// As `uname -m` has it, which is also what the directories of agents are named by.
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::X86_64 => "x86_64",
            Self::X86 => "i686",
            Self::Armv6 => "armv6l",
            Self::Armv7 => "armv7l",
            Self::Aarch64 => "aarch64",
        })
    }
}

/// What loads the kernel of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bootloader {
    /// iPXE, by the network card or sent over TFTP.
    Ipxe,
    /// U-Boot, from the SD card.
    UBoot,
}

impl Bootloader {
    /// File below `/boot/<model>` that it runs.
    pub fn second_stage(self) -> &'static str {
        match self {
            Self::Ipxe => "start.ipxe",
            Self::UBoot => "start.uboot",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_name_known_models() {
        for model in MODELS {
            assert_eq!(model_of_class(&model.class()), Some(model));
            assert!(!model.architectures.is_empty());
        }
        for class in ["", "walt.node.", "walt.node.toaster", "iPXE", "pc-x86-64", "Walt.node.pc-x86-64"] {
            assert_eq!(model_of_class(class), None, "{class}");
        }
    }

    #[test]
    fn a_model_has_one_second_stage() {
        assert_eq!(model_of_class("walt.node.pc-x86-64").unwrap().second_stage(), "start.ipxe");
        assert_eq!(model_of_class("walt.node.rpi-3-b").unwrap().second_stage(), "start.uboot");
    }

    #[test]
    fn architectures_map_to_oci_platforms_and_back() {
        for model in MODELS {
            for &architecture in model.architectures {
                let (name, variant) = architecture.oci_platform();
                assert_eq!(Architecture::of_oci_platform(name, variant), Some(architecture));
            }
        }
        for architecture in Architecture::ALL {
            let (name, variant) = architecture.oci_platform();
            assert_eq!(Architecture::of_oci_platform(name, variant), Some(architecture));
            assert_eq!(Architecture::by_name(&architecture.to_string()), Some(architecture));
            assert_eq!(architecture.agents().first(), Some(&architecture));
        }
        for (name, expected) in [("arm64", "aarch64"), ("arm/v6", "armv6l"), ("linux/arm", "armv7l"), ("386", "i686")] {
            assert_eq!(Architecture::by_name(name).map(|a| a.to_string()).as_deref(), Some(expected));
        }
        for name in ["", "linux/", "arm/", "riscv64", "linux/linux/arm"] {
            assert_eq!(Architecture::by_name(name), None, "{name}");
        }
        assert_eq!(Architecture::of_oci_platform("arm64", None), Some(Architecture::Aarch64));
        assert_eq!(Architecture::of_oci_platform("arm", Some("v5")), Some(Architecture::Armv6));
        assert_eq!(Architecture::of_oci_platform("riscv64", None), None);
    }
}
