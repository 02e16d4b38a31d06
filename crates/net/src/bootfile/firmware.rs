//! The firmware that Raspberry Pi boards load when they boot by themselves.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::BootFile;

/// Most files. A card with all device trees and overlays has about 400.
const MAX_FILES: usize = 2048;
/// Most bytes of all files together, which are kept in memory. A card has about 30 MB.
const MAX_BYTES: u64 = 128 << 20;
/// The one directory that a firmware looks into (config_txt.adoc, "overlay_prefix").
const OVERLAYS: &str = "overlays";
/// Where U-Boot as Debian builds it looks for its script on the network (`boot_script_dhcp`), and what the script is
/// called on a card.
const SCRIPT_NAMES: (&str, &str) = ("boot.scr.uimg", "boot.scr");

/// The files of one directory, in memory: what a card for these boards has on it.
#[derive(Debug)]
pub struct Firmware {
    files: HashMap<String, BootFile>,
}

/// Why the firmware could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// A directory cannot be listed.
    #[error("cannot list the Raspberry Pi firmware directory {}", directory.display())]
    List {
        /// The directory.
        directory: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read the Raspberry Pi firmware file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// More than any card has.
    #[error(
        "{} holds more than {MAX_FILES} files or {MAX_BYTES} bytes: is this what `walt media sd --out-dir` wrote?",
        .0.display()
    )]
    TooLarge(PathBuf),
}

impl Firmware {
    /// Reads the files of `directory` and of `overlays` in it; `None` if there is no such directory.
    ///
    /// Symlinks are followed: the directory is the administrator's.
    ///
    /// # Errors
    /// Something in it cannot be read, or there is too much of it.
    pub fn load(directory: &Path) -> Result<Option<Self>, FirmwareError> {
        let mut files = HashMap::new();
        let mut room = MAX_BYTES;
        for (below, prefix) in
            [(directory.to_owned(), String::new()), (directory.join(OVERLAYS), format!("{OVERLAYS}/"))]
        {
            let entries = match fs::read_dir(&below) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound && prefix.is_empty() => return Ok(None),
                // No overlays, or something else of that name.
                Err(error)
                    if !prefix.is_empty()
                        && [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) =>
                {
                    continue;
                }
                Err(source) => return Err(FirmwareError::List { directory: below, source }),
            };
            for entry in entries {
                let path = entry.map_err(|source| FirmwareError::List { directory: below.clone(), source })?.path();
                let read = |source| FirmwareError::Read { path: path.clone(), source };
                // What is no file, or has a name that no firmware asks for, is none of our business.
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
                match fs::metadata(&path) {
                    Ok(found) if found.is_file() && !name.starts_with('.') => {}
                    Ok(_) => continue,
                    // A link to nowhere, or a file that has just been replaced.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(read(error)),
                }
                let bytes = read_at_most(&path, room).map_err(read)?;
                if bytes.len() as u64 > room || files.len() == MAX_FILES {
                    return Err(FirmwareError::TooLarge(directory.to_owned()));
                }
                room -= bytes.len() as u64;
                files.insert(format!("{prefix}{name}"), BootFile::from_bytes(bytes));
            }
        }
        Ok(Some(Self { files }))
    }

    /// The file that a board asks for by this path, which has no prefix any more.
    pub fn get(&self, path: &[u8]) -> Option<BootFile> {
        let path = std::str::from_utf8(path).ok()?;
        let (asked, called) = SCRIPT_NAMES;
        self.files.get(path).or_else(|| self.files.get(called).filter(|_| path == asked)).cloned()
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether the directory has no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// `path` without the directory of the board's own in which a firmware looks first: its serial number, or its MAC
/// address if it was told so (eeprom-bootloader.adoc, "TFTP_PREFIX"; boot-net.adoc for the models before).
pub(super) fn without_board(path: &[u8]) -> &[u8] {
    let Some(slash) = path.iter().position(|byte| *byte == b'/') else { return path };
    let (directory, rest) = (&path[..slash], &path[slash + 1..]);
    let is_serial = directory.len() == 8 && directory.iter().all(u8::is_ascii_hexdigit);
    if is_serial || is_dashed_mac(directory) { rest } else { path }
}

fn is_dashed_mac(text: &[u8]) -> bool {
    let byte = |at: usize, byte: &u8| if at % 3 == 2 { *byte == b'-' } else { byte.is_ascii_hexdigit() };
    text.len() == 17 && text.iter().enumerate().all(|(at, b)| byte(at, b))
}

fn read_at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_board_is_taken_off() {
        for (path, rest) in [
            ("d9780558/start4.elf", "start4.elf"),
            ("9ffefdef/overlays/vc4-kms-v3d.dtbo", "overlays/vc4-kms-v3d.dtbo"),
            ("dc-a6-32-01-36-c2/config.txt", "config.txt"),
            ("DC-A6-32-01-36-C2/config.txt", "config.txt"),
            ("bootcode.bin", "bootcode.bin"),
            ("overlays/disable-bt.dtbo", "overlays/disable-bt.dtbo"),
            ("d978055/start4.elf", "d978055/start4.elf"),
            ("d97805588/start4.elf", "d97805588/start4.elf"),
            ("g9780558/start4.elf", "g9780558/start4.elf"),
            ("dc:a6:32:01:36:c2/config.txt", "dc:a6:32:01:36:c2/config.txt"),
            ("d9780558", "d9780558"),
            ("d9780558/d9780558/start4.elf", "d9780558/start4.elf"),
        ] {
            assert_eq!(without_board(path.as_bytes()), rest.as_bytes(), "{path}");
        }
    }

    #[test]
    fn a_directory_and_its_overlays_are_read_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("rpi-firmware");
        assert!(Firmware::load(&directory).unwrap().is_none());
        fs::create_dir_all(directory.join("overlays/deep")).unwrap();
        fs::create_dir_all(directory.join("EFI")).unwrap();
        fs::write(root.path().join("secret"), "no").unwrap();
        for (name, content) in [
            ("config.txt", "arm_64bit=1\n"),
            ("boot.scr", "script"),
            ("overlays/disable-bt.dtbo", "dtbo"),
            ("overlays/deep/x", "no"),
            ("EFI/x", "no"),
        ] {
            fs::write(directory.join(name), content).unwrap();
        }
        let firmware = Firmware::load(&directory).unwrap().unwrap();
        assert_eq!(firmware.len(), 3);
        for (path, size) in [
            ("config.txt", Some(12)),
            ("overlays/disable-bt.dtbo", Some(4)),
            ("boot.scr", Some(6)),
            ("boot.scr.uimg", Some(6)),
            ("overlays", None),
            ("overlays/deep/x", None),
            ("EFI/x", None),
            ("../secret", None),
            ("overlays/../config.txt", None),
            ("start.uboot", None),
            ("", None),
        ] {
            assert_eq!(firmware.get(path.as_bytes()).map(|file| file.size()), size, "{path}");
        }
        File::create(directory.join("kernel8.img")).unwrap().set_len(MAX_BYTES).unwrap();
        assert!(matches!(Firmware::load(&directory), Err(FirmwareError::TooLarge(_))));
    }
}
