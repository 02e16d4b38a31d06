//! Programs that have a port that the daemon needs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use socket2::{Domain, Socket, Type};
use wire::node::{NETCONSOLE_PORT, SERVER_PORT};

use super::service;

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

use Protocol::{Tcp, Udp};

/// What the daemon listens on, and what for.
pub(super) const PORTS: &[(Protocol, u16, &str)] = &[
    (Udp, 53, "names of nodes (DNS)"),
    (Tcp, 53, "names of nodes (DNS)"),
    (Udp, DHCP, "addresses (DHCP)"),
    (Udp, 69, "boot files (TFTP)"),
    (Tcp, 80, "boot files (HTTP)"),
    (Udp, 111, "root file systems (port mapper of NFS)"),
    (Tcp, 111, "root file systems (port mapper of NFS)"),
    (Udp, 123, "time (SNTP)"),
    (Udp, 2049, "root file systems (NFS)"),
    (Tcp, 2049, "root file systems (NFS)"),
    (Tcp, SERVER_PORT, "the agents of nodes"),
    (Udp, NETCONSOLE_PORT, "kernel messages (netconsole)"),
];

const DHCP: u16 = 67;

/// A port that somebody has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    pub(super) what_for: &'static str,
    pub(super) by: Option<Holder>,
}

/// Who has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Holder {
    /// Name of the program, or of systemd's socket unit.
    pub(super) program: String,
    /// What stops it.
    pub(super) stop: String,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Tcp => "tcp",
            Udp => "udp",
        })
    }
}

/// The ports that the daemon could not have on `address`. What a running walt-server-daemon has does not count.
pub(super) fn taken(address: Ipv4Addr, interface: &str, external_dhcp: bool) -> io::Result<Vec<Taken>> {
    let mut taken = Vec::new();
    for &(protocol, port, what_for) in PORTS.iter().filter(|(_, port, _)| !(external_dhcp && *port == DHCP)) {
        match bind(protocol, address, port, interface) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => match holder(protocol, address, port) {
                Some(Process::Ours) => {}
                Some(Process::Other(by)) => taken.push(Taken { protocol, port, what_for, by: Some(by) }),
                None => taken.push(Taken { protocol, port, what_for, by: None }),
            },
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

/// Binds it as the daemon would, and lets go of it.
fn bind(protocol: Protocol, address: Ipv4Addr, port: u16, interface: &str) -> io::Result<()> {
    let kind = match protocol {
        Tcp => Type::STREAM,
        Udp => Type::DGRAM,
    };
    let socket = Socket::new(Domain::IPV4, kind, None)?;
    // The address may come with the bridge that is yet to be made.
    socket.set_freebind_v4(true)?;
    if protocol == Tcp {
        // Connections that have ended are in nobody's way.
        socket.set_reuse_address(true)?;
    }
    // DHCP is served on one interface: what serves others (libvirt) is not in the way. The bridge may not exist yet.
    if port == DHCP {
        match socket.bind_device(Some(interface.as_bytes())) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::NODEV.raw_os_error()) => return Err(error),
            _ => {}
        }
    }
    socket.bind(&SocketAddr::from((address, port)).into())
}

enum Process {
    Ours,
    Other(Holder),
}

/// The process that has a port; `None` if it is not to be found (it is in another container, for example).
fn holder(protocol: Protocol, address: Ipv4Addr, port: u16) -> Option<Process> {
    let mut inodes = Vec::new();
    for (table, version) in [("", 4), ("6", 6)] {
        let text = fs::read_to_string(format!("/proc/net/{protocol}{table}")).unwrap_or_default();
        inodes.extend(sockets(&text, protocol, version, address, port));
    }
    let mut holders: BTreeMap<u32, String> = BTreeMap::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let has = |inode: &u64| {
            let wanted = format!("socket:[{inode}]");
            let files = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
            files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| target == Path::new(&wanted))
        };
        if inodes.iter().any(has) {
            let exe = fs::read_link(entry.path().join("exe")).unwrap_or_default();
            if exe.file_name().is_some_and(|name| name == "walt-server-daemon") {
                return Some(Process::Ours);
            }
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            holders.insert(pid, comm.trim_end().to_owned());
        }
    }
    // systemd listens for services that are started when somebody comes: its socket unit has the port then, not process 1.
    let socket = holders.contains_key(&1).then(|| service::socket_unit(port)).flatten();
    if let Some(unit) = socket {
        return Some(Process::Other(Holder { stop: format!("systemctl disable --now {unit}"), program: unit }));
    }
    let (pid, program) = holders.into_iter().next()?;
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let stop = match service::unit_of(&cgroup) {
        Some(unit) => {
            let triggers = service::triggers(&unit);
            format!("systemctl disable --now {}", std::iter::once(unit).chain(triggers).collect::<Vec<_>>().join(" "))
        }
        None => format!("kill {pid}"),
    };
    Some(Process::Other(Holder { program: format!("{program} (process {pid})"), stop }))
}

/// Inodes of the sockets in a table of /proc/net (proc_pid_net(5)) that listen on this port of this address, or of all.
fn sockets(text: &str, protocol: Protocol, version: u8, address: Ipv4Addr, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    // Addresses are printed as the numbers that their bytes are on this machine.
    let own = format!("{:08X}", u32::from_ne_bytes(address.octets()));
    let mapped = format!("0000000000000000{:08X}{own}", u32::from_ne_bytes([0, 0, 0xff, 0xff]));
    let wanted = match version {
        4 => ["00000000".to_owned(), own],
        _ => ["0".repeat(32), mapped],
    };
    let lines = text.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, on) = fields.get(1)?.split_once(':')?;
        let listens = protocol == Udp || fields.get(3) == Some(&LISTEN);
        let ours = listens && u16::from_str_radix(on, 16) == Ok(port) && wanted.iter().any(|address| address == local);
        if ours { fields.get(9)?.parse().ok() } else { None }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_that_has_a_port_is_named() {
        // A port of our own choice: 53 and others may be taken, and this needs no rights.
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let error = bind(Udp, Ipv4Addr::LOCALHOST, port, "lo").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let Some(Process::Other(holder)) = holder(Udp, Ipv4Addr::LOCALHOST, port) else { panic!("nobody has it") };
        assert!(holder.program.contains(&std::process::id().to_string()), "{holder:?}");
        assert!(holder.stop.starts_with("kill ") || holder.stop.starts_with("systemctl "), "{holder:?}");
        drop(socket);
        bind(Udp, Ipv4Addr::LOCALHOST, port, "lo").unwrap();
        // An address that this machine does not have (RFC 5737).
        bind(Udp, Ipv4Addr::new(192, 0, 2, 1), port, "lo").unwrap();
    }

    #[test]
    fn a_socket_of_all_addresses_counts_and_one_of_another_does_not() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            1: 00000000:006F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0\n\
            2: 0100007F:006F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0\n\
            3: 0100000A:006F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 13 1 0\n\
            4: 0100000A:006F 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 14 1 0\n\
            5: 0100000A:0070 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 15 1 0\n";
        if cfg!(target_endian = "little") {
            assert_eq!(sockets(text, Tcp, 4, Ipv4Addr::new(10, 0, 0, 1), 111), [11, 13]);
        }
    }
}
