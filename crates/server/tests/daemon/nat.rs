//! Nodes behind NAT: packets of real machines through the kernel.

use std::io::{BufRead, BufReader, Write};
use std::time::{Duration, Instant};

use crate::lab::Lab;
use crate::network::{Background, Network, OUTSIDE, SERVER, SERVER_OUTSIDE};

const ADA: &str = "node-00ab01";
const BOB: &str = "node-00ab02";

/// Answers each line with the address of who sent it, and the line.
const ECHO: &str = "import socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(self.client_address[0].encode() + b' ' + line)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
with Server(('0.0.0.0', 7), Echo) as server:
    print('ready', flush=True)
    server.serve_forever()";

/// Sends its lines to the address that is its argument, and prints the answers.
const TALK: &str = "import socket, sys
s = socket.create_connection((sys.argv[1], 7), 5)
f = s.makefile('rw')
for line in sys.stdin:
    f.write(line); f.flush()
    print(f.readline(), end='', flush=True)";

/// A connection of a node to the machine outside.
struct Talk(Background, BufReader<std::process::ChildStdout>);

impl Talk {
    fn new(network: &Network, node: &str, address: &str) -> Self {
        let mut talk = network.background(node, "python3", &["-c", TALK, address]);
        let output = BufReader::new(talk.0.stdout.take().unwrap());
        Self(talk, output)
    }

    /// What comes back of a line; empty if the connection has broken.
    fn say(&mut self, line: &str) -> String {
        let mut answer = String::new();
        if writeln!(self.0.0.stdin.as_ref().unwrap(), "{line}").is_ok() {
            self.1.read_line(&mut answer).unwrap();
        }
        answer.trim().to_owned()
    }
}

