//! The names that we answer for ourselves.

use std::net::Ipv4Addr;
use std::str::FromStr;

use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record};

use crate::Devices;

/// Names of the server itself; no device has one of them.
const SERVER_NAMES: [&str; 2] = ["walt-server", "server"];
/// Seconds that what we say may be remembered: devices are renamed, and the next question costs next to nothing.
pub(super) const TTL: u32 = 0;

/// A network of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Any address of it.
    pub address: Ipv4Addr,
    /// Bits of the network part, at most 32.
    pub prefix: u8,
}

impl Network {
    /// The address is one of this network.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let host_bits = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
        (u32::from(address) ^ u32::from(self.address)) & !host_bits == 0
    }
}

/// What we answer for.
#[derive(Debug, Clone)]
pub struct Zone {
    domain: Name,
    server: Ipv4Addr,
    networks: Vec<Network>,
}

/// The text is no domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a domain name (expected labels of letters, digits and dashes, such as walt or lab.example.org)")]
pub struct DomainError(String);

/// What there is under a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A machine.
    Address(Ipv4Addr),
    /// The name of the machine with this address.
    Pointer(Name),
    /// The platform's domain itself.
    Apex,
    /// A name of ours without anything of its own.
    Empty,
    /// No name, and it would be one of ours.
    Absent,
    /// Not ours.
    Elsewhere,
}

impl Zone {
    /// Of the server at `server` and the devices in `networks`.
    ///
    /// # Errors
    /// `domain` is no domain name.
    pub fn new(domain: &str, server: Ipv4Addr, networks: Vec<Network>) -> Result<Self, DomainError> {
        let wrong = || DomainError(domain.to_owned());
        let text = domain.strip_suffix('.').unwrap_or(domain);
        // RFC 1123 §2.1.
        let is_label = |label: &str| {
            let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner)
        };
        // A device's name and a dot come before it.
        if text.len() > 253 - 64 || !text.split('.').all(is_label) {
            return Err(wrong());
        }
        let domain = Name::from_str(&format!("{text}.")).map_err(|_| wrong())?;
        Ok(Self { domain: domain.to_lowercase(), server, networks })
    }

    /// Who asks belongs to the platform.
    pub(super) fn serves(&self, client: Ipv4Addr) -> bool {
        self.networks.iter().any(|network| network.contains(client))
    }

    /// The address of the server.
    pub(super) fn server(&self) -> Ipv4Addr {
        self.server
    }

    /// Looks a name up. `for_address`: it is asked for as the name of a machine.
    pub(super) fn find(&self, devices: &Devices, name: &Name, for_address: bool) -> Found {
        let labels: Vec<String> =
            name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
        if *name == self.domain {
            return Found::Apex;
        }
        if self.domain.zone_of(name) {
            let direct = name.num_labels() == self.domain.num_labels() + 1;
            let found = labels.first().filter(|_| direct).and_then(|host| self.host(devices, host));
            return found.map_or(Found::Absent, Found::Address);
        }
        match &labels[..] {
            // RFC 6761 §6.3: no name server but the machine's own has anything to say about it.
            [.., last] if last == "localhost" => Found::Address(Ipv4Addr::LOCALHOST),
            [host] => match self.host(devices, host) {
                Some(address) => Found::Address(address),
                // There are no machines with such names elsewhere; but other records of top-level domains are.
                None if for_address => Found::Absent,
                None => Found::Elsewhere,
            },
            [octets @ .., inverse, arpa] if inverse == "in-addr" && arpa == "arpa" => {
                self.find_reverse(devices, octets)
            }
            _ => Found::Elsewhere,
        }
    }

    fn host(&self, devices: &Devices, label: &str) -> Option<Ipv4Addr> {
        if SERVER_NAMES.contains(&label) {
            return Some(self.server);
        }
        devices.by_name(label).map(|device| device.ip).filter(|ip| !ip.is_unspecified())
    }

    /// RFC 1035 §3.5. `labels` are the octets of an address, the last one first.
    fn find_reverse(&self, devices: &Devices, labels: &[String]) -> Found {
        let mut octets = [0; 4];
        if labels.len() > 4 {
            return Found::Elsewhere;
        }
        for (octet, label) in octets.iter_mut().zip(labels.iter().rev()) {
            match label.parse() {
                Ok(value) => *octet = value,
                Err(_) => return Found::Elsewhere,
            }
        }
        let address = Ipv4Addr::from(octets);
        let Some(network) = self.networks.iter().find(|network| network.contains(address)) else {
            return Found::Elsewhere;
        };
        if labels.len() < 4 {
            // Above the network, or within it.
            let ours = labels.len() >= reverse_labels(*network);
            return if ours { Found::Empty } else { Found::Elsewhere };
        }
        let label = if address == self.server {
            Some(SERVER_NAMES[0].to_owned())
        } else {
            devices.by_ip(address).map(|device| device.name.clone())
        };
        let name = label.and_then(|label| self.domain.prepend_label(label).ok());
        name.map_or(Found::Absent, Found::Pointer)
    }

    /// The record that says who is in charge of `name` (RFC 2308 §3: it goes with each answer that something is not
    /// there); `None` for names outside of our zones.
    pub(super) fn authority(&self, name: &Name) -> Option<Record> {
        let owner = if self.domain.zone_of(name) { self.domain.clone() } else { self.reverse_zone(name)? };
        let (server, contact) = (self.server_name()?, self.domain.prepend_label("hostmaster").ok()?);
        // There are no secondaries, so serial and times tell nothing; the last field is how long others may remember
        // that something is not there.
        let soa = SOA::new(server, contact, 1, 3600, 600, 86_400, TTL);
        Some(Record::from_rdata(owner, TTL, RData::SOA(soa)))
    }

    /// Full name of the server.
    pub(super) fn server_name(&self) -> Option<Name> {
        self.domain.prepend_label(SERVER_NAMES[0]).ok()
    }

    fn reverse_zone(&self, name: &Name) -> Option<Name> {
        let zones = self.networks.iter().filter_map(|network| {
            let octets = network.address.octets();
            let labels = octets[..reverse_labels(*network)].iter().rev().map(u8::to_string);
            let labels = labels.chain(["in-addr".to_owned(), "arpa".to_owned()]);
            Name::from_str(&format!("{}.", labels.collect::<Vec<_>>().join("."))).ok()
        });
        zones.into_iter().find(|zone| zone.zone_of(name))
    }
}

/// Octets that all addresses of a network begin with.
fn reverse_labels(network: Network) -> usize {
    usize::from(network.prefix / 8).clamp(1, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains() {
        let zone = |domain: &str| Zone::new(domain, Ipv4Addr::LOCALHOST, Vec::new());
        for good in ["walt", "Lab.Example.org", "lab.example.org.", "a-b.c"] {
            assert!(zone(good).is_ok(), "{good}");
        }
        for wrong in ["", ".", "a..b", "-a", "a b", "a_b", "é", &"a.".repeat(120), &"a".repeat(64)] {
            assert!(zone(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks() {
        let network = Network { address: [10, 1, 2, 3].into(), prefix: 20 };
        assert!(network.contains([10, 1, 15, 255].into()) && !network.contains([10, 1, 16, 0].into()));
        assert!(Network { address: [10, 1, 2, 3].into(), prefix: 0 }.contains([8, 8, 8, 8].into()));
        let host = Network { address: [10, 1, 2, 3].into(), prefix: 32 };
        assert!(host.contains([10, 1, 2, 3].into()) && !host.contains([10, 1, 2, 2].into()));
    }
}
