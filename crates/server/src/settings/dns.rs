//! Names: `[dns]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use net::dns::Zone;

use super::{SettingsError, file, value};

/// Domain of the nodes unless another is set.
pub const DEFAULT_DOMAIN: &str = "walt";

/// The DNS server of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// There is one.
    pub enabled: bool,
    /// Whom to ask for other names, in the place of nodes behind NAT; those of /etc/resolv.conf if empty.
    pub forwarders: Vec<SocketAddr>,
}

pub(super) fn check(file: &file::Dns) -> Result<Dns, SettingsError> {
    let address = |text: &String| {
        let address = text.parse::<IpAddr>().map(|address| SocketAddr::from((address, 53))).or_else(|_| text.parse());
        address.map_err(|_| value("dns.forwarders", format!("{text:?} is not an address, or address:port")))
    };
    let forwarders = file.forwarders.iter().map(address).collect::<Result<_, _>>()?;
    Ok(Dns { enabled: file.enabled.unwrap_or(true), forwarders })
}

/// The domain of the nodes, of which there is always one if we answer for it.
pub(super) fn domain(domain: Option<String>, dns: &Dns) -> Result<Option<String>, SettingsError> {
    if let Some(domain) = &domain {
        Zone::new(domain, Ipv4Addr::UNSPECIFIED, Vec::new())
            .map_err(|cause| value("dhcp.domain", cause.to_string()))?;
    }
    Ok(domain.or_else(|| dns.enabled.then(|| DEFAULT_DOMAIN.to_owned())))
}
