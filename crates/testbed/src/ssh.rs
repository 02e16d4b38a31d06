//! Logging in to a node, as its user would.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::run;

/// A node to log in to as root.
#[derive(Clone, Debug)]
pub struct Ssh {
    address: IpAddr,
    key: PathBuf,
    known_hosts: PathBuf,
}

impl Ssh {
    /// The node at `address`, with the private key in the file `key`. Its host key is remembered beside that file at the
    /// first login, and must be the same at each later one.
    pub fn new(address: IpAddr, key: &Path, known_hosts: &Path) -> Self {
        Self { address, key: key.to_owned(), known_hosts: known_hosts.to_owned() }
    }

    /// The node's address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The `ssh` command line, ready for more arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "/dev/null", "-i"]).arg(&self.key);
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "ConnectTimeout=60",
            "ServerAliveInterval=10",
            "ServerAliveCountMax=12",
            "StrictHostKeyChecking=accept-new",
            "LogLevel=ERROR",
        ] {
            command.args(["-o", option]);
        }
        command.arg("-o").arg(format!("UserKnownHostsFile={}", self.known_hosts.display()));
        command.arg(format!("root@{}", self.address));
        command
    }

    /// Runs a shell command on the node and gives back what it wrote to its standard output.
    ///
    /// # Errors
    /// When the login fails or the command ends with another code than 0.
    pub fn run(&self, script: &str) -> Result<String> {
        run(self.command().arg(script)).with_context(|| format!("on {}: {script}", self.address))
    }

    /// Waits until an ssh server greets; gives back when it did. `alive` may end the waiting by an error of its own.
    ///
    /// # Errors
    /// When `limit` passes first, or `alive` fails.
    pub fn wait_for_greeting(&self, limit: Duration, mut alive: impl FnMut() -> Result<()>) -> Result<Instant> {
        let start = Instant::now();
        while !greets(self.address) {
            alive()?;
            if start.elapsed() > limit {
                bail!("no ssh server greets at {} within {limit:?}", self.address);
            }
            sleep(Duration::from_millis(100));
        }
        Ok(Instant::now())
    }
}

/// Whether an ssh server says who it is (RFC 4253 §4.2) at this address.
fn greets(address: IpAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&SocketAddr::new(address, 22), Duration::from_millis(500)) else {
        return false;
    };
    let mut greeting = [0; 4];
    stream.set_read_timeout(Some(Duration::from_secs(10))).is_ok()
        && stream.read_exact(&mut greeting).is_ok()
        && &greeting == b"SSH-"
}
