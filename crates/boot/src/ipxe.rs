//! Scripts for iPXE.

/// The script that an iPXE without an image gets from us (`pxe/walt.ipxe`): it finds the model of the
/// PC, asks DHCP again in its name, and loads the second stage of the node's image.
///
/// It needs nothing beyond the features of a stock iPXE of 2019 or later.
pub const FIRST_STAGE: &str = include_str!("first_stage.ipxe");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bootloader, MODELS};

    #[test]
    fn the_first_stage_starts_as_ipxe_demands() {
        assert!(FIRST_STAGE.starts_with("#!ipxe\n"));
        assert!(FIRST_STAGE.is_ascii());
    }

    #[test]
    fn each_jump_has_its_label() {
        for jump in FIRST_STAGE.split("goto ").skip(1) {
            let label = jump.split_whitespace().next().unwrap();
            assert!(FIRST_STAGE.lines().any(|line| line == format!(":{label}")), "{label}");
        }
    }

    #[test]
    fn each_pc_model_can_be_found() {
        for model in MODELS.iter().filter(|model| model.bootloader == Bootloader::Ipxe) {
            assert!(FIRST_STAGE.contains(&format!("set walt-model {}", model.name)), "{}", model.name);
        }
    }
}
