//! What would be in the way of the daemon on this machine.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Error};
use net::bootfile::Loaders;
use net::dhcp::{FoundServer, find_servers};
use sys::Interface;

use super::ports::{self, Taken};
use crate::settings::Settings;

/// Something that is not as it should be, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) text: String,
    pub(super) advice: String,
    /// The daemon does not start with it, or nodes do not boot.
    pub(super) is_fatal: bool,
}

/// Looks at all there is.
///
/// # Errors
/// Something can not be looked at.
pub(super) fn all(
    settings: &Settings,
    wire: &str,
    address: Ipv4Addr,
    external_dhcp: bool,
    listen: Duration,
) -> Result<Vec<Finding>, Error> {
    let taken = ports::taken(address, wire, external_dhcp).context("can not try the ports that the daemon needs")?;
    let mut findings = of_ports(&taken);
    if !external_dhcp {
        println!("looking for other DHCP servers on {wire} for {} s ...", listen.as_secs());
        findings.extend(other_dhcp(wire, listen)?);
    }
    findings.extend(files(settings));
    Ok(findings)
}

/// Programs with several ports are named once.
fn of_ports(taken: &[Taken]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for Taken { protocol, port, what_for, by } in taken {
        let (who, advice) = match by {
            Some(by) => (by.program.clone(), format!("stop it: {}", by.stop)),
            None => {
                let list = if *protocol == ports::Protocol::Udp { "ss -lunp" } else { "ss -ltnp" };
                ("a program".to_owned(), format!("find and stop it: {list} sport = :{port}"))
            }
        };
        let has = format!("{protocol} port {port}, which is needed for {what_for}");
        match findings.iter_mut().find(|finding| by.is_some() && finding.advice == advice) {
            Some(finding) => finding.text.push_str(&format!("; and {has}")),
            None => findings.push(Finding { text: format!("{who} has {has}"), advice, is_fatal: true }),
        }
    }
    findings
}

fn other_dhcp(wire: &str, listen: Duration) -> Result<Vec<Finding>, Error> {
    let interface = Interface::by_name(wire)?;
    if !interface.up {
        return Ok(vec![Finding {
            text: format!("{wire} is down: whether there is another DHCP server can not be seen"),
            advice: format!("bring it up and look again: ip link set {wire} up"),
            is_fatal: false,
        }]);
    }
    let servers = find_servers(&interface, listen).context("can not look for other DHCP servers")?;
    let told = servers.into_iter().map(|FoundServer { server, offers }| Finding {
        text: format!("another DHCP server, {server}, answers on {wire} (it offers {offers}): nodes would ask either"),
        advice: "stop it, or take nodes off its network; or keep it and have it tell us: --external-dhcp, and \
                 docs/external-dhcp"
            .to_owned(),
        is_fatal: true,
    });
    Ok(told.collect())
}

fn files(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = Loaders::load(&settings.ipxe_dir) {
        let text = format!("network bootloaders: {:#}", Error::from(error));
        findings.push(Finding { text, advice: "apt install ipxe".to_owned(), is_fatal: true });
    }
    let agent = settings.agent_dir.join("x86_64/walt-node");
    if !agent.exists() {
        findings.push(Finding {
            text: format!("there is no agent for nodes: {} does not exist", agent.display()),
            advice: "install the package again; or say where agents are: `agent_dir` in the configuration".to_owned(),
            is_fatal: true,
        });
    }
    if !Path::new("/dev/fuse").exists() {
        findings.push(Finding {
            text: "there is no /dev/fuse: images can not be looked into on this machine; nodes boot all the same"
                .to_owned(),
            advice: "modprobe fuse".to_owned(),
            is_fatal: false,
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::ports::{Holder, Protocol};

    #[test]
    fn a_program_with_several_ports_is_stopped_once() {
        let by =
            Some(Holder { program: "rpcbind.socket".into(), stop: "systemctl disable --now rpcbind.socket".into() });
        let taken = |protocol, by: &Option<Holder>| Taken { protocol, port: 111, what_for: "NFS", by: by.clone() };
        let findings = of_ports(&[taken(Protocol::Udp, &by), taken(Protocol::Tcp, &by), taken(Protocol::Tcp, &None)]);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].text.contains("udp port 111") && findings[0].text.contains("tcp port 111"));
        assert_eq!(findings[0].advice, "stop it: systemctl disable --now rpcbind.socket");
        assert!(findings[1].advice.contains("ss -ltnp"));
    }
}