/// The addresses in the kernel's table.
fn behind_nat(network: &Network) -> String {
    let output = network.output("server", "nft", &["list", "set", "ip", "walt", "behind_nat"]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_once("elements = {")
        .and_then(|(_, rest)| rest.split_once('}'))
        .map_or("", |(list, _)| list.trim())
        .into()
}

#[test]
fn packets_pass_for_those_behind_nat_alone_and_outlive_the_daemon() {
    let network = Network::new(&["ada", "bob"]);
    let mut echo = network.background("outside", "python3", &["-c", ECHO]);
    BufReader::new(echo.0.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let mut daemon = network.start("");
    for (machine, name) in [("ada", ADA), ("bob", BOB)] {
        assert!(!network.dhcp(machine).contains("router="), "{machine}");
        daemon.wait_for_node(name);
    }
    let (ada, bob) = (network.address("ada"), network.address("bob"));
    // A hostile machine makes its own routes.
    network.ip("bob", &format!("route add default via {SERVER}"));
    assert!(network.pings("bob", SERVER) && !network.pings("bob", OUTSIDE));
    let forwarding = || network.run("server", "cat", &["/proc/sys/net/ipv4/ip_forward"]);
    assert_eq!((forwarding().trim(), network.run("server", "nft", &["list", "tables"])), ("0", String::new()));

    // Somebody else's table, which is none of our business.
    network.run("server", "nft", &["add table ip other"]);
    daemon.set_netsetup(ADA, "NAT");
    network.lab.wait_until("ada is in the table", || behind_nat(&network) == ada);
    assert!(!network.pings("ada", OUTSIDE), "it has no route yet");
    assert!(network.dhcp("ada").lines().any(|line| line == format!("router={SERVER}")));
    assert_eq!((forwarding().trim(), network.address("ada")), ("1", ada.clone()));
    assert!(network.pings("ada", OUTSIDE));
    // The machine outside has no route to the platform: this is the server's address, or there would be no answer.
    let mut talk = Talk::new(&network, "ada", OUTSIDE);
    assert_eq!(talk.say("one"), format!("{SERVER_OUTSIDE} one"));
    // Now packets are passed on; but not bob's, nor those of machines outside that make their own routes.
    assert!(!network.pings("bob", OUTSIDE));
    assert!(!network.dhcp("bob").contains("router="));
    network.ip("bob", &format!("route add default via {SERVER}"));
    network.ip("outside", &format!("route add 10.9.8.0/24 via {SERVER_OUTSIDE}"));
    assert!(!network.pings("outside", &ada) && !network.pings("outside", &bob));
    assert!(!network.pings("bob", OUTSIDE), "with a way back, too");
    // Save for what the administrator passes on: a port of the server that is the outside machine's.
    let rules = format!(
        "add chain ip other prerouting {{ type nat hook prerouting priority dstnat; }}
         add rule ip other prerouting ip daddr {SERVER} tcp dport 7 dnat to {OUTSIDE}"
    );
    network.run("server", "nft", &[&rules]);
    assert_eq!(Talk::new(&network, "bob", SERVER).say("hello"), format!("{bob} hello"));

    daemon.signal("KILL");
    daemon.child.wait().unwrap();
    assert_eq!(talk.say("two"), format!("{SERVER_OUTSIDE} two"));
    let daemon = network.start("");
    network.lab.wait_until("the new daemon has set it", || {
        std::fs::read_to_string(network.log()).unwrap().matches("devices behind NAT").count() == 2
    });
    assert_eq!(behind_nat(&network), ada);
    assert_eq!(talk.say("three"), format!("{SERVER_OUTSIDE} three"));
    assert!(network.run("server", "nft", &["list", "tables"]).contains("table ip other"));

    // What a restart of nftables.service does.
    network.run("server", "nft", &["flush", "ruleset"]);
    network.lab.wait_until("it is set again", || behind_nat(&network) == ada);
    assert!(network.pings("ada", OUTSIDE) && !network.pings("bob", OUTSIDE));

    daemon.set_netsetup(BOB, "NAT");
    daemon.set_netsetup(ADA, "LAN");
    network.lab.wait_until("bob alone is in the table", || behind_nat(&network) == bob);
    assert!(network.pings("bob", OUTSIDE) && !network.pings("ada", OUTSIDE));
    let (name, begun) = (format!("/v1/nodes/{BOB}?force=true"), Instant::now());
    assert_eq!(daemon.request("DELETE", &name, "").0, 204);
    network.lab.wait_until("nobody is in the table", || behind_nat(&network).is_empty());
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(!network.pings("bob", OUTSIDE));
    daemon.signal("TERM");
}

#[test]
fn others_pass_if_the_administrator_says_so() {
    let network = Network::new(&["ada", "bob"]);
    let daemon = network.start("[nat]\nisolate = false\n");
    for machine in ["ada", "bob"] {
        network.dhcp(machine);
    }
    daemon.wait_for_node(ADA);
    daemon.set_netsetup(ADA, "NAT");
    network.lab.wait_until("ada is in the table", || behind_nat(&network) == network.address("ada"));
    network.ip("bob", &format!("route add default via {SERVER}"));
    assert!(!network.pings("bob", OUTSIDE), "nobody masquerades for it");
    network.ip("outside", &format!("route add 10.9.8.0/24 via {SERVER_OUTSIDE}"));
    assert!(network.pings("bob", OUTSIDE), "the machine outside has a way back");
}

#[test]
fn without_nft_the_node_says_what_to_install() {
    let lab = Lab::new();
    // nft(8) is there on Debian.
    let daemon = lab.start_after("mount -t tmpfs none /usr/sbin;", &[]);
    daemon.register_node();
    let registration = || daemon.show(&format!("/v1/nodes/{ADA}"))["registration"].to_string();
    assert!(!registration().contains("nft"));
    daemon.set_netsetup(ADA, "NAT");
    lab.wait_until("the node tells", || registration().contains("install the package nftables"));
    daemon.set_netsetup(ADA, "LAN");
    assert!(!registration().contains("nft"));
}
