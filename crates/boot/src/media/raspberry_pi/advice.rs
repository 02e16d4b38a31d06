//! How to get what is missing, as commands.

use std::collections::BTreeSet;

use super::{LeftOut, Missing};
use crate::Generation;

/// Commands that get what is missing for these boards on Debian, without installing anything.
pub fn advice(left_out: &[LeftOut]) -> String {
    let mut architectures = BTreeSet::new();
    let (mut firmware, mut uboots, mut kernels) = (false, BTreeSet::new(), BTreeSet::new());
    let mut newer = Vec::new();
    for LeftOut { model, missing } in left_out {
        let Some(generation) = model.generation else { continue };
        let (architecture, kernel) = debian(generation);
        if missing.iter().any(|missing| matches!(missing, Missing::NewerUBoot(_))) {
            // The same packages from the same place would be as old.
            newer.extend((generation != Generation::Five).then_some(model.name));
            continue;
        }
        for missing in missing {
            match missing {
                Missing::Firmware(_) => firmware = true,
                Missing::UBoot(_) => drop(uboots.insert(format!("u-boot-rpi:{architecture}"))),
                Missing::NewerUBoot(_) => {}
                Missing::DeviceTree(_) => drop(kernels.insert(format!("{kernel}:{architecture}"))),
            }
            if matches!(missing, Missing::UBoot(_) | Missing::DeviceTree(_)) {
                architectures.insert(architecture);
            }
        }
    }

    let mut packages: Vec<String> = Vec::new();
    packages.extend(firmware.then(|| "raspi-firmware".to_owned()));
    packages.extend(uboots);
    if !kernels.is_empty() {
        // linux-image-arm64 is empty, and names the package of the current version.
        let kernels = kernels.into_iter().collect::<Vec<_>>().join(" ");
        packages.push(format!("$(apt-cache depends {kernels} | sed -n 's/^ *Depends: //p')"));
    }
    let mut lines = Vec::new();
    if !packages.is_empty() {
        let component = if firmware { ", with the components main and non-free-firmware" } else { "" };
        lines.push(format!("on Debian{component} (nothing is installed by this):"));
        for architecture in architectures {
            lines.push(format!("  sudo dpkg --add-architecture {architecture}"));
        }
        lines.push("  sudo apt-get update && mkdir -p firmware && cd firmware".into());
        lines.push(format!("  apt-get download {}", packages.join(" ")));
        lines.push("  for package in *.deb; do dpkg -x \"$package\" .; done && cd ..".into());
        lines.push("and name the directory: --firmware firmware".into());
    }
    if !newer.is_empty() {
        lines.push(format!("a newer U-Boot is needed for {}", newer.join(", ")));
    }
    if left_out.iter().any(|board| board.model.generation == Some(Generation::Five)) {
        lines.push(
            "the Raspberry Pi 5 needs U-Boot 2024.04 or later and Linux 6.10 or later; Debian 12 has 2023.01 and 6.1, so take u-boot-rpi and linux-image-arm64 of Debian 13 or later for it"
                .into(),
        );
    }
    lines.join("\n")
}

/// The architecture whose u-boot-rpi has the builds for a generation, and the package that brings its device trees.
fn debian(generation: Generation) -> (&'static str, &'static str) {
    match generation {
        Generation::One => ("armel", "linux-image-rpi"),
        Generation::Two => ("armhf", "linux-image-armmp"),
        Generation::Three | Generation::Four | Generation::Five => ("arm64", "linux-image-arm64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    fn left_out(name: &str, missing: Vec<Missing>) -> LeftOut {
        LeftOut { model: Model::by_name(name).unwrap(), missing }
    }

    #[test]
    fn only_what_is_missing_is_fetched() {
        let boards = [left_out("rpi-2-b", vec![Missing::DeviceTree("bcm2836-rpi-2-b.dtb")])];
        let expected = "\
on Debian (nothing is installed by this):
  sudo dpkg --add-architecture armhf
  sudo apt-get update && mkdir -p firmware && cd firmware
  apt-get download $(apt-cache depends linux-image-armmp:armhf | sed -n 's/^ *Depends: //p')
  for package in *.deb; do dpkg -x \"$package\" .; done && cd ..
and name the directory: --firmware firmware";
        assert_eq!(advice(&boards), expected);
    }

    #[test]
    fn a_board_that_is_newer_than_uboot_needs_no_download_of_the_same() {
        let text = advice(&[left_out("rpi-5-b", vec![Missing::DeviceTree("x"), Missing::NewerUBoot("rpi_arm64")])]);
        assert!(text.contains("2024.04") && !text.contains("apt-get download"), "{text}");
    }

    #[test]
    fn nothing_missing_needs_no_advice() {
        assert_eq!(advice(&[]), "");
    }
}
