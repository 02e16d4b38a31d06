//! A switch and what hangs on it: a real bridge in a network of its own, with net-snmp's agent and lldpd.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::lab::{Lab, Running, stderr};

/// A switch with two machines, and the daemon behind it.
struct Site {
    lab: Lab,
    daemon: Running,
    walt: PathBuf,
}

impl Site {
    fn start() -> Self {
        let lab = Lab::new();
        let dir = lab.dir.path();
        std::fs::write(dir.join("network.sh"), include_str!("switch/network.sh")).unwrap();
        std::fs::write(dir.join("mib.py"), include_str!("switch/mib.py")).unwrap();
        // The daemon takes the place of the shell, so that the switch ends with it.
        let before = format!(
            "setpriv --pdeathsig KILL unshare --net --mount sh {dir}/network.sh {dir} switch >{dir}/network.log 2>&1 &
             while [ ! -e {dir}/switch.pid ]; do sleep 0.05; done; ip link set far netns $(cat {dir}/switch.pid);",
            dir = dir.display()
        );
        let walt = built("walt-cli", "walt");
        std::os::unix::fs::symlink(built("walt-node", "walt-node"), dir.join("walt-node")).unwrap();
        let daemon = lab.start_after(&before, &[]);
        let site = Self { lab, daemon, walt };
        site.daemon.register("01", "pc-x86-64");
        site.daemon.register("02", "pc-x86-64");
        site.daemon.register("03", "pc-x86-64");
        let switch = r#"{"mac": "02:00:00:00:09:01", "ip": "10.9.8.2"}"#;
        assert_eq!(site.daemon.request("POST", "/v1/leases", switch).0, 204);
        site
    }

    fn walt(&self, words: &str) -> Output {
        let mut command = Command::new(&self.walt);
        command.arg("--socket").arg(&self.daemon.socket).args(words.split(' ')).output().unwrap()
    }

    /// What a command prints that does what it should.
    fn said(&self, words: &str) -> String {
        let output = self.walt(words);
        assert!(output.status.success(), "walt {words}: {}{}", stderr(&output), self.logs());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Why a command fails.
    fn refused(&self, words: &str) -> String {
        let output = self.walt(words);
        assert!(!output.status.success(), "walt {words}: {}", String::from_utf8_lossy(&output.stdout));
        stderr(&output)
    }

    fn power_log(&self) -> String {
        std::fs::read_to_string(self.lab.dir.path().join("power.log")).unwrap_or_default()
    }

    /// What the peers have said, for whoever reads why the test failed.
    fn logs(&self) -> String {
        let read = |name| std::fs::read_to_string(self.lab.dir.path().join(name)).unwrap_or_default();
        ["network.log", "snmpd.log", "switch.log", "one.log"].map(|name| format!("\n{name}:\n{}", read(name))).concat()
    }

    fn place(&self, name: &str) -> (String, String, String) {
        let devices: Vec<Value> = serde_json::from_str(&self.said("device show --json")).unwrap();
        let device = devices.iter().find(|device| device["name"] == name).unwrap();
        let text = |key: &str| device["place"][key].as_str().unwrap_or_default().to_owned();
        (text("switch"), text("port"), text("told"))
    }
}

/// A program that belongs to another package.
fn built(package: &str, program: &str) -> PathBuf {
    let build = ["build", "--quiet", "--package", package, "--bin", program];
    assert!(Command::new(env!("CARGO")).args(build).status().unwrap().success());
    PathBuf::from(env!("CARGO_BIN_EXE_walt-server-daemon")).with_file_name(program)
}

#[test]
fn a_switch_tells_what_hangs_on_it_and_cuts_the_power_of_nodes() {
    let site = Site::start();
    // Before anything is known of the switch.
    let text = site.refused("node reboot node-00ab01");
    assert!(text.contains("does not answer") || text.contains("no connection"), "{text}");
    assert!(text.contains("poe.reboots=true") && text.contains("[hooks] power"), "{text}");
    let text = site.refused("device config unknown-000901 lldp.explore=true");
    assert!(text.contains("say type=switch, too"), "{text}");

    let text = site.said(
        "device config unknown-000901 type=switch snmp.version=2 snmp.community=private lldp.explore=true poe.delay=1",
    );
    assert!(text.contains("unknown-000901 is called switch-000901 from now on"), "{text}");
    let tree = "\
walt-server
└─ switch-000901 (far)
   ├─ sw1: node-00ab01
   ├─ sw2: node-00ab02
   └─ sw3: node-00ab03
";
    site.lab.wait_until(&format!("the network is known{}", site.logs()), || {
        site.walt("device rescan").status.success() && site.said("device tree") == tree
    });
    let on = |port: &str, told: &str| ("switch-000901".to_owned(), port.to_owned(), told.to_owned());
    site.lab.wait_until("each of the machines is known by what it has", || {
        site.said("device rescan");
        site.place("node-00ab01") == on("sw1", "neighbour")
            && site.place("node-00ab02") == on("sw2", "learned")
            && site.place("node-00ab03") == on("sw3", "heard")
            && site.place("walt-server") == on("far", "heard")
    });
    let text = site.said("device show");
    let first: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().take(2).collect();
    assert!(text.contains("switch-000901 port sw2") && first == ["walt-server", "server"], "{text}");
    let log = site.daemon.request("GET", "/v1/logs?history=full&issuers=server&lines=snmp.community", "").1;
    assert!(log.contains("snmp.community of") && !log.contains("private"), "no log tells the secret: {log}");

    let text = site.refused("node reboot --hard node-00ab01");
    assert!(text.contains("whose poe.reboots is false"), "{text}");
    site.said("device config all-switches poe.reboots=true");
    let text = site.said("node reboot node-00ab01");
    assert!(text.contains("port sw1 of switch-000901 gave it no power for 1 s"), "{text}");
    assert_eq!(site.power_log(), "sw1 off\nsw1 on\n");
    let text = site.said("node reboot --hard node-00ab02");
    assert!(text.contains("port sw2 of switch-000901"), "{text}");
    assert_eq!(site.power_log(), "sw1 off\nsw1 on\nsw2 off\nsw2 refused\nsw2 on\n", "it is tried again");

    let woken = site.lab.dir.path().join("two.woken");
    site.said("node wake node-00ab02");
    let magic = format!("{}{}", "ff".repeat(6), "52540000ab02".repeat(16));
    site.lab.wait_until("the magic packet has come", || {
        // The link has come up again a moment ago.
        site.said("node wake node-00ab02");
        std::fs::read_to_string(&woken).is_ok_and(|found| found == magic)
    });

    site.said("device config switch-000901 snmp.community=public");
    let (before, text) = (site.power_log(), site.refused("node reboot --hard node-00ab01"));
    assert!(text.contains("its community must be one that may write"), "{text}");
    assert_eq!(site.power_log(), before);

    site.said("device config switch-000901 snmp.community=wrong");
    let text = site.refused("device rescan");
    assert!(text.contains("10.9.8.2:161 does not answer SNMP"), "{text}");
    assert_eq!(site.said("device tree"), tree, "what was known is not forgotten");
    site.said("device forget switch-000901");
    assert_eq!(site.place("node-00ab02"), Default::default());
}
