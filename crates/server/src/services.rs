//! The services: first all their sockets, then, with fewer privileges, all their tasks.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Error};
use net::bootfile::{BootFiles, Firmware, Loaders};
use net::http::HttpConfig;
use net::nfs::{HandleKey, NfsConfig, NfsServer};
use net::tftp::{self, TftpConfig};
use net::{Event, Events, Exports, MacAddr, dhcp, dns, http, nfs, ra, sntp};
use sys::Interface;
use tokio::sync::mpsc;
use wire::node::{NETCONSOLE_PORT, SERVER_PORT};

use crate::control::{self, About, Control};
use crate::counters::CounterTable;
use crate::devices::{self, Devices, Here, Lldp, Off};
use crate::hooks::Hooks;
use crate::names_service;
use crate::nat::{Nat, Rules};
use crate::nodes::{Netconsole, NodeServer};
use crate::registry::{LeaseRow, Loaded, Registry};
use crate::settings::{DhcpMode, Settings};
use crate::site::{Inbox, Site};
use crate::supervise::Parts;
use crate::web::WebSockets;

/// Events that may wait to be looked at: some seconds of a boot storm.
const EVENTS: usize = 65_536;
/// Leases that may wait to be recorded.
const LEASES: usize = 65_536;
/// Prefix of the path to mount that boot scripts have in them, whatever the state directory is.
const USUAL_ROOT: &str = "/var/lib/walt";
/// Key of the registry's value that holds the key of the NFS file handles.
const HANDLE_KEY: &str = "nfs_handle_key";

/// The interface of the nodes, and the server's address there.
#[derive(Debug, Clone)]
pub(crate) struct NodeInterface {
    pub(crate) interface: Interface,
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
}

impl NodeInterface {
    /// Looks it up.
    pub(crate) fn find(name: &str) -> Result<Self, Error> {
        let interface = Interface::by_name(name).context("can not use the interface of the nodes")?;
        let &(address, prefix) = interface.addresses.first().with_context(|| {
            format!(
                "interface {name} has no IPv4 address: give it one, such as `ip address add 192.168.152.1/24 dev {name}`"
            )
        })?;
        Ok(Self { interface, address, prefix })
    }

    /// The server, as a device on it.
    fn here(&self) -> Here {
        Here {
            interface: self.interface.name.clone(),
            index: self.interface.index,
            mac: MacAddr(self.interface.mac),
            ip: self.address,
            prefix: self.prefix,
        }
    }

    /// Settings of DHCP on it, unless another server does that.
    pub(crate) fn dhcp(&self, settings: &Settings) -> Result<Option<dhcp::Settings>, Error> {
        if settings.dhcp.mode == DhcpMode::External {
            return Ok(None);
        }
        let context = || format!("can not assign addresses on {}/{}", self.address, self.prefix);
        let mut subnet = dhcp::Subnet::around(self.address, self.prefix).with_context(context)?;
        if let Some((first, last)) = settings.dhcp.range {
            subnet = subnet.with_range(first, last).with_context(context)?;
        }
        if let Some(gateway) = settings.dhcp.gateway {
            subnet = subnet.with_gateway(gateway);
        }
        let mut dhcp = dhcp::Settings::new(self.address, subnet);
        for relay in &settings.dhcp.relays {
            relay.check_apart_from(&dhcp.subnet, self.address)?;
            dhcp.relayed.push(relay.subnet()?);
        }
        dhcp.dns.clone_from(&settings.dhcp.dns);
        dhcp.domain.clone_from(&settings.dhcp.domain);
        Ok(Some(dhcp))
    }
}

/// The services with their sockets bound.
pub(crate) struct Services {
    dhcp: Option<(dhcp::Server, mpsc::Receiver<dhcp::LeaseChange>)>,
    ra: Option<ra::Server>,
    dns: Option<dns::Server>,
    nat: Nat,
    tftp: tftp::Server,
    http: http::Server,
    sntp: sntp::Server,
    nfs: NfsServer,
    node_server: NodeServer,
    netconsole: Netconsole,
    control: UnixListener,
    web: WebSockets,
    inbox: mpsc::Receiver<Event>,
    counters: CounterTable,
    lldp: Option<Lldp>,
    here: Here,
    hooks: Hooks,
    off: Off,
    about: (String, String),
}

