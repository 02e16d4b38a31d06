//! What the path of a request means.

/// Where a file lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One of the server's own: its name below `pxe/`.
    Server(String),
    /// Below `/boot/<model>` of the node's image: a relative path without `.` and `..`.
    Image(Vec<u8>),
}

/// The place of a TFTP path: `/<path>` is below `/boot/<model>`, `pxe/<name>` is the server's.
pub fn place_of_tftp(path: &[u8]) -> Place {
    place(&components(path))
}

/// The place of an HTTP path, already percent-decoded: `/boot/<path>` is what `<path>` is to TFTP.
///
/// A script that was loaded from `/boot/start.ipxe` may name `/kernel` and mean what TFTP means by it:
/// without the prefix the rest counts just the same.
pub fn place_of_http(path: &[u8]) -> Place {
    let components = components(path);
    match components.as_slice() {
        [b"boot", rest @ ..] if !rest.is_empty() && !is_old_name(&components) => place(rest),
        all => place(all),
    }
}

fn place(components: &[&[u8]]) -> Place {
    match components {
        [b"pxe", name] => Place::Server(String::from_utf8_lossy(name).into_owned()),
        // Bootloaders on SD cards ask for the second stage by these names.
        [b"boot", name] if is_old_uboot_name(name) => Place::Image(b"start.uboot".to_vec()),
        [b"boot", b"pc-x86-64.ipxe" | b"pc-x86-32.ipxe"] => Place::Image(b"start.ipxe".to_vec()),
        other => Place::Image(other.join(&b'/')),
    }
}

fn is_old_name(components: &[&[u8]]) -> bool {
    place(components) != Place::Image(components.join(&b'/'))
}

fn is_old_uboot_name(name: &[u8]) -> bool {
    name.starts_with(b"rpi-") && name.ends_with(b".uboot")
}

/// The parts of `path`, `.` and `..` resolved as text. As in a chroot, `..` at the top stays there.
fn components(path: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(path: &str) -> Place {
        Place::Image(path.as_bytes().to_vec())
    }

    #[test]
    fn tftp_paths() {
        for (path, expected) in [
            ("kernel", image("kernel")),
            ("/kernel", image("kernel")),
            ("///dtbs//rpi.dtb", image("dtbs/rpi.dtb")),
            ("./a/./b", image("a/b")),
            ("a/../b", image("b")),
            ("../../etc/shadow", image("etc/shadow")),
            ("/..", image("")),
            ("a/../../../b/..", image("")),
            ("...", image("...")),
            ("start.ipxe", image("start.ipxe")),
            ("boot/pc-x86-64.ipxe", image("start.ipxe")),
            ("/boot/pc-x86-32.ipxe", image("start.ipxe")),
            ("boot/rpi-3-b-plus.uboot", image("start.uboot")),
            ("boot/rpi-3-b.dtb", image("boot/rpi-3-b.dtb")),
            ("boot/kernel", image("boot/kernel")),
            ("pxe/undionly.kpxe", Place::Server("undionly.kpxe".into())),
            ("/pxe/../pxe/walt.ipxe", Place::Server("walt.ipxe".into())),
            ("pxe/../kernel", image("kernel")),
            ("pxe", image("pxe")),
            ("pxe/sub/dir", image("pxe/sub/dir")),
        ] {
            assert_eq!(place_of_tftp(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn http_paths() {
        for (path, expected) in [
            ("/boot/kernel", image("kernel")),
            ("/boot//start.ipxe", image("start.ipxe")),
            ("/boot/PC Engines", image("PC Engines")),
            ("/boot/../../etc/shadow", image("etc/shadow")),
            ("/boot/pc-x86-64.ipxe", image("start.ipxe")),
            ("/boot/boot/rpi-4-b.uboot", image("start.uboot")),
            ("/boot/pxe/snponly.efi", Place::Server("snponly.efi".into())),
            ("/pxe/snponly.efi", Place::Server("snponly.efi".into())),
            ("/kernel", image("kernel")),
            ("/boot", image("boot")),
            ("/", image("")),
        ] {
            assert_eq!(place_of_http(path.as_bytes()), expected, "{path}");
        }
    }
}
