//! Devices of the platform's network, and how they hang together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::NodeState;

/// A device: the server itself, a node, a switch, or something that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Device {
    /// Name.
    pub name: String,
    /// Ethernet address, `hh:hh:hh:hh:hh:hh`.
    pub mac: String,
    /// IPv4 address.
    pub ip: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Model of a node, or what the board of one that is not supported is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether it is a machine that the server itself runs.
    #[serde(default, rename = "virtual")]
    pub is_virtual: bool,
    /// Power state of a node, as far as the server can see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<NodeState>,
    /// When it was first seen; absent for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<i64>,
    /// When it was last heard of; absent for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<i64>,
    /// Where it hangs on the network, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Its settings, those that have their defaults, too.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The server.
    Server,
    /// A node.
    Node,
    /// It was declared a switch, or others hang on it.
    Switch,
    /// A board that runs our first stage, which knows no model for it.
    Unsupported,
    /// Something else that has asked for an address.
    Unknown,
}

impl DeviceKind {
    /// As it is written in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Node => "node",
            Self::Switch => "switch",
            Self::Unsupported => "unsupported",
            Self::Unknown => "unknown",
        }
    }
}

/// A port of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Place {
    /// Name of the switch, or its address if it has none.
    pub switch: String,
    /// Ethernet address of the switch.
    pub switch_mac: String,
    /// Name of the port.
    pub port: String,
    /// Who says so.
    pub told: Told,
    /// When it was last said.
    pub seen: i64,
}

/// Who says where a device hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// The switch, which has heard the device by LLDP.
    Neighbour,
    /// The device, which has heard the switch by LLDP.
    Heard,
    /// The switch's forwarding table: no other address is behind the port.
    Learned,
}

/// The network, from the server down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Tree {
    /// The server, and what is behind it.
    pub root: Branch,
    /// Devices whose way to the server is not known, with what hangs on them.
    pub elsewhere: Vec<Branch>,
}

/// A device, and what hangs on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(no_recursion))]
pub struct Branch {
    /// Name of the device; what it calls itself, or its address, if it never asked for one.
    pub name: String,
    /// Ethernet address.
    pub mac: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Port, of the one above, that it hangs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Its own port that leads to the one above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    /// What hangs on it, in the order of its ports.
    #[serde(default)]
    pub below: Vec<Branch>,
}

/// What a switch has told when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Explored {
    /// Name of the switch.
    pub switch: String,
    /// Devices that are known to hang on its ports.
    pub devices: usize,
    /// Why it did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
