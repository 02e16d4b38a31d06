//! What the daemon was told: defaults < `/etc/walt/server.toml` < environment < flags.
//!
//! All of it is checked once and becomes one [`Settings`] that can not be wrong on its own; whether
//! the interface exists and has an address is a question for the daemon, when it starts.

mod file;
mod flags;
mod limits;
mod relays;
mod retention;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

pub use file::File;
pub use flags::Flags;
use image::store::Limits;
pub use relays::Relay;

use crate::machines::Accelerator;
use crate::registry::Retention;

/// Where the configuration is looked for unless a flag says otherwise. It may be absent.
pub const DEFAULT_CONFIG: &str = "/etc/walt/server.toml";

/// Validated settings of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Interface that nodes are on.
    pub interface: String,
    /// Where images, links and the registry live.
    pub state_dir: PathBuf,
    /// Control socket.
    pub socket: PathBuf,
    /// Directory with the agent: `<agent_dir>/<architecture>/walt-node`.
    pub agent_dir: PathBuf,
    /// Directory with the iPXE binaries of Debian's package `ipxe`.
    pub ipxe_dir: PathBuf,
    /// Directory with the firmware of Raspberry Pi boards that boot by themselves: what a card for them holds.
    pub rpi_firmware_dir: PathBuf,
    /// Address assignment.
    pub dhcp: Dhcp,
    /// Programs of the user.
    pub hooks: Hooks,
    /// How much of the logs is kept.
    pub logs: Retention,
    /// Image that a new node of a model gets, by model.
    pub default_images: BTreeMap<String, String>,
    /// What images may ask of this machine's disk.
    pub limits: Limits,
    /// How registries are reached.
    pub registries: Registries,
    /// Machines of the daemon's own.
    pub virtual_nodes: VirtualNodes,
}

/// Machines of the daemon's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualNodes {
    /// User that QEMU runs as; `nobody` if there is no such user.
    pub user: String,
    /// How their processors are run.
    pub accelerator: Accelerator,
}

/// Address assignment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dhcp {
    /// Who does it.
    pub mode: DhcpMode,
    /// First and last address of the pool; `None`: all other addresses of the interface's network.
    pub range: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Router (option 3); none if absent.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers (option 6); the server itself if empty.
    pub dns: Vec<Ipv4Addr>,
    /// Domain name (option 15).
    pub domain: Option<String>,
    /// Networks behind relay agents.
    pub relays: Vec<Relay>,
}

/// Who assigns addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DhcpMode {
    /// The daemon.
    #[default]
    Internal,
    /// Another server, which reports its leases with `walt-dhcp-event`.
    External,
}

/// Programs of the user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// Run at each acknowledged lease (see [`crate::hooks`]).
    pub lease: Option<PathBuf>,
}

/// How registries are reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registries {
    /// `host` or `host:port` of registries that speak plain http.
    pub insecure: Vec<String>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file could not be read.
    #[error("can not read configuration {path}: {cause}")]
    Read {
        /// File.
        path: PathBuf,
        /// Reason.
        cause: std::io::Error,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("configuration {path}: {cause}")]
    Syntax {
        /// File.
        path: PathBuf,
        /// Reason, with line and column.
        cause: Box<toml::de::Error>,
    },
    /// A key that does not exist.
    #[error("configuration {path}: unknown key `{key}`{}", nearest.as_ref().map(|n| format!(", did you mean `{n}`?")).unwrap_or_default())]
    UnknownKey {
        /// File.
        path: PathBuf,
        /// The key, dotted.
        key: String,
        /// The nearest one that exists.
        nearest: Option<String>,
    },
    /// A value that makes no sense.
    #[error("setting `{key}`: {reason}")]
    Value {
        /// The key, dotted.
        key: &'static str,
        /// What is wrong with it, and what is expected.
        reason: String,
    },
    /// A setting without a default is absent.
    #[error(
        "no interface given: say which network interface the nodes are on, with `--interface IFACE`, WALT_INTERFACE or `interface = \"…\"` in {path}"
    )]
    NoInterface {
        /// Configuration file.
        path: PathBuf,
    },
}

impl Settings {
    /// Reads the configuration file that `flags` name and lays environment and flags over it.
    ///
    /// # Errors
    /// The first setting that is wrong. A missing file is an error only if it was asked for by name.
    pub fn load(flags: &Flags) -> Result<Self, SettingsError> {
        let path = flags.config.clone().unwrap_or_else(|| DEFAULT_CONFIG.into());
        let file = match std::fs::read_to_string(&path) {
            Ok(text) => File::parse(&text, &path)?,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound && flags.config.is_none() => File::default(),
            Err(cause) => return Err(SettingsError::Read { path, cause }),
        };
        Self::merge(file, flags, path)
    }

