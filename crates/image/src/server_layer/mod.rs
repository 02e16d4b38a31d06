//! The server's own layer: what it adds to every image, stacked on top as one more tar.
//!
//! The agent under its names, the environment file, ssh keys, host names and resolver, the time
//! zone, and the templates that the image lists. The image's own layers are never changed.

mod image_spec;
mod prepare;
mod render;
mod ssh_format;
mod ssh_keys;
mod substitute;

use std::net::{IpAddr, Ipv4Addr};

pub use image_spec::SpecError;
pub use prepare::{Base, PrepareError, prepare};
pub use render::{ServerLayerError, render};
pub use ssh_format::KeyFormatError;
pub use ssh_keys::{HostKeys, KeyError, ServerKey};

use crate::digest::{Digest, ImageDigest};

/// Changes whenever the same inputs give another layer than before: new content, new image id.
const LAYER_VERSION: &str = "walt server layer 1";

/// Everything that the server's layer is made of, the image's own files apart.
#[derive(Debug, Clone)]
pub struct ServerFiles {
    /// The agent's static binary for the image's architecture.
    pub agent: Vec<u8>,
    /// Address at which nodes reach the server.
    pub server_ip: Ipv4Addr,
    /// Hardware address of that interface.
    pub server_mac: [u8; 6],
    /// Ports that images are told.
    pub ports: Ports,
    /// The server's public key, one line as in `authorized_keys`.
    pub authorized_key: String,
    /// The one host key of all images.
    pub host_keys: HostKeys,
    /// Lines of `/etc/hosts` besides those of localhost.
    pub hosts: Vec<(IpAddr, String)>,
    /// Lines of `/etc/resolv.conf`, in order.
    pub name_servers: Vec<Ipv4Addr>,
    /// Search domain of `/etc/resolv.conf`.
    pub domain: Option<String>,
    /// The server's time zone; `None` leaves the image's own.
    pub time_zone: Option<TimeZone>,
}

/// Ports that images are told in `/bin/walt-env` and in templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Control API over TCP.
    pub server_rpc: u16,
    /// Log streams to the server.
    pub server_logs: u16,
    /// Bootup notifications to the server.
    pub server_notify_bootup: u16,
    /// The agent's own service.
    pub node_net_service: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            server_rpc: 12345,
            server_logs: wire::node::SERVER_PORT,
            server_notify_bootup: wire::node::SERVER_PORT,
            node_net_service: wire::node::NET_SERVICE_PORT,
        }
    }
}

/// A time zone by name, with its data for images that do not know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeZone {
    /// Name, as in `Europe/Paris`.
    pub name: String,
    /// Content of `/etc/localtime` (tzfile(5)).
    pub data: Vec<u8>,
}

impl ServerFiles {
    /// Id of the image that consists of `image` and these files: 64 lower-case hex digits.
    ///
    /// It is computed before anything is rendered, so that files may contain it.
    pub fn image_id(&self, image: &ImageDigest) -> String {
        let mut inputs = Inputs(Vec::new());
        inputs.add(LAYER_VERSION);
        inputs.add(image.0.as_bytes());
        // The digest of a large input stands for it.
        inputs.add(Digest::of(&self.agent).as_bytes());
        inputs.add(self.server_ip.octets());
        inputs.add(self.server_mac);
        let Ports { server_rpc, server_logs, server_notify_bootup, node_net_service } = self.ports;
        for port in [server_rpc, server_logs, server_notify_bootup, node_net_service] {
            inputs.add(port.to_be_bytes());
        }
        inputs.add(&self.authorized_key);
        inputs.add(&self.host_keys.openssh_private);
        inputs.add((self.hosts.len() as u64).to_be_bytes());
        for (address, name) in &self.hosts {
            inputs.add(address.to_string());
            inputs.add(name);
        }
        inputs.add(self.name_servers.iter().flat_map(Ipv4Addr::octets).collect::<Vec<_>>());
        // A domain is never empty, nor is a time zone's name.
        inputs.add(self.domain.as_deref().unwrap_or_default());
        let TimeZone { name, data } = self.time_zone.clone().unwrap_or(TimeZone { name: String::new(), data: vec![] });
        inputs.add(name);
        inputs.add(data);
        Digest::of(&inputs.0).hex()
    }
}

/// Inputs one after the other, each behind its length, so that no two lists give the same bytes.
struct Inputs(Vec<u8>);

impl Inputs {
    fn add(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.0.extend((bytes.len() as u64).to_be_bytes());
        self.0.extend(bytes);
    }
}
