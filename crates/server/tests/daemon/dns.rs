//! Names, asked for by the programs that people use.

use std::time::{Duration, Instant};

use crate::network::{Network, OUTSIDE, SERVER};

const ADA: &str = "node-00ab01";
const BOB: &str = "node-00ab02";

/// `dig` from a machine; with `+short`, the data alone.
fn dig(network: &Network, machine: &str, words: &str) -> String {
    let server = format!("@{SERVER}");
    let arguments: Vec<_> =
        [server.as_str(), "+tries=1", "+time=8"].into_iter().chain(words.split_whitespace()).collect();
    network.run(machine, "dig", &arguments).trim().to_owned()
}

/// The C library's answer to a program, with what an image has in /etc/resolv.conf.
fn getent(network: &Network, machine: &str, name: &str) -> Option<String> {
    let file = network.lab.dir.path().join("resolv.conf");
    std::fs::write(&file, format!("nameserver {SERVER}\nsearch walt\n")).unwrap();
    let script = format!("mount --bind {} /etc/resolv.conf && exec getent ahostsv4 \"$0\"", file.display());
    let output = network.output(machine, "unshare", &["--mount", "sh", "-c", &script, name]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().map(str::to_owned).filter(|_| output.status.success())
}

#[test]
fn nodes_find_one_another_and_those_behind_nat_the_world() {
    let network = Network::new(&["ada", "bob"]);
    // Its records: an address, a text that is longer than a datagram, and nothing for the rest.
    let text = "x".repeat(250);
    let upstream = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file=",
        "--address=/example.org/192.0.2.7",
        "--address=/example.net/",
        &format!("--txt-record=long.example.com,{}", [text.as_str(); 12].join(",")),
    ];
    let upstream = network.background("outside", "dnsmasq", &upstream);
    let daemon = network.start(&format!("[dns]\nforwarders = [\"{OUTSIDE}\"]\n"));
    for (machine, name) in [("ada", ADA), ("bob", BOB)] {
        let told = network.dhcp(machine);
        for line in [&format!("dns={SERVER}"), "domain=walt"] {
            assert!(told.lines().any(|found| found == line), "{line}: {told}");
        }
        daemon.wait_for_node(name);
    }
    daemon.set_netsetup(ADA, "NAT");
    network.dhcp("ada");
    let (ada, bob) = (network.address("ada"), network.address("bob"));

    for machine in ["ada", "bob"] {
        for (words, expected) in [
            (BOB, bob.as_str()),
            ("NODE-00ab02.Walt.", &bob),
            (ADA, &ada),
            ("+tcp walt-server.walt", SERVER),
            ("server AAAA", ""),
            (&format!("-x {bob}"), &format!("{BOB}.walt.")),
            (&format!("-x {SERVER}"), "walt-server.walt."),
        ] {
            assert_eq!(dig(&network, machine, &format!("+short {words}")), *expected, "{machine} {words}");
        }
        let unknown = dig(&network, machine, "nobody.walt");
        assert!(unknown.contains("status: NXDOMAIN") && unknown.contains("SOA\twalt-server.walt."), "{unknown}");
        assert_eq!(getent(&network, machine, BOB).as_ref(), Some(&bob));
        assert_eq!(getent(&network, machine, &format!("{ADA}.walt")).as_ref(), Some(&ada));
        assert_eq!(getent(&network, machine, "nobody"), None);
        let nslookup = network.run(machine, "busybox", &["nslookup", &format!("{BOB}.walt"), SERVER]);
        assert!(nslookup.contains(&bob), "{nslookup}");
    }

    // A new name is there at once, and the old one is not.
    assert_eq!(daemon.request("POST", &format!("/v1/nodes/{BOB}/rename"), r#"{"name": "kitchen"}"#).0, 204);
    assert_eq!(dig(&network, "ada", "+short kitchen"), bob);
    assert_eq!(dig(&network, "ada", &format!("+short -x {bob}")), "kitchen.walt.");
    assert!(dig(&network, "ada", BOB).contains("status: NXDOMAIN"));
    assert_eq!(getent(&network, "ada", "kitchen").as_ref(), Some(&bob));

    // The world.
    assert_eq!(dig(&network, "ada", "+short www.example.org"), "192.0.2.7");
    assert_eq!(getent(&network, "ada", "www.example.org").as_deref(), Some("192.0.2.7"));
    assert!(dig(&network, "ada", "example.net").contains("status: NXDOMAIN"));
    let cut = dig(&network, "ada", "+ignore +bufsize=1232 TXT long.example.com");
    assert!(cut.contains("flags: qr tc"), "{cut}");
    let whole = dig(&network, "ada", "+short TXT long.example.com");
    assert_eq!(whole.matches(&text).count(), 12, "over TCP");
    let begun = Instant::now();
    let refused = dig(&network, "bob", "www.example.org");
    assert!(refused.contains("status: NXDOMAIN") && refused.contains("netsetup=NAT"), "{refused}");
    assert_eq!(getent(&network, "bob", "www.example.org"), None);
    assert!(begun.elapsed() < Duration::from_secs(2), "nobody waits: {:?}", begun.elapsed());

    // Without the other server: an answer, before the client asks again.
    drop(upstream);
    let begun = Instant::now();
    assert!(dig(&network, "ada", "www.example.org").contains("status: SERVFAIL"));
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());

    // From outside of the platform, by whatever way.
    network.ip("outside", "route add 10.9.8.0/24 via 203.0.113.1");
    let stranger = network.output("outside", "dig", &[&format!("@{SERVER}"), "+tries=1", "+time=1", "kitchen"]);
    assert!(!stranger.status.success(), "{stranger:?}");

    let status = daemon.show("/v1/status");
    let counter = |name: &str| status["counters"][name].as_u64().unwrap_or_else(|| panic!("{name}: {status}"));
    assert!(counter("dns.queries") > 40 && counter("dns.forwarded") >= 6);
    assert!(counter("dns.failed") >= 1 && counter("dns.refused") >= 3 && counter("dns.malformed") == 0);
}

#[test]
fn another_program_can_have_the_port_if_dns_is_off() {
    let network = Network::new(&[]);
    let other = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--user=root", "--pid-file="];
    let _other = network.background("server", "dnsmasq", &other);
    let tables = || network.run("server", "cat", &["/proc/net/udp"]);
    network.lab.wait_until("dnsmasq has the port", || tables().contains(":0035 "));
    let daemon = network.start("[dns]\nenabled = false\n");
    assert!(daemon.show("/v1/status")["counters"].get("dns.queries").is_none());
}