impl Services {
    /// Binds all sockets. Needs the privileges that are given up afterwards.
    pub(crate) async fn bind(
        settings: &Settings,
        nodes: &NodeInterface,
        loaded: &Loaded,
        registry: &Registry,
        exports: &Arc<Exports>,
    ) -> Result<Self, Error> {
        let (events, inbox) = Events::channel(EVENTS);
        let ip = nodes.address;
        let dhcp = nodes.dhcp(settings)?.map(|own| bind_dhcp(own, nodes, loaded, exports, &events)).transpose()?;
        let ra = match ra::Server::bind(&nodes.interface) {
            Ok(server) => Some(server),
            // Nodes boot all the same, each some seconds later.
            Err(error) => {
                tracing::warn!(error = format!("{:#}", Error::from(error)), "router solicitations go unanswered");
                None
            }
        };
        let dns = names_service::bind(settings, nodes, exports)?;
        let rules = Rules { interface: settings.interface.clone(), isolate: settings.isolate };
        let nat = Nat::new(rules, exports.clone());
        let loaders = Loaders::load(&settings.ipxe_dir).context("can not load the network bootloaders")?;
        let boot_files = BootFiles::new(loaders, exports.clone());
        let boot_files = boot_files.with_firmware(&settings.rpi_firmware_dir, board_firmware(settings));
        exports.boards().remember(loaded.leases.iter().map(|lease| (lease.mac, lease.ip)));
        exports.boards().remember(loaded.devices.iter().map(|device| (device.mac, device.ip)));
        let address = SocketAddrV4::new(ip, 69);
        let tftp = tftp::Server::bind(TftpConfig::new(address), boot_files.clone(), events.clone());
        let tftp = tftp.map_err(|error| explain(error, "TFTP", "udp", 69))?;
        let address = SocketAddrV4::new(ip, 80);
        let http = http::Server::bind(HttpConfig::new(address), boot_files, events.clone());
        let http = http.map_err(|error| explain(error, "HTTP boot", "tcp", 80))?;
        let sntp = sntp::Server::bind(SocketAddrV4::new(ip, 123));
        let sntp = sntp.map_err(|error| explain(error, "SNTP", "udp", 123))?;
        let nfs = NfsServer::bind(nfs_config(settings, ip, loaded, registry)?, exports.clone(), events.clone());
        let nfs = nfs.map_err(|error| {
            let (service, protocol, port) = (error.service, error.protocol, error.address.port());
            explain(error, service, protocol, port)
        })?;
        let node_server = NodeServer::bind(ip, SERVER_PORT).await;
        let node_server = node_server.map_err(|error| explain(error, "the agents of nodes", "tcp", SERVER_PORT))?;
        let netconsole = Netconsole::bind(ip, NETCONSOLE_PORT).await;
        let netconsole = netconsole.map_err(|error| explain(error, "netconsole", "udp", NETCONSOLE_PORT))?;
        let web = WebSockets::bind(&settings.web)?;
        let control = control::bind(&settings.socket)?;
        let mut services = Self {
            dhcp,
            ra,
            dns,
            nat,
            tftp,
            http,
            sntp,
            nfs,
            node_server,
            netconsole,
            control,
            web,
            inbox,
            counters: CounterTable::default(),
            lldp: match Lldp::open() {
                Ok(lldp) => Some(lldp),
                // Which switch the server hangs on remains unknown: no node is the worse for it.
                Err(error) => {
                    tracing::warn!(%error, "what switches say by LLDP is not heard");
                    None
                }
            },
            here: nodes.here(),
            hooks: Hooks::new(None).with_power(settings.hooks.power.clone()),
            off: devices::restore(loaded),
            about: (settings.interface.clone(), ip.to_string()),
        };
        services.list_counters();
        Ok(services)
    }

    /// Starts all tasks.
    pub(crate) fn start(self, site: &Arc<Site>, inbox: Inbox) -> Result<Parts, Error> {
        let mut parts = Parts::default();
        if let Some((server, changes)) = self.dhcp {
            parts.add("DHCP", server.run());
            parts.add("the record of leases", record_leases(changes, site.registry().clone()));
        }
        if let Some(server) = self.ra {
            parts.add("router advertisement", server.run());
        }
        if let Some(server) = self.dns {
            parts.add("DNS", server.run());
        }
        parts.add("NAT", self.nat.run(site.clone()));
        parts.add("TFTP", self.tftp.run());
        parts.add("SNTP", self.sntp.run());
        let nfs = self.nfs.run();
        parts.add("NFS", async move {
            nfs.await;
            Ok::<_, Infallible>(())
        });
        parts.add("the server for agents", self.node_server.run(site.clone()));
        parts.add("netconsole", self.netconsole.run(site.clone()));
        let registration = site.clone().run(self.inbox, inbox);
        parts.add("registration", async move {
            registration.await;
            Ok::<_, Infallible>(())
        });

        let devices = Devices::new(site.clone(), self.here, self.hooks, self.off);
        parts.add("the exploration of switches", devices.clone().run());
        if let Some(lldp) = self.lldp {
            parts.add("LLDP", lldp.run(devices.clone()));
        }

        let (interface, address) = self.about;
        let counters = self.counters;
        let about = About { since: Instant::now(), interface, address, counters: Box::new(move || counters.read()) };
        let control = Control { site: site.clone(), devices, about: Arc::new(about) };
        let nodes = self.web.start(&control, &mut parts);
        let http = match nodes {
            Some(door) => self.http.with_handler(Arc::new(door)),
            None => self.http,
        };
        parts.add("HTTP boot", http.run());
        let router = control::router(control);
        let router = router.into_make_service_with_connect_info::<control::Caller>();
        let listener = tokio::net::UnixListener::from_std(self.control).context("can not serve the control socket")?;
        parts.add("the control API", async move { axum::serve(listener, router).await });
        Ok(parts)
    }

