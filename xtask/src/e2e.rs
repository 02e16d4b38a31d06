//! `x e2e`: whole boots of real firmware and real images in QEMU, against our server.

mod image_tree;
mod in_node;
mod install;
mod kernel_nfsroot;
mod multi_arch;
mod node_commands;
mod node_logs;
mod pc_bios;
mod pc_dnsmasq;
mod pc_image_arrives_late;
mod pc_image_switch;
mod pc_isc_dhcpd;
mod pc_server_gone;
mod pc_server_restart;
mod pc_tiny_busybox_init;
mod pc_two_nodes;
mod pc_uefi;
mod pc_uefi_http;
mod pc_usb;
mod persist;
mod platform;
mod qemu_arm;
mod rpi_3_b_sdcard;
mod rpi_models;
mod rpi_native_netboot;
mod stage;

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::{Context, Result};
use boot::Architecture;
use testbed::daemon::Programs;
use testbed::lab::{Entered, enter};

use crate::firmware;
use crate::image::{self, Built, Recipe};
use crate::programs::{self, Profile};
use stage::Stage;

/// One story that a user could tell.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    what: &'static str,
    /// What it boots.
    images: &'static [Recipe],
    run: fn(&mut Stage<'_>) -> Result<()>,
}

const TINY_PC: &[Recipe] = &[Recipe::TinyPc];
const DEBIAN_PC: &[Recipe] = &[Recipe::DebianPc];

/// All of them, the longest first: two run at a time, and the last to start should be short.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "qemu-arm-64",
        what: "Debian with systemd on a 64-bit ARM board: card, U-Boot, both scripts, the rest as pc-bios",
        images: &[Recipe::DebianArm64],
        run: qemu_arm::run_64,
    },
    Scenario { name: "qemu-arm", what: "the same with 32 bits", images: &[Recipe::DebianArmhf], run: qemu_arm::run_32 },
    Scenario {
        name: "pc-bios",
        what: "Debian with systemd on a BIOS PC: union, services, clock, watchdog, reboot",
        images: DEBIAN_PC,
        run: pc_bios::run,
    },
    Scenario {
        name: "pc-uefi",
        what: "Debian on a UEFI PC, by the firmware's own PXE",
        images: DEBIAN_PC,
        run: pc_uefi::run,
    },
    Scenario {
        name: "pc-usb",
        what: "PCs that cannot boot over the network: a stick, by BIOS and by UEFI",
        images: TINY_PC,
        run: pc_usb::run,
    },
    Scenario {
        name: "pc-server-gone",
        what: "the server stays away: the watchdog reboots the node after its grace time",
        images: TINY_PC,
        run: pc_server_gone::run,
    },
    Scenario {
        name: "pc-image-switch",
        what: "another image for a node while the old one is in use",
        images: TINY_PC,
        run: pc_image_switch::run,
    },
    Scenario { name: "pc-uefi-http", what: "a UEFI PC that boots over HTTP", images: TINY_PC, run: pc_uefi_http::run },
    Scenario {
        name: "pc-image-arrives-late",
        what: "the first pull takes long: the node reboots until its image is there",
        images: TINY_PC,
        run: pc_image_arrives_late::run,
    },
    Scenario {
        name: persist::NAME,
        what: "/persist: pjdfstest and fsx on it, and files that outlive a server that is killed and a node that reboots",
        images: TINY_PC,
        run: persist::run,
    },
    Scenario {
        name: "rpi-models",
        what: "the first stage, in real U-Boot with the environment of each board, asks DHCP for that model",
        images: &[],
        run: rpi_models::run,
    },
    Scenario {
        name: rpi_3_b_sdcard::NAME,
        what: "the card of a Raspberry Pi in a 3 B with its real U-Boot, which has no network: known, reset, again",
        images: &[],
        run: rpi_3_b_sdcard::run,
    },
    Scenario {
        name: "multi-arch",
        what: "one image of three architectures: a PC, a 64-bit and a 32-bit board boot the same reference",
        images: multi_arch::IMAGES,
        run: multi_arch::run,
    },
    Scenario {
        name: "rpi-native-netboot",
        what: "no machine: what the firmware of Raspberry Pi 3B, 3B+, 4 and 5 asks, before and after their image is there",
        images: &[],
        run: rpi_native_netboot::run,
    },
    Scenario {
        name: "node-commands",
        what: "run, shell, cp, ping, expose, save, acquire and release, as people use them on a PC",
        images: TINY_PC,
        run: node_commands::run,
    },
    Scenario {
        name: install::NAME,
        what: "no machine: the Debian package on a fresh Debian with systemd: installed, set up, used, purged",
        images: TINY_PC,
        run: install::run,
    },
    Scenario {
        name: "node-logs",
        what: "no machine: what nodes log is shown, waited for, and not lost when the server is killed",
        images: &[],
        run: node_logs::run,
    },
    Scenario {
        name: "platform",
        what: "three virtual nodes, by nothing but the walt command",
        images: TINY_PC,
        run: platform::run,
    },
    Scenario {
        name: "pc-two-nodes",
        what: "two images at once; neither node mounts the other's",
        images: TINY_PC,
        run: pc_two_nodes::run,
    },
    Scenario {
        name: "pc-server-restart",
        what: "the server is killed and started again under a node that keeps reading",
        images: TINY_PC,
        run: pc_server_restart::run,
    },
    Scenario {
        name: "image-tree",
        what: "no machine: every object of the Debian image over NFS and FUSE, and its exports, as other tools see them",
        images: DEBIAN_PC,
        run: image_tree::run,
    },
    Scenario {
        name: kernel_nfsroot::NAME,
        what: "an image without an initrd: the kernel mounts its NFS root itself",
        images: TINY_PC,
        run: kernel_nfsroot::run,
    },
    Scenario {
        name: "pc-isc-dhcpd",
        what: "addresses by ISC's dhcpd, the rest by us",
        images: TINY_PC,
        run: pc_isc_dhcpd::run,
    },
    Scenario {
        name: "pc-dnsmasq",
        what: "addresses by dnsmasq, the rest by us",
        images: TINY_PC,
        run: pc_dnsmasq::run,
    },
    Scenario {
        name: "pc-tiny-busybox-init",
        what: "an image without systemd, through our own initramfs",
        images: TINY_PC,
        run: pc_tiny_busybox_init::run,
    },
];

