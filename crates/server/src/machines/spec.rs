//! What a machine is to be.

use crate::registration::config;
use crate::registry::DeviceRow;

/// What a machine is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Name of the node.
    pub name: String,
    /// Number of processors.
    pub cores: u8,
    /// RAM in MiB.
    pub ram: u64,
    /// Size of each disk in MiB.
    pub disks: Vec<u64>,
    /// Networks it is on beside the platform's, by name.
    pub networks: Vec<String>,
}

impl Spec {
    /// As the node's settings have it.
    pub fn of(row: &DeviceRow) -> Self {
        let (disks, networks) = (config::value(row, "disks"), config::value(row, "networks"));
        // A setting is checked when it is made. What makes no sense all the same has been written by another version.
        Self {
            name: row.name.clone(),
            cores: config::value(row, "cpu.cores").parse().unwrap_or(1),
            ram: config::mebibytes(config::value(row, "ram")).unwrap_or(1024),
            disks: disks.split(',').filter_map(config::mebibytes).collect(),
            networks: networks.split(',').skip(1).map(str::to_owned).collect(),
        }
    }
}
