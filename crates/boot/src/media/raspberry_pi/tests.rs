use std::fs;
use std::path::Path;

use super::*;

/// The layout of Debian's packages, with a few bytes in each file. The U-Boot of `uboots` knows `known` boards.
fn packages(root: &Path, uboots: &[(&str, &str)], device_trees: &[&str]) {
    let write = |path: &str, content: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    for name in ["bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat", "start_cd.elf"] {
        write(&format!("usr/lib/raspi-firmware/{name}"), name);
    }
    for (build, known) in uboots {
        write(&format!("usr/lib/u-boot/{build}/u-boot.bin"), known);
    }
    for path in device_trees {
        write(&format!("usr/lib/{path}"), path);
    }
}

fn names(boards: &[&Model]) -> Vec<&'static str> {
    boards.iter().map(|model| model.name).collect()
}

fn content<'a>(card: &'a Card, path: &str) -> &'a str {
    let file = card.files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path} is not on the card"));
    std::str::from_utf8(&file.content).unwrap()
}

#[test]
fn boards_get_what_is_there_and_the_others_are_named_with_what_they_lack() {
    let root = tempfile::tempdir().unwrap();
    packages(
        root.path(),
        &[("rpi", "bcm2835-rpi-b.dtb"), ("rpi_3", "..bcm2837-rpi-3-b.dtb."), ("rpi_arm64", "bcm2711-rpi-4-b.dtb")],
        &[
            "linux-image-6.1.0-50-rpi/bcm2835-rpi-b.dtb",
            "linux-image-6.1.0-50-rpi/bcm2835-rpi-b-rev2.dtb",
            "linux-image-6.1.0-9-arm64/broadcom/bcm2837-rpi-3-b.dtb",
            "linux-image-6.1.0-50-arm64/broadcom/bcm2837-rpi-3-b.dtb",
            "linux-image-6.1.0-50-arm64/broadcom/bcm2711-rpi-4-b.dtb",
            "linux-image-6.1.0-50-arm64/broadcom/bcm2712-rpi-5-b.dtb",
        ],
    );
    let card = card(&Firmware::find(root.path()).unwrap(), &boards()).unwrap();
    assert_eq!(names(&card.boards), ["rpi-b", "rpi-3-b", "rpi-4-b"]);
    let missing: Vec<_> = card
        .left_out
        .iter()
        .map(|board| (board.model.name, board.missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
        .collect();
    let expected = [
        (
            "rpi-b-plus",
            "the device tree bcm2835-rpi-b-plus.dtb; a U-Boot that knows this board (rpi is there, but older)",
        ),
        ("rpi-2-b", "the device tree bcm2836-rpi-2-b.dtb; U-Boot (rpi_2)"),
        (
            "rpi-3-b-plus",
            "the device tree bcm2837-rpi-3-b-plus.dtb; a U-Boot that knows this board (rpi_arm64 is there, but older)",
        ),
        (
            "rpi-400",
            "the device tree bcm2711-rpi-400.dtb; a U-Boot that knows this board (rpi_arm64 is there, but older)",
        ),
        ("rpi-5-b", "a U-Boot that knows this board (rpi_arm64 is there, but older)"),
    ];
    assert_eq!(missing, expected.map(|(name, what)| (name, what.to_owned())));
    // The newest Linux', and those of all revisions.
    assert!(content(&card, "bcm2837-rpi-3-b.dtb").contains("6.1.0-50"));
    content(&card, "bcm2835-rpi-b-rev2.dtb");
    content(&card, "start_cd.elf");
    assert!(!card.files.iter().any(|file| file.path == "bcm2712-rpi-5-b.dtb"));
    assert!(card.files.iter().any(|file| file.path == "boot.scr"));
}

#[test]
fn each_generation_starts_its_own_uboot() {
    let root = tempfile::tempdir().unwrap();
    let known: String = boards().iter().filter_map(|model| model.dtb).collect();
    let builds = ["rpi", "rpi_2", "rpi_3", "rpi_4", "rpi_arm64"].map(|build| (build, known.as_str()));
    let trees: Vec<_> = boards().iter().map(|model| format!("linux-image-6.12-arm64/{}", model.dtb.unwrap())).collect();
    packages(root.path(), &builds, &trees.iter().map(String::as_str).collect::<Vec<_>>());
    let card = card(&Firmware::find(root.path()).unwrap(), &boards()).unwrap();
    assert!(card.left_out.is_empty(), "{:?}", card.left_out);
    let configuration = content(&card, "config.txt");
    let settings: Vec<_> = configuration.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let expected = [
        "enable_uart=1",
        "upstream_kernel=1",
        "arm_64bit=0",
        "kernel=u-boot-rpi.bin",
        "[pi5]",
        "arm_64bit=1",
        "kernel=u-boot-rpi_arm64.bin",
        "[pi4]",
        "arm_64bit=1",
        "kernel=u-boot-rpi_4.bin",
        "[pi3]",
        "arm_64bit=1",
        "kernel=u-boot-rpi_3.bin",
        "[pi2]",
        "arm_64bit=0",
        "kernel=u-boot-rpi_2.bin",
        "[pi1]",
        "arm_64bit=0",
        "kernel=u-boot-rpi.bin",
        "[all]",
    ];
    assert_eq!(settings, expected);
    // What the configuration names is on the card.
    for line in settings {
        if let Some(kernel) = line.strip_prefix("kernel=") {
            content(&card, kernel);
        }
    }
}

#[test]
fn files_by_their_names_on_the_card_come_before_those_of_packages() {
    let root = tempfile::tempdir().unwrap();
    packages(root.path(), &[("rpi_4", "bcm2711-rpi-4-b.dtb")], &["linux-image-1/bcm2711-rpi-4-b.dtb"]);
    for name in ["u-boot-rpi_4.bin", "bcm2711-rpi-4-b.dtb", "start4.elf"] {
        fs::write(root.path().join(name), "mine: bcm2711-rpi-4-b.dtb").unwrap();
    }
    let board = Model::by_name("rpi-4-b").unwrap();
    let card = card(&Firmware::find(root.path()).unwrap(), &[board]).unwrap();
    assert_eq!(names(&card.boards), ["rpi-4-b"]);
    for name in ["u-boot-rpi_4.bin", "bcm2711-rpi-4-b.dtb", "start4.elf"] {
        assert!(content(&card, name).starts_with("mine"), "{name}");
    }
    assert_eq!(content(&card, "fixup4.dat"), "fixup4.dat");
}

#[test]
fn without_firmware_there_is_no_card() {
    let root = tempfile::tempdir().unwrap();
    let error = card(&Firmware::find(root.path()).unwrap(), &boards()).unwrap_err();
    let CardError::NoBoard { left_out, .. } = &error else { panic!("{error}") };
    assert_eq!(left_out.len(), 8);
    assert!(error.to_string().ends_with("rpi-400, rpi-5-b"), "{error}");
    let absent = root.path().join("absent");
    assert_eq!(Firmware::find(&absent).unwrap_err().to_string(), format!("can not read {absent:?}"));
}

#[test]
fn a_piece_that_can_not_be_read_is_an_error_and_not_a_missing_piece() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("start4.elf")).unwrap();
    let error = card(&Firmware::find(root.path()).unwrap(), &boards()).unwrap_err();
    assert!(matches!(error, CardError::Firmware(_)), "{error}");
}
