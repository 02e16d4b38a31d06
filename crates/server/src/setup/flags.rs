//! The command line.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::Parser;

use crate::settings::DEFAULT_CONFIG;

/// Makes this machine a WalT server: asks which interface the nodes are on, looks for what would be in the way, writes
/// the configuration, and starts the service.
///
/// Nothing is changed before it has been shown and agreed to.
#[derive(Debug, Clone, Parser)]
#[command(name = "walt-server-setup", version, after_help = EXAMPLES)]
pub struct Flags {
    /// Interface that the nodes are on
    #[arg(long, value_name = "IFACE")]
    pub interface: Option<String>,
    /// Network of the nodes; the server takes its first address, or the one that is given
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    pub network: Option<Network>,
    /// Make a bridge with the interface as its port, for virtual nodes to be plugged into
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = BRIDGE, conflicts_with = "no_bridge")]
    pub bridge: Option<String>,
    /// Make no bridge
    #[arg(long)]
    pub no_bridge: bool,
    /// Another DHCP server assigns the addresses, and reports its leases with walt-dhcp-event
    #[arg(long)]
    pub external_dhcp: bool,
    /// Ask nothing: take what is proposed
    #[arg(long, short)]
    pub yes: bool,
    /// Only look for what would be in the way; change nothing
    #[arg(long)]
    pub check: bool,
    /// Seconds to listen for another DHCP server
    // Some try an address with a ping before they offer it: dnsmasq takes 3 s for that.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub listen: u64,
    /// Configuration to write
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// Name that is proposed for the bridge.
pub(super) const BRIDGE: &str = "walt-net";

const EXAMPLES: &str = "\
Examples:
  # asks for all it needs
  walt-server-setup

  # is there anything in the way? another DHCP server, a program on one of the ports
  walt-server-setup --check --interface eth1

  # asks nothing
  walt-server-setup --interface eth1 --network 192.168.152.0/24 --bridge --yes";

/// The server's address in the network of the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Address of the server.
    pub address: Ipv4Addr,
    /// Bits of the network part.
    pub prefix: u8,
}

impl Network {
    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// Whether the two have an address in common.
    pub(super) fn overlaps(self, other: Self) -> bool {
        let mask = self.mask() & other.mask();
        self.address.to_bits() & mask == other.address.to_bits() & mask
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected ADDRESS/PREFIX, such as 192.168.152.0/24".to_owned();
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if !(8..=30).contains(&prefix) {
            return Err(format!("a network of nodes has a prefix between 8 and 30, not {prefix}"));
        }
        let network = Self { address, prefix };
        let host = address.to_bits() & !network.mask();
        if host == !network.mask() {
            return Err(format!("{address} is the broadcast address of that network"));
        }
        if address.is_loopback() || address.is_multicast() || address.is_unspecified() || address.is_link_local() {
            return Err(format!("{address} can not be an address of nodes"));
        }
        // The network itself: its first address is the server's.
        Ok(if host == 0 { Self { address: Ipv4Addr::from_bits(address.to_bits() + 1), prefix } } else { network })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Flags::command().debug_assert();
        let flags = Flags::parse_from(["walt-server-setup", "--interface", "eth1", "--bridge", "--yes"]);
        assert_eq!((flags.bridge.as_deref(), flags.yes), (Some("walt-net"), true));
        assert!(Flags::try_parse_from(["walt-server-setup", "--bridge", "--no-bridge"]).is_err());
    }

    #[test]
    fn a_network_is_its_first_address_or_the_given_one() {
        let parsed = |text: &str| text.parse::<Network>().map(|network| network.to_string());
        assert_eq!(parsed("192.168.152.0/24").as_deref(), Ok("192.168.152.1/24"));
        assert_eq!(parsed("192.168.152.9/24").as_deref(), Ok("192.168.152.9/24"));
        assert_eq!(parsed("10.4.0.0/14").as_deref(), Ok("10.4.0.1/14"));
        for wrong in ["192.168.152.0", "192.168.152.255/24", "1.2.3/24", "10.0.0.0/31", "127.0.0.1/8", "224.0.0.1/24"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        let overlap = |a: &str, b: &str| a.parse::<Network>().unwrap().overlaps(b.parse().unwrap());
        assert!(overlap("10.0.0.0/8", "10.7.7.1/24") && overlap("10.7.7.1/24", "10.0.0.0/8"));
        assert!(!overlap("10.7.6.0/24", "10.7.7.1/24"));
    }
}
