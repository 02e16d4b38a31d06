//! `walt media` when something is wrong: it says what, on what and what to do, ends with an exit code, and leaves
//! nothing behind. (What it writes when all is well is booted by `./x e2e`.)

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// What `walt media` did.
struct Run {
    code: Option<i32>,
    stderr: String,
}

impl Run {
    fn of(output: &Output) -> Self {
        assert!(output.stdout.is_empty(), "an error on standard output: {output:?}");
        Self { code: output.status.code(), stderr: without_progress(&output.stderr) }
    }

    /// It has failed with this as its first line, and says each of `more` below that.
    #[track_caller]
    fn failed(&self, first: &str, more: &[&str]) {
        assert_eq!(self.code, Some(1), "{}", self.stderr);
        let (line, rest) = self.stderr.split_once('\n').unwrap();
        assert_eq!(line, format!("walt: {first}"), "{}", self.stderr);
        for text in more {
            assert!(rest.contains(text), "{text:?} is not in:\n{}", self.stderr);
        }
    }
}

/// What takes longer than a second shows how far it is, which depends on the machine.
fn without_progress(stderr: &[u8]) -> String {
    let lines = std::str::from_utf8(stderr).unwrap().lines();
    lines.filter(|line| !line.contains(" %  ")).flat_map(|line| [line, "\n"]).collect()
}

