//! The hardware: QEMU's options for each kind of machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Spec, accelerator};
use crate::lab::Lab;

/// What a machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Board {
    /// A PC that boots over the network.
    Pc(Firmware),
    /// A PC whose firmware knows nothing of its network interface, with a USB stick.
    PcWithStick {
        /// UEFI (OVMF); else BIOS.
        uefi: bool,
        /// Image of the stick.
        stick: PathBuf,
    },
    /// QEMU's `virt` machine with U-Boot, and a card.
    Virt {
        /// Of its processor.
        width: Width,
        /// Image of the card.
        card: PathBuf,
    },
    /// A Raspberry Pi 3 B with a card. What QEMU lacks of it: the firmware of the graphics processor, so that U-Boot is
    /// started at once, and the network interface.
    RaspberryPi3 {
        /// What the firmware would load.
        uboot: PathBuf,
        /// The device tree that the firmware would load.
        dtb: PathBuf,
        /// Image of the card; QEMU wants its size to be a power of two.
        card: PathBuf,
    },
}

/// What starts a PC over the network, before anything of ours runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS and the network boot ROM that QEMU's package ships for the interface (iPXE).
    Bios,
    /// OVMF, which does PXE by itself: the interface has no ROM.
    UefiPxe,
    /// OVMF, told to boot over HTTP.
    UefiHttp,
}

/// The model of a PC's network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nic {
    /// virtio-net.
    Virtio,
    /// Intel 82540EM, as in many old PCs.
    E1000,
}

/// Registers of an ARM processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 32 bits: a Cortex-A15.
    Bits32,
    /// 64 bits: a Cortex-A53, as in a Raspberry Pi 3.
    Bits64,
}

/// The program that is the machine, with what makes its board. The console's chardev is called `console`.
pub(super) fn qemu(lab: &Lab, spec: &Spec) -> Result<Command> {
    match &spec.board {
        Board::Pc(firmware) => pc(lab, spec, *firmware),
        Board::PcWithStick { uefi, stick } => pc_with_stick(lab, spec, *uefi, stick),
        Board::Virt { width, card } => virt(lab, spec, *width, card),
        Board::RaspberryPi3 { uboot, dtb, card } => Ok(raspberry_pi_3(uboot, dtb, card)),
    }
}

fn pc(lab: &Lab, spec: &Spec, firmware: Firmware) -> Result<Command> {
    let mut command = any_pc(lab)?;
    let device = nic(spec);
    if firmware == Firmware::Bios {
        // graphics=off makes SeaBIOS and the ROM show their screen on the serial port.
        // As most PCs do, try again when nothing could be booted; SeaBIOS' default is to stop for ever.
        let order = "order=n,reboot-timeout=5000";
        command.args(["-machine", "pc,graphics=off", "-boot", order, "-device", &device]);
        return Ok(command);
    }
    with_ovmf(&mut command, lab, spec)?;
    command.args(["-device", &format!("{device},romfile=,bootindex=0")]);
    if firmware == Firmware::UefiHttp {
        // OVMF tries PXE first unless it is told that there is none (OvmfPkg's PxeBcPcdProducerLib).
        for protocol in ["IPv4PXESupport", "IPv6PXESupport"] {
            command.arg("-fw_cfg").arg(format!("name=opt/org.tianocore/{protocol},string=n"));
        }
    }
    Ok(command)
}

fn pc_with_stick(lab: &Lab, spec: &Spec, uefi: bool, stick: &Path) -> Result<Command> {
    let mut command = any_pc(lab)?;
    if uefi {
        with_ovmf(&mut command, lab, spec)?;
    } else {
        command.args(["-machine", "pc,graphics=off", "-boot", "order=c,reboot-timeout=5000"]);
    }
    command.args(["-device", &format!("{},romfile=", nic(spec)), "-device", "qemu-xhci", "-drive"]);
    command.arg(format!("if=none,id=stick,format=raw,file={}", stick.display()));
    command.args(["-device", "usb-storage,drive=stick,removable=on,bootindex=0"]);
    Ok(command)
}

fn any_pc(lab: &Lab) -> Result<Command> {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(accelerator::of_pc()).args(["-smp", "1", "-serial", "chardev:console"]);
    with_network(&mut command, lab)?;
    Ok(command)
}

fn nic(spec: &Spec) -> String {
    let model = match spec.nic {
        Nic::Virtio => "virtio-net-pci",
        Nic::E1000 => "e1000",
    };
    format!("{model},netdev=net,mac={}", spec.mac)
}

fn with_ovmf(command: &mut Command, lab: &Lab, spec: &Spec) -> Result<()> {
    let settings = lab.state().join(format!("{}.efivars", spec.name));
    fs::copy("/usr/share/OVMF/OVMF_VARS.fd", &settings).context("OVMF is missing (package ovmf)")?;
    command.args(["-machine", "q35", "-drive"]);
    command.arg("if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE.fd");
    command.arg("-drive").arg(format!("if=pflash,format=raw,unit=1,file={}", settings.display()));
    Ok(())
}

fn with_network(command: &mut Command, lab: &Lab) -> Result<()> {
    let tap = lab.new_tap()?;
    command.args(["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"]);
    command.arg("-netdev").arg(format!("tap,id=net,ifname={tap},script=no,downscript=no"));
    Ok(())
}

/// Whatever the processor of this computer is: emulation, which shows the same everywhere.
const EMULATED: [&str; 2] = ["-accel", "tcg,thread=multi,tb-size=256"];

fn virt(lab: &Lab, spec: &Spec, width: Width, card: &Path) -> Result<Command> {
    let (program, processor, uboot) = match width {
        Width::Bits32 => ("qemu-system-arm", "cortex-a15", "/usr/lib/u-boot/qemu_arm/u-boot.bin"),
        Width::Bits64 => ("qemu-system-aarch64", "cortex-a53", "/usr/lib/u-boot/qemu_arm64/u-boot.bin"),
    };
    let mut command = Command::new(program);
    command.args(EMULATED).args(["-machine", "virt", "-cpu", processor, "-bios", uboot]);
    command.args(["-serial", "chardev:console"]);
    with_network(&mut command, lab)?;
    // Its ROM is for PCs. With virtio's older interface, U-Boot would take the first byte of its address for all six.
    let nic = format!("virtio-net-pci,netdev=net,mac={},romfile=,disable-legacy=on", spec.mac);
    command.args(["-device", &nic, "-drive"]);
    command.arg(format!("if=none,id=card,format=raw,file={}", card.display()));
    command.args(["-device", "virtio-blk-pci,drive=card"]);
    Ok(command)
}

fn raspberry_pi_3(uboot: &Path, dtb: &Path, card: &Path) -> Command {
    let mut command = Command::new("qemu-system-aarch64");
    command.args(EMULATED).args(["-machine", "raspi3b", "-kernel"]).arg(uboot).arg("-dtb").arg(dtb);
    command.arg("-drive").arg(format!("file={},format=raw,if=sd", card.display()));
    // Its first UART is Bluetooth's.
    command.args(["-serial", "null", "-serial", "chardev:console"]);
    command
}
