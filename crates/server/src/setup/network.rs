//! The server's interface in the network of the nodes: made by what manages this machine's network, so that it is there
//! again after a restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, bail};
use sys::Interface;

use super::configuration::replace;
use super::flags::Network;
use super::{networkd, service};

/// How long an interface may take to get its address.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The interface that nodes will be on.
    pub(super) interface: String,
    /// It is a bridge, with this port.
    pub(super) port: Option<String>,
    pub(super) network: Network,
}

/// What manages the network of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    /// systemd-networkd.
    Networkd,
    /// ifupdown, and what stands in for it.
    Ifupdown,
}

/// Files to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    manager: Manager,
    wanted: Wanted,
    pub(super) files: Vec<(PathBuf, String)>,
}

impl Manager {
    /// The one of this machine.
    ///
    /// # Errors
    /// There is none that we can tell: says what to do by hand.
    pub(super) fn find(wanted: &Wanted) -> Result<Self, Error> {
        if service::is_active("systemd-networkd.service") {
            return Ok(Self::Networkd);
        }
        if service::is_active("NetworkManager.service") {
            bail!(
                "NetworkManager has the network of this machine. Tell it, and come again with `--interface {}`:\n{}",
                wanted.interface,
                nmcli(wanted)
            );
        }
        let ifup = ["/usr/sbin/ifup", "/sbin/ifup"].iter().any(|path| Path::new(path).exists());
        if ifup && Path::new("/etc/network/interfaces").exists() {
            return Ok(Self::Ifupdown);
        }
        bail!(
            "nothing manages the network of this machine that would make {} again after a restart: start \
             systemd-networkd (`systemctl enable --now systemd-networkd`) and come again",
            wanted.interface
        )
    }
}

impl Plan {
    /// What to write, and where.
    ///
    /// # Errors
    /// A file is there already, or an interface is configured elsewhere.
    pub(super) fn new(manager: Manager, wanted: Wanted) -> Result<Self, Error> {
        let files = match manager {
            Manager::Networkd => {
                let status = |name: &str| {
                    service::run("networkctl", &["--no-pager", "--full", "status", name]).unwrap_or_default()
                };
                not_taken(&wanted, &networkd::DIRECTORIES.map(PathBuf::from), status)?;
                networkd_files(&wanted)
            }
            Manager::Ifupdown => {
                let mut texts = vec![fs::read_to_string("/etc/network/interfaces").unwrap_or_default()];
                if !texts[0].lines().any(|line| line.trim_start().starts_with("source")) {
                    bail!(
                        "/etc/network/interfaces does not read /etc/network/interfaces.d: add the line `source /etc/network/interfaces.d/*`"
                    );
                }
                let more = fs::read_dir("/etc/network/interfaces.d").into_iter().flatten().flatten();
                texts.extend(more.filter_map(|entry| fs::read_to_string(entry.path()).ok()));
                for name in [Some(&wanted.interface), wanted.port.as_ref()].into_iter().flatten() {
                    if texts.iter().any(|text| has_stanza(text, name)) {
                        bail!(
                            "/etc/network/interfaces (or interfaces.d) configures {name} already: take these lines out, or bring it up as they say and come again with `--interface {name} --no-bridge`"
                        );
                    }
                }
                vec![(PathBuf::from("/etc/network/interfaces.d/walt"), ifupdown(&wanted))]
            }
        };
        for (path, content) in &files {
            if fs::read_to_string(path).is_ok_and(|there| there != *content) {
                bail!("{} is there already and says something else: move it away", path.display());
            }
        }
        Ok(Self { manager, wanted, files })
    }

    /// Writes it and makes it so. What has been done is undone when something fails.
    ///
    /// # Errors
    /// What failed, and what could not be undone.
    pub(super) fn apply(&self) -> Result<(), Error> {
        let written = self.files.iter().try_for_each(|(path, content)| replace(path, content));
        let Err(error) = written.and_then(|()| self.activate()).and_then(|()| self.wait()) else { return Ok(()) };
        let undone = self.undo();
        let error = error.context(format!("can not make {}; the network is as it was before", self.wanted.interface));
        match undone {
            Ok(()) => Err(error),
            Err(undo) => Err(error.context(format!("and what was done could not be undone: {undo:#}"))),
        }
    }