/// Two directories: one to write into, and one with what is not WalT's.
struct Desk {
    out: TempDir,
    firmware: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { out: tempfile::tempdir().unwrap(), firmware: tempfile::tempdir().unwrap() }
    }

    fn image(&self) -> String {
        self.out.path().join("card.img").to_str().unwrap().to_owned()
    }

    fn firmware(&self) -> &str {
        self.firmware.path().to_str().unwrap()
    }

    fn names(&self) -> Vec<String> {
        fs::read_dir(self.out.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.firmware.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn walt(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_walt")).arg("media").args(arguments).output().unwrap()
}

#[test]
fn without_firmware_there_is_no_card_but_the_commands_that_get_it() {
    let desk = Desk::new();
    let run = Run::of(&walt(&["sd", "--out", &desk.image(), "--firmware", desk.firmware(), "--model", "rpi-3-b"]));
    run.failed(
        &format!("nothing in {:?} starts rpi-3-b", desk.firmware()),
        &[
            "rpi-3-b: missing bootcode.bin, start.elf, fixup.dat of the firmware; the device tree bcm2837-rpi-3-b.dtb; U-Boot (rpi_3 or rpi_arm64)",
            "apt-get download raspi-firmware u-boot-rpi:arm64 $(apt-cache depends linux-image-arm64:arm64 ",
            "--firmware firmware",
        ],
    );
    assert!(desk.names().is_empty(), "{:?}", desk.names());
    // The family is the default, and each of its boards is told.
    let run = Run::of(&walt(&["sd", "--out", &desk.image(), "--firmware", desk.firmware()]));
    assert_eq!(run.code, Some(1));
    for board in ["rpi-b", "rpi-b-plus", "rpi-2-b", "rpi-3-b", "rpi-3-b-plus", "rpi-4-b", "rpi-400", "rpi-5-b"] {
        assert!(run.stderr.contains(&format!("      {board}: missing ")), "{board}:\n{}", run.stderr);
    }
    assert!(desk.names().is_empty(), "{:?}", desk.names());
}

#[test]
fn a_firmware_directory_that_is_not_there_is_named() {
    let desk = Desk::new();
    let nowhere = format!("{}/nowhere", desk.firmware());
    let run = Run::of(&walt(&["sd", "--out", &desk.image(), "--firmware", &nowhere]));
    run.failed(&format!("there is no firmware: can not read {nowhere:?}: No such file or directory (os error 2)"), &[]);
    assert!(desk.names().is_empty(), "{:?}", desk.names());
}

#[test]
fn a_directory_of_files_is_not_begun_without_firmware() {
    let desk = Desk::new();
    let directory = desk.out.path().join("new");
    let run = Run::of(&walt(&["sd", "--out-dir", directory.to_str().unwrap(), "--firmware", desk.firmware()]));
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(desk.names().is_empty(), "{:?}", desk.names());
}

#[test]
fn an_unknown_board_comes_with_the_nearest_one() {
    let desk = Desk::new();
    for (option, name, nearest) in [
        ("--model", "rpi-4b", "is it `rpi-4-b`? "),
        ("--board", "qemu-arm64", "is it `qemu-arm-64`? "),
        ("--model", "toaster", ""),
    ] {
        let run = Run::of(&walt(&["sd", "--out", &desk.image(), option, name]));
        run.failed(&format!("no board is called {name:?}"), &[&format!("      {nearest}known are rpi, rpi-b, ")]);
        assert!(desk.names().is_empty(), "{:?}", desk.names());
    }
    let run = Run::of(&walt(&["sd", "--out", &desk.image(), "--model", "pc-x86-64"]));
    run.failed("pc-x86-64 does not start from an SD card", &["`walt media usb` writes a USB stick"]);
    assert!(desk.names().is_empty(), "{:?}", desk.names());
}

#[test]
fn an_image_that_is_there_is_replaced_by_force_alone() {
    let desk = Desk::new();
    fs::write(desk.image(), "precious").unwrap();
    let board = ["sd", "--board", "qemu-arm-64", "--out", &desk.image()];
    Run::of(&walt(&board)).failed(&format!("{:?} is there already", desk.image()), &["--force writes over it"]);
    assert_eq!(fs::read(desk.image()).unwrap(), b"precious");
    // Nor is it touched when there is nothing to write.
    let run = Run::of(&walt(&["sd", "--force", "--out", &desk.image(), "--firmware", desk.firmware()]));
    assert_eq!(run.code, Some(1));
    assert_eq!(fs::read(desk.image()).unwrap(), b"precious");

    let output = walt(&[&board[..], &["--force"]].concat());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::metadata(desk.image()).unwrap().len(), 64 << 20);
    assert_eq!(desk.names(), ["card.img"]);
}

#[test]
fn what_can_not_be_written_is_said_before_firmware_is_looked_for() {
    let desk = Desk::new();
    for (out, error, hint) in [
        (
            format!("{}/a/card.img", desk.out.path().display()),
            "No such file or directory",
            "create its directory first",
        ),
        ("/dev/null".to_owned(), "is not a file", ""),
        (desk.out.path().display().to_string(), "is not a file", ""),
        ("/proc/card.img".to_owned(), "can not write", ""),
    ] {
        let run = Run::of(&walt(&["sd", "--out", &out, "--firmware", "/nowhere"]));
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        let first = run.stderr.lines().next().unwrap();
        assert!(first.contains(&format!("{out:?}")) && first.contains(error), "{}", run.stderr);
        assert!(run.stderr.contains(hint), "{}", run.stderr);
        let run = Run::of(&walt(&["usb", "--out", &out, "--firmware", "/nowhere"]));
        assert!(run.code == Some(1) && run.stderr.contains(error), "{}", run.stderr);
        assert!(desk.names().is_empty(), "{:?}", desk.names());
    }
}

/// A disk that is full when half of the card is written. Needs root, as all that mounts.
#[test]
fn a_full_disk_keeps_no_part_of_the_card() {
    let desk = Desk::new();
    let script = format!(
        "mount -t tmpfs -o size=128k full {out} && {walt} media sd --board qemu-arm-64 --out {out}/card.img
         echo \"code $?, left: $(ls -A {out})\" >&2",
        out = desk.out.path().display(),
        walt = env!("CARGO_BIN_EXE_walt"),
    );
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();
    let stderr = without_progress(&output.stderr);
    let lines: Vec<&str> = stderr.lines().map(str::trim).collect();
    let image = desk.image();
    let expected = [
        format!("walt: can not write {image:?}, and nothing of it is left: No space left on device (os error 28)"),
        "the disk is full: free some of it, or name a file elsewhere".to_owned(),
        "code 1, left:".to_owned(),
    ];
    assert_eq!(lines, expected, "{stderr}");
}

#[test]
fn a_stick_without_its_pieces_is_not_written() {
    let desk = Desk::new();
    let run = Run::of(&walt(&["usb", "--out", &desk.image(), "--firmware", desk.firmware()]));
    assert_eq!(run.code, Some(1));
    let first = run.stderr.lines().next().unwrap();
    assert!(first.contains("starts a PC:") && first.contains("ipxe.lkrn"), "{}", run.stderr);
    assert!(run.stderr.contains("on Debian: `apt install ipxe "), "{}", run.stderr);
    assert!(desk.names().is_empty(), "{:?}", desk.names());
}

#[test]
fn a_stick_that_syslinux_can_not_complete_is_not_left_there() {
    let desk = Desk::new();
    desk.put("usr/lib/ipxe/ipxe.lkrn", "iPXE");
    desk.put("usr/lib/syslinux/mbr/mbr.bin", "code");
    let programs = tempfile::tempdir().unwrap();
    program(&programs.path().join("mcopy"), "exit 0");
    program(&programs.path().join("syslinux"), "echo no room >&2; exit 9");
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_walt"));
    command.env("PATH", path).args(["media", "usb", "--out", &desk.image(), "--firmware", desk.firmware()]);
    Run::of(&command.output().unwrap())
        .failed("syslinux can not install itself into the image: exit status: 9 (no room)", &[]);
    assert!(desk.names().is_empty(), "{:?}", desk.names());
}

fn program(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn where_to_write_must_be_said() {
    for arguments in
        [&["sd"][..], &["usb"], &["sd", "--out", "a", "--out-dir", "b"], &["sd", "--model", "a", "--board", "b"]]
    {
        let output = walt(arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

#[test]
fn what_is_half_written_goes_when_the_program_is_ended() {
    let desk = Desk::new();
    // A card is begun, and then the firmware is read: from a pipe that nobody writes to.
    let pipe = desk.firmware.path().join("start4.elf");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child = Command::new(env!("CARGO_BIN_EXE_walt"))
        .args(["media", "sd", "--out", &desk.image(), "--firmware", desk.firmware()])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    while desk.names().is_empty() {
        assert!(begun.elapsed().as_secs() < 20 && child.try_wait().unwrap().is_none(), "no card is begun");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(desk.names(), [""; 0]);
}
