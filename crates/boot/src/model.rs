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
}

/// How a first-stage script tells which machine it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognition {
    /// iPXE: the processor says whether it has 64 bits.
    Cpuid,
    /// U-Boot: the variable `board_name` is this text.
    BoardName(&'static str),
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
    use Recognition::{BoardName, Cpuid};
    /// A Raspberry Pi: `board_name` as U-Boot has it (board/raspberrypi/rpi/rpi.c, `rpi_models_*`).
    const fn pi(
        name: &'static str,
        description: &'static str,
        architectures: &'static [Architecture],
        board_name: &'static str,
        dtb: &'static str,
        console: &'static str,
        netboot: Netboot,
    ) -> Model {
        Model {
            name,
            description,
            architectures,
            bootloader: Bootloader::UBoot,
            recognition: BoardName(board_name),
            dtb: Some(dtb),
            console,
            netboot,
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
        }
    }
    const fn virt(
        name: &'static str,
        description: &'static str,
        architectures: &'static [Architecture],
        board_name: &'static str,
    ) -> Model {
        Model {
            name,
            description,
            architectures,
            bootloader: Bootloader::UBoot,
            recognition: BoardName(board_name),
            dtb: None,
            console: "ttyAMA0,115200",
            netboot: Nothing,
        }
    }
    // On boards with Bluetooth the full UART (ttyAMA) is Bluetooth's; the mini UART (ttyS1) is on the pins.
    const PIN: &str = "ttyAMA0,115200";
    const MINI: &str = "ttyS1,115200";
    const ARM64: &[Architecture] = &[Aarch64, Armv7, Armv6];
    &[
        pc("pc-x86-64", "PC, 64-bit", &[X86_64, X86]),
        pc("pc-x86-32", "PC, 32-bit", &[X86]),
        pi("rpi-b", "Raspberry Pi B", &[Armv6], "Model B", "bcm2835-rpi-b.dtb", PIN, Nothing),
        pi("rpi-b-plus", "Raspberry Pi B+", &[Armv6], "Model B+", "bcm2835-rpi-b-plus.dtb", PIN, Nothing),
        pi("rpi-2-b", "Raspberry Pi 2 B", &[Armv7, Armv6], "2 Model B", "bcm2836-rpi-2-b.dtb", PIN, Nothing),
        pi("rpi-3-b", "Raspberry Pi 3 B", ARM64, "3 Model B", "bcm2837-rpi-3-b.dtb", MINI, RaspberryPiRom),
        pi("rpi-3-b-plus", "Raspberry Pi 3 B+", ARM64, "3 Model B+", "bcm2837-rpi-3-b-plus.dtb", MINI, RaspberryPiRom),
        pi("rpi-4-b", "Raspberry Pi 4 B", ARM64, "4 Model B", "bcm2711-rpi-4-b.dtb", MINI, RaspberryPiEeprom),
        pi("rpi-400", "Raspberry Pi 400", ARM64, "400", "bcm2711-rpi-400.dtb", MINI, RaspberryPiEeprom),
        // Its firmware starts 64-bit kernels alone.
        pi(
            "rpi-5-b",
            "Raspberry Pi 5",
            &[Aarch64],
            "5 Model B",
            "bcm2712-rpi-5-b.dtb",
            "ttyAMA10,115200",
            RaspberryPiEeprom,
        ),
        virt("qemu-arm", "QEMU virtual machine, 32-bit ARM", &[Armv7, Armv6], "qemu-arm"),
        virt("qemu-arm-64", "QEMU virtual machine, 64-bit ARM", &[Aarch64], "qemu-arm"),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
            ("arm", "v6") => Some(Self::Armv6),
            ("arm", "" | "v7") => Some(Self::Armv7),
            ("arm64", "" | "v8") => Some(Self::Aarch64),
            _ => None,
        }
    }
}

/// As `uname -m` has it, which is also what the directories of agents are named by.
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
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
        assert_eq!(Architecture::of_oci_platform("arm64", None), Some(Architecture::Aarch64));
        assert_eq!(Architecture::of_oci_platform("arm", Some("v5")), None);
        assert_eq!(Architecture::of_oci_platform("riscv64", None), None);
    }
}
