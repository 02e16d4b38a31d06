//! Kinds of boards, and what is known of their firmware.
//!
//! Sources, named where they are used:
//! - `boot-net.adoc`, `bootflow-eeprom.adoc`, `eeprom-bootloader.adoc`: github.com/raspberrypi/documentation, directory
//!   documentation/asciidoc/computers/raspberry-pi;
//! - `firmware#N`: github.com/raspberrypi/firmware, issue N; `rpi-eeprom#N`: github.com/raspberrypi/rpi-eeprom, issue N;
//! - `2711 notes`: github.com/raspberrypi/rpi-eeprom, firmware-2711/release-notes.md;
//! - Debian's u-boot-rpi 2023.01, its built-in environment.

use super::tftp::Want;

/// A kind of board that boots by itself.
#[derive(Debug)]
pub struct Kind {
    /// Its model, as in `walt.node.<model>`.
    pub model: &'static str,
    /// First bytes of its MAC address.
    pub oui: [u8; 3],
    /// What it loads after its boot ROM, before its firmware proper; `None`: it is in its EEPROM.
    pub(super) rom: Option<Stage>,
    /// The loader: `bootcode.bin`, or the EEPROM's.
    pub(super) loader: Stage,
    /// The firmware proper: `start*.elf`, or the EEPROM's again.
    pub(super) firmware: Stage,
    /// Its device tree, as upstream Linux calls it (`upstream_kernel=1`).
    pub dtb: &'static str,
    /// Filter of `config.txt` that is true on it.
    pub(super) filter: &'static str,
    /// First bytes of option 97 behind its type, if it does not repeat its serial number there.
    pub(super) machine: Machine,
    /// It sends DHCPREQUEST.
    pub(super) requests: bool,
    /// Its directory on the TFTP server is its MAC address (`TFTP_PREFIX=2`), not its serial number.
    pub(super) mac_prefix: bool,
}

/// What option 97 holds behind the type 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// `D` sixteen times: boot-net.adoc, "DHCP UUID constant".
    Constant,
    /// Four times the serial number: the same section, "the value is set to the 32-bit serial number".
    Serial,
    /// This word, the board's revision, the end of the MAC address, the serial number: eeprom-bootloader.adoc,
    /// "DHCP_OPTION97".
    Structured([u8; 4], u32),
}

/// What one program of the firmware asks TFTP for.
#[derive(Debug)]
pub(super) struct Stage {
    /// Its first source port.
    pub(super) port: u16,
    pub(super) tsize: bool,
    pub(super) blksize: Option<u16>,
    pub(super) steps: &'static [Step],
}

/// One request. In a name, `{kernel}` is what `config.txt` says, `{dtb}` the board's device tree; a name that begins with
/// `{board}/` is asked for in the board's own directory, and where that exists, all are from then on.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) want: Want,
    /// The board does not boot without it.
    pub(super) needed: bool,
}

const fn needs(name: &'static str) -> Step {
    Step { name, want: Want::All, needed: true }
}

/// Loads it if it is there.
const fn takes(name: &'static str) -> Step {
    Step { name, want: Want::All, needed: false }
}

/// firmware#1700: asks whether a file is there, up to its first block, and says "Early terminate".
const fn probes(name: &'static str) -> Step {
    Step { name, want: Want::Block, needed: false }
}

/// firmware#1041, UEFI: the size is enough.
const fn sizes(name: &'static str) -> Step {
    Step { name, want: Want::Size, needed: false }
}

/// boot-net.adoc: no options at all, blocks of 512 bytes; firmware#1041: source ports 49153 and 49154.
const ROM: Stage =
    Stage { port: 49153, tsize: false, blksize: None, steps: &[needs("bootcode.bin"), takes("bootsig.bin")] };

/// firmware#1041 and #1700 (captures): `tsize` alone, ports from 49153 again, each file looked for before it is loaded.
const BOOTCODE: Stage = Stage {
    port: 49153,
    tsize: true,
    blksize: None,
    steps: &[
        probes("{board}/start.elf"),
        sizes("autoboot.txt"),
        takes("config.txt"),
        sizes("recovery.elf"),
        probes("start.elf"),
        needs("start.elf"),
        needs("fixup.dat"),
    ],
};

