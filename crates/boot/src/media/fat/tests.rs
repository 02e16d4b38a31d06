use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::media::disk::PARTITION_START;

const LABEL: &[u8; 11] = b"WALT       ";

fn fat(files: &[File]) -> Result<Vec<u8>, FatError> {
    let mut partition = vec![0; 63 << 20];
    fill(&mut partition, files, LABEL, 0x1234_5678, PARTITION_START).map(|()| partition)
}

fn run(program: &str, package: &str, arguments: &[&str], disk: &Path) -> Vec<u8> {
    let output = Command::new(program).args(arguments).arg(disk).output();
    let output = output.unwrap_or_else(|error| panic!("{program} does not start (package {package}): {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {text}");
    output.stdout
}

/// fsck.fat finds nothing to repair; gives back what it says.
fn checked(partition: &[u8]) -> (tempfile::NamedTempFile, String) {
    let disk = tempfile::NamedTempFile::new().unwrap();
    fs::write(disk.path(), partition).unwrap();
    let text = String::from_utf8(run("fsck.fat", "dosfstools", &["-n", "-v"], disk.path())).unwrap();
    for complaint in ["Bad", "bad", "differ", "uninitialized", "wrong", "Reclaimed", "dirty", "is invalid"] {
        assert!(!text.contains(complaint), "{text}");
    }
    (disk, text)
}

#[test]
fn mtools_read_what_was_written() {
    let large: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
    let files = [
        File::new("start.elf", large),
        File::new("bcm2837-rpi-3-b-plus.dtb", "a long name"),
        File::new("bcm2837-rpi-3-b.dtb", "another one"),
        // Exactly as long as one entry, and two.
        File::new("thirteen-long", "13"),
        File::new("twenty-six-characters-long", "26"),
        File::new("EFI/BOOT/BOOTX64.EFI", "deep"),
        File::new("EFI/BOOT/empty", ""),
        File::new("EFI/debian/grub.cfg", "beside"),
        File::new("two.dots.txt", "dots"),
        File::new("with space", "space"),
    ];
    let (disk, _) = checked(&fat(&files).unwrap());
    for File { path, content } in &files {
        let output = Command::new("mtype").arg("-i").arg(disk.path()).arg(format!("::/{path}")).output();
        let output = output.expect("mtype does not start (package mtools)");
        assert!(output.status.success() && output.stdout == *content, "{path}: {output:?}");
    }
    let listing = run("mdir", "mtools", &["-/", "-b", "-i"], disk.path());
    let listing = String::from_utf8(listing).unwrap();
    let mut paths: Vec<_> = listing.lines().filter_map(|line| line.strip_prefix("::/")).collect();
    paths.retain(|path| !path.ends_with('/'));
    paths.sort();
    let mut expected: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
    expected.sort();
    assert_eq!(paths, expected);
}

#[test]
fn what_old_firmware_looks_for_has_a_short_name() {
    let files = ["bootcode.bin", "start.elf", "start4cd.elf", "config.txt", "u-boot-rpi_3.bin", "u-boot-rpi_4.bin"];
    let mut names = Names::default();
    let short = files.map(|name| String::from_utf8(names.add(name).unwrap().short.to_vec()).unwrap());
    assert_eq!(short, ["BOOTCODEBIN", "START   ELF", "START4CDELF", "CONFIG  TXT", "U-BOOT~1BIN", "U-BOOT~2BIN"]);
    assert!(names.add("EFI").unwrap().long.is_empty());
}

#[test]
fn many_files_make_a_sound_file_system() {
    let name = |i: usize| format!("directory {}/a-file-with-a-long-name-{i}.txt", i % 7);
    let files: Vec<_> = (0..500).map(|i| File::new(&name(i), vec![1; i * 30])).collect();
    let partition = fat(&files).unwrap();
    let (_disk, text) = checked(&partition);
    // With the directories.
    assert!(text.contains("508 files"), "{text}");
    assert!(text.contains("Checking we can access the last sector"), "{text}");
    assert!(partition == fat(&files).unwrap(), "the same files make the same bytes");
}

#[test]
fn the_parameters_are_those_of_a_fat32() {
    let partition = fat(&[]).unwrap();
    let (disk, _) = checked(&partition);
    let facts = String::from_utf8(run("minfo", "mtools", &["-i"], disk.path())).unwrap();
    let facts_expected = ["hidden sectors: 2048", "disk type=\"FAT32   \"", "backup boot sector=6", "cluster size: 1 "];
    for fact in facts_expected {
        assert!(facts.contains(fact), "{fact}: {facts}");
    }
}

#[test]
fn what_a_fat_can_not_hold_is_refused() {
    let refused =
        |paths: &[&str]| fat(&paths.iter().map(|path| File::new(path, "")).collect::<Vec<_>>()).map(drop).unwrap_err();
    assert_eq!(refused(&["a", "A"]), FatError::Twice("A".into()));
    assert_eq!(refused(&["a", "a/b"]), FatError::Twice("a".into()));
    for name in ["a:b", "", " a", "a.", "a ", "\u{e9}", "a\n", ".", ".."] {
        assert_eq!(refused(&[name]), FatError::Name(name.into()));
    }
    assert_eq!(refused(&["a//b"]), FatError::Name(String::new()));
    assert_eq!(fat(&[File::new("a", vec![1; 63 << 20])]), Err(FatError::Full));
    assert_eq!(fill(&mut vec![0; 1 << 20], &[], LABEL, 0, 0), Err(FatError::TooSmall(1 << 20)));
}

#[test]
fn every_cluster_can_be_used() {
    let empty = fat(&[]).unwrap();
    let free = u32::from_le_bytes(empty[SECTOR + 488..SECTOR + 492].try_into().unwrap()) as usize;
    let (_disk, _) = checked(&fat(&[File::new("A", vec![1; free * SECTOR])]).unwrap());
    assert_eq!(fat(&[File::new("A", vec![1; free * SECTOR + 1])]), Err(FatError::Full));
}
