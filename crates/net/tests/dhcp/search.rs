//! The search for other servers, with real ones.

use std::sync::Arc;
use std::time::Duration;

use sys::Interface;
use walt_net::Exports;
use walt_net::dhcp::{FoundServer, find_servers};

use super::netns::{Net, Running, SERVER, wait_for};

fn search(net: &Net, name: &str, seconds: u64) -> Vec<FoundServer> {
    net.within(name, || find_servers(&Interface::by_name("eth0").unwrap(), Duration::from_secs(seconds)).unwrap())
}

#[test]
fn who_offers_an_address_is_found_and_where_nobody_does_nobody_is() {
    let mut net = Net::new();
    net.add_client("asker");
    assert_eq!(search(&net, "asker", 1), []);

    let ours = net.serve(|settings| settings, &[], Arc::new(Exports::default()));
    let found = search(&net, "asker", 2);
    assert!(matches!(found[..], [FoundServer { server: SERVER, .. }]), "{found:?}");
    drop(ours);

    // dnsmasq tries each address with a ping of 3 s before it offers it, unless it is told not to.
    net.add_client("other");
    net.ip("other", "addr add 10.77.0.9/16 dev eth0");
    let mut command = net.command("other", "dnsmasq");
    command.args(["--keep-in-foreground", "--port=0", "--log-facility=-", "--pid-file=", "--user=root"]);
    command.args([
        "--conf-file=/dev/null",
        "--dhcp-range=10.77.1.1,10.77.1.9",
        "--dhcp-authoritative",
        "--interface=eth0",
    ]);
    let (leases, log) = (net.path("leases"), net.path("dnsmasq.log"));
    let _dnsmasq = Running::start(command.arg(format!("--dhcp-leasefile={}", leases.display())), &log);
    wait_for("dnsmasq runs", Duration::from_secs(10), || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("DHCP, IP range"))
    });
    let found = search(&net, "asker", 5);
    assert!(found.len() == 1 && found[0].server.octets() == [10, 77, 0, 9], "{found:?}");
    assert_eq!(found[0].offers.octets()[..3], [10, 77, 1]);
}