    /// Lays `flags` (which clap has merged with the environment) over `file` and checks the result.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn merge(file: File, flags: &Flags, path: PathBuf) -> Result<Self, SettingsError> {
        let interface = flags.interface.clone().or(file.interface).ok_or(SettingsError::NoInterface { path })?;
        // Linux: IFNAMSIZ is 16 with its NUL.
        if interface.is_empty() || interface.len() > 15 || interface.contains(['/', ' ']) {
            return Err(value("interface", format!("{interface:?} is not the name of an interface")));
        }
        let dir = |flag: &Option<PathBuf>, file: Option<PathBuf>, default: &str| {
            flag.clone().or(file).unwrap_or_else(|| default.into())
        };
        let state_dir = dir(&flags.state_dir, file.state_dir, "/var/lib/walt");
        let rpi_firmware_dir = flags.rpi_firmware_dir.clone().or(file.rpi_firmware_dir);
        let settings = Self {
            interface,
            rpi_firmware_dir: rpi_firmware_dir.unwrap_or_else(|| state_dir.join("rpi-firmware")),
            state_dir,
            socket: dir(&flags.socket, file.socket, api::DEFAULT_SOCKET),
            agent_dir: dir(&flags.agent_dir, file.agent_dir, "/usr/lib/walt/agent"),
            ipxe_dir: dir(&flags.ipxe_dir, file.ipxe_dir, "/usr/lib/ipxe"),
            dhcp: Dhcp {
                mode: file.dhcp.mode.unwrap_or_default(),
                range: file.dhcp.range.as_deref().map(range).transpose()?,
                gateway: file.dhcp.gateway,
                dns: file.dhcp.dns,
                domain: file.dhcp.domain,
                relays: relays::parse(&file.dhcp.relays)?,
            },
            hooks: Hooks { lease: file.hooks.lease },
            logs: retention::check(&file.logs)?,
            limits: limits::check(&file.images)?,
            default_images: file.images.default,
            registries: Registries { insecure: file.registries.insecure },
            virtual_nodes: VirtualNodes {
                user: file.virtual_nodes.user.unwrap_or_else(|| "walt-vm".into()),
                accelerator: file.virtual_nodes.accelerator.unwrap_or_default(),
            },
        };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), SettingsError> {
        for (key, path) in [
            ("state_dir", &self.state_dir),
            ("socket", &self.socket),
            ("agent_dir", &self.agent_dir),
            ("ipxe_dir", &self.ipxe_dir),
            ("rpi_firmware_dir", &self.rpi_firmware_dir),
        ] {
            if !path.is_absolute() {
                return Err(value(key, format!("{} is not an absolute path", path.display())));
            }
        }
        // unix(7): sun_path holds 108 bytes with its NUL.
        if self.socket.as_os_str().len() > 107 {
            return Err(value("socket", format!("{} is longer than 107 bytes", self.socket.display())));
        }
        if let Some(hook) = self.hooks.lease.as_ref().filter(|hook| !hook.is_absolute()) {
            return Err(value("hooks.lease", format!("{} is not an absolute path", hook.display())));
        }
        for (model, image) in &self.default_images {
            if !crate::names::is_model(model) {
                return Err(value("images.default", format!("{model:?} is not the name of a node model")));
            }
            if let Err(cause) = crate::names::full_image_name(image) {
                return Err(value("images.default", format!("{model}: {cause}")));
            }
        }
        for host in &self.registries.insecure {
            if host.is_empty() || host.contains(['/', ' ']) {
                return Err(value("registries.insecure", format!("{host:?} is not `host` or `host:port`")));
            }
        }
        Ok(())
    }

    /// Full name of the image that a new node of `model` gets.
    pub fn default_image(&self, model: &str) -> String {
        match self.default_images.get(model) {
            // `check` has seen that it is a name.
            Some(name) => crate::names::full_image_name(name).unwrap_or_else(|_| name.clone()),
            None => format!("docker.io/waltplatform/{model}-default:latest"),
        }
    }
}

fn value(key: &'static str, reason: String) -> SettingsError {
    SettingsError::Value { key, reason }
}

/// `first-last`, both inclusive.
fn range(text: &str) -> Result<(Ipv4Addr, Ipv4Addr), SettingsError> {
    let wrong = || value("dhcp.range", format!("{text:?} is not a range of addresses (expected FIRST-LAST)"));
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let first: Ipv4Addr = first.trim().parse().map_err(|_| wrong())?;
    let last: Ipv4Addr = last.trim().parse().map_err(|_| wrong())?;
    if first > last {
        return Err(value("dhcp.range", format!("{first} is above {last}")));
    }
    Ok((first, last))
}
