//! Networks behind DHCP relay agents.

use std::fmt;
use std::net::Ipv4Addr;

use net::dhcp::Subnet;

use super::{SettingsError, value};

const KEY: &str = "dhcp.relays";

/// A relay agent, and with it the network that it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Its address in the network of its nodes (RFC 2131 §2, `giaddr`); it is their router, too.
    pub address: Ipv4Addr,
    /// Bits of the network part.
    pub prefix: u8,
}

impl Relay {
    /// Its network: all other addresses for nodes, itself as their router.
    ///
    /// # Errors
    /// The prefix is no sensible one, or the address is none of a host.
    pub(crate) fn subnet(self) -> Result<Subnet, SettingsError> {
        let Self { address, prefix } = self;
        let subnet = Subnet::around(address, prefix);
        let subnet = subnet.map_err(|cause| value(KEY, format!("{address}/{prefix}: {cause}")))?;
        let host = u32::from(address) & !u32::from(subnet.mask());
        if host == 0 || address == subnet.broadcast() {
            return Err(value(KEY, format!("{address}/{prefix} is not the address of a relay agent in its network")));
        }
        Ok(subnet.with_gateway(address))
    }

    /// Refuses networks of which one holds the other: which one a node is in would be a matter of luck.
    ///
    /// # Errors
    /// They have addresses in common.
    pub(crate) fn check_apart_from(self, other: &Subnet, address: Ipv4Addr) -> Result<(), SettingsError> {
        if other.contains(self.address) || self.subnet()?.contains(address) {
            return Err(value(KEY, format!("the network of {self} and that of {address} have addresses in common")));
        }
        Ok(())
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Reads `ADDRESS/PREFIX` of each relay agent.
pub(super) fn parse(texts: &[String]) -> Result<Vec<Relay>, SettingsError> {
    let mut relays: Vec<Relay> = Vec::new();
    for text in texts {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            Some(Relay { address: address.trim().parse().ok()?, prefix: prefix.trim().parse().ok()? })
        });
        let relay = parsed.ok_or_else(|| value(KEY, format!("{text:?} is not ADDRESS/PREFIX of a relay agent")))?;
        relay.subnet()?;
        for other in &relays {
            relay.check_apart_from(&other.subnet()?, other.address)?;
        }
        relays.push(relay);
    }
    Ok(relays)
}
