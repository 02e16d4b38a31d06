//! A host on the lab's bridge that is no machine: a network namespace, for clients that only need a node's address.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::lab::{BRIDGE, Lab, PREFIX};
use crate::process::{run, run_words};

/// One host; it ends with the lab.
#[derive(Debug)]
pub struct Host {
    name: String,
    lease_script: std::path::PathBuf,
}

impl Host {
    /// Plugs a host with this Ethernet address into the bridge. `name` is a word of at most 10 letters.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn plug_in(lab: &Lab, name: &str, mac: &str) -> Result<Self> {
        run_words(&format!("ip netns add {name}"))?;
        run_words(&format!("ip link add port-{name} type veth peer name eth0 address {mac} netns {name}"))?;
        run_words(&format!("ip link set port-{name} master {BRIDGE} up"))?;
        for interface in ["lo", "eth0"] {
            run_words(&format!("ip -n {name} link set {interface} up"))?;
        }
        // udhcpc(8) leaves everything to its script: `mask` is the length of the prefix.
        let text = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr replace \"$ip/$mask\" dev \"$interface\"\n";
        let lease_script = lab.write(&format!("{name}.lease"), text)?;
        std::fs::set_permissions(&lease_script, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { name: name.to_owned(), lease_script })
    }

    /// Asks DHCP for an address, as a client of this vendor class, and takes it.
    ///
    /// # Errors
    /// When no server gives one.
    pub fn lease(&self, vendor_class: &str) -> Result<()> {
        let mut udhcpc = self.command("udhcpc");
        udhcpc.args(["-f", "-q", "-n", "-t", "10", "-T", "1", "-i", "eth0", "-V", vendor_class, "-s"]);
        run(udhcpc.arg(&self.lease_script)).map(drop).with_context(|| format!("{} gets no address", self.name))
    }

    /// The address that it has.
    ///
    /// # Errors
    /// When it has none.
    pub fn address(&self) -> Result<Ipv4Addr> {
        let text = run_words(&format!("ip -n {} -4 -o address show dev eth0 scope global", self.name))?;
        let address = text.split_whitespace().skip_while(|word| *word != "inet").nth(1);
        let address = address.and_then(|address| address.split('/').next()?.parse().ok());
        address.with_context(|| format!("{} has no address: {text:?}", self.name))
    }

    /// Gives it this address, and no other.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take_address(&self, address: Ipv4Addr) -> Result<()> {
        run_words(&format!("ip -n {} address flush dev eth0", self.name))?;
        run_words(&format!("ip -n {} address add {address}/{PREFIX} dev eth0", self.name)).map(drop)
    }

    /// Runs `work` on a thread of this host: what sockets it opens are the host's.
    ///
    /// # Errors
    /// When the host's network cannot be entered, or `work` fails.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.name);
        let space = std::fs::File::open(&path).with_context(|| format!("cannot open {path}"))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                // setns(2): a thread may have a network of its own.
                let entered = move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network));
                entered.context("cannot enter a network namespace")?;
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A program that runs on this host, ready for its arguments.
    pub fn command(&self, program: &str) -> Command {
        // `ip netns exec` would mount file systems each time: noticeable for programs that run for milliseconds.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program);
        command
    }
}
