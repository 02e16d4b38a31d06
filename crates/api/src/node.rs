//! Nodes and other devices, and the timelines of their boots.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A device that has asked for an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Node {
    /// Name; for an unknown device `unknown-<last 6 hex digits of mac>`.
    pub name: String,
    /// Ethernet address, `hh:hh:hh:hh:hh:hh`.
    pub mac: String,
    /// IPv4 address; empty for a virtual node that was never on.
    pub ip: String,
    /// Node, or something else that speaks DHCP.
    pub kind: NodeKind,
    /// Model, such as `pc-x86-64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// User whose image it boots; absent if that is no user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Whether it boots the default image of its model.
    #[serde(default)]
    pub free: bool,
    /// What the first stage of its boot calls its board, if that is none that we know a model for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
    /// Full name of the image that it is to boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Id of the image that a boot gets now; not that of `image` while this one is being prepared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Ids of the images that it has mounted since its bootloader last ran.
    #[serde(default)]
    pub mounted: Vec<String>,
    /// How far registration has come.
    pub registration: Registration,
    /// Power state, as far as the server can see.
    pub state: NodeState,
    /// Current step of the boot, in words; absent when there is no boot under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// When it was first seen.
    pub first_seen: i64,
    /// When it was last heard of.
    pub last_seen: i64,
    /// Whether it is a machine that the server itself runs.
    #[serde(default, rename = "virtual")]
    pub is_virtual: bool,
    /// Why the machine of a virtual node does not run, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Its settings, those that have their defaults, too.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

/// Kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// Said `walt.node.<model>` to DHCP.
    Node,
    /// Said `walt.node.unknown-<board>`: it runs our first stage, which knows no model for it.
    Unsupported,
    /// Did not.
    Unknown,
}

/// How far registration of a node has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Registration {
    /// No node: nothing to do.
    NotANode,
    /// Its image is arriving from the registry.
    Pulling {
        /// Bytes so far.
        done: u64,
        /// All of them; 0 while this is not known.
        total: u64,
        /// Why the registry is being asked again, if it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trouble: Option<String>,
    },
    /// Its image has arrived and is being indexed and mounted.
    Preparing,
    /// Its image is served.
    Ready,
    /// A step failed. What was served before is still served.
    Failed {
        /// `pull`, `check`, `prepare`, `mount` or `links`.
        step: String,
        /// What failed, on what, and why.
        cause: String,
        /// When it is tried again (seconds since 1970); absent if only a change can help.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_at: Option<i64>,
        /// How often it was tried.
        attempts: u32,
    },
}

/// Power state of a node, as far as the server can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Nothing has been heard since the server knows it, or for long.
    Off,
    /// A boot is under way.
    Booting,
    /// Its ssh server answers.
    Booted,
    /// It was up, and its connection is lost.
    Unreachable,
}

impl NodeState {
    /// As it is written in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Booting => "booting",
            Self::Booted => "booted",
            Self::Unreachable => "unreachable",
        }
    }
}

/// A lease that a DHCP server has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaseReport {
    /// Ethernet address, colons or dashes.
    pub mac: String,
    /// IPv4 address.
    pub ip: String,
    /// Vendor class identifier (DHCP option 60).
    #[serde(default)]
    pub vci: String,
    /// User class (option 77).
    #[serde(default)]
    pub uci: String,
    /// Host name (option 12).
    #[serde(default)]
    pub host_name: String,
}

/// Which image a node is to boot from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BootRequest {
    /// Name of an image on the server, or `default` for the model's default image.
    pub image: String,
}

/// The new name of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RenameRequest {
    /// Lower-case letters, digits and dashes, the first a letter, at most 63.
    pub name: String,
}

/// A virtual node to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    /// Its name: lower-case letters, digits and dashes, the first a letter, at most 63.
    pub name: String,
    /// Settings by key, such as `ram`; what is not in here has its default.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// Settings to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ConfigRequest {
    /// New values by key, such as `netsetup`; an empty value brings the default back.
    pub settings: BTreeMap<String, String>,
}

/// Whether a node is to blink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BlinkRequest {
    /// From now on, or no more.
    pub on: bool,
}

/// How a node was made to reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RebootWay {
    /// Its OS was asked.
    #[default]
    Soft,
    /// The machine of a virtual node was reset.
    Reset,
}

/// Answer to a request for a reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rebooted {
    /// Name of the node, which has accepted the request.
    pub node: String,
    /// How it was done.
    #[serde(default)]
    pub way: RebootWay,
    /// Why it was not done by asking its OS, if that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_failure: Option<String>,
}

/// Timeline of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Trace {
    /// Name of the node.
    pub node: String,
    /// When the first packet of this boot was seen (milliseconds since 1970).
    pub started_at_ms: i64,
    /// State of the node.
    pub state: NodeState,
    /// Steps in the order of arrival.
    pub steps: Vec<Step>,
    /// Where it hangs, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<Stuck>,
}

/// One step of a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Step {
    /// Milliseconds since the first packet of this boot.
    pub at_ms: u64,
    /// Name of the step, such as `dhcp-ack` or `file`.
    pub name: String,
    /// Particulars.
    pub detail: String,
    /// Whether it went well.
    pub status: StepStatus,
}

/// Outcome of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Done.
    Ok,
    /// Failed.
    Failed,
}

/// The step that a boot does not get past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stuck {
    /// What the server waits for.
    pub waiting_for: String,
    /// For how long nothing was heard, in milliseconds.
    pub silent_ms: u64,
    /// What the likely reason is.
    pub hint: String,
}
