//! A network interface: its index, hardware address and IPv4 addresses.

use std::ffi::CStr;
use std::io;
use std::net::Ipv4Addr;

/// One Ethernet-like interface, as it was when [`Interface::by_name`] looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name, as the kernel spells it.
    pub name: String,
    /// Kernel index, as `if_nametoindex` gives it.
    pub index: u32,
    /// Hardware address.
    pub mac: [u8; 6],
    /// IPv4 addresses in the kernel's order (primary first), each with its prefix length (0 to 32).
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
}

/// An interface can't be used.
#[derive(Debug)]
pub enum InterfaceError {
    /// The kernel did not list its interfaces.
    List(io::Error),
    /// There is none of this name.
    NotFound {
        /// Name asked for.
        name: String,
        /// Names there are.
        known: Vec<String>,
    },
    /// It has no six-byte hardware address (a tunnel, a serial line).
    NoHardwareAddress(String),
}

impl std::fmt::Display for InterfaceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::List(_) => write!(f, "list network interfaces"),
            Self::NotFound { name, known } => {
                write!(f, "no network interface {name:?} (there are: {})", known.join(", "))
            }
            Self::NoHardwareAddress(name) => write!(f, "network interface {name:?} has no Ethernet address"),
        }
    }
}

impl std::error::Error for InterfaceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::List(cause) => Some(cause),
            _ => None,
        }
    }
}

impl Interface {
    /// Looks up `name` in the caller's network namespace.
    ///
    /// # Errors
    /// The interface does not exist, has no Ethernet address, or the kernel gave no list.
    pub fn by_name(name: &str) -> Result<Self, InterfaceError> {
        let records = records().map_err(InterfaceError::List)?;
        let mut index_and_mac = None;
        let mut found = false;
        let mut up = false;
        let mut addresses = Vec::new();
        // An address label such as `eth0:1` belongs to `eth0`; the kernel lists it under the label.
        for record in records.iter().filter(|r| r.name.split(':').next() == Some(name)) {
            found = true;
            up |= record.up;
            match record.address {
                Address::Link { index, mac } => index_and_mac = Some((index, mac)),
                Address::Ipv4 { address, prefix } => addresses.push((address, prefix)),
                Address::Other => {}
            }
        }
        if !found {
            let mut known: Vec<String> = records.into_iter().map(|record| record.name).collect();
            known.sort();
            known.dedup();
            return Err(InterfaceError::NotFound { name: name.to_owned(), known });
        }
        match index_and_mac {
            Some((index, Some(mac))) => Ok(Self { name: name.to_owned(), index, mac, addresses, up }),
            _ => Err(InterfaceError::NoHardwareAddress(name.to_owned())),
        }
    }
}

impl Interface {
    /// All Ethernet-like interfaces of the caller's network namespace, without their IPv4 addresses.
    ///
    /// # Errors
    /// The kernel gave no list.
    pub fn all() -> Result<Vec<Self>, InterfaceError> {
        let records = records().map_err(InterfaceError::List)?;
        let ethernet = records.into_iter().filter_map(|record| match record.address {
            // The loopback has an address of zeros.
            Address::Link { index, mac: Some(mac) } if mac != [0; 6] => {
                Some(Self { name: record.name, index, mac, addresses: Vec::new(), up: record.up })
            }
            _ => None,
        });
        Ok(ethernet.collect())
    }
}

struct Record {
    name: String,
    up: bool,
    address: Address,
}

enum Address {
    Link { index: u32, mac: Option<[u8; 6]> },
    Ipv4 { address: Ipv4Addr, prefix: u8 },
    Other,
}

/// getifaddrs(3), copied out of the C library's list.
fn records() -> io::Result<Vec<Record>> {
    let mut head: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `head` is a valid place for one pointer; on success the library owns the list behind it until freeifaddrs.
    if unsafe { libc::getifaddrs(&raw mut head) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut records = Vec::new();
    let mut next = head;
    while !next.is_null() {
        // SAFETY: `next` is a non-null element of the list that getifaddrs returned and that is freed only below.
        let entry = unsafe { &*next };
        // SAFETY: `ifa_name` of each element is a NUL-terminated string that lives as long as the list.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
        // SAFETY: getifaddrs makes `ifa_addr` and `ifa_netmask` null or pointers to a sockaddr of the family they name.
        let address = unsafe { address(entry.ifa_addr, entry.ifa_netmask) };
        records.push(Record { name, up: entry.ifa_flags & libc::IFF_UP as u32 != 0, address });
        next = entry.ifa_next;
    }
    // SAFETY: `head` came from a successful getifaddrs and nothing borrowed from the list is alive.
    unsafe { libc::freeifaddrs(head) };
    Ok(records)
}

/// # Safety
/// Each pointer is null or points to a socket address as large as its own `sa_family` says.
unsafe fn address(address: *const libc::sockaddr, netmask: *const libc::sockaddr) -> Address {
    if address.is_null() {
        return Address::Other;
    }
    // SAFETY: non-null, and every socket address starts with `sa_family`.
    match i32::from(unsafe { (*address).sa_family }) {
        libc::AF_PACKET => {
            // SAFETY: the family says that this is a sockaddr_ll; it is read unaligned, by value.
            let link = unsafe { address.cast::<libc::sockaddr_ll>().read_unaligned() };
            let mac = (link.sll_halen == 6).then(|| {
                let [a, b, c, d, e, f, ..] = link.sll_addr;
                [a, b, c, d, e, f]
            });
            Address::Link { index: u32::try_from(link.sll_ifindex).unwrap_or(0), mac }
        }
        libc::AF_INET => {
            // SAFETY: the family says that this is a sockaddr_in; it is read unaligned, by value.
            let inet = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            let mask = if netmask.is_null() {
                u32::MAX
            } else {
                // SAFETY: the netmask of an AF_INET element has the same layout as its address.
                u32::from_be(unsafe { netmask.cast::<libc::sockaddr_in>().read_unaligned() }.sin_addr.s_addr)
            };
            let address = Ipv4Addr::from(u32::from_be(inet.sin_addr.s_addr));
            Address::Ipv4 { address, prefix: mask.leading_ones() as u8 }
        }
        _ => Address::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_address_and_prefix() {
        let lo = Interface::by_name("lo").unwrap();
        assert_eq!(lo.index, 1);
        assert_eq!(lo.mac, [0; 6]);
        assert!(lo.addresses.contains(&(Ipv4Addr::LOCALHOST, 8)), "{lo:?}");
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = Interface::by_name("no-such-if").unwrap_err();
        assert!(
            matches!(&error, InterfaceError::NotFound { known, .. } if known.contains(&"lo".to_owned())),
            "{error}"
        );
    }
}
