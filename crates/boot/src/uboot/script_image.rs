//! U-Boot's legacy image format (include/image.h, `struct legacy_img_hdr`), as `mkimage -T script` writes it.

/// `IH_MAGIC`.
const MAGIC: u32 = 0x2705_1956;
/// `IH_OS_LINUX`: what mkimage writes unless told otherwise.
const OS: u8 = 5;
/// `IH_ARCH_ARM`. U-Boot's `source` does not look at it: the same script runs on 64-bit boards.
const ARCHITECTURE: u8 = 2;
/// `IH_TYPE_SCRIPT`.
const TYPE: u8 = 6;
/// `IH_COMP_NONE`.
const COMPRESSION: u8 = 0;
/// `IH_NMLEN`.
const NAME_LENGTH: usize = 32;

/// A script in the form that U-Boot's `source` takes: the bytes of `mkimage -A arm -T script -C none -n ""`, with the
/// time 0, so that the same script makes the same bytes.
///
/// ```
/// let image = walt_boot::uboot::script_image("echo hello\n");
/// assert!(image.starts_with(&[0x27, 0x05, 0x19, 0x56]));
/// assert!(image.ends_with(b"echo hello\n"));
/// ```
///
/// # Panics
/// For a script of 4 GiB and more.
pub fn script_image(script: &str) -> Vec<u8> {
    let length = u32::try_from(script.len()).expect("a script is smaller than 4 GiB");
    // A script is an image of several parts (image_multi_count): a table of lengths that ends with 0, and the parts.
    let mut data = Vec::with_capacity(8 + script.len());
    data.extend(length.to_be_bytes());
    data.extend(0u32.to_be_bytes());
    data.extend(script.as_bytes());

    let mut header = header(0, &data);
    // The header's sum is taken while its own place is 0.
    let sum = crc32fast::hash(&header);
    header[4..8].copy_from_slice(&sum.to_be_bytes());
    header.extend(data);
    header
}

fn header(sum: u32, data: &[u8]) -> Vec<u8> {
    let (time, load, entry) = (0u32, 0u32, 0u32);
    let mut header = Vec::with_capacity(64);
    for word in [MAGIC, sum, time, data.len() as u32, load, entry, crc32fast::hash(data)] {
        header.extend(word.to_be_bytes());
    }
    header.extend([OS, ARCHITECTURE, TYPE, COMPRESSION]);
    header.extend([0; NAME_LENGTH]);
    header
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// Text, and the bytes that `mkimage` makes of it.
    fn mkimage(script: &str) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let (text, image) = (directory.path().join("text"), directory.path().join("image"));
        fs::write(&text, script).unwrap();
        let status = Command::new("mkimage")
            .args(["-A", "arm", "-T", "script", "-C", "none", "-n", "", "-d"])
            .args([&text, &image])
            .env("SOURCE_DATE_EPOCH", "0")
            .output()
            .expect("mkimage is missing (package u-boot-tools)");
        assert!(status.status.success(), "{status:?}");
        fs::read(image).unwrap()
    }

    #[test]
    fn the_bytes_are_those_of_mkimage() {
        for script in ["echo a\n", "echo ab\n", "no end of line", &super::super::first_stage()] {
            assert_eq!(script_image(script), mkimage(script), "{script}");
        }
    }

    #[test]
    fn dumpimage_reads_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), script_image("echo hello\n")).unwrap();
        let output = Command::new("dumpimage").arg("-l").arg(file.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("ARM Linux Script (uncompressed)"), "{text}");
        assert!(text.contains("11 Bytes"), "{text}");
    }
}
