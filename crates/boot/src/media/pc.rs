//! The USB stick for PCs that can not boot over the network by themselves: iPXE, by BIOS and by UEFI.
//!
//! iPXE, SYSLINUX and GRUB are other people's, and are taken from where their packages put them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::File;
use super::disk::{BOOT_CODE, PARTITION_START};
use crate::FIRST_STAGE;

/// A stick, and what starts it.
#[derive(Debug)]
pub struct Stick {
    /// What belongs on it.
    pub files: Vec<File>,
    /// What a BIOS runs of the master boot record; none if the stick does not start by BIOS.
    pub boot_code: Option<Vec<u8>>,
    /// Whether it starts by UEFI.
    pub uefi: bool,
    /// What it can not do for want of a package.
    pub missing: Vec<Missing>,
}

/// Something that a stick should have and that was not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What the stick lacks for it.
    pub consequence: &'static str,
    /// What was not found.
    pub what: &'static str,
    /// Debian's package that has it.
    pub package: &'static str,
}

const NO_BIOS: &str = "it does not start by BIOS";
const NO_UEFI: &str = "it does not start by UEFI";
const NO_RETRY: &str = "started by UEFI, it does not try again when the network fails";

/// A stick can't be made.
#[derive(Debug, thiserror::Error)]
pub enum StickError {
    /// It would start by nothing.
    #[error("nothing in {root:?} starts a PC: {} missing", list(.missing))]
    Nothing {
        /// Where was looked.
        root: PathBuf,
        /// What is missing.
        missing: Vec<Missing>,
    },
    /// A file that is there can not be read.
    #[error("can not read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// SYSLINUX' code does not fit.
    #[error("{0:?} is no code for a master boot record: it has more than 440 bytes")]
    BootCode(PathBuf),
    /// The program `syslinux` does not start.
    #[error("can not start syslinux")]
    Start(#[source] io::Error),
    /// The program `syslinux` has failed.
    #[error("syslinux can not install itself into the image: {0}")]
    Install(String),
}

fn list(missing: &[Missing]) -> String {
    let names: Vec<_> = missing.iter().map(|piece| piece.what).collect();
    match names.len() {
        1 => format!("{} is", names[0]),
        _ => format!("{} are", names.join(", ")),
    }
}

/// The packages that `missing` is in, each once.
pub fn packages(missing: &[Missing]) -> Vec<&'static str> {
    let mut packages: Vec<_> = missing.iter().map(|piece| piece.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Where distributions have them, Debian first.
const IPXE_BIOS: [&str; 3] = ["usr/lib/ipxe/ipxe.lkrn", "boot/ipxe.lkrn", "usr/share/ipxe/ipxe.lkrn"];
const IPXE_UEFI: [&str; 4] =
    ["usr/lib/ipxe/ipxe.efi", "boot/ipxe.efi", "usr/share/ipxe/ipxe-x86_64.efi", "usr/share/ipxe/x86_64/ipxe.efi"];
const BOOT_RECORD: [&str; 3] =
    ["usr/lib/syslinux/mbr/mbr.bin", "usr/share/syslinux/mbr.bin", "usr/lib/syslinux/bios/mbr.bin"];
const GRUB: [&str; 1] = ["usr/lib/grub/x86_64-efi/monolithic/grubx64.efi"];

/// The first stage's name on the stick. An iPXE with UEFI looks for it by itself since 2021, beside itself or in the
/// root of the file system (`interface/efi/efi_autoexec.c`).
const SCRIPT: &str = "autoexec.ipxe";

/// SYSLINUX' configuration: iPXE takes an initrd for its script.
const SYSLINUX_CFG: &str = "\
# Written by `walt media usb`.
DEFAULT walt
LABEL walt
LINUX /ipxe.krn
INITRD /autoexec.ipxe
";

/// GRUB's configuration, where Debian's GRUB looks for it, for an iPXE that is older than its own script: it asks DHCP
/// for one, and the server sends the same first stage. It comes back when it fails, and then the PC tries again.
const GRUB_CFG: &str = "\
# Written by `walt media usb`.
echo 'WalT: starting iPXE'
chainloader /EFI/BOOT/ipxe.efi
boot
echo 'WalT: iPXE has failed, rebooting in 5 seconds'
sleep 5
reboot
";

impl Stick {
    /// Puts together what is below `root`, which is `/` or where packages were unpacked. The programs syslinux and mcopy
    /// are looked for in `path`, the value of `PATH`.
    ///
    /// # Errors
    /// When the stick would start nothing, or a file can't be read.
    pub fn find(root: &Path, path: &str) -> Result<Self, StickError> {
        let mut missing = Vec::new();
        let mut files = vec![File::new(SCRIPT, FIRST_STAGE)];
        let boot_code = bios(root, path, &mut files, &mut missing)?;
        let uefi = uefi(root, &mut files, &mut missing)?;
        if boot_code.is_none() && !uefi {
            return Err(StickError::Nothing { root: root.to_owned(), missing });
        }
        Ok(Self { files, boot_code, uefi, missing })
    }

    /// Makes the disk image in the file `image` start by BIOS: SYSLINUX writes itself into its partition.
    ///
    /// # Errors
    /// When the program `syslinux` fails.
    pub fn install(&self, image: &Path) -> Result<(), StickError> {
        if self.boot_code.is_none() {
            return Ok(());
        }
        let mut command = Command::new("syslinux");
        command.args(["--install", "--offset", &PARTITION_START.to_string()]).arg(image);
        // mtools give files this time, so that the same input makes the same stick.
        command.env("SOURCE_DATE_EPOCH", "315532800");
        let output = command.output().map_err(StickError::Start)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        Err(StickError::Install(format!("{} ({said})", output.status)))
    }
}

fn bios(
    root: &Path,
    path: &str,
    files: &mut Vec<File>,
    missing: &mut Vec<Missing>,
) -> Result<Option<Vec<u8>>, StickError> {
    let before = missing.len();
    let mut lacks = |what, package| missing.push(Missing { consequence: NO_BIOS, what, package });
    let ipxe = first(root, &IPXE_BIOS)?;
    let record = first(root, &BOOT_RECORD)?;
    if ipxe.is_none() {
        lacks("ipxe.lkrn", "ipxe");
    }
    if record.is_none() {
        lacks("mbr.bin", "syslinux-common");
    }
    // syslinux writes into the FAT by mtools.
    for (program, package) in [("syslinux", "syslinux"), ("mcopy", "mtools")] {
        if !std::env::split_paths(path).any(|directory| directory.join(program).is_file()) {
            lacks(program, package);
        }
    }
    let (Some((_, ipxe)), Some((record_path, record)), true) = (ipxe, record, missing.len() == before) else {
        return Ok(None);
    };
    if record.len() > BOOT_CODE {
        return Err(StickError::BootCode(record_path));
    }
    files.push(File::new("ipxe.krn", ipxe));
    files.push(File::new("syslinux.cfg", SYSLINUX_CFG));
    Ok(Some(record))
}

fn uefi(root: &Path, files: &mut Vec<File>, missing: &mut Vec<Missing>) -> Result<bool, StickError> {
    let Some((_, ipxe)) = first(root, &IPXE_UEFI)? else {
        missing.push(Missing { consequence: NO_UEFI, what: "ipxe.efi", package: "ipxe" });
        return Ok(false);
    };
    if runs_script(&ipxe) {
        files.push(File::new(&format!("EFI/BOOT/{SCRIPT}"), FIRST_STAGE));
        files.push(File::new("EFI/BOOT/BOOTX64.EFI", ipxe));
        return Ok(true);
    }
    match first(root, &GRUB)? {
        Some((_, grub)) => {
            files.push(File::new("EFI/BOOT/BOOTX64.EFI", grub));
            files.push(File::new("EFI/BOOT/ipxe.efi", ipxe));
            files.push(File::new("EFI/debian/grub.cfg", GRUB_CFG));
        }
        None => {
            let what = "a GRUB to start this old iPXE again";
            missing.push(Missing { consequence: NO_RETRY, what, package: "grub-efi-amd64-bin" });
            files.push(File::new("EFI/BOOT/BOOTX64.EFI", ipxe));
        }
    }
    Ok(true)
}

/// Whether this iPXE looks for a script beside itself: the name is in it, in 8 or 16 bits a letter.
fn runs_script(ipxe: &[u8]) -> bool {
    let wide: Vec<u8> = SCRIPT.bytes().flat_map(|byte| [byte, 0]).collect();
    [SCRIPT.as_bytes(), &wide].iter().any(|name| ipxe.windows(name.len()).any(|window| window == *name))
}

fn first(root: &Path, places: &[&str]) -> Result<Option<(PathBuf, Vec<u8>)>, StickError> {
    for place in places {
        let path = root.join(place);
        match fs::read(&path) {
            Ok(content) => return Ok(Some((path, content))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(source) => return Err(StickError::Read { path, source }),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    /// Two programs, as a PATH.
    fn programs(root: &Path) -> String {
        let directory = root.join("bin");
        fs::create_dir_all(&directory).unwrap();
        for program in ["syslinux", "mcopy"] {
            fs::write(directory.join(program), "").unwrap();
        }
        directory.to_str().unwrap().to_owned()
    }

    fn paths(stick: &Stick) -> Vec<&str> {
        stick.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn one_stick_starts_by_both() {
        let root = root(&[
            ("usr/lib/ipxe/ipxe.lkrn", b"bios"),
            ("usr/lib/ipxe/ipxe.efi", b"..a\0u\0t\0o\0e\0x\0e\0c\0.\0i\0p\0x\0e\0.."),
            ("usr/lib/syslinux/mbr/mbr.bin", &[7; 440]),
        ]);
        let stick = Stick::find(root.path(), &programs(root.path())).unwrap();
        assert!(stick.missing.is_empty() && stick.uefi);
        assert_eq!(stick.boot_code.as_deref(), Some([7; 440].as_slice()));
        let expected = ["autoexec.ipxe", "ipxe.krn", "syslinux.cfg", "EFI/BOOT/autoexec.ipxe", "EFI/BOOT/BOOTX64.EFI"];
        assert_eq!(paths(&stick), expected);
    }

    #[test]
    fn an_ipxe_without_scripts_is_started_by_grub() {
        let efi: [(&str, &[u8]); 2] = [("usr/lib/ipxe/ipxe.efi", b"old"), (GRUB[0], b"grub")];
        let with_grub = root(&efi);
        let stick = Stick::find(with_grub.path(), "").unwrap();
        assert_eq!(
            paths(&stick),
            ["autoexec.ipxe", "EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/ipxe.efi", "EFI/debian/grub.cfg"]
        );
        assert_eq!(stick.files[1].content, b"grub");
        assert_eq!(packages(&stick.missing), ["ipxe", "mtools", "syslinux", "syslinux-common"]);
        assert!(stick.missing.iter().all(|piece| piece.consequence == NO_BIOS));

        let without = root(&efi[..1]);
        let stick = Stick::find(without.path(), "").unwrap();
        assert_eq!(paths(&stick), ["autoexec.ipxe", "EFI/BOOT/BOOTX64.EFI"]);
        assert!(stick.missing.iter().any(|piece| piece.consequence == NO_RETRY));
    }

    #[test]
    fn a_stick_that_starts_nothing_is_none() {
        let root = root(&[]);
        let error = Stick::find(root.path(), &programs(root.path())).unwrap_err();
        assert!(error.to_string().ends_with("ipxe.lkrn, mbr.bin, ipxe.efi are missing"), "{error}");
    }

    #[test]
    fn code_that_is_too_long_is_refused() {
        let root = root(&[("usr/lib/ipxe/ipxe.lkrn", b"bios"), ("usr/lib/syslinux/mbr/mbr.bin", &[7; 441])]);
        let error = Stick::find(root.path(), &programs(root.path())).unwrap_err();
        assert!(matches!(error, StickError::BootCode(_)), "{error}");
    }
}
