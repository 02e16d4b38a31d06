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
    authorized_key: String,
    host_keys: HostKeys,
    name_servers: Vec<Ipv4Addr>,
    domain: Option<String>,
    time_zone: Option<TimeZone>,
}

/// The agent of an architecture can not be had.
#[derive(Debug, thiserror::Error)]
#[error("can not read the agent {path}: {cause}; `agent_dir` in the configuration says where it is looked for")]
pub struct AgentError {
    path: PathBuf,
    cause: io::Error,
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
            authorized_key: ServerKey::load_or_create(keys)?.public,
            host_keys: HostKeys::load_or_create(keys)?,
            name_servers,
            domain,
            time_zone: time_zone(Path::new("/etc")),
        })
    }

    /// The server's files for an image of this architecture. Reads the agent: blocks on the disk.
    ///
    /// # Errors
    /// There is no agent for it.
    pub fn files(&self, architecture: boot::Architecture) -> Result<ServerFiles, AgentError> {
        let path = self.agent_dir.join(architecture.to_string()).join("walt-node");
        let agent = std::fs::read(&path).map_err(|cause| AgentError { path, cause })?;
        Ok(ServerFiles {
            agent,
            server_ip: self.server_ip,
            server_mac: self.server_mac,
            ports: Ports::default(),
            authorized_key: self.authorized_key.clone(),
            host_keys: self.host_keys.clone(),
            hosts: vec![(IpAddr::V4(self.server_ip), "walt-server".into())],
            name_servers: self.name_servers.clone(),
            domain: self.domain.clone(),
            time_zone: self.time_zone.clone(),
        })
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
    fn a_missing_agent_is_named_with_the_setting_to_change() {
        let keys = tempfile::tempdir().unwrap();
        let network =
            Network { server_ip: [10, 0, 0, 1].into(), server_mac: [2; 6], name_servers: Vec::new(), domain: None };
        let identity = ServerIdentity::gather(keys.path(), "/nonexistent".into(), network).unwrap();
        let error = identity.files(boot::Architecture::X86_64).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/x86_64/walt-node") && error.contains("agent_dir"), "{error}");
        assert_eq!(identity.name_servers, [Ipv4Addr::new(10, 0, 0, 1)]);
    }
}
