//! ISC's dhcpd.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::lab::{BRIDGE, Lab};
use crate::process::{Background, tail};

/// isc-dhcp-server on the lab's bridge.
#[derive(Debug)]
pub struct Dhcpd {
    _process: Background,
}

impl Dhcpd {
    /// Starts it with this configuration.
    ///
    /// # Errors
    /// When it refuses its configuration.
    pub fn start(lab: &Lab, configuration: &str) -> Result<Self> {
        let file = lab.write("dhcpd.conf", configuration)?;
        let leases = lab.write("dhcpd.leases", "")?;
        let log = lab.logs().join("dhcpd.log");
        fs::create_dir_all("/run/dhcp-server")?;
        let mut command = Command::new("dhcpd");
        command.args(["-4", "-f", "-d", "-user", "root", "-group", "root", "-pf", "/run/dhcp-server/dhcpd.pid", "-cf"]);
        command.arg(file).arg("-lf").arg(leases).arg(BRIDGE);
        let mut process = Background::start("dhcpd", &mut command, &log)?;
        process
            .wait_until("started", Duration::from_secs(20), || tail(&log, 50).contains("Server starting service"))?;
        Ok(Self { _process: process })
    }
}