/// firmware#269 of Hexxeh/rpi-firmware, #1362 and #1012 (logs): `config.txt` several times, kernels by every name.
const START_ELF: Stage = Stage {
    port: 49153,
    tsize: true,
    blksize: None,
    steps: &[
        sizes("recovery.elf"),
        takes("config.txt"),
        takes("config.txt"),
        sizes("dt-blob.bin"),
        sizes("bootcfg.txt"),
        takes("cmdline.txt"),
        sizes("recovery8.img"),
        probes("{kernel}"),
        sizes("armstub8.bin"),
        needs("{kernel}"),
        needs("{dtb}"),
        sizes("overlays/overlay_map.dtb"),
        takes("config.txt"),
        takes("overlays/disable-bt.dtbo"),
    ],
};

/// rpi-eeprom#74 (capture): `tsize` and `blksize` 1024, ports that go up; eeprom-bootloader.adoc, "ENABLE_SELF_UPDATE":
/// it looks for updates of itself.
const EEPROM_4: Stage = Stage {
    port: 40084,
    tsize: true,
    blksize: Some(1024),
    steps: &[
        probes("{board}/start4.elf"),
        takes("config.txt"),
        sizes("pieeprom.sig"),
        sizes("vl805.sig"),
        sizes("recover4.elf"),
        sizes("recovery.elf"),
        needs("start4.elf"),
        needs("fixup4.dat"),
    ],
};

/// 2711 notes, 2022-10-03: blocks of 1468 bytes since, in what is loaded with this EEPROM.
const START4_ELF: Stage = Stage {
    port: 40200,
    tsize: true,
    blksize: Some(1468),
    steps: &[
        takes("config.txt"),
        sizes("dt-blob.bin"),
        sizes("recovery.elf"),
        takes("cmdline.txt"),
        probes("{kernel}"),
        sizes("armstub8-gic.bin"),
        needs("{kernel}"),
        needs("{dtb}"),
        sizes("overlays/overlay_map.dtb"),
        takes("overlays/disable-bt.dtbo"),
    ],
};

/// bootflow-eeprom.adoc, "Differences on Raspberry Pi 5": no `start.elf`; rpi-eeprom#857: `tsize` and `blksize` 1468.
const EEPROM_5: Stage = Stage {
    port: 40300,
    tsize: true,
    blksize: Some(1468),
    steps: &[takes("{board}/config.txt"), sizes("pieeprom.sig"), sizes("recovery.elf"), takes("config.txt")],
};

/// The EEPROM has what `start.elf` does on others: kernel, device tree and overlays are loaded by itself.
const KERNEL_5: Stage = Stage {
    port: 40400,
    tsize: true,
    blksize: Some(1468),
    steps: &[
        takes("cmdline.txt"),
        probes("{kernel}"),
        sizes("armstub8-2712.bin"),
        needs("{kernel}"),
        needs("{dtb}"),
        sizes("overlays/overlay_map.dtb"),
        takes("overlays/disable-bt.dtbo"),
    ],
};

/// Boards that boot by themselves, one of each firmware.
pub const KINDS: [Kind; 4] = [
    // With its OTP bit set.
    Kind {
        model: "rpi-3-b",
        oui: [0xb8, 0x27, 0xeb],
        rom: Some(ROM),
        loader: BOOTCODE,
        firmware: START_ELF,
        dtb: "bcm2837-rpi-3-b.dtb",
        filter: "pi3",
        machine: Machine::Constant,
        requests: false,
        mac_prefix: false,
    },
    Kind {
        model: "rpi-3-b-plus",
        oui: [0xb8, 0x27, 0xeb],
        rom: Some(ROM),
        loader: BOOTCODE,
        firmware: START_ELF,
        dtb: "bcm2837-rpi-3-b-plus.dtb",
        filter: "pi3",
        machine: Machine::Serial,
        requests: false,
        mac_prefix: false,
    },
    Kind {
        model: "rpi-4-b",
        oui: [0xdc, 0xa6, 0x32],
        rom: None,
        loader: EEPROM_4,
        firmware: START4_ELF,
        dtb: "bcm2711-rpi-4-b.dtb",
        filter: "pi4",
        machine: Machine::Structured(*b"RPi4", 0x00c0_3111),
        requests: true,
        mac_prefix: false,
    },
    Kind {
        model: "rpi-5-b",
        oui: [0x2c, 0xcf, 0x67],
        rom: None,
        loader: EEPROM_5,
        firmware: KERNEL_5,
        dtb: "bcm2712-rpi-5-b.dtb",
        filter: "pi5",
        machine: Machine::Structured(*b"RPi5", 0x00d0_4170),
        requests: true,
        mac_prefix: true,
    },
];
