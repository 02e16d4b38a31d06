//! File capabilities of an image, which NFSv3 cannot carry.
//!
//! The server writes the file [`CAPABILITY_LIST`] into its own layer; the agent reads it there and
//! sets the attributes again on the union's upper layer. One file a line, the value in hex, the path
//! after it with every byte outside of `!`..`~`, and `%`, written as `%xx`:
//!
//! ```text
//! 0100000200200000000000000000000000000000 /usr/bin/ping
//! ```

use std::fmt;

/// Where the list is in the image; absent or empty if no file has capabilities.
pub const CAPABILITY_LIST: &str = "/bin/_walt_internal_/capabilities";

/// The longest `security.capability` value there is: VFS_CAP_REVISION_3 with its root id
/// (linux/capability.h, `XATTR_CAPS_SZ_3`).
const MAX_VALUE: usize = 24;

/// PATH_MAX of Linux, without its NUL.
const MAX_PATH: usize = 4095;

/// One file with its `security.capability` attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCapability {
    /// Absolute path in the image.
    pub path: Vec<u8>,
    /// Value of the attribute, 1 to 24 bytes, as the kernel stores it.
    pub value: Vec<u8>,
}

/// The line names no file capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// No space between value and path.
    #[error("no path after the value")]
    NoPath,
    /// The value is no hex, empty, or longer than the kernel's longest.
    #[error("the value is not 1 to 24 bytes in hex")]
    BadValue,
    /// The path is relative, too long, badly escaped, contains NUL or a `..`.
    #[error("the path is not a clean absolute path")]
    BadPath,
}

impl FileCapability {
    /// Reads a line (without its newline).
    pub fn parse(line: &str) -> Result<Self, CapabilityError> {
        let (value, path) = line.split_once(' ').ok_or(CapabilityError::NoPath)?;
        if value.len() > 2 * MAX_VALUE || path.len() > 3 * MAX_PATH {
            return Err(CapabilityError::BadValue);
        }
        let value = hex(value.as_bytes()).filter(|v| !v.is_empty()).ok_or(CapabilityError::BadValue)?;
        let path = unescape(path.as_bytes()).ok_or(CapabilityError::BadPath)?;
        let clean = path.first() == Some(&b'/') && path.len() <= MAX_PATH && !path.contains(&0);
        if !clean || path.split(|&b| b == b'/').any(|part| part == b"..") {
            return Err(CapabilityError::BadPath);
        }
        Ok(Self { path, value })
    }
}

impl fmt::Display for FileCapability {
    /// The line to write, without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.value {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(" ")?;
        for &byte in &self.path {
            if byte.is_ascii_graphic() && byte != b'%' {
                write!(f, "{}", byte as char)?
            } else {
                write!(f, "%{byte:02x}")?
            }
        }
        Ok(())
    }
}

fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(hex_byte).collect()
}

fn hex_byte(pair: &[u8]) -> Option<u8> {
    let &[high, low] = pair else { return None };
    let digit = |b: u8| (b as char).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            path.push(hex_byte(rest.get(..2)?)?);
            rest = &rest[2..];
        } else {
            path.push(byte);
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_survives() {
        for path in [&b"/usr/bin/ping"[..], b"/a b/100%\n\xff", b"/"] {
            let one = FileCapability { path: path.to_vec(), value: vec![1, 0, 0, 2, 0, 0x20] };
            let line = one.to_string();
            assert!(line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{line}");
            assert_eq!(FileCapability::parse(&line), Ok(one));
        }
    }

    #[test]
    fn what_could_leave_the_root_or_is_no_value_is_refused() {
        for (line, error) in [
            ("", CapabilityError::NoPath),
            ("01", CapabilityError::NoPath),
            ("0 /x", CapabilityError::BadValue),
            (" /x", CapabilityError::BadValue),
            ("zz /x", CapabilityError::BadValue),
            ("00112233445566778899aabbccddeeff00112233445566778899 /x", CapabilityError::BadValue),
            ("01 x", CapabilityError::BadPath),
            ("01 ", CapabilityError::BadPath),
            ("01 /a/../b", CapabilityError::BadPath),
            ("01 /a/%2e./b", CapabilityError::BadPath),
            ("01 /a%00", CapabilityError::BadPath),
            ("01 /a%4", CapabilityError::BadPath),
        ] {
            assert_eq!(FileCapability::parse(line), Err(error), "{line:?}");
        }
    }
}
