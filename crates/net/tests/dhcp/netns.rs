//! A network of namespaces: a server with a bridge, and clients on it. It needs root and vanishes with its value.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sys::Interface;
use walt_net::dhcp::{Counters, LeaseChange, Leases, Server, Settings, Subnet};
use walt_net::{Event, Events, Exports, MacAddr};

/// The server's bridge.
pub(crate) const BRIDGE: &str = "br0";
/// The server's address; its network is a /16.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Namespaces and a directory of one test.
pub(crate) struct Net {
    prefix: String,
    spaces: Vec<String>,
    directory: PathBuf,
}

impl Net {
    /// A server namespace with its bridge, and no client yet.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("walt-net-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(&prefix);
        std::fs::create_dir_all(&directory).unwrap();
        let mut net = Self { prefix, spaces: Vec::new(), directory };
        net.add("server");
        // A bridge without forward_delay 0 is deaf for 15 s.
        net.ip("server", "link add br0 type bridge forward_delay 0");
        net.ip("server", "addr add 10.77.0.1/16 broadcast + dev br0");
        net.ip("server", "link set br0 up");
        net
    }

    /// A namespace of its own, with loopback up.
    pub(crate) fn add(&mut self, name: &str) {
        let space = self.space(name);
        run(Command::new("ip").args(["netns", "add", &space]));
        self.spaces.push(space);
        self.ip(name, "link set lo up");
    }

    /// A namespace with `eth0` on the server's bridge.
    pub(crate) fn add_client(&mut self, name: &str) {
        self.add(name);
        let space = self.space(name);
        self.ip("server", &format!("link add p-{name} type veth peer name eth0 netns {space}"));
        self.ip("server", &format!("link set p-{name} master br0 up"));
        self.ip(name, "link set eth0 up");
    }

    /// A cable from `port` of one namespace to `eth0` of another.
    pub(crate) fn join(&self, name: &str, port: &str, other: &str) {
        self.ip(name, &format!("link add {port} type veth peer name eth0 netns {}", self.space(other)));
        self.ip(name, &format!("link set {port} up"));
        self.ip(other, "link set eth0 up");
    }

    /// Runs `ip` in a namespace.
    pub(crate) fn ip(&self, name: &str, words: &str) {
        run(Command::new("ip").args(["-n", &self.space(name)]).args(words.split_whitespace()));
    }

    /// A program to be run in a namespace.
    pub(crate) fn command(&self, name: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(name), program]);
        command
    }

    /// A file of the test's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes an executable script.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// The hardware address of `eth0`.
    pub(crate) fn mac(&self, name: &str) -> MacAddr {
        self.within(name, || MacAddr(Interface::by_name("eth0").unwrap().mac))
    }

    /// Asks with busybox udhcpc, once; returns the environment of its script when it is bound.
    pub(crate) fn udhcpc(&self, name: &str, arguments: &str) -> Option<String> {
        let environment = self.path(&format!("{name}.env"));
        let _ = std::fs::remove_file(&environment);
        let text = format!("#!/bin/sh\n[ \"$1\" = bound ] && env > {}\nexit 0\n", environment.display());
        let script = self.script(&format!("{name}.script"), &text);
        let script = script.to_str().unwrap();
        let mut udhcpc = self.command(name, "udhcpc");
        udhcpc.args(["-f", "-q", "-n", "-t", "4", "-T", "1", "-i", "eth0", "-s", script]);
        let _ = udhcpc.args(arguments.split_whitespace()).output().unwrap();
        std::fs::read_to_string(environment).ok()
    }

    /// Runs `work` in a thread that has entered the namespace.
    pub(crate) fn within<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(self.space(name));
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    enter(&path);
                    work()
                })
                .join()
                .unwrap()
        })
    }

    /// Runs our server on the bridge.
    pub(crate) fn serve(
        &self,
        change: impl FnOnce(Settings) -> Settings,
        leases: &[(MacAddr, Ipv4Addr)],
        exports: Arc<Exports>,
    ) -> Serving {
        let path = Path::new("/run/netns").join(self.space("server"));
        let settings = change(Settings::new(SERVER, Subnet::around(SERVER, 16).unwrap()));
        let leases = leases.to_vec();
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            enter(&path);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let interface = Interface::by_name(BRIDGE).unwrap();
                let (events, heard) = Events::channel(65_536);
                let (changes, changed) = tokio::sync::mpsc::channel(65_536);
                let server = Server::bind(&interface, settings, leases, exports, events, changes).unwrap();
                let advertiser = walt_net::ra::Server::bind(&interface).unwrap();
                tell.send((heard, changed, server.counters(), server.leases(), advertiser.counters())).unwrap();
                tokio::select! {
                    ended = server.run() => panic!("dhcp ended: {ended:?}"),
                    ended = advertiser.run() => panic!("ra ended: {ended:?}"),
                    _ = stopped => {}
                }
            });
        });
        let (events, changes, counters, leases, ra) = told.recv().expect("the server starts");
        Serving { events, changes, counters, leases, ra, stop: Some(stop), thread: Some(thread) }
    }

    fn space(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for space in &self.spaces {
            // What a client left in the background would keep the namespace alive without its name. This program has
            // threads in it at most.
            if let Ok(output) = Command::new("ip").args(["netns", "pids", space]).output() {
                let ids = String::from_utf8_lossy(&output.stdout);
                let _ = Command::new("kill").arg("-KILL").args(ids.split_whitespace()).output();
            }
            let _ = Command::new("ip").args(["netns", "del", space]).status();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn nothing_outlives_its_network() {
    let mut net = Net::new();
    net.add("node");
    // As dhclient does: into the background, away from its parent.
    let started = net.command("node", "sh").args(["-c", "setsid sleep 1000 >&- 2>&- & echo $!"]).output().unwrap();
    let process = Path::new("/proc").join(String::from_utf8(started.stdout).unwrap().trim());
    assert!(process.exists());
    drop(net);
    // A zombie, until whoever inherited it has looked, has no program any more.
    let ends = || std::fs::read(process.join("cmdline")).map_or(true, |program| program.is_empty());
    wait_for("it is killed", Duration::from_secs(5), ends);
}

/// Our server, running.
pub(crate) struct Serving {
    events: tokio::sync::mpsc::Receiver<Event>,
    changes: tokio::sync::mpsc::Receiver<LeaseChange>,
    /// What it counts.
    pub(crate) counters: Arc<Counters>,
    /// Its leases.
    pub(crate) leases: Leases,
    /// What the router advertiser counts.
    pub(crate) ra: Arc<walt_net::ra::Counters>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Serving {
    /// The events since the last call.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// The lease changes since the last call.
    pub(crate) fn changes(&mut self) -> Vec<LeaseChange> {
        std::iter::from_fn(|| self.changes.try_recv().ok()).collect()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}

/// A program that ends with its value.
pub(crate) struct Running(Child);

impl Running {
    /// Starts it, its output into `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let log = File::create(log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for something to become true, for at most so long.
pub(crate) fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn enter(path: &Path) {
    let space = File::open(path).unwrap();
    move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).expect("enter a namespace (needs root)");
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {} (needs root)", String::from_utf8_lossy(&output.stderr));
}
