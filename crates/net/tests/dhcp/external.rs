//! The shipped configurations of DHCP servers that are not ours, with these servers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::netns::{Net, Running, wait_for};

/// What a client says, the boot file that it gets, and the hook's arguments (IP and MAC left out).
const CLIENTS: &[(&str, &str, &str)] = &[
    ("-V PXEClient:Arch:00000:UNDI:002001 -x 93:0000", "pxe/undionly.kpxe", "PXEClient:Arch:00000:UNDI:002001||"),
    ("-V PXEClient:Arch:00007:UNDI:003016 -x 93:0007", "pxe/snponly.efi", "PXEClient:Arch:00007:UNDI:003016||"),
    ("-V PXEClient:Arch:00009:UNDI:003016 -x 93:0009", "pxe/snponly.efi", "PXEClient:Arch:00009:UNDI:003016||"),
    (
        "-V HTTPClient:Arch:00016:UNDI:003001 -x 93:0010",
        "http://10.77.0.1/boot/pxe/snponly.efi",
        "HTTPClient:Arch:00016:UNDI:003001||",
    ),
    // User class iPXE, plain and with its length.
    (
        "-V PXEClient:Arch:00000:UNDI:002001 -x 93:0000 -x 77:69505845",
        "pxe/walt.ipxe",
        "PXEClient:Arch:00000:UNDI:002001|iPXE|",
    ),
    (
        "-V PXEClient:Arch:00007:UNDI:003016 -x 93:0007 -x 77:0469505845",
        "pxe/walt.ipxe",
        "PXEClient:Arch:00007:UNDI:003016|iPXE|",
    ),
    // walt.node.pc-x86-64, as user class and as vendor class.
    (
        "-V PXEClient:Arch:00000:UNDI:002001 -x 93:0000 -x 77:77616c742e6e6f64652e70632d7838362d3634",
        "",
        "PXEClient:Arch:00000:UNDI:002001|walt.node.pc-x86-64|",
    ),
    // Neither an option nor a command of the hook.
    ("-V --$(reboot)'", "", "--$(reboot)'||"),
    // dnsmasq remembers a host name, so this comes last.
    ("-V walt.node.pc-x86-64 -x hostname:pc1", "", "walt.node.pc-x86-64||pc1"),
];

fn template(net: &Net, name: &str, hook: &Path) -> PathBuf {
    let text = std::fs::read_to_string(shipped(name)).unwrap();
    let mut filled = text.replace("@HOOK@", hook.to_str().unwrap());
    for (word, value) in [
        ("@SERVER@", "10.77.0.1"),
        ("@NETWORK@", "10.77.0.0"),
        ("@NETMASK@", "255.255.0.0"),
        ("@BROADCAST@", "10.77.255.255"),
        ("@FIRST@", "10.77.1.10"),
        ("@LAST@", "10.77.1.99"),
        ("@INTERFACE@", "br0"),
    ] {
        filled = filled.replace(word, value);
    }
    let settings = filled.lines().filter(|line| !line.trim_start().starts_with('#'));
    assert!(settings.clone().all(|line| !line.contains('@')), "a word of {name} is not documented");
    let path = net.path(name);
    std::fs::write(&path, filled).unwrap();
    path
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/external-dhcp").join(name).canonicalize().unwrap()
}

/// A stand-in for walt-dhcp-event that notes its arguments, one call a line.
fn stub_hook(net: &Net) -> PathBuf {
    let notes = net.path("hook.log");
    net.script("hook", &format!("#!/bin/sh\n(IFS='|'; printf '%s\\n' \"$*\") >> {}\n", notes.display()))
}

fn check_clients(net: &Net, mac: &str, types: bool) {
    for (arguments, file, classes) in CLIENTS {
        let _ = std::fs::remove_file(net.path("hook.log"));
        let environment = net.udhcpc("node", &format!("-O bootfile {arguments}")).expect(arguments);
        let value = |name: &str| environment.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
        // dnsmasq sends option 67 to a client that asks for it, dhcpd the header's field.
        let found = [value("boot_file="), value("bootfile=")].concat();
        assert_eq!(found, *file, "{arguments}\n{environment}");
        assert_eq!(value("siaddr="), "10.77.0.1", "{arguments}\n{environment}");
        let ip = value("ip=");
        wait_for("hook", Duration::from_secs(5), || net.path("hook.log").exists());
        let note = std::fs::read_to_string(net.path("hook.log")).unwrap();
        let (classes, name) = classes.rsplit_once('|').unwrap();
        // The template tells the model of what says walt.node.<model>.
        let node_type = classes.split('|').find_map(|class| class.strip_prefix("walt.node.")).filter(|_| types);
        let expected = format!("commit|{classes}|{ip}|{mac}|{name}|0|{}\n", node_type.unwrap_or("unknown"));
        assert_eq!(note, expected, "{arguments}");
    }
}

#[test]
fn isc_dhcpd_gives_our_boot_files_and_calls_the_hook() {
    let mut net = Net::new();
    net.add_client("node");
    net.ip("node", "link set eth0 address 02:00:0a:0b:0c:0d");
    let hook = stub_hook(&net);
    let configuration = template(&net, "isc-dhcpd.conf", &hook);
    let check = Command::new("dhcpd").args(["-t", "-cf"]).arg(&configuration).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));

    let (leases, log) = (net.path("dhcpd.leases"), net.path("dhcpd.log"));
    std::fs::write(&leases, "").unwrap();
    let mut dhcpd = net.command("server", "dhcpd");
    dhcpd.args(["-4", "-f", "-d", "-user", "root", "-group", "root", "-cf"]).arg(&configuration);
    dhcpd.arg("-lf").arg(&leases).arg("-pf").arg(net.path("dhcpd.pid")).arg("br0");
    let _dhcpd = Running::start(&mut dhcpd, &log);
    wait_for("dhcpd", Duration::from_secs(10), || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("Server starting service"))
    });
    // Its bytes below 16 have one digit: walt-dhcp-event fills them up.
    check_clients(&net, "2:0:a:b:c:d", true);
}

#[test]
fn dnsmasq_gives_our_boot_files_and_calls_the_hook() {
    let mut net = Net::new();
    net.add_client("node");
    let hook = stub_hook(&net);
    let configuration = template(&net, "dnsmasq.conf", &shipped("dnsmasq-lease"));
    let check =
        Command::new("dnsmasq").arg("--test").arg(format!("--conf-file={}", configuration.display())).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));

    let log = net.path("dnsmasq.log");
    let mut dnsmasq = net.command("server", "dnsmasq");
    dnsmasq.args(["--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--user=root", "--pid-file="]);
    dnsmasq.arg(format!("--dhcp-leasefile={}", net.path("dnsmasq.leases").display()));
    dnsmasq.arg(format!("--conf-file={}", configuration.display())).env("WALT_DHCP_EVENT", hook);
    let _dnsmasq = Running::start(&mut dnsmasq, &log);
    wait_for("dnsmasq", Duration::from_secs(10), || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("started, version"))
    });
    check_clients(&net, &net.mac("node").to_string(), false);
}
