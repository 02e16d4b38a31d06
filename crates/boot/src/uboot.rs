//! U-Boot: the first-stage script, and the form in which U-Boot takes scripts.
//!
//! The first stage is `boot.scr` on a card. It finds the model of the board, asks DHCP in its name, loads
//! `start.uboot` (the second stage, which belongs to the node's image) by TFTP and runs it. Whatever fails ends in a
//! reset, so that a board that was switched on too early comes up by itself.
//!
//! The second stage finds these variables:
//!
//! - of ours: `walt_model` and, for images of older days, `node_model` (the model: `rpi-3-b`);
//! - of `dhcp`: `ipaddr`, `netmask`, `gatewayip`, `hostname`, `serverip` (the WalT server), `ethaddr`;
//! - of the board: `fdt_addr` (the firmware's device tree), `kernel_addr_r`, `fdt_addr_r`, `ramdisk_addr_r`,
//!   `scriptaddr`.

mod script_image;

pub use script_image::script_image;

use crate::{MODELS, Recognition};

/// The first stage, with a line in place of the table.
const TEMPLATE: &str = include_str!("uboot/first_stage.uboot");

/// The line of [`TEMPLATE`] in whose place the models are written.
const TABLE: &str = "# @models@\n";

/// The name that the first stage has on a card.
pub const SCRIPT_NAME: &str = "boot.scr";

/// The name by which U-Boot asks a server for a first stage (`boot_script_dhcp` in include/config_distro_bootcmd.h,
/// `boot/bootmeth_script.c` since): boards that were started over the network have no card to take it from.
pub const SCRIPT_NAME_BY_DHCP: &str = "boot.scr.uimg";

/// The first stage's text: it knows every model of the table that starts by U-Boot.
pub fn first_stage() -> String {
    let mut table = String::new();
    for model in MODELS {
        let Recognition::UBoot(ways) = model.recognition else { continue };
        for variables in ways {
            let tests: Vec<_> =
                variables.iter().map(|(name, value)| format!("\"${{{name}}}\" = \"{value}\"")).collect();
            table.push_str(&format!("if test {}; then setenv walt_model {}; fi\n", tests.join(" -a "), model.name));
        }
    }
    TEMPLATE.replace(TABLE, &table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bootloader;

    #[test]
    fn the_table_stands_where_its_place_is() {
        assert_eq!(TEMPLATE.matches(TABLE).count(), 1);
        let script = first_stage();
        assert!(!script.contains('@'));
        for model in MODELS {
            let named = script.contains(&format!("then setenv walt_model {}; fi\n", model.name));
            assert_eq!(named, model.bootloader == Bootloader::UBoot, "{}", model.name);
        }
    }

    #[test]
    fn the_script_is_what_every_hush_can_read() {
        let script = first_stage();
        assert!(script.is_ascii());
        for line in script.lines().filter(|line| !line.starts_with('#')) {
            // CONFIG_SYS_CBSIZE is 256 on the smallest builds, and one command must fit into it.
            assert!(line.len() < 200, "{line}");
            // Unbalanced quotes would swallow the rest of the script.
            assert_eq!(line.matches('"').count() % 2, 0, "{line}");
            assert_eq!(line.matches('\'').count() % 2, 0, "{line}");
        }
        let opened = script.lines().filter(|line| line.trim_start().starts_with("if ")).count();
        let closed = script.lines().filter(|line| *line == "fi" || line.trim_start().ends_with("fi")).count();
        assert_eq!(opened, closed);
    }

    #[test]
    fn no_two_models_are_known_by_the_same_variables() {
        let ways: Vec<_> = MODELS
            .iter()
            .flat_map(|model| match model.recognition {
                Recognition::UBoot(ways) => ways,
                Recognition::Cpuid => &[],
            })
            .collect();
        for (at, way) in ways.iter().enumerate() {
            assert!(!way.is_empty());
            assert!(!ways[at + 1..].contains(way), "{way:?}");
        }
    }
}
