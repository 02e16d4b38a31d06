//! One lab: a network, a process tree and a mount tree of its own, that vanish with it.
//!
//! A program that wants a lab calls [`enter`] first thing. It starts itself again inside of fresh kernel namespaces, where
//! it is process 1: when it ends, however it ends, the kernel kills every process of the lab and removes its network
//! and its mounts. Nothing has a name on the host, so any number of labs run side by side.

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::process::{run, run_words};

/// Set inside of a lab: its directory on the host.
const INSIDE: &str = "WALT_LAB_DIRECTORY";

/// The bridge that the lab's machines and server are on.
pub const BRIDGE: &str = "br-walt";

/// The server's address, on the bridge.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 152, 1);

/// Bits of the network part of the lab's addresses.
pub const PREFIX: u8 = 24;

/// Where a program stands with respect to a lab.
#[derive(Debug)]
pub enum Entered {
    /// This is the process inside.
    Inside(Lab),
    /// This is the process outside; the one inside has ended, with this code.
    Outside(ExitCode),
}

/// The inside of a lab.
#[derive(Debug)]
pub struct Lab {
    directory: PathBuf,
    taps: AtomicU32,
}

/// Runs the calling program again, with the same arguments, inside of a new lab called `name`.
///
/// The lab's files are below `parent`. Logs stay there when the run fails, and are removed when it succeeds.
///
/// # Errors
/// Without root, or when the kernel refuses namespaces.
pub fn enter(name: &str, parent: &Path) -> Result<Entered> {
    if let Some(directory) = std::env::var_os(INSIDE) {
        return Ok(Entered::Inside(Lab::set_up(directory)?));
    }
    remove_stale(parent);
    let directory = parent.join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {directory:?}"))?;
    let directory = directory.canonicalize()?;
    // Ctrl-C reaches the process inside too; this one waits for it and then tidies up.
    let _caught = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot catch signals")?;
    let status = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--pid",
            "--ipc",
            "--fork",
            "--kill-child=KILL",
            "--mount-proc",
            "--propagation=private",
        ])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, &directory)
        .status()
        .context("cannot start unshare (a lab needs root)")?;
    let _ = fs::remove_dir_all(directory.join("state"));
    if status.success() {
        let _ = fs::remove_dir_all(&directory);
        return Ok(Entered::Outside(ExitCode::SUCCESS));
    }
    eprintln!("the logs are in {}", directory.display());
    let code = status.code().or(status.signal().map(|s| 128 + s)).and_then(|c| u8::try_from(c).ok());
    Ok(Entered::Outside(ExitCode::from(code.unwrap_or(1))))
}

/// Removes what labs left whose process is gone: their state at once, their logs after the twentieth lab since.
fn remove_stale(parent: &Path) {
    let mut dead: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let alive = name.rsplit('-').next().is_some_and(|pid| Path::new("/proc").join(pid).exists());
        if let (false, Ok(metadata)) = (alive, entry.metadata()) {
            let _ = fs::remove_dir_all(entry.path().join("state"));
            dead.push((metadata.modified().unwrap_or(std::time::UNIX_EPOCH), entry.path()));
        }
    }
    dead.sort();
    for (_, path) in dead.iter().rev().skip(20) {
        let _ = fs::remove_dir_all(path);
    }
}

/// Whether this process is inside of a lab.
pub fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

impl Lab {
    fn set_up(directory: OsString) -> Result<Self> {
        // Process 1 of a namespace ignores signals that it has no handler for.
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot catch signals")?;
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                std::process::exit(128 + signal);
            }
        });
        let lab = Self { directory: PathBuf::from(directory), taps: AtomicU32::new(0) };
        fs::create_dir_all(lab.state())?;
        // /sys shows the network interfaces of the namespace it was mounted in.
        run_words("mount -t sysfs sys /sys")?;
        // Sockets and pid files go to /run: each lab has its own.
        run_words("mount -t tmpfs -o mode=755 run /run")?;
        fs::create_dir_all("/run/lock")?;
        run_words("ip link set lo up")?;
        // Without forward_delay 0 a bridge is deaf for the first 15 s of each boot.
        // Without an address of its own it would have the lowest of its ports', another one with each machine.
        run_words(&format!("ip link add {BRIDGE} address 02:77:61:6c:74:01 type bridge forward_delay 0 stp_state 0"))?;
        run_words(&format!("ip addr add {SERVER}/{PREFIX} broadcast + dev {BRIDGE}"))?;
        run_words(&format!("ip link set {BRIDGE} up"))?;
        // A bridge without ports has no carrier, and so no IPv6 link-local address: give it one that stays.
        run_words("ip link add walt-keep type veth peer name walt-keep2")?;
        run_words(&format!("ip link set walt-keep master {BRIDGE} up"))?;
        run_words("ip link set walt-keep2 up")?;
        Ok(lab)
    }

    /// Where logs and consoles are written.
    pub fn logs(&self) -> &Path {
        &self.directory
    }

    /// Where big and short-lived things go: databases, layers, disks. Removed with the lab.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// A new port of the bridge for a machine: the name of a tap.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new_tap(&self) -> Result<String> {
        let name = format!("tap{}", self.taps.fetch_add(1, Ordering::Relaxed));
        run_words(&format!("ip tuntap add {name} mode tap"))?;
        run_words(&format!("ip link set {name} master {BRIDGE} up"))?;
        Ok(name)
    }

    /// Writes a file of the lab's state and gives back its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.state().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {parent:?}"))?;
        }
        fs::write(&path, content).with_context(|| format!("cannot write {path:?}"))?;
        Ok(path)
    }
}

/// Waits until something listens on a TCP port of this address.
///
/// # Errors
/// When nothing does within 60 s.
pub fn wait_for_port(address: Ipv4Addr, port: u16) -> Result<()> {
    for _ in 0..600 {
        if std::net::TcpStream::connect((address, port)).is_ok() {
            return Ok(());
        }
        thread::sleep(std::time::Duration::from_millis(100));
    }
    bail!("nothing listens on {address}:{port}")
}

/// Whether all of `programs` are there; the error names those that are not.
///
/// # Errors
/// When one is missing.
pub fn require_programs(programs: &[&str]) -> Result<()> {
    let missing: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|p| run(Command::new("sh").args(["-c", &format!("command -v {p}")])).is_err())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("missing programs: {} (./x installs them)", missing.join(", "))
}
