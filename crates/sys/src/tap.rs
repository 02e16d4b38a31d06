//! Network interfaces whose other end is a program (Linux, Documentation/networking/tuntap.rst).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// `TUNSETIFF` of linux/if_tun.h, as on all architectures that we are built for.
const TUNSETIFF: u32 = 0x4004_54ca;

/// Makes an interface that carries Ethernet frames, with the header by which QEMU leaves checksums to others. It is gone
/// when nobody has the file open any more. Needs `CAP_NET_ADMIN`.
///
/// # Errors
/// The name is no name of an interface, or is taken; the kernel has no tun; the caller may not.
pub fn open(name: &str) -> io::Result<OwnedFd> {
    // IFNAMSIZ is 16 with its NUL.
    if name.is_empty() || name.len() > 15 || name.contains(['/', '%', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not the name of an interface")));
    }
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: `ifreq` is plain data, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    // The flags fit in 16 bits: so the kernel has them.
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the descriptor is open, and the request is a whole `ifreq` that lives for the whole call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(file.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none() {
        for name in ["", "a/b", "sixteen-letters-", "x%d", "a\0b"] {
            assert_eq!(open(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }
}
