//! The kernel's messages, sent to the server from here on (Linux, Documentation/networking/netconsole.rst): what a kernel says
//! when it dies is on no disk.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use wire::node::NETCONSOLE_PORT;

use crate::failure::{Doing as _, Failure};
use crate::kernel_modules;
use crate::settings::Settings;

/// Loads netconsole, if the image's kernel has it as a module.
pub(super) fn start(settings: &Settings) -> Result<String, Failure> {
    if !settings.netconsole {
        return Ok("not wanted (walt.netconsole=no)".into());
    }
    if Path::new("/sys/module/netconsole").exists() {
        return Ok("the kernel has its own".into());
    }
    let neighbours = fs::read_to_string("/proc/net/arp").doing(|| "read /proc/net/arp".into())?;
    let Some((interface, address)) = neighbour(&neighbours, settings.server) else {
        return Ok(format!("none: {} is not a neighbour", settings.server));
    };
    if !kernel_modules::is_there("netconsole") {
        return Ok("not in this image".into());
    }
    let target = format!("@/{interface},{NETCONSOLE_PORT}@{}/{address}", settings.server);
    kernel_modules::load_with("netconsole", &format!("netconsole={target}"))?;
    Ok(target)
}

/// Interface and Ethernet address of a neighbour, from the text of /proc/net/arp (proc_net(5)): address, hardware type,
/// flags, hardware address, mask, device.
fn neighbour(text: &str, wanted: Ipv4Addr) -> Option<(&str, &str)> {
    text.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [address, _, flags, mac, _, device] = fields[..] else { return None };
        // ATF_COM: the address is known.
        let complete = flags.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok())? & 2 != 0;
        (complete && address.parse() == Ok(wanted)).then_some((device, mac))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_a_neighbour_or_not() {
        let text = "IP address       HW type     Flags       HW address            Mask     Device\n\
                    10.0.0.7         0x1         0x0         00:00:00:00:00:00     *        eth0\n\
                    10.0.0.1         0x1         0x2         02:77:61:6c:74:01     *        eth0\n";
        let of = |last| neighbour(text, Ipv4Addr::new(10, 0, 0, last));
        assert_eq!(of(1), Some(("eth0", "02:77:61:6c:74:01")));
        assert_eq!(of(7), None, "it has not answered");
        assert_eq!(of(8), None);
        assert_eq!(neighbour("", Ipv4Addr::LOCALHOST), None);
    }
}
