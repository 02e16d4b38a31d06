//! The DHCP server and the router advertisement alone, on one interface: for tests with real clients.
//!
//! `dhcp-serve INTERFACE [LEASES] [FIRST-LAST] [relayed=ADDRESS/PREFIX]…` prints a line per event and per lease
//! change. LEASES is a file of `mac ip` lines, read at the start and appended to (`-` for none).

use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::Arc;

use sys::Interface;
use tokio::sync::mpsc;
use walt_net::dhcp::{Server, Settings, Subnet};
use walt_net::{Event, Events, Exports, MacAddr};

type Error = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let interface = Interface::by_name(arguments.first().ok_or("which interface?")?)?;
    let &(server, prefix) = interface.addresses.first().ok_or("the interface has no IPv4 address")?;
    let mut settings = Settings::new(server, Subnet::around(server, prefix)?);
    let mut file = None;
    for argument in &arguments[1..] {
        if let Some(relayed) = argument.strip_prefix("relayed=") {
            let (address, prefix) = relayed.split_once('/').ok_or("ADDRESS/PREFIX")?;
            settings.relayed.push(Subnet::around(address.parse()?, prefix.parse()?)?);
        } else if let Some((first, last)) = argument.split_once('-').filter(|(first, _)| !first.is_empty()) {
            settings.subnet = settings.subnet.with_range(first.parse()?, last.parse()?)?;
        } else if argument != "-" {
            file = Some(argument);
        }
    }
    let leases = match file.map(std::fs::read_to_string) {
        Some(Ok(text)) => parse(&text)?,
        _ => Vec::new(),
    };
    let mut kept = file.map(|path| std::fs::OpenOptions::new().create(true).append(true).open(path)).transpose()?;

    let (events, mut heard) = Events::channel(16_384);
    let (changes, mut changed) = mpsc::channel(16_384);
    let dhcp = Server::bind(&interface, settings, leases, Arc::new(Exports::default()), events, changes)?;
    let counters = dhcp.counters();
    match walt_net::ra::Server::bind(&interface) {
        Ok(advertiser) => drop(tokio::spawn(advertiser.run())),
        Err(error) => eprintln!("{error}: {}", error.cause),
    }
    let mut counted = tokio::time::interval(std::time::Duration::from_secs(2));
    let serving = dhcp.run();
    tokio::pin!(serving);
    println!("ready");
    loop {
        tokio::select! {
            ended = &mut serving => { ended?; }
            Some(event) = heard.recv() => match event {
                Event::Lease(lease) if lease.vci.is_empty() && lease.uci.is_empty() => {}
                Event::Lease(lease) => println!("{lease:?}"),
                Event::Dhcp { client: "other", .. } => {}
                event => println!("{event:?}"),
            },
            Some(change) = changed.recv() => {
                if let (Some(file), Some(ip)) = (&mut kept, change.ip) {
                    writeln!(file, "{} {ip}", change.mac)?;
                }
            }
            _ = counted.tick() => eprintln!("{counters:?}"),
        }
    }
}

fn parse(text: &str) -> Result<Vec<(MacAddr, Ipv4Addr)>, Error> {
    let line = |line: &str| -> Result<_, Error> {
        let (mac, ip) = line.split_once(' ').ok_or("mac ip")?;
        Ok((mac.parse()?, ip.parse()?))
    };
    text.lines().map(line).collect()
}
