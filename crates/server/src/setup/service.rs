//! systemd, as far as it has to be asked and told.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Error, bail};

/// Our unit.
pub(super) const UNIT: &str = "walt-server.service";

/// Whether systemd is this machine's process 1 (sd_booted(3)).
pub(super) fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether a unit is active.
pub(super) fn is_active(unit: &str) -> bool {
    is_running() && run("systemctl", &["--quiet", "is-active", unit]).is_ok()
}

/// Whether a unit is known.
pub(super) fn exists(unit: &str) -> bool {
    is_running() && run("systemctl", &["cat", unit]).is_ok()
}

/// The unit that a process belongs to, from the text of its /proc/PID/cgroup (cgroups(7)).
pub(super) fn unit_of(cgroup: &str) -> Option<String> {
    let paths = cgroup.lines().filter_map(|line| line.rsplit(':').next());
    let units = paths.filter(|path| path.contains("system.slice/")).filter_map(|path| path.rsplit('/').next());
    units.filter(|name| name.ends_with(".service")).map(str::to_owned).next()
}

/// The socket unit that listens on this port.
pub(super) fn socket_unit(port: u16) -> Option<String> {
    let text = run("systemctl", &["list-sockets", "--all", "--full", "--no-legend", "--no-pager"]).ok()?;
    listener(&text, port)
}

/// From lines such as `0.0.0.0:111 rpcbind.socket rpcbind.service`.
fn listener(text: &str, port: u16) -> Option<String> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let on = words.next()?.rsplit(':').next()?.parse() == Ok(port);
        words.find(|word| on && word.ends_with(".socket")).map(str::to_owned)
    })
}

/// What would start a unit again.
pub(super) fn triggers(unit: &str) -> Vec<String> {
    let text = run("systemctl", &["show", "--property=TriggeredBy", "--value", unit]).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Has our service start now and with the machine.
pub(super) fn start() -> Result<(), Error> {
    run("systemctl", &["enable", UNIT])?;
    // It may run already, with the old configuration.
    match run("systemctl", &["restart", UNIT]) {
        Ok(_) => Ok(()),
        Err(error) => {
            let log = run("journalctl", &["--unit", UNIT, "--lines=15", "--no-pager", "--output=cat"]);
            let log = log.unwrap_or_default();
            bail!("{error:#}\n{}\nThe configuration is written. `systemctl restart {UNIT}` tries again.", log.trim())
        }
    }
}

/// Runs a program to its end, and gives what it printed.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<String, Error> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("can not run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{program} {}` failed ({}): {}", arguments.join(" "), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_found() {
        assert_eq!(unit_of("0::/system.slice/dnsmasq.service\n").as_deref(), Some("dnsmasq.service"));
        let hybrid = "1:name=systemd:/system.slice/tftpd-hpa.service\n0::/system.slice/tftpd-hpa.service\n";
        assert_eq!(unit_of(hybrid).as_deref(), Some("tftpd-hpa.service"));
        assert_eq!(unit_of("0::/user.slice/user-0.slice/session-1.scope\n"), None);
        assert_eq!(unit_of("0::/system.slice/docker-0a1b.scope\n"), None);
        let list = "/run/udev/control systemd-udevd-control.socket systemd-udevd.service\n\
                    0.0.0.0:111           rpcbind.socket rpcbind.service\n[::]:69 tftp.socket tftp.service\n";
        assert_eq!(listener(list, 111).as_deref(), Some("rpcbind.socket"));
        assert_eq!(listener(list, 69).as_deref(), Some("tftp.socket"));
        assert_eq!(listener(list, 80), None);
    }
}
