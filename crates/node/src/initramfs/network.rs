//! The interface that the machine booted from, configured as its bootloader said.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Doing as _, Failure};
use crate::kernel_arguments::{IpArgument, KernelArguments};

/// How long an interface may take to appear, and a link to come up (a switch's spanning tree included).
const PATIENCE: Duration = Duration::from_secs(45);

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(5);

const INTERFACES: &str = "/sys/class/net";

/// `ARPHRD_ETHER` of linux/if_arp.h.
const ETHERNET: &str = "1";

/// Configures the interface; returns its name.
pub(super) fn configure(kernel: &KernelArguments) -> Result<String, Failure> {
    let argument = kernel.get("ip").ok_or_else(|| Failure::new("no ip= among the kernel's arguments"))?;
    let ip = IpArgument::parse(argument);
    let address = ip.client.ok_or_else(|| Failure::new(format!("ip={argument} has no client address")))?;
    let netmask = ip.netmask.unwrap_or_else(|| class_netmask(address));
    let mac = kernel.get("BOOTIF").and_then(boot_interface_mac);

    // The loopback interface is every program's right; it is not worth a failed boot.
    let _ = sys::ipv4::set_up("lo");
    let name = wait_for("the boot interface", || find(mac.as_deref(), ip.device.as_deref())).map_err(|_| {
        Failure::new(format!("no network interface {}", mac.as_deref().unwrap_or("at all (its driver may be missing)")))
    })?;
    sys::ipv4::set_up(&name).doing(|| format!("set {name} up"))?;
    sys::ipv4::set_address(&name, address, netmask).doing(|| format!("give {name} the address {address}"))?;
    if let Some(gateway) = ip.gateway {
        sys::ipv4::add_default_route(gateway).doing(|| format!("add the default route by {gateway}"))?;
    }
    if let Some(host_name) = ip.host_name {
        rustix::system::sethostname(host_name.as_bytes()).doing(|| format!("set the host name {host_name}"))?;
    }
    // What is sent before the link is up is lost, and TCP would send it again only after 1 s, 3 s, 7 s.
    let carrier = Path::new(INTERFACES).join(&name).join("carrier");
    wait_for("the link", || fs::read_to_string(&carrier).ok().filter(|text| text.trim() == "1"))
        .map_err(|_| Failure::new(format!("{name} has no link (cable, switch)")))?;
    Ok(name)
}

/// `01-52-54-00-12-34-56` (hardware type, address) -> `52:54:00:12:34:56`.
fn boot_interface_mac(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split(['-', ':']).collect();
    let address = if parts.len() == 7 { &parts[1..] } else { &parts[..] };
    let good = address.len() == 6 && address.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
    good.then(|| address.join(":").to_ascii_lowercase())
}

/// The interface of this address, else of this name, else the first Ethernet one.
fn find(mac: Option<&str>, device: Option<&str>) -> Option<String> {
    let mut interfaces: Vec<_> = fs::read_dir(INTERFACES).ok()?.flatten().collect();
    interfaces.sort_by_key(fs::DirEntry::file_name);
    let attribute = |entry: &fs::DirEntry, name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
    let found = interfaces.into_iter().find(|entry| match (mac, device) {
        (Some(mac), _) => attribute(entry, "address").trim() == mac,
        (None, Some(device)) => entry.file_name() == device,
        (None, None) => attribute(entry, "type").trim() == ETHERNET,
    });
    found.and_then(|entry| entry.file_name().into_string().ok())
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(format!("{what} did not come")));
        }
        thread::sleep(INTERVAL);
    }
}

/// The kernel's own guess when `ip=` has no netmask (nfsroot.rst): by the address's class.
fn class_netmask(address: Ipv4Addr) -> Ipv4Addr {
    match address.octets()[0] {
        0..=127 => Ipv4Addr::new(255, 0, 0, 0),
        128..=191 => Ipv4Addr::new(255, 255, 0, 0),
        _ => Ipv4Addr::new(255, 255, 255, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootif_is_an_address_behind_its_hardware_type() {
        let mac = Some("52:54:00:ab:cd:ef".to_owned());
        assert_eq!(boot_interface_mac("01-52-54-00-AB-cd-ef"), mac);
        assert_eq!(boot_interface_mac("52:54:00:ab:cd:ef"), mac);
        for text in ["", "01", "01-52-54-00-ab", "01-52-54-00-ab-cd-e", "01-52-54-00-ab-cd-gg"] {
            assert_eq!(boot_interface_mac(text), None, "{text}");
        }
    }
}