    fn activate(&self) -> Result<(), Error> {
        match self.manager {
            Manager::Networkd => {
                service::run("networkctl", &["reload"])?;
                // Files that are read again count for what comes later; what is there already has to be told.
                let there = self.wanted.port.as_ref().unwrap_or(&self.wanted.interface);
                service::run("networkctl", &["reconfigure", there]).map(drop)
            }
            Manager::Ifupdown => service::run("ifup", &[&self.wanted.interface]).map(drop),
        }
    }

    /// Takes back what [`Plan::apply`] has done.
    pub(super) fn undo(&self) -> Result<(), Error> {
        let made = self.wanted.port.is_some() && Path::new("/sys/class/net").join(&self.wanted.interface).exists();
        // Before its file goes: ifdown reads it.
        let down = match self.manager {
            Manager::Ifupdown if made => service::run("ifdown", &[&self.wanted.interface]).map(drop),
            _ => Ok(()),
        };
        for (path, _) in &self.files {
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("can not remove {}", path.display()));
                }
                _ => {}
            }
        }
        if self.manager == Manager::Networkd {
            if made {
                service::run("networkctl", &["delete", &self.wanted.interface])?;
            }
            service::run("networkctl", &["reload"])?;
        }
        down
    }

    fn wait(&self) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            let now = Interface::by_name(&self.wanted.interface);
            let Network { address, prefix } = self.wanted.network;
            match now {
                Ok(now) if now.up && now.addresses.contains(&(address, prefix)) => return Ok(()),
                _ if begun.elapsed() < PATIENCE => sleep(Duration::from_millis(50)),
                Ok(now) => {
                    bail!("{} has {:?} after {PATIENCE:?}, not {}", now.name, now.addresses, self.wanted.network)
                }
                Err(error) => return Err(error).context("it does not come"),
            }
        }
    }
}

/// Names of our files.
const OF_INTERFACE: &str = "05-walt.network";
const OF_PORT: &str = "05-walt-port.network";

/// Refuses what another file has already: ours would have no effect. `status` is what networkd says of an interface.
fn not_taken(wanted: &Wanted, directories: &[PathBuf], status: impl Fn(&str) -> String) -> Result<(), Error> {
    let names = [(Some(&wanted.interface), OF_INTERFACE), (wanted.port.as_ref(), OF_PORT)];
    for (name, ours) in names.into_iter().filter_map(|(name, ours)| Some((name?, ours))) {
        let taken = networkd::before(ours, name, directories).or_else(|| networkd::now_before(ours, &status(name)));
        if let Some(path) = taken {
            bail!(
                "{} tells systemd-networkd what to do with {name} already, and comes before our {ours}, which would have no effect: take it away, or give it a name that comes after ours, such as 50-{name}.network, then `networkctl reload`, and come again; or have that file give {name} its address, and come again with `--interface {name} --no-bridge`",
                path.display()
            );
        }
    }
    Ok(())
}

/// systemd.netdev(5), systemd.network(5). The first file that fits an interface counts, by name.
fn networkd_files(wanted: &Wanted) -> Vec<(PathBuf, String)> {
    let Wanted { interface, port, network } = wanted;
    let directory = Path::new("/etc/systemd/network");
    let mut files = Vec::new();
    if let Some(port) = port {
        // Without ForwardDelaySec=0 the bridge is deaf for 15 s whenever a node is switched on: its firmware gives up.
        let bridge = format!("[NetDev]\nName={interface}\nKind=bridge\n\n[Bridge]\nForwardDelaySec=0\nSTP=no\n");
        files.push((directory.join("05-walt.netdev"), format!("{WRITTEN_BY}{bridge}")));
        let port = format!("[Match]\nName={port}\n\n[Network]\nBridge={interface}\n");
        files.push((directory.join(OF_PORT), format!("{WRITTEN_BY}{port}")));
    }
    // The machine starts without waiting for nodes to be plugged in.
    let address = format!(
        "[Match]\nName={interface}\n\n[Link]\nRequiredForOnline=no\n\n\
         [Network]\nAddress={network}\nConfigureWithoutCarrier=yes\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n"
    );
    files.push((directory.join(OF_INTERFACE), format!("{WRITTEN_BY}{address}")));
    files
}

