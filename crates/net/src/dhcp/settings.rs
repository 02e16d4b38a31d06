//! What the administrator decides.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::MacAddr;

/// Settings of the DHCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Our own address on the interface: server identifier (54), next server, NTP server (42).
    pub server: Ipv4Addr,
    /// The subnet of the interface.
    pub subnet: Subnet,
    /// Subnets behind relay agents.
    pub relayed: Vec<Subnet>,
    /// Option 6; empty means `server`.
    pub dns: Vec<Ipv4Addr>,
    /// Option 15; not sent if absent.
    pub domain: Option<String>,
    /// Option 51, whole seconds. The lease itself is permanent: this is how often a client asks again.
    pub lease_time: Duration,
    /// Refuse (DHCPNAK) what a client asks for and we know nothing of. Right where we are the only server.
    pub authoritative: bool,
    /// What UEFI PXE clients load.
    pub uefi_loader: UefiLoader,
    /// How long an offered address is kept for the client that has not asked for it yet.
    pub offer_time: Duration,
    /// How long an address stays unused after a client declined it or somebody else answered for it.
    pub quarantine_time: Duration,
}

impl Settings {
    /// Defaults: authoritative, leases of a day, offers kept for a minute, quarantine of ten minutes.
    pub fn new(server: Ipv4Addr, subnet: Subnet) -> Self {
        Self {
            server,
            subnet,
            relayed: Vec::new(),
            dns: Vec::new(),
            domain: None,
            lease_time: Duration::from_secs(86_400),
            authoritative: true,
            uefi_loader: UefiLoader::SnpOnly,
            offer_time: Duration::from_secs(60),
            quarantine_time: Duration::from_secs(600),
        }
    }

    /// The subnet that holds `link`, the address of a relay agent or the client's own; ours if unspecified.
    pub fn subnet_of(&self, link: Ipv4Addr) -> Option<&Subnet> {
        if link.is_unspecified() {
            return Some(&self.subnet);
        }
        std::iter::once(&self.subnet).chain(&self.relayed).find(|subnet| subnet.contains(link))
    }
}

/// Which of iPXE's UEFI builds a UEFI PXE client loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UefiLoader {
    /// `snponly.efi`: drives the card through the firmware it was loaded by. Works wherever PXE worked.
    #[default]
    SnpOnly,
    /// `ipxe.efi`: brings its own drivers, for firmware whose network stack is broken.
    Ipxe,
}

impl UefiLoader {
    /// Name of the file, as Debian's `ipxe` package has it.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::SnpOnly => "snponly.efi",
            Self::Ipxe => "ipxe.efi",
        }
    }
}

/// One IPv4 subnet and the addresses in it that we give away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    network: u32,
    prefix: u8,
    first: u32,
    last: u32,
    excluded: Vec<Ipv4Addr>,
    /// Option 3; not sent if absent.
    pub gateway: Option<Ipv4Addr>,
}

/// A subnet or its range makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// Below /8 or above /30: no room for a server and a client, or a mistake.
    #[error("prefix length {0} is not between 8 and 30")]
    Prefix(u8),
    /// The range leaves the subnet, or ends before it begins.
    #[error("range {first}-{last} is not within {network}/{prefix}")]
    Range {
        /// First address of the range.
        first: Ipv4Addr,
        /// Last address of the range.
        last: Ipv4Addr,
        /// Network address.
        network: Ipv4Addr,
        /// Prefix length.
        prefix: u8,
    },
}

impl Subnet {
    /// The subnet around `address`, all its host addresses for clients, save `address` itself.
    ///
    /// # Errors
    /// The prefix length is not between 8 and 30.
    pub fn around(address: Ipv4Addr, prefix: u8) -> Result<Self, SubnetError> {
        if !(8..=30).contains(&prefix) {
            return Err(SubnetError::Prefix(prefix));
        }
        let host_bits = u32::MAX >> prefix;
        let network = u32::from(address) & !host_bits;
        let (first, last) = (network + 1, (network | host_bits) - 1);
        Ok(Self { network, prefix, first, last, excluded: vec![address], gateway: None })
    }

    /// Only `first` to `last` (both included) for clients.
    ///
    /// # Errors
    /// The range is not within the subnet's host addresses.
    pub fn with_range(mut self, first: Ipv4Addr, last: Ipv4Addr) -> Result<Self, SubnetError> {
        let (low, high) = (u32::from(first), u32::from(last));
        if low < self.first || high > self.last || low > high {
            return Err(SubnetError::Range { first, last, network: self.network.into(), prefix: self.prefix });
        }
        (self.first, self.last) = (low, high);
        Ok(self)
    }

    /// With a default gateway (option 3), whose address no client gets.
    #[must_use]
    pub fn with_gateway(mut self, gateway: Ipv4Addr) -> Self {
        self.gateway = Some(gateway);
        self.without(gateway)
    }

    /// `address` is never given to a client.
    #[must_use]
    pub fn without(mut self, address: Ipv4Addr) -> Self {
        self.excluded.push(address);
        self
    }

    /// Option 1.
    pub fn mask(&self) -> Ipv4Addr {
        (!(u32::MAX >> self.prefix)).into()
    }

    /// Option 28.
    pub fn broadcast(&self) -> Ipv4Addr {
        (self.network | (u32::MAX >> self.prefix)).into()
    }

    /// The address is one of this subnet.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & !(u32::MAX >> self.prefix) == self.network
    }

    /// A client may have this address: a lease from before the range was made smaller stays good.
    pub fn admits(&self, address: Ipv4Addr) -> bool {
        self.contains(address)
            && u32::from(address) != self.network
            && address != self.broadcast()
            && !self.excluded.contains(&address)
    }

    /// The address is one that we give to new clients.
    pub fn in_pool(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address.into()) && self.admits(address)
    }

    /// Every address of the pool once, in the order in which `mac` is given one: it begins at a place that the MAC alone
    /// decides, so that a client gets the same address again from a server that lost its memory.
    pub fn candidates(&self, mac: MacAddr) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let size = u64::from(self.last - self.first) + 1;
        let start = ((u128::from(spread(mac)) * u128::from(size)) >> 64) as u64;
        (0..size)
            .map(move |step| Ipv4Addr::from(self.first + ((start + step) % size) as u32))
            .filter(|address| self.admits(*address))
    }
}

/// The finaliser of SplitMix64 over the 48 bits: neighbouring MACs must not get neighbouring places, or linear probing
/// degrades. It may never change: see [`Subnet::candidates`].
fn spread(mac: MacAddr) -> u64 {
    let mut x = mac.0.iter().fold(0u64, |x, byte| (x << 8) | u64::from(*byte)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