    fn list_counters(&mut self) {
        let counters = &mut self.counters;
        if let Some((server, _)) = &self.dhcp {
            counters.add(
                "dhcp",
                &server.counters(),
                &[
                    ("packets", |c| &c.packets),
                    ("malformed", |c| &c.malformed),
                    ("replies", |c| &c.replies),
                    ("send_failures", |c| &c.send_failures),
                    ("probes", |c| &c.probes),
                    ("conflicts", |c| &c.conflicts),
                    ("exhausted", |c| &c.exhausted),
                    ("deferred", |c| &c.deferred),
                    ("events_dropped", |c| &c.events_dropped),
                ],
            );
        }
        if let Some(server) = &self.ra {
            counters.add(
                "ra",
                &server.counters(),
                &[
                    ("packets", |c| &c.packets),
                    ("malformed", |c| &c.malformed),
                    ("advertisements", |c| &c.advertisements),
                    ("limited", |c| &c.limited),
                    ("send_failures", |c| &c.send_failures),
                ],
            );
        }
        if let Some(server) = &self.dns {
            names_service::list(counters, server);
        }
        counters.add(
            "tftp",
            &self.tftp.counters(),
            &[
                ("requests", |c| &c.requests),
                ("malformed", |c| &c.malformed),
                ("refused", |c| &c.refused),
                ("unavailable", |c| &c.unavailable),
                ("overload", |c| &c.overload),
                ("complete", |c| &c.complete),
                ("incomplete", |c| &c.incomplete),
                ("bytes", |c| &c.bytes),
            ],
        );
        counters.add(
            "http",
            &self.http.counters(),
            &[
                ("connections", |c: &http::Counters| &c.connections),
                ("overload", |c| &c.overload),
                ("requests", |c| &c.requests),
                ("failed", |c| &c.failed),
                ("refused", |c| &c.refused),
                ("unavailable", |c| &c.unavailable),
            ],
        );
        counters.add(
            "sntp",
            &self.sntp.counters(),
            &[
                ("packets", |c: &sntp::Counters| &c.packets),
                ("malformed", |c| &c.malformed),
                ("answered", |c| &c.answered),
            ],
        );
        counters.add(
            "nfs",
            &self.nfs.counters(),
            &[
                ("messages", |c: &nfs::Counters| &c.messages),
                ("malformed", |c| &c.malformed),
                ("denied", |c| &c.denied),
                ("unavailable", |c| &c.unavailable),
                ("mounts", |c| &c.mounts),
                ("mounts_refused", |c| &c.mounts_refused),
                ("bad_handles", |c| &c.bad_handles),
                ("stale_handles", |c| &c.stale_handles),
                ("bytes_read", |c| &c.bytes_read),
                ("reads_from_disk", |c| &c.reads_from_disk),
                ("changes", |c| &c.changes),
                ("syncs", |c| &c.syncs),
                ("replayed", |c| &c.replayed),
                ("calls_dropped", |c| &c.calls_dropped),
                ("connections", |c| &c.connections),
                ("connections_refused", |c| &c.connections_refused),
                ("replies_lost", |c| &c.replies_lost),
            ],
        );
        counters.add(
            "nodes",
            &self.node_server.counters(),
            &[("connections", |c| &c.connections), ("refused", |c| &c.refused), ("malformed", |c| &c.malformed)],
        );
        self.web.list_counters(counters);
        counters.add("netconsole", &self.netconsole.refused, &[("refused", |c| c)]);
    }
}

/// The firmware of Raspberry Pi boards, if the administrator has put it there.
fn board_firmware(settings: &Settings) -> Option<Firmware> {
    let directory = &settings.rpi_firmware_dir;
    match Firmware::load(directory) {
        Ok(Some(firmware)) => {
            tracing::info!(directory = %directory.display(), files = firmware.len(), "firmware for Raspberry Pi boards");
            Some(firmware)
        }
        Ok(None) => None,
        // All other machines boot without.
        Err(error) => {
            tracing::error!(%error, "no firmware for Raspberry Pi boards that boot by themselves");
            None
        }
    }
}

