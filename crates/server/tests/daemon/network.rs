//! A platform with networks around it: a daemon in a namespace that outlives it, nodes on a switch, and a machine outside
//! that knows nothing of the platform's network.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Lab, Running};

/// The machine outside.
pub(crate) const OUTSIDE: &str = "203.0.113.2";
/// Address of the server in the outside's network.
pub(crate) const SERVER_OUTSIDE: &str = "203.0.113.1";
/// Address of the server in the platform's network.
pub(crate) const SERVER: &str = "10.9.8.1";

/// Namespaces `server`, `switch`, `outside` and one for each node. They vanish with this.
pub(crate) struct Network {
    prefix: String,
    spaces: Vec<String>,
    pub(crate) lab: Lab,
}

impl Network {
    /// With these nodes, of which the first has the MAC 52:54:00:00:ab:01.
    pub(crate) fn new(nodes: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("walt-srv-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut network = Self { prefix, spaces: Vec::new(), lab: Lab::new() };
        for name in ["server", "switch", "outside"].iter().chain(nodes) {
            network.add(name);
        }
        network.cable("server", "nodes", "switch", "uplink");
        network.cable("server", "wan", "outside", "eth0");
        network.ip("server", "address add 10.9.8.1/24 dev nodes");
        network.ip("server", &format!("address add {SERVER_OUTSIDE}/24 dev wan"));
        network.ip("outside", &format!("address add {OUTSIDE}/24 dev eth0"));
        // A new namespace may have what its maker has.
        network.run("server", "sh", &["-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]);
        network.ip("switch", "link add br0 type bridge forward_delay 0");
        network.ip("switch", "link set br0 up");
        network.ip("switch", "link set uplink master br0");
        for (number, node) in nodes.iter().enumerate() {
            network.cable(node, "eth0", "switch", &format!("p-{node}"));
            network.ip("switch", &format!("link set p-{node} master br0"));
            network.ip(node, &format!("link set eth0 address 52:54:00:00:ab:{:02x}", number + 1));
        }
        network
    }

    fn add(&mut self, name: &str) {
        let space = self.space(name);
        let output = Command::new("ip").args(["netns", "add", &space]).output().unwrap();
        assert!(output.status.success(), "{output:?} (needs root)");
        self.spaces.push(space);
        self.ip(name, "link set lo up");
    }

    fn cable(&self, name: &str, port: &str, other: &str, other_port: &str) {
        self.ip(name, &format!("link add {port} type veth peer name {other_port} netns {}", self.space(other)));
        self.ip(name, &format!("link set {port} up"));
        self.ip(other, &format!("link set {other_port} up"));
    }

    pub(crate) fn ip(&self, name: &str, words: &str) {
        let output =
            Command::new("ip").args(["-n", &self.space(name)]).args(words.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
    }

    /// A program in a namespace.
    pub(crate) fn command(&self, name: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(name), program]);
        command
    }

    /// Runs it to its end.
    pub(crate) fn output(&self, name: &str, program: &str, arguments: &[&str]) -> Output {
        self.command(name, program).args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// What it prints; it must succeed.
    pub(crate) fn run(&self, name: &str, program: &str, arguments: &[&str]) -> String {
        let output = self.output(name, program, arguments);
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a program that ends with what is returned.
    pub(crate) fn background(&self, name: &str, program: &str, arguments: &[&str]) -> Background {
        let mut command = self.command(name, program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Background(command.spawn().unwrap())
    }

    /// Starts the daemon with this configuration and waits until it answers.
    pub(crate) fn start(&self, configuration: &str) -> Running {
        let dir = self.lab.dir.path();
        let file = dir.join("server.toml");
        std::fs::write(&file, configuration).unwrap();
        let mut command = self.command("server", env!("CARGO_BIN_EXE_walt-server-daemon"));
        command.args(["--interface", "nodes", "--config"]).arg(file);
        command.arg("--state-dir").arg(dir.join("state")).arg("--socket").arg(self.lab.socket());
        command.arg("--ipxe-dir").arg(dir.join("ipxe")).arg("--agent-dir").arg(dir.join("agent"));
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        // `ip netns exec` becomes the daemon: the child is it.
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let running = Running { child, socket: self.lab.socket() };
        self.lab.wait_until("the daemon answers", || std::os::unix::net::UnixStream::connect(&running.socket).is_ok());
        running
    }

    /// What the daemons have logged.
    pub(crate) fn log(&self) -> PathBuf {
        self.lab.dir.path().join("daemon.log")
    }

    /// Has a node ask DHCP, as its bootloader or system does, and do as it is told. Returns what udhcpc told its script.
    pub(crate) fn dhcp(&self, node: &str) -> String {
        let (script, told) = (self.lab.dir.path().join(format!("{node}.script")), self.lab.dir.path().join(node));
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip address flush dev eth0\nip address add $ip/$mask dev eth0\n\
             [ -z \"$router\" ] || ip route add default via $router\nenv > {}\n",
            told.display()
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let _ = std::fs::remove_file(&told);
        let arguments = ["-f", "-q", "-n", "-t", "5", "-T", "1", "-i", "eth0", "-V", "walt.node.pc-x86-64", "-s"];
        self.run(node, "udhcpc", &[&arguments[..], &[script.to_str().unwrap()]].concat());
        std::fs::read_to_string(told).unwrap()
    }

    /// The address of a node.
    pub(crate) fn address(&self, node: &str) -> String {
        let shown = self.run(node, "ip", &["-4", "-brief", "address", "show", "dev", "eth0"]);
        shown.split_whitespace().nth(2).unwrap().split('/').next().unwrap().to_owned()
    }

    /// Whether a ping from here to there is answered.
    pub(crate) fn pings(&self, name: &str, address: &str) -> bool {
        self.output(name, "busybox", &["ping", "-c", "1", "-W", "2", address]).status.success()
    }

    fn space(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for space in &self.spaces {
            let _ = Command::new("ip").args(["netns", "del", space]).status();
        }
    }
}

/// A program that is killed with this.
pub(crate) struct Background(pub(crate) Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// What the API shows at this path.
    pub(crate) fn show(&self, path: &str) -> Value {
        let (status, body) = self.request("GET", path, "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Changes how a device reaches other networks.
    pub(crate) fn set_netsetup(&self, node: &str, value: &str) {
        let body = format!(r#"{{"settings": {{"netsetup": "{value}"}}}}"#);
        let (status, body) = self.request("POST", &format!("/v1/nodes/{node}/config"), &body);
        assert_eq!(status, 200, "{body}");
    }

    /// Waits until a node of this name is known.
    pub(crate) fn wait_for_node(&self, node: &str) {
        let begun = Instant::now();
        while self.request("GET", &format!("/v1/nodes/{node}"), "").0 != 200 {
            assert!(begun.elapsed() < Duration::from_secs(10), "{node} is not registered");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
