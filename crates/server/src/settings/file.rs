//! The TOML file: bytes in, a [`File`] out.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{DhcpMode, SettingsError};
use crate::machines::Accelerator;

/// What the configuration file says, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct File {
    pub(super) interface: Option<String>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) socket: Option<PathBuf>,
    pub(super) agent_dir: Option<PathBuf>,
    pub(super) ipxe_dir: Option<PathBuf>,
    pub(super) rpi_firmware_dir: Option<PathBuf>,
    pub(super) dhcp: Dhcp,
    pub(super) hooks: Hooks,
    pub(super) logs: Logs,
    pub(super) images: Images,
    pub(super) registries: Registries,
    pub(super) virtual_nodes: VirtualNodes,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(super) struct Dhcp {
    pub(super) mode: Option<DhcpMode>,
    pub(super) range: Option<String>,
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) dns: Vec<Ipv4Addr>,
    pub(super) domain: Option<String>,
    pub(super) relays: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(super) struct Hooks {
    pub(super) lease: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(super) struct Logs {
    pub(super) keep_days: Option<u32>,
    pub(super) keep_mib: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(super) struct Images {
    pub(super) max_image_gib: Option<u64>,
    pub(super) max_layer_gib: Option<u64>,
    pub(super) keep_free_mib: Option<u64>,
    pub(super) default: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(super) struct Registries {
    pub(super) insecure: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(super) struct VirtualNodes {
    pub(super) user: Option<String>,
    pub(super) accelerator: Option<Accelerator>,
}

/// Every key, dotted. A `*` stands for any name.
pub(super) const KEYS: &[&str] = &[
    "interface",
    "state_dir",
    "socket",
    "agent_dir",
    "ipxe_dir",
    "rpi_firmware_dir",
    "dhcp.mode",
    "dhcp.range",
    "dhcp.gateway",
    "dhcp.dns",
    "dhcp.domain",
    "dhcp.relays",
    "hooks.lease",
    "logs.keep_days",
    "logs.keep_mib",
    "images.max_image_gib",
    "images.max_layer_gib",
    "images.keep_free_mib",
    "images.default.*",
    "registries.insecure",
    "virtual_nodes.user",
    "virtual_nodes.accelerator",
];

impl File {
    /// Parses the text of a configuration file; `path` is for messages alone.
    ///
    /// # Errors
    /// The text is not TOML, a key is unknown, or a value has the wrong type.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let syntax = |cause| SettingsError::Syntax { path: path.to_owned(), cause: Box::new(cause) };
        let table: toml::Table = text.parse().map_err(syntax)?;
        if let Some(key) = unknown_key(&table, "") {
            let nearest = nearest_key(&key);
            return Err(SettingsError::UnknownKey { path: path.to_owned(), key, nearest });
        }
        toml::from_str(text).map_err(syntax)
    }
}

/// The first key below `prefix` that is not in [`KEYS`].
fn unknown_key(table: &toml::Table, prefix: &str) -> Option<String> {
    table.iter().find_map(|(name, value)| {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let is_table = KEYS.iter().any(|known| known.strip_prefix(&key).is_some_and(|rest| rest.starts_with('.')));
        match value {
            toml::Value::Table(inner) if is_table => unknown_key(inner, &key),
            _ if is_table || is_known(&key) => None,
            _ => Some(key),
        }
    })
}

fn is_known(key: &str) -> bool {
    KEYS.iter().any(|known| match known.strip_suffix('*') {
        Some(prefix) => key.strip_prefix(prefix).is_some_and(|name| !name.is_empty()),
        None => *known == key,
    })
}

/// The key that `wrong` was probably meant to be: by its whole name, or by its last part, for a
/// key that stands in the wrong table.
fn nearest_key(wrong: &str) -> Option<String> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let candidates = KEYS.iter().map(|key| key.trim_end_matches(".*"));
    candidates
        .map(|key| {
            let whole = strsim::jaro_winkler(wrong, key);
            (whole.max(strsim::jaro_winkler(&last(wrong), &last(key)) - 0.01), key)
        })
        .filter(|(likeness, _)| *likeness >= 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key.to_owned())
}
