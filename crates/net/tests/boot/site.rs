//! A node's image made of files in a directory, served; and clients, run.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use image::{LayerFiles, View};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use walt_net::bootfile::{BootFiles, Firmware, Loaders};
use walt_net::{Event, Events, Exports, MacAddr, NodeExport, http, tftp};

/// Where clients on the loopback interface come from.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::LOCALHOST;

pub(crate) struct Site {
    pub(crate) directory: TempDir,
    pub(crate) exports: Arc<Exports>,
    pub(crate) tftp: SocketAddrV4,
    pub(crate) http: SocketAddrV4,
    pub(crate) tftp_counters: Arc<tftp::Counters>,
    pub(crate) http_counters: Arc<http::Counters>,
    events: mpsc::Receiver<Event>,
    /// Ends every service when dropped.
    _runtime: Runtime,
}

/// A `FileServed` event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) service: &'static str,
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) error: Option<String>,
}

impl Site {
    /// Serves an image to the node [`CLIENT`], a `pc-x86-64`; `fill` writes into its `/boot/pc-x86-64`,
    /// given with the image's root.
    pub(crate) fn new(fill: impl FnOnce(&Path, &Path)) -> Self {
        Self::start(fill, &[], true)
    }

    /// A site with firmware (name, content) whose client is no node.
    pub(crate) fn with_firmware(firmware: &[(&str, Vec<u8>)]) -> Self {
        Self::start(|_, _| {}, firmware, false)
    }

    fn start(fill: impl FnOnce(&Path, &Path), firmware: &[(&str, Vec<u8>)], is_node: bool) -> Self {
        let directory = TempDir::new().unwrap();
        let firmware_directory = directory.path().join("rpi-firmware");
        for (name, content) in firmware {
            fs::create_dir_all(&firmware_directory).unwrap();
            fs::write(firmware_directory.join(name), content).unwrap();
        }
        let root = directory.path().join("root");
        let boot = root.join("boot/pc-x86-64");
        fs::create_dir_all(&boot).unwrap();
        fill(&boot, &root);
        let exports = Arc::new(Exports::default());
        if is_node {
            exports.set(NodeExport {
                mac: MacAddr([2, 0, 0, 0, 0, 1]),
                ip: CLIENT,
                name: "node-000001".into(),
                model: "pc-x86-64".into(),
                image: Some(view(&root, &directory.path().join("layers"))),
                held: Vec::new(),
            });
        }
        let (events, received) = Events::channel(1000);
        let files = BootFiles::new(Loaders::from_files([("undionly.kpxe", b"loader".to_vec())]), Arc::clone(&exports));
        let files = files.with_firmware(&firmware_directory, Firmware::load(&firmware_directory).unwrap());
        let runtime = Runtime::new().unwrap();
        let inside = runtime.enter();
        let any = SocketAddrV4::new(CLIENT, 0);
        let tftp_server = tftp::Server::bind(tftp::TftpConfig::new(any), files.clone(), events.clone()).unwrap();
        let http_server = http::Server::bind(http::HttpConfig::new(any), files, events).unwrap();
        let (tftp, http) = (tftp_server.address(), http_server.address());
        let (tftp_counters, http_counters) = (tftp_server.counters(), http_server.counters());
        runtime.spawn(async { tftp_server.run().await.map(drop) });
        runtime.spawn(async { http_server.run().await.map(drop) });
        drop(inside);
        Self { directory, exports, tftp, http, tftp_counters, http_counters, events: received, _runtime: runtime }
    }

    /// The next transfer that the services report; waits for it up to 40 s.
    pub(crate) fn served(&mut self) -> Served {
        for _ in 0..4000 {
            match self.events.try_recv() {
                Ok(Event::FileServed { client, service, path, bytes, error, .. }) => {
                    assert_eq!(client, CLIENT);
                    return Served { service, path, bytes, error };
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        panic!("no event");
    }

    /// A path for a client to write to; nothing is there yet.
    pub(crate) fn target(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(format!("got-{name}"));
        let _ = fs::remove_file(&path);
        path
    }
}

/// The image that holds `root` as its one layer.
fn view(root: &Path, layers: &Path) -> Arc<View> {
    fs::create_dir_all(layers).unwrap();
    let tar = run(Command::new("tar").args(["--sort=name", "-cf", "-", "."]).current_dir(root)).stdout;
    let files = LayerFiles::new(layers);
    let (id, entries) = files.add(&tar).unwrap();
    let index = image::index::build(&[(id, &entries)], &"5a".repeat(32)).unwrap();
    Arc::new(View::from_index(index, &files).unwrap())
}

/// `len` bytes that repeat nowhere near.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64 ^ len as u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Runs a client to its end; it must be installed, and must not take minutes.
pub(crate) fn try_run(command: &mut Command) -> Output {
    let mut within = Command::new("timeout");
    within.arg("300").arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        within.current_dir(directory);
    }
    within.stdin(Stdio::null()).output().unwrap()
}

/// As [`try_run`], and it must succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = try_run(command);
    if !output.status.success() {
        let _ = std::io::stderr().write_all(&output.stderr);
        panic!("{command:?}: {}", output.status);
    }
    output
}