fn bind_dhcp(
    settings: dhcp::Settings,
    nodes: &NodeInterface,
    loaded: &Loaded,
    exports: &Arc<Exports>,
    events: &Events,
) -> Result<(dhcp::Server, mpsc::Receiver<dhcp::LeaseChange>), Error> {
    let (changes, changed) = mpsc::channel(LEASES);
    let leases = loaded.leases.iter().map(|lease| (lease.mac, lease.ip));
    let server = dhcp::Server::bind(&nodes.interface, settings, leases, exports.clone(), events.clone(), changes);
    Ok((server.map_err(|error| explain(error, "DHCP", "udp", 67))?, changed))
}

fn nfs_config(settings: &Settings, ip: Ipv4Addr, loaded: &Loaded, registry: &Registry) -> Result<NfsConfig, Error> {
    let mut roots = vec![USUAL_ROOT.to_owned()];
    if settings.state_dir != Path::new(USUAL_ROOT) {
        roots.push(settings.state_dir.to_str().context("the state directory's name is not UTF-8")?.to_owned());
    }
    Ok(NfsConfig {
        address: ip,
        portmap_port: Some(111),
        nfs_port: 2049,
        roots,
        key: handle_key(loaded, registry)?,
        limits: nfs::Limits::default(),
    })
}

/// The key of the file handles, made at the first start and kept for good.
fn handle_key(loaded: &Loaded, registry: &Registry) -> Result<HandleKey, Error> {
    if let Some(kept) = loaded.meta.get(HANDLE_KEY).and_then(|kept| <[u8; 16]>::try_from(&kept[..]).ok()) {
        return Ok(HandleKey::new(kept));
    }
    let mut key = [0; 16];
    let got = rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty());
    // getrandom(2): up to 256 bytes come as a whole.
    anyhow::ensure!(got.context("the system gives no random numbers")? == key.len(), "too few random numbers");
    registry.meta(HANDLE_KEY, key.to_vec());
    Ok(HandleKey::new(key))
}

async fn record_leases(mut changes: mpsc::Receiver<dhcp::LeaseChange>, registry: Registry) -> Result<(), Infallible> {
    while let Some(change) = changes.recv().await {
        match change.ip {
            Some(ip) => registry.lease(LeaseRow { mac: change.mac, ip }),
            None => registry.forget_lease(change.mac),
        }
    }
    Ok(())
}

/// Says which port could not be had, and what to do.
pub(crate) fn explain(error: impl Into<Error>, service: &str, protocol: &str, port: u16) -> Error {
    let error = error.into();
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    let kinds: Vec<_> = causes.map(std::io::Error::kind).collect();
    let what = format!("can not listen on {protocol} port {port} for {service}");
    if kinds.contains(&std::io::ErrorKind::AddrInUse) {
        let list = if protocol == "udp" { "ss -lunp" } else { "ss -ltnp" };
        return error
            .context(format!("{what}: another program has it; `{list} sport = :{port}` names it, stop that one"));
    }
    if kinds.contains(&std::io::ErrorKind::PermissionDenied) {
        return error.context(format!("{what}: run the daemon as root"));
    }
    error.context(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{File, Flags};

    fn dhcp(text: &str) -> Result<dhcp::Settings, Error> {
        let flags = Flags { interface: Some("lo".into()), ..Flags::default() };
        let settings = Settings::merge(File::parse(text, Path::new("x"))?, &flags, "x".into())?;
        let interface = Interface::by_name("lo")?;
        let nodes = NodeInterface { interface, address: Ipv4Addr::new(10, 9, 8, 1), prefix: 24 };
        nodes.dhcp(&settings)?.context("internal mode")
    }

    #[test]
    fn nodes_behind_a_relay_agent_get_addresses_of_its_network() {
        let settings =
            dhcp("[dhcp]\nrelays = [\"10.8.0.1/16\", \"10.9.9.1/24\"]\nrange = \"10.9.8.5-10.9.8.9\"").unwrap();
        let relay = Ipv4Addr::new(10, 8, 0, 1);
        let subnet = settings.subnet_of(relay).unwrap();
        assert_eq!(subnet.gateway, Some(relay));
        assert!(subnet.in_pool(Ipv4Addr::new(10, 8, 77, 7)) && !subnet.in_pool(relay));
        assert!(settings.subnet_of(Ipv4Addr::new(10, 9, 9, 9)).is_some());
        assert!(settings.subnet_of(Ipv4Addr::new(10, 7, 0, 1)).is_none());
        for network in ["10.9.8.129/25", "10.9.8.200/24", "10.1.2.3/8"] {
            let error = dhcp(&format!("[dhcp]\nrelays = [{network:?}]")).unwrap_err().to_string();
            assert!(error.contains("in common"), "{network}: {error}");
        }
    }
}
