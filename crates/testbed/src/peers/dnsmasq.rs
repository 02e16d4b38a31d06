//! dnsmasq: DHCP, and TFTP if its configuration says so.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::lab::Lab;
use crate::process::{Background, tail};

/// dnsmasq on the lab's bridge.
#[derive(Debug)]
pub struct Dnsmasq {
    _process: Background,
}

impl Dnsmasq {
    /// Starts it with this configuration; it must name the lab's bridge, and turn DNS off.
    ///
    /// # Errors
    /// When it refuses its configuration.
    pub fn start(lab: &Lab, configuration: &str) -> Result<Self> {
        let leases = lab.state().join("dnsmasq.leases");
        let file = lab.write("dnsmasq.conf", configuration)?;
        let log = lab.logs().join("dnsmasq.log");
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--user=root", "--pid-file="]);
        command.arg(format!("--conf-file={}", file.display())).arg(format!("--dhcp-leasefile={}", leases.display()));
        let mut process = Background::start("dnsmasq", &mut command, &log)?;
        process.wait_until("started", Duration::from_secs(20), || tail(&log, 50).contains("started, version"))?;
        Ok(Self { _process: process })
    }
}
