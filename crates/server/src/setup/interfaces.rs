//! The network interfaces of this machine.

use std::fs;
use std::path::Path;

use anyhow::{Context, Error, bail};
use sys::Interface;

use super::flags::Network;

/// An interface, and what it is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) addresses: Vec<Network>,
    pub(super) is_bridge: bool,
    /// Bridge that it is a port of.
    pub(super) master: Option<String>,
    /// A piece of hardware, not something that a program has made.
    pub(super) is_hardware: bool,
    /// This machine may reach the rest of the world through it: by its default route, by IPv6, or by something on top of it (a
    /// VLAN, a bond).
    pub(super) has_default_route: bool,
}

/// All but loopback, by name.
pub(super) fn list() -> Result<Vec<Found>, Error> {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let ipv6 = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let directory = Path::new("/sys/class/net");
    let mut names: Vec<String> = fs::read_dir(directory)
        .with_context(|| format!("can not list {}", directory.display()))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        // `bonding_masters` is a file.
        .filter(|name| name != "lo" && directory.join(name).is_dir())
        .collect();
    names.sort();
    let found = names.into_iter().filter_map(|name| {
        let at = directory.join(&name);
        // Neither Ethernet nor anything that could be mistaken for it.
        let interface = Interface::by_name(&name).ok()?;
        let addresses = interface.addresses.iter().map(|&(address, prefix)| Network { address, prefix });
        let master = fs::read_link(at.join("master")).ok();
        Some(Found {
            addresses: addresses.collect(),
            is_bridge: at.join("bridge").is_dir(),
            master: master.and_then(|path| Some(path.file_name()?.to_str()?.to_owned())),
            is_hardware: at.join("device").exists(),
            has_default_route: default_routes(&routes).any(|of| of == name)
                || global_ipv6(&ipv6).any(|of| of == name)
                || has_upper(&at),
            name,
        })
    });
    Ok(found.collect())
}

/// The one of this name.
pub(super) fn named<'a>(all: &'a [Found], name: &str) -> Result<&'a Found, Error> {
    let names: Vec<_> = all.iter().map(|found| found.name.as_str()).collect();
    match all.iter().find(|found| found.name == name) {
        Some(found) => Ok(found),
        None => bail!("there is no network interface {name:?} (there are: {})", names.join(", ")),
    }
}

/// The one to propose: a bridge of ours, else a piece of hardware that is not in use, else whatever is not in use.
pub(super) fn proposed(all: &[Found]) -> Option<&Found> {
    let idle = |found: &&Found| !found.has_default_route && found.master.is_none();
    let first = |wanted: &dyn Fn(&Found) -> bool| all.iter().filter(idle).find(|found| wanted(found));
    first(&|found| found.name == super::flags::BRIDGE)
        .or_else(|| first(&|found| found.is_hardware && found.addresses.is_empty()))
        .or_else(|| first(&|found| found.is_hardware))
        .or_else(|| first(&|found| !found.is_bridge && found.addresses.is_empty()))
}

/// Interfaces with an IPv6 address of more than the link, from the text of /proc/net/if_inet6 (proc_pid_net(5)): the fourth
/// field is the scope, 00 is global.
fn global_ipv6(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (fields.get(3) == Some(&"00")).then(|| fields.get(5).copied())?
    })
}

/// Whether another interface sits on top of this one, by the links that the kernel has in its directory.
fn has_upper(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| {
        let name = name.to_string_lossy();
        // What it is a port of has a field of its own.
        name.strip_prefix("upper_")
            .is_some_and(|upper| !Path::new("/sys/class/net").join(upper).join("bridge").is_dir())
    })
}

/// Interfaces with a default route, from the text of /proc/net/route (proc_pid_net(5)): destination and mask are 0.
fn default_routes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000")).then(|| fields[0])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, is_hardware: bool, has_default_route: bool) -> Found {
        let addresses = Vec::new();
        Found { name: name.into(), addresses, is_bridge: false, master: None, is_hardware, has_default_route }
    }

    #[test]
    fn what_is_proposed_is_not_in_use() {
        let all = [found("docker0", false, false), found("eth0", true, true), found("eth1", true, false)];
        assert_eq!(proposed(&all).map(|found| found.name.as_str()), Some("eth1"));
        assert_eq!(proposed(&all[1..2]), None);
        let bridge = Found { is_bridge: true, ..found("walt-net", false, false) };
        let port = Found { master: Some("walt-net".into()), ..found("eth1", true, false) };
        assert_eq!(proposed(&[port, bridge]).map(|found| found.name.as_str()), Some("walt-net"));
    }

    #[test]
    fn what_has_a_global_ipv6_address_is_found() {
        let text = "fe80000000000000505400fffe123456 02 40 20 80     eth0\n\
                    20010db8000000000000000000000001 02 40 00 80     eth1\n\
                    00000000000000000000000000000001 01 80 10 80       lo\n";
        assert_eq!(global_ipv6(text).collect::<Vec<_>>(), ["eth1"]);
        assert_eq!(global_ipv6("x\n\n").count(), 0);
    }

    #[test]
    fn default_routes_are_found() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                    tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n";
        assert_eq!(default_routes(text).collect::<Vec<_>>(), ["eth0"]);
    }
}
