//! The DNS server of the platform, as the settings want it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use anyhow::{Context, Error};
use net::Exports;
use net::dns::{Counters, Network, Resolvers, Server, Zone};

use crate::counters::CounterTable;
use crate::services::{NodeInterface, explain};
use crate::settings::{DEFAULT_DOMAIN, Settings};

const PORT: u16 = 53;

/// Binds its sockets; `None` if there is to be none.
pub(crate) fn bind(
    settings: &Settings,
    nodes: &NodeInterface,
    exports: &Arc<Exports>,
) -> Result<Option<Server>, Error> {
    if !settings.dns.enabled {
        return Ok(None);
    }
    let domain = settings.dhcp.domain.as_deref().unwrap_or(DEFAULT_DOMAIN);
    let zone = Zone::new(domain, nodes.address, networks(settings, nodes)).context("setting `dhcp.domain`")?;
    let resolvers = Resolvers::new(&settings.dns.forwarders, nodes.address);
    let address = SocketAddrV4::new(nodes.address, PORT);
    let server = Server::bind(address, zone, exports.clone(), resolvers);
    let server = server.map_err(|error| {
        let protocol = error.protocol;
        let taken = error.source.kind() == std::io::ErrorKind::AddrInUse;
        let error = explain(error, "DNS", protocol, PORT);
        if taken {
            error.context("`enabled = false` below [dns] in the configuration leaves DNS to that program")
        } else {
            error
        }
    });
    server.map(Some)
}

/// Adds its counters to the table.
pub(crate) fn list(counters: &mut CounterTable, server: &Server) {
    counters.add(
        "dns",
        &server.counters(),
        &[
            ("queries", |c: &Counters| &c.queries),
            ("malformed", |c| &c.malformed),
            ("refused", |c| &c.refused),
            ("forwarded", |c| &c.forwarded),
            ("failed", |c| &c.failed),
            ("overload", |c| &c.overload),
        ],
    );
}

/// The networks of the platform: that of the interface, and those behind relay agents.
fn networks(settings: &Settings, nodes: &NodeInterface) -> Vec<Network> {
    let network = |(address, prefix): (Ipv4Addr, u8)| Network { address, prefix };
    let relays = settings.dhcp.relays.iter().map(|relay| (relay.address, relay.prefix));
    std::iter::once((nodes.address, nodes.prefix)).chain(relays).map(network).collect()
}
