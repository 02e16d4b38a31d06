//! The devices of this machine, as the kernel names them to modules.

use std::fs;
use std::path::Path;

/// Buses whose devices bring an Ethernet interface.
const BUSES: [&str; 4] = ["pci", "virtio", "usb", "platform"];

/// What the machine's devices are called.
pub(super) struct Devices(Vec<String>);

impl Devices {
    /// Looks at the buses.
    pub(super) fn find() -> Self {
        let names = BUSES.iter().flat_map(|bus| {
            let devices = fs::read_dir(Path::new("/sys/bus").join(bus).join("devices"));
            devices
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|device| fs::read_to_string(device.path().join("modalias")).ok())
        });
        Self(names.map(|name| name.trim().to_owned()).collect())
    }

    /// Whether one of `patterns` (of `modules.alias`) describes one of them.
    pub(super) fn match_any(&self, patterns: &[&str]) -> bool {
        self.0.iter().any(|name| patterns.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes())))
    }
}

/// Shell patterns as in `modules.alias`: `*`, `?` and `[…]`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // Where to go on if what follows the last star does not fit: one byte further in the name.
    let (mut p, mut n, mut star) = (0, 0, None);
    loop {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(_) if n < name.len() => {
                if let Some(length) = one(&pattern[p..], name[n]) {
                    (p, n) = (p + length, n + 1);
                    continue;
                }
            }
            None if n == name.len() => return true,
            _ => {}
        }
        match star {
            Some((after, at)) if at < name.len() => {
                star = Some((after, at + 1));
                (p, n) = (after, at + 1);
            }
            _ => return false,
        }
    }
}

/// Length of the pattern's first item, if it fits `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => {
            let end = pattern.iter().position(|&b| b == b']')?;
            let set = &pattern[1..end];
            let range = |w: &[u8]| w[1] == b'-' && (w[0]..=w[2]).contains(&byte);
            (set.contains(&byte) || set.windows(3).any(range)).then_some(end + 1)
        }
        literal => (*literal == byte).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_patterns() {
        let e1000 = "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00";
        for (pattern, name, expected) in [
            ("pci:v00008086d0000100Esv*sd*bc*sc*i*", e1000, true),
            ("pci:v00008086d0000100Fsv*sd*bc*sc*i*", e1000, false),
            ("pci:v00008086d*sv*sd*bc02sc00i*", e1000, true),
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4", true),
            ("virtio:d00000001v*", "virtio:d00000002v00001AF4", false),
            ("a[0-3]c?", "a2cx", true),
            ("a[0-3]c?", "a4cx", false),
            ("a[bc]", "ac", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("a[", "a[", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
