//! `walt-server-setup`: which interface, what is in the way, what will be written; then it is done.

mod ask;
mod checks;
mod configuration;
mod flags;
mod interfaces;
mod network;
mod networkd;
mod ports;
mod service;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Error, bail, ensure};
use clap::Parser;
use sys::Interface;

use crate::services::NodeInterface;
use checks::Finding;
use configuration::Edit;
pub use flags::{Flags, Network};
use interfaces::Found;
use network::{Manager, Plan, Wanted};

/// Runs the command as its command line says, to its end.
pub fn run() -> ExitCode {
    let flags = Flags::parse();
    let result = if flags.check { check(&flags) } else { set_up(&flags) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("walt-server-setup: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says what is in the way, and changes nothing.
fn check(flags: &Flags) -> Result<(), Error> {
    be_root()?;
    let interface = match &flags.interface {
        Some(interface) => interface.clone(),
        None => configured(flags)?.context("no configuration names an interface yet: say --interface IFACE")?,
    };
    let all = interfaces::list()?;
    let found = interfaces::named(&all, &interface)?;
    let address = found.addresses.first().map(|network| network.address);
    let address = flags.network.map(|network| network.address).or(address).unwrap_or([192, 168, 152, 1].into());
    let edit = Edit::of(&flags.config, &interface, flags.external_dhcp)?;
    let external = flags.external_dhcp || edit.settings()?.is_dhcp_external();
    let findings = checks::all(&edit.settings()?, &interface, address, external, Duration::from_secs(flags.listen))?;
    tell(&findings);
    ensure!(!findings.iter().any(|finding| finding.is_fatal), "this is in the way of walt-server-daemon");
    println!("nothing is in the way of walt-server-daemon on {interface}");
    Ok(())
}

/// What the configuration that is there calls the nodes' interface.
fn configured(flags: &Flags) -> Result<Option<String>, Error> {
    let Ok(text) = fs::read_to_string(&flags.config) else { return Ok(None) };
    Ok(crate::settings::File::parse(&text, &flags.config)?.interface_name().map(str::to_owned))
}

fn set_up(flags: &Flags) -> Result<(), Error> {
    be_root()?;
    let all = interfaces::list()?;
    let (chosen, wanted) = choose(flags, &all)?;
    let interface = wanted.as_ref().map_or(&chosen.name, |wanted| &wanted.interface).clone();
    let address = match &wanted {
        Some(wanted) => wanted.network.address,
        None => chosen.addresses.first().context("the interface has lost its address")?.address,
    };
    let edit = Edit::of(&flags.config, &interface, flags.external_dhcp)?;
    let plan = wanted.map(|wanted| Plan::new(Manager::find(&wanted)?, wanted)).transpose()?;

    // An interface that nobody has configured is down, and nothing can be heard on it.
    let was_down = Interface::by_name(&chosen.name).is_ok_and(|now| !now.up);
    if was_down {
        println!("{} is down: it is brought up, to listen on it", chosen.name);
        sys::ipv4::set_up(&chosen.name).with_context(|| format!("can not bring {} up", chosen.name))?;
    }
    let listen = Duration::from_secs(flags.listen);
    let findings = checks::all(&edit.settings()?, &chosen.name, address, flags.external_dhcp, listen)?;
    tell(&findings);
    ensure!(
        !findings.iter().any(|finding| finding.is_fatal),
        "nothing was changed: do what is said above, and come again"
    );

    show(plan.as_ref(), &edit);
    if !ask::agreed("Go on?", flags.yes, "--yes")? {
        bail!("nothing was changed");
    }
    apply(plan.as_ref(), &edit)?;
    if service::is_running() && service::exists(service::UNIT) {
        service::start()?;
        println!("{} is running; nodes reach it as {address} on {interface}", service::UNIT);
        println!("Let people use it: adduser NAME walt. Then power on a node, and see `walt node show`.");
    } else {
        println!("The configuration is written. Start walt-server-daemon; systemd is not there to do it.");
    }
    Ok(())
}

/// The network first, then the configuration, which is checked against it.
fn apply(plan: Option<&Plan>, edit: &Edit) -> Result<(), Error> {
    if let Some(plan) = plan {
        plan.apply()?;
    }
    let configure = || -> Result<(), Error> {
        let settings = edit.settings()?;
        NodeInterface::find(&settings.interface)?.dhcp(&settings)?;
        edit.write()
    };
    configure().map_err(|error| match plan.map(Plan::undo) {
        None => error,
        Some(Ok(())) => error.context("the network is as it was before"),
        Some(Err(undo)) => error.context(format!("what was done to the network could not be undone: {undo:#}")),
    })
}

fn be_root() -> Result<(), Error> {
    ensure!(rustix::process::geteuid().is_root(), "be root: `sudo walt-server-setup`");
    Ok(())
}

/// The interface on the wire, and what is to be made of it.
fn choose<'a>(flags: &Flags, all: &'a [Found]) -> Result<(&'a Found, Option<Wanted>), Error> {
    let proposed = interfaces::proposed(all).map(|found| found.name.clone());
    if flags.interface.is_none() && !flags.yes {
        all.iter().for_each(|found| println!("  {}", describe(found)));
    }
    let name = match &flags.interface {
        Some(name) => name.clone(),
        None => ask::value("Interface that the nodes are on", proposed, flags.yes, "--interface IFACE")?,
    };
    let chosen = interfaces::named(all, &name)?;
    // A port of the bridge that we made before: the bridge it is.
    if let Some(master) = &chosen.master {
        let bridge = flags.bridge.as_deref().unwrap_or(flags::BRIDGE);
        ensure!(master == bridge, "{name} is a port of {master}: say --interface {master}");
        return with_address(flags, all, interfaces::named(all, master)?, None);
    }
    if chosen.is_bridge || flags.no_bridge {
        return with_address(flags, all, chosen, None);
    }
    let bridge = flags.bridge.clone().unwrap_or_else(|| flags::BRIDGE.to_owned());
    let in_use = chosen.has_default_route || (!chosen.addresses.is_empty() && flags.bridge.is_none());
    if flags.bridge.is_some() && chosen.has_default_route {
        bail!(
            "{name} is how this machine reaches the rest of the world: as a port of a bridge it would lose its address. Take another interface, or make the bridge by hand and say --interface BRIDGE"
        );
    }
    let why = format!("Make a bridge {bridge} with {name} as its port? Virtual nodes need one.");
    let make = flags.bridge.is_some() || (!in_use && ask::agreed(&why, flags.yes, "--bridge or --no-bridge")?);
    if make && interfaces::named(all, &bridge).is_ok() {
        bail!("there is an interface {bridge} already: say --interface {bridge}, or --bridge OTHER_NAME");
    }
    with_address(flags, all, chosen, make.then_some(bridge))
}

/// The server's address: the one that is there, the one that is asked for, or one that collides with nothing.
fn with_address<'a>(
    flags: &Flags,
    all: &'a [Found],
    chosen: &'a Found,
    bridge: Option<String>,
) -> Result<(&'a Found, Option<Wanted>), Error> {
    let there = chosen.addresses.first().copied();
    let network = match (flags.network, there) {
        (None, Some(there)) => there,
        (Some(asked), Some(there)) => {
            let same = asked.prefix == there.prefix && asked.overlaps(there);
            ensure!(
                same,
                "{} has the address {there} already: leave --network out, or take that address away",
                chosen.name
            );
            there
        }
        (asked, None) => {
            let others: Vec<Network> = all.iter().flat_map(|found| found.addresses.iter().copied()).collect();
            let network = match asked {
                Some(network) => network,
                None => ask::value("Network of the nodes", free(&others), flags.yes, "--network ADDRESS/PREFIX")?,
            };
            if let Some(other) = others.iter().find(|other| other.overlaps(network)) {
                bail!("the network {network} overlaps with {other}, which this machine is on: say another --network");
            }
            network
        }
    };
    let wanted = match (bridge, there) {
        (None, Some(_)) => None,
        (None, None) => Some(Wanted { interface: chosen.name.clone(), port: None, network }),
        (Some(bridge), _) => Some(Wanted { interface: bridge, port: Some(chosen.name.clone()), network }),
    };
    Ok((chosen, wanted))
}

/// A network that this machine is not on.
fn free(others: &[Network]) -> Option<Network> {
    let mut candidates = (152..=254).map(|number| Network { address: [192, 168, number, 1].into(), prefix: 24 });
    candidates.find(|candidate| !others.iter().any(|other| other.overlaps(*candidate)))
}

fn describe(found: &Found) -> String {
    let mut text = format!("{:15}", found.name);
    found.addresses.iter().for_each(|network| text.push_str(&format!(" {network}")));
    for (is, what) in [
        (found.is_bridge, "a bridge".to_owned()),
        (found.has_default_route, "leads to the rest of the world".to_owned()),
        (found.master.is_some(), format!("a port of {}", found.master.as_deref().unwrap_or_default())),
        (!found.is_hardware && !found.is_bridge, "not a piece of hardware".to_owned()),
    ] {
        if is {
            text.push_str(&format!(" ({what})"));
        }
    }
    text
}

fn tell(findings: &[Finding]) {
    for Finding { text, advice, is_fatal } in findings {
        println!("{} {text}", if *is_fatal { "IN THE WAY:" } else { "note:" });
        println!("    {advice}");
    }
}

fn show(plan: Option<&Plan>, edit: &Edit) {
    let files: &[(PathBuf, String)] = plan.map_or(&[], |plan| &plan.files);
    for (path, content) in files {
        println!("\n{} will be:", path.display());
        content.lines().for_each(|line| println!("    {line}"));
    }
    if edit.is_done() {
        println!("\nthe configuration is as it should be");
        return;
    }
    println!("\nthe configuration changes:");
    edit.difference().iter().for_each(|line| println!("    {line}"));
    if let Some(kept) = edit.kept_as() {
        println!("    (the old one is kept as {})", kept.display());
    }
    println!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, address: Option<&str>, is_bridge: bool, has_default_route: bool) -> Found {
        let addresses = address.iter().map(|text| text.parse().unwrap()).collect();
        Found { name: name.into(), addresses, is_bridge, master: None, is_hardware: true, has_default_route }
    }

    fn chosen(all: &[Found], flags: &[&str]) -> Result<Option<Wanted>, String> {
        let flags = Flags::parse_from([&["walt-server-setup", "--yes"], flags].concat());
        choose(&flags, all).map(|(_, wanted)| wanted).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_is_chosen_is_what_was_said_or_what_harms_nobody() {
        let all = [found("eth0", Some("192.168.152.7/24"), false, true), found("eth1", None, false, false)];
        let bridge = |network: &str| Wanted {
            interface: "walt-net".into(),
            port: Some("eth1".into()),
            network: network.parse().unwrap(),
        };
        // 192.168.152.0/24 is taken.
        assert_eq!(chosen(&all, &[]), Ok(Some(bridge("192.168.153.0/24"))));
        assert_eq!(chosen(&all, &["--network", "10.1.0.0/16"]), Ok(Some(bridge("10.1.0.1/16"))));
        let plain = Wanted { interface: "eth1".into(), port: None, network: "10.1.0.9/16".parse().unwrap() };
        let flags = ["--interface", "eth1", "--no-bridge", "--network", "10.1.0.9/16"];
        assert_eq!(chosen(&all, &flags), Ok(Some(plain)));
        // What is configured is left as it is.
        let all = [found("eth1", Some("10.1.0.1/16"), false, false), found("br0", Some("10.2.0.1/16"), true, false)];
        assert_eq!(chosen(&all, &["--interface", "eth1"]), Ok(None));
        assert_eq!(chosen(&all, &["--interface", "br0", "--network", "10.2.0.0/16"]), Ok(None));
    }

    #[test]
    fn what_would_do_harm_is_refused() {
        let all = [
            found("eth0", Some("192.168.7.7/24"), false, true),
            Found { master: Some("br9".into()), ..found("eth1", None, false, false) },
            found("eth2", Some("10.1.0.1/16"), false, false),
            found("eth3", None, false, false),
        ];
        for (flags, expected) in [
            (&["--interface", "eth0", "--bridge"][..], "rest of the world"),
            (&["--interface", "eth1"], "--interface br9"),
            (&["--interface", "eth2", "--network", "10.9.0.0/16"], "already"),
            (&["--interface", "eth3", "--network", "192.168.0.0/16"], "overlaps"),
            (&["--interface", "eth3", "--bridge", "eth2"], "already"),
            (&["--interface", "eth9"], "eth0, eth1, eth2, eth3"),
        ] {
            let error = chosen(&all, flags).unwrap_err();
            assert!(error.contains(expected), "{flags:?}: {error}");
        }
    }
}
