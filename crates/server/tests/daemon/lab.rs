//! Daemons to try, each in a network of its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const DAEMON: &str = env!("CARGO_BIN_EXE_walt-server-daemon");

/// A state directory, and daemons on it, each in a network of its own that ends with it.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
}

/// A daemon that runs; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) socket: PathBuf,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The daemon does not start without one of Debian's bootloaders.
        std::fs::create_dir(dir.path().join("ipxe")).unwrap();
        std::fs::write(dir.path().join("ipxe/undionly.kpxe"), "not really").unwrap();
        // Nor can it prepare an image without an agent.
        std::fs::create_dir_all(dir.path().join("agent/x86_64")).unwrap();
        std::fs::write(dir.path().join("agent/x86_64/walt-node"), "not really").unwrap();
        Self { dir }
    }

    /// Runs `before` and then the daemon, in a new network with the interface `nodes` (10.9.8.1/24).
    pub(crate) fn command(&self, before: &str, flags: &[&str]) -> Command {
        let script = format!(
            "ip link set lo up && ip link add nodes type veth peer name far && ip link set far up && ip address add 10.9.8.1/24 dev nodes &&
             ip link set nodes up && {{ {before} }} && exec \"$0\" \"$@\""
        );
        let state = self.dir.path().join("state");
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "sh", "-c", &script, DAEMON, "--interface", "nodes"]);
        command.arg("--state-dir").arg(&state).arg("--socket").arg(self.socket());
        command.arg("--ipxe-dir").arg(self.dir.path().join("ipxe")).args(flags);
        command.arg("--agent-dir").arg(self.dir.path().join("agent"));
        command.env_remove("WALT_CONFIG").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("run/control.sock")
    }

    /// Starts a daemon and waits until it answers.
    pub(crate) fn start(&self, flags: &[&str]) -> Running {
        self.start_after("true;", flags)
    }

    /// As [`start`](Self::start), after the commands `before`, which run in its network and with its mounts.
    pub(crate) fn start_after(&self, before: &str, flags: &[&str]) -> Running {
        let child = self.command(before, flags).stderr(Stdio::null()).spawn().unwrap();
        let running = Running { child, socket: self.socket() };
        let begun = Instant::now();
        while UnixStream::connect(&running.socket).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the daemon does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    /// Runs a daemon that ends by itself.
    pub(crate) fn run(&self, before: &str, flags: &[&str]) -> Output {
        let mut child = self.command(before, flags).spawn().unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begun.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut output = Output { status: child.wait().unwrap(), stdout: Vec::new(), stderr: Vec::new() };
        // It has ended, and its output is short: nothing can fill a pipe.
        child.stderr.take().unwrap().read_to_end(&mut output.stderr).unwrap();
        output
    }

    /// Waits until `what` is so.
    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(20), "in vain: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Running {
    /// One request; returns status and body.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let (status, body) = self.exchange(method, path, body.as_bytes());
        (status, String::from_utf8(body).unwrap())
    }

    /// As [`request`](Self::request), with bodies that are no text.
    pub(crate) fn exchange(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let length = body.len();
        let kind = if body.first() == Some(&b'{') { "application/json" } else { "application/octet-stream" };
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        )
        .unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), answer.split_off(end + 4))
    }

    pub(crate) fn register_node(&self) {
        self.register("01", "pc-x86-64");
    }

    /// A machine of this model asks for its address, 10.9.8.7 for the MAC that ends in 01.
    pub(crate) fn register(&self, end: &str, model: &str) {
        let ip = 6 + end.parse::<u8>().unwrap();
        let lease = format!(r#"{{"mac": "52-54-00-00-ab-{end}", "ip": "10.9.8.{ip}", "uci": "walt.node.{model}"}}"#);
        assert_eq!(self.request("POST", "/v1/leases", &lease).0, 204);
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
