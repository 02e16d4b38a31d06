//! Scripts in the form that U-Boot's `source` takes.

/// Bytes of the header (U-Boot, include/image.h, `struct legacy_img_hdr`).
const HEADER: usize = 64;
/// `IH_MAGIC`.
const MAGIC: u32 = 0x2705_1956;
/// `IH_OS_LINUX`, which `mkimage` writes unless it is told otherwise.
const OS_LINUX: u8 = 5;
/// `IH_ARCH_ARM`. `source` does not look at it: 64-bit boards run the same script.
const ARCH_ARM: u8 = 2;
/// `IH_TYPE_SCRIPT`.
const TYPE_SCRIPT: u8 = 6;
/// `IH_COMP_NONE`.
const COMPRESSION_NONE: u8 = 0;

/// `script` as a U-Boot script image: what `mkimage -A arm -T script -C none` makes of it, without a name and with the
/// time 0, so that one text is always the same bytes.
///
/// # Panics
/// The script is 4 GiB long or longer.
pub fn script_image(script: &str) -> Vec<u8> {
    let length = u32::try_from(script.len()).expect("a script below 4 GiB");
    // A script is an image of several parts, and the list of their sizes ends with 0 (tools/mkimage.c).
    let data = [&length.to_be_bytes(), &[0; 4], script.as_bytes()].concat();
    let mut image = Vec::with_capacity(HEADER + data.len());
    image.extend(MAGIC.to_be_bytes());
    // Checksum of the header with these bytes as 0.
    image.extend([0; 4]);
    // Time; size; load address; entry point; checksum of the data.
    for word in [0, length + 8, 0, 0, crc32fast::hash(&data)] {
        image.extend(u32::to_be_bytes(word));
    }
    image.extend([OS_LINUX, ARCH_ARM, TYPE_SCRIPT, COMPRESSION_NONE]);
    // No name.
    image.resize(HEADER, 0);
    let checksum = crc32fast::hash(&image);
    image[4..8].copy_from_slice(&checksum.to_be_bytes());
    image.extend(data);
    image
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_mkimage() {
        let directory = std::env::temp_dir().join(format!("walt-script-image-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (source, theirs) = (directory.join("source"), directory.join("theirs"));
        for script in ["x", "echo one\nreset\n", &"echo a line of some length\n".repeat(4000)] {
            fs::write(&source, script).unwrap();
            let mut mkimage = Command::new("mkimage");
            mkimage.args(["-A", "arm", "-T", "script", "-C", "none", "-d"]).arg(&source).arg(&theirs);
            let output = mkimage.env("SOURCE_DATE_EPOCH", "0").output().unwrap();
            assert!(output.status.success(), "{output:?}");
            assert!(script_image(script) == fs::read(&theirs).unwrap(), "{} bytes", script.len());
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
