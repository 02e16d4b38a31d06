//! The name servers that we ask: those of the configuration, or this machine's own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// resolv.conf(5): MAXNS. More of them are not asked by anybody.
const MAX_SERVERS: usize = 3;
/// A longer file is none that somebody has written for resolv.conf(5).
const MAX_FILE: u64 = 64 << 10;

/// Where their addresses come from.
#[derive(Debug)]
pub enum Resolvers {
    /// The configuration.
    Fixed(Arc<[SocketAddr]>),
    /// A file such as `/etc/resolv.conf`, which is read again when it has changed.
    File(ResolverFile),
}

/// A file of addresses, and what it held.
#[derive(Debug)]
pub struct ResolverFile {
    path: PathBuf,
    /// Our own: to ask ourselves would never end.
    own: Ipv4Addr,
    read: Mutex<Option<(Stamp, Arc<[SocketAddr]>)>>,
}

/// What changes with a file: `None` if there is no such file.
type Stamp = Option<(SystemTime, u64)>;

impl Resolvers {
    /// These, or those of `/etc/resolv.conf` if there are none, save `own`.
    pub fn new(fixed: &[SocketAddr], own: Ipv4Addr) -> Self {
        if fixed.is_empty() { Self::of_file(Path::new("/etc/resolv.conf"), own) } else { Self::Fixed(fixed.into()) }
    }

    /// Those of `path`, save `own`.
    pub fn of_file(path: &Path, own: Ipv4Addr) -> Self {
        Self::File(ResolverFile { path: path.to_owned(), own, read: Mutex::default() })
    }

    /// As of now.
    pub(super) async fn current(&self) -> Arc<[SocketAddr]> {
        match self {
            Self::Fixed(servers) => servers.clone(),
            Self::File(file) => file.current().await,
        }
    }
}

impl ResolverFile {
    async fn current(&self) -> Arc<[SocketAddr]> {
        let metadata = tokio::fs::metadata(&self.path).await.ok();
        let stamp = metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
        if let Some((_, servers)) = self.lock().as_ref().filter(|(of, _)| *of == stamp) {
            return servers.clone();
        }
        let sound = stamp.is_some_and(|(_, length)| length <= MAX_FILE);
        let text = if sound { tokio::fs::read_to_string(&self.path).await.unwrap_or_default() } else { String::new() };
        let servers: Arc<[SocketAddr]> = parse(&text, self.own).into();
        tracing::info!(file = %self.path.display(), ?servers, "name servers for nodes behind NAT");
        *self.lock() = Some((stamp, servers.clone()));
        servers
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Stamp, Arc<[SocketAddr]>)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// resolv.conf(5): `nameserver ADDRESS`, at most three; without any, the one on this machine.
fn parse(text: &str, own: Ipv4Addr) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        address.parse::<IpAddr>().ok()
    });
    let named: Vec<_> = named.take(MAX_SERVERS).collect();
    let named = if named.is_empty() { vec![IpAddr::V4(Ipv4Addr::LOCALHOST)] } else { named };
    named.into_iter().filter(|address| *address != IpAddr::V4(own)).map(|address| (address, 53).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    #[test]
    fn files() {
        for (text, servers) in [
            ("", &["127.0.0.1:53"][..]),
            ("# nameserver 9.9.9.9\n;nameserver 9.9.9.9\nsearch x\n", &["127.0.0.1:53"]),
            ("nameserver 127.0.0.53\noptions edns0 trust-ad\n", &["127.0.0.53:53"]),
            ("nameserver\t1.1.1.1  \nnameserver 2606:4700::1\n", &["1.1.1.1:53", "[2606:4700::1]:53"]),
            ("nameserver 10.0.0.1\nnameserver 1.1.1.1\n", &["1.1.1.1:53"]),
            ("nameserver 10.0.0.1\n", &[]),
            ("nameserver x\nnameserver\nnameserver 1.1.1.1", &["1.1.1.1:53"]),
            (
                "nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n",
                &["1.1.1.1:53", "1.1.1.2:53", "1.1.1.3:53"],
            ),
        ] {
            let found: Vec<_> = parse(text, OWN).iter().map(SocketAddr::to_string).collect();
            assert_eq!(found, servers, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_changes_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        let resolvers = Resolvers::of_file(&path, OWN);
        let local: SocketAddr = "127.0.0.1:53".parse().unwrap();
        assert_eq!(*resolvers.current().await, [local], "there is none");
        std::fs::write(&path, "nameserver 1.1.1.1\n").unwrap();
        assert_eq!(resolvers.current().await[0].to_string(), "1.1.1.1:53");
        // As resolvconf does it: another file under the same name.
        std::fs::write(path.with_extension("new"), "nameserver 1.1.1.22\n").unwrap();
        std::fs::rename(path.with_extension("new"), &path).unwrap();
        assert_eq!(resolvers.current().await[0].to_string(), "1.1.1.22:53");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*resolvers.current().await, [local]);
    }
}
