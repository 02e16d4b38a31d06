//! What the web API tells other systems: platform data in the fields that WalT's users know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{NodeState, Registration};

/// Answer of `/api/v1/nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebNodes {
    /// How many there are.
    pub num_nodes: usize,
    /// Nodes, in the order of their macs.
    pub nodes: Vec<WebNode>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebNode {
    /// Name.
    pub name: String,
    /// Model, such as `pc-x86-64`.
    pub model: String,
    /// Whether it is a machine that the server itself runs.
    #[serde(rename = "virtual")]
    pub is_virtual: bool,
    /// Image that it is to boot, such as `ada/debian:latest`.
    pub image: Option<String>,
    /// Whether its ssh server answers.
    pub booted: bool,
    /// IPv4 address; empty until it has had one.
    pub ip: String,
    /// Ethernet address, `hh:hh:hh:hh:hh:hh`.
    pub mac: String,
    /// Its settings, those that have their defaults, too.
    pub config: BTreeMap<String, String>,
}

/// Answer of `/api/v1/images`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebImages {
    /// How many there are.
    pub num_images: usize,
    /// Images, in the order of their names; one that is there for several platforms is listed for each.
    pub images: Vec<WebImage>,
}

/// An image that is on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebImage {
    /// Name with its tag: `ada/debian:latest`; with its registry, if that is not Docker Hub.
    pub fullname: String,
    /// User that it belongs to, the first part of the name; none if it comes from another registry.
    pub user: Option<String>,
    /// Digest of its configuration: 64 hex digits.
    pub id: String,
    /// Whether a node is to boot it.
    pub in_use: bool,
    /// When it was built, `YYYY-MM-DD HH:MM:SS` (UTC), if it says so.
    pub created: Option<String>,
    /// Models that it is for.
    pub compatibility: Vec<String>,
}

/// Answer of `/api/v1/logs`. It is sent while it is read: the number comes behind the lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebLogs {
    /// Lines, in the order of their time.
    pub logs: Vec<WebLog>,
    /// How many there are.
    pub num_logs: u64,
}

/// A log line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebLog {
    /// When it was written, by the clock of its issuer: seconds since 1970, or milliseconds with `ts_unit=ms`.
    pub timestamp: f64,
    /// Its text.
    pub line: String,
    /// Name of the node that sent it, or `server`; the mac of a node that was forgotten.
    pub issuer: String,
    /// Stream that it belongs to.
    pub stream: String,
}

/// Where a node stands: data of an event of `/api/v1/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeNews {
    /// Name.
    pub name: String,
    /// Ethernet address: what it is known by.
    pub mac: String,
    /// IPv4 address; empty until it has had one.
    pub ip: String,
    /// Model.
    pub model: String,
    /// Image that it is to boot.
    pub image: Option<String>,
    /// Power state, as far as the server can see.
    pub state: NodeState,
    /// Current step of the boot, in words; absent when there is no boot under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// How far registration has come.
    pub registration: Registration,
}

/// Where all nodes stand: data of the event `snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Snapshot {
    /// Nodes, in the order of their macs.
    pub nodes: Vec<NodeNews>,
}

/// A node that is known no more: data of the event `forgotten`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Forgotten {
    /// The name that it had.
    pub name: String,
    /// Ethernet address.
    pub mac: String,
}