/// interfaces(5), without what needs the package bridge-utils.
fn ifupdown(wanted: &Wanted) -> String {
    let Wanted { interface, port, network } = wanted;
    let mut text = format!("{WRITTEN_BY}auto {interface}\niface {interface} inet static\n    address {network}\n");
    if let Some(port) = port {
        text += &format!(
            "    pre-up ip link show dev {interface} >/dev/null 2>&1 || ip link add {interface} type bridge forward_delay 0 stp_state 0\n    \
             pre-up ip -4 address flush dev {port}\n    \
             pre-up ip link set {port} master {interface} up\n    \
             post-down ip link set {port} nomaster\n    \
             post-down ip link delete {interface}\n"
        );
    }
    text
}

fn nmcli(wanted: &Wanted) -> String {
    let Wanted { interface, port, network } = wanted;
    match port {
        Some(port) => format!(
            "  nmcli connection add type bridge ifname {interface} con-name {interface} bridge.stp no bridge.forward-delay 0 ipv4.method manual ipv4.addresses {network}\n  \
             nmcli connection add type ethernet ifname {port} con-name {interface}-port master {interface}\n  \
             nmcli connection up {interface}-port"
        ),
        None => format!(
            "  nmcli connection add type ethernet ifname {interface} con-name walt ipv4.method manual ipv4.addresses {network}\n  \
             nmcli connection up walt"
        ),
    }
}

const WRITTEN_BY: &str = "# Written by walt-server-setup: the network of the nodes.\n";

/// Whether a text of interfaces(5) has something to say of an interface, but for bringing it up as it is.
fn has_stanza(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.len() >= 4 && words[0] == "iface" && words[1] == name && words[3] != "manual"
    }) && !text.starts_with(WRITTEN_BY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(port: Option<&str>) -> Wanted {
        let (interface, network) =
            (if port.is_some() { "walt-net" } else { "eth1" }, "192.168.152.0/24".parse().unwrap());
        Wanted { interface: interface.into(), port: port.map(str::to_owned), network }
    }

    #[test]
    fn a_bridge_has_its_port_and_no_delay_whoever_makes_it() {
        let files = networkd_files(&wanted(Some("eth1")));
        let text: String = files.iter().map(|(_, text)| text.as_str()).collect();
        for line in ["Kind=bridge", "ForwardDelaySec=0", "Bridge=walt-net", "Address=192.168.152.1/24", "Name=eth1"] {
            assert!(text.contains(&format!("{line}\n")), "{line}");
        }
        let text = ifupdown(&wanted(Some("eth1")));
        for part in ["forward_delay 0", "set eth1 master walt-net up", "address 192.168.152.1/24", "auto walt-net"] {
            assert!(text.contains(part), "{part}");
        }
        assert!(nmcli(&wanted(Some("eth1"))).contains("bridge.forward-delay 0"));
        assert_eq!(networkd_files(&wanted(None)).len(), 1);
        assert!(!ifupdown(&wanted(None)).contains("bridge"));
    }

    #[test]
    fn what_another_file_of_networkd_has_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let directories = [directory.path().to_owned()];
        let nothing = |_: &str| String::new();
        let check = |port| not_taken(&wanted(port), &directories, nothing).map_err(|error| error.to_string());
        assert_eq!(check(Some("eth1")), Ok(()));
        fs::write(directory.path().join("05-eth1.network"), "[Match]\nName=eth1\n").unwrap();
        for port in [Some("eth1"), None] {
            let error = check(port).unwrap_err();
            let parts = ["05-eth1.network tells", "with eth1 already", "--interface eth1 --no-bridge"];
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
        assert_eq!(check(Some("eth2")), Ok(()));
        // The bridge that is not there yet.
        fs::write(directory.path().join("00-all.network"), "[Match]\nName=walt*\n").unwrap();
        assert!(check(Some("eth2")).unwrap_err().contains("with walt-net already"));
        // By something else than a name: networkd knows.
        let status = |name: &str| format!("2: {name}\n  Network File: /etc/systemd/network/01-mac.network\n");
        assert!(not_taken(&wanted(None), &[], status).unwrap_err().to_string().contains("01-mac.network"));
    }

    #[test]
    fn what_interfaces_says_of_an_interface_is_seen() {
        let text = "auto lo\niface lo inet loopback\n\niface eth1 inet dhcp\niface eth2 inet manual\n";
        assert!(has_stanza(text, "eth1") && !has_stanza(text, "eth2") && !has_stanza(text, "eth"));
        assert!(!has_stanza(&ifupdown(&wanted(Some("eth1"))), "walt-net"));
    }
}
