//! What the server puts into every image, gathered from this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use image::server_layer::{HostKeys, KeyError, Ports, ServerFiles, ServerKey, TimeZone};

/// All of it but the agent, which depends on the image's architecture.
#[derive(Debug, Clone)]
pub struct ServerIdentity {
    agent_dir: PathBuf,
    server_ip: Ipv4Addr,
    server_mac: [u8; 6],
    server_key: ServerKey,
    host_keys: HostKeys,
    name_servers: Vec<Ipv4Addr>,
    domain: Option<String>,
    time_zone: Option<TimeZone>,
}

/// The agent of an architecture can not be had.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// There is none.
    #[error(
        "it is built for {architecture}, and there is no agent for that: {} {}. `./x agents` in WalT's sources builds \
         them, `agent_dir` in the configuration says where they are",
        list(paths), if paths.len() == 1 { "does not exist" } else { "do not exist" }
    )]
    Missing {
        /// What the image is built for.
        architecture: boot::Architecture,
        /// Where it was looked for.
        paths: Vec<PathBuf>,
    },
    /// It can not be read.
    #[error("can not read the agent {}: {cause}", path.display())]
    Read {
        /// Its file.
        path: PathBuf,
        /// Reason.
        cause: io::Error,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and ")
}

/// What is told to nodes of the server and its network.
#[derive(Debug, Clone)]
pub struct Network {
    /// Address of the server.
    pub server_ip: Ipv4Addr,
    /// Hardware address of its interface.
    pub server_mac: [u8; 6],
    /// Name servers; the server itself if empty.
    pub name_servers: Vec<Ipv4Addr>,
    /// Domain name.
    pub domain: Option<String>,
}

impl ServerIdentity {
    /// Gathers it: the keys below `keys` (made if they are not there), this machine's time zone.
    ///
    /// # Errors
    /// A key can not be read or made.
    pub fn gather(keys: &Path, agent_dir: PathBuf, network: Network) -> Result<Self, KeyError> {
        let Network { server_ip, server_mac, mut name_servers, domain } = network;
        if name_servers.is_empty() {
            name_servers.push(server_ip);
        }
        Ok(Self {
            agent_dir,
            server_ip,
            server_mac,
            server_key: ServerKey::load_or_create(keys)?,
            host_keys: HostKeys::load_or_create(keys)?,
            name_servers,
            domain,
            time_zone: time_zone(Path::new("/etc")),
        })
    }

    /// The key that opens the nodes.
    pub fn server_key(&self) -> &ServerKey {
        &self.server_key
    }

    /// The one host key of all nodes.
    pub fn host_keys(&self) -> &HostKeys {
        &self.host_keys
    }

    /// The server's files for an image of this architecture. Reads the agent: blocks on the disk.
    ///
    /// # Errors
    /// There is no agent for it, or it can not be read.
    pub fn files(&self, architecture: boot::Architecture) -> Result<ServerFiles, AgentError> {
        Ok(ServerFiles {
            agent: self.agent(architecture)?,
            server_ip: self.server_ip,
            server_mac: self.server_mac,
            ports: Ports::default(),
            authorized_key: self.server_key.public.clone(),
            host_keys: self.host_keys.clone(),
            hosts: vec![(IpAddr::V4(self.server_ip), "walt-server".into())],
            name_servers: self.name_servers.clone(),
            domain: self.domain.clone(),
            time_zone: self.time_zone.clone(),
        })
    }

    /// The best of the agents that run in an image of this architecture.
    fn agent(&self, architecture: boot::Architecture) -> Result<Vec<u8>, AgentError> {
        let mut paths = Vec::new();
        for agent in architecture.agents() {
            let path = self.agent_dir.join(agent.to_string()).join("walt-node");
            match std::fs::read(&path) {
                Ok(agent) => return Ok(agent),
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => paths.push(path),
                Err(cause) => return Err(AgentError::Read { path, cause }),
            }
        }
        Err(AgentError::Missing { architecture, paths })
    }
}

/// Time zone of the machine whose configuration is below `etc`.
fn time_zone(etc: &Path) -> Option<TimeZone> {
    let localtime = etc.join("localtime");
    let data = std::fs::read(&localtime).ok()?;
    // localtime(5): a link into the zoneinfo directory; Debian has the name in /etc/timezone, too.
    let link = std::fs::read_link(&localtime).ok();
    let of_link = link.as_ref().and_then(|target| Some(target.to_str()?.split_once("zoneinfo/")?.1.to_owned()));
    let name = of_link.or_else(|| Some(std::fs::read_to_string(etc.join("timezone")).ok()?.trim().to_owned()))?;
    (!name.is_empty()).then_some(TimeZone { name, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_zone_is_named_by_the_link_or_by_debians_file() {
        let etc = tempfile::tempdir().unwrap();
        assert_eq!(time_zone(etc.path()), None);
        let zone = etc.path().join("zoneinfo/Europe/Paris");
        std::fs::create_dir_all(zone.parent().unwrap()).unwrap();
        std::fs::write(&zone, "TZif").unwrap();
        std::os::unix::fs::symlink(&zone, etc.path().join("localtime")).unwrap();
        let found = time_zone(etc.path()).unwrap();
        assert_eq!((found.name.as_str(), &found.data[..]), ("Europe/Paris", &b"TZif"[..]));

        std::fs::remove_file(etc.path().join("localtime")).unwrap();
        std::fs::write(etc.path().join("localtime"), "TZif").unwrap();
        std::fs::write(etc.path().join("timezone"), "Asia/Tokyo\n").unwrap();
        assert_eq!(time_zone(etc.path()).unwrap().name, "Asia/Tokyo");
    }

    #[test]
    fn the_best_agent_is_taken_and_a_missing_one_is_named_with_what_to_do() {
        use boot::Architecture::{Armv6, Armv7, X86_64};
        let (keys, agents) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let network =
            Network { server_ip: [10, 0, 0, 1].into(), server_mac: [2; 6], name_servers: Vec::new(), domain: None };
        let identity = ServerIdentity::gather(keys.path(), agents.path().to_owned(), network).unwrap();
        assert_eq!(identity.name_servers, [Ipv4Addr::new(10, 0, 0, 1)]);
        let agent = |architecture: boot::Architecture| identity.files(architecture).map(|files| files.agent);
        let install = |architecture: boot::Architecture| {
            let dir = agents.path().join(architecture.to_string());
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("walt-node"), architecture.to_string()).unwrap();
        };
        for (architecture, path) in
            [(X86_64, "x86_64/walt-node"), (Armv7, "armv7l/walt-node"), (Armv7, "armv6l/walt-node")]
        {
            let error = agent(architecture).unwrap_err().to_string();
            for word in [architecture.to_string().as_str(), path, "./x agents", "agent_dir"] {
                assert!(error.contains(word), "{word}: {error}");
            }
        }
        install(Armv6);
        assert_eq!(agent(Armv7).unwrap(), b"armv6l", "what runs on v6 runs on v7");
        install(Armv7);
        assert_eq!((agent(Armv7).unwrap(), agent(Armv6).unwrap()), (b"armv7l".to_vec(), b"armv6l".to_vec()));
        std::fs::remove_dir_all(agents.path().join("armv6l")).unwrap();
        assert!(agent(Armv6).is_err(), "what runs on v7 alone does not run on v6");
        assert!(agent(X86_64).is_err());
        std::fs::create_dir_all(agents.path().join("x86_64/walt-node")).unwrap();
        assert!(matches!(agent(X86_64).unwrap_err(), AgentError::Read { .. }));
    }
}