/// What only `./x test --all` plays, and why: the usual run is to take less than 30 minutes on two processors.
const ONLY_BY_ALL: &[(&str, &str)] = &[
    (
        "qemu-arm",
        "its image takes minutes to build under emulation and it is the slowest to boot; multi-arch boots such a board as well",
    ),
    (
        "node-commands",
        "platform does the same and more on virtual nodes, but for a node that lies about what it is asked for",
    ),
    ("pc-dnsmasq", "pc-isc-dhcpd is the same with another server for addresses, and the daemon's tests know both"),
    ("pc-uefi", "pc-uefi-http has the same firmware and pc-usb starts by it, too"),
    ("pc-two-nodes", "platform has three at once, and the tests of the NFS service know who may read what"),
    ("pc-image-switch", "platform boots another image as well: the one that was saved"),
    ("pc-image-arrives-late", "rpi-native-netboot and rpi-models come before their image, too"),
    ("pc-tiny-busybox-init", "pc-usb, pc-uefi-http and others boot the same image"),
];

impl Scenario {
    /// Why `./x test` leaves it out; `None` for those that it plays.
    pub(crate) fn left_out(&self) -> Option<&'static str> {
        ONLY_BY_ALL.iter().find(|(name, _)| *name == self.name).map(|(_, why)| *why)
    }

    /// Architectures of its nodes. What needs no image may still have nodes: those are PCs.
    pub(crate) fn architectures(&self) -> Vec<Architecture> {
        let of_images = self.images.iter().map(|recipe| recipe.architecture());
        std::iter::once(Architecture::X86_64).chain(of_images).collect()
    }

    /// Builds what it boots, or finds it built. A lab has no way to what this needs.
    pub(crate) fn prepare(&self, programs: &Programs) -> Result<HashMap<Recipe, Built>> {
        let build = |recipe: &Recipe| Ok((*recipe, image::build(*recipe, &programs.agents)?));
        let images = self.images.iter().map(build).collect::<Result<HashMap<_, _>>>()?;
        match self.name {
            install::NAME if !testbed::lab::inside() => install::prepare()?,
            rpi_3_b_sdcard::NAME => firmware::tree().map(drop)?,
            persist::NAME => persist::prepare()?,
            kernel_nfsroot::NAME => {
                images.get(&Recipe::TinyPc).map(kernel_nfsroot::image).transpose()?;
            }
            _ => {}
        }
        Ok(images)
    }
}

/// Prints the names.
pub(crate) fn list() {
    for scenario in SCENARIOS {
        println!("{:24} {}", scenario.name, scenario.what);
        if let Some(why) = scenario.left_out() {
            println!("{:24} (only by ./x test --all: {why})", "");
        }
    }
}

/// Runs one scenario.
pub(crate) fn run(name: &str) -> Result<ExitCode> {
    let scenario = SCENARIOS
        .iter()
        .find(|scenario| scenario.name == name)
        .with_context(|| format!("no scenario is called {name:?}; ./x e2e --list names them"))?;
    let programs = programs::build(Profile::Test, &scenario.architectures())?;
    let images = scenario.prepare(&programs)?;
    let lab = match enter(name, &crate::lab_directory())? {
        Entered::Outside(code) => return Ok(code),
        Entered::Inside(lab) => lab,
    };
    println!("{name}: {}", scenario.what);
    let mut stage = Stage::new(&lab, programs, images);
    match (scenario.run)(&mut stage) {
        Ok(()) => {
            println!("{name}: passed, {} checks", stage.checks());
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            stage.tell_what_happened();
            println!("{name}: FAILED: {error:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_exists() {
        for (name, _) in ONLY_BY_ALL {
            assert!(SCENARIOS.iter().any(|scenario| scenario.name == *name), "{name}");
        }
    }
}
