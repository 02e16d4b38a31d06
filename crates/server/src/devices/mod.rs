//! Devices that are no nodes, and how all of them hang together: switches are asked by SNMP, LLDP is listened to, and
//! power is cut where a node can not be reached otherwise.

mod links;
mod listen;
mod memory;
mod poe;
mod power;
mod scan;
mod show;
mod snmp;
mod topology;
mod tree;
mod wake;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::Explored;
use net::MacAddr;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub(crate) use listen::Lldp;
pub use power::Way;
pub use show::SERVER;
pub use topology::{Change, Topology};

use crate::hooks::Hooks;
use crate::registration::switches;
use crate::registry::DeviceRow;
use crate::site::{Site, now_ms};
use links::Known;
pub use memory::{Off, restore};
use scan::Scan;
use snmp::{Access, SnmpError};

/// Time between two rounds of asking all switches.
const EVERY: Duration = Duration::from_secs(600);
/// Time between two attempts to switch on what was left off.
const AGAIN: Duration = Duration::from_secs(30);
/// Time until the first one: the network may be starting, too.
const FIRST: Duration = Duration::from_secs(20);
/// Time that one switch has to tell all.
const PATIENCE: Duration = Duration::from_secs(30);
/// Switches that are asked at once.
const AT_ONCE: usize = 8;

/// The server, as a device of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// Interface that nodes are on.
    pub interface: String,
    /// Its index.
    pub index: u32,
    /// Its address.
    pub mac: MacAddr,
    /// Address that nodes know the server by.
    pub ip: Ipv4Addr,
    /// Bits of the network part of it.
    pub prefix: u8,
}

/// What is done with devices.
#[derive(Debug)]
pub struct Devices {
    site: Arc<Site>,
    here: Here,
    hooks: Hooks,
    at_once: Arc<Semaphore>,
    /// Switches that did not tell when they were last asked: each is logged once.
    silent: Mutex<BTreeMap<MacAddr, String>>,
    /// Ports that are without power because of us.
    off: Mutex<memory::Off>,
}

impl Devices {
    /// For the devices of `site`.
    pub fn new(site: Arc<Site>, here: Here, hooks: Hooks, off: Off) -> Arc<Self> {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        Arc::new(Self { site, here, hooks, at_once, silent: Mutex::default(), off: Mutex::new(off) })
    }

    /// The server, as a device.
    pub fn here(&self) -> &Here {
        &self.here
    }

    /// Asks all switches from time to time, for ever.
    pub(crate) async fn run(self: Arc<Self>) -> Result<Infallible, Infallible> {
        self.restore_power().await;
        tokio::time::sleep(FIRST).await;
        loop {
            self.rescan().await;
            let begun = Instant::now();
            // A node without power does not wait for the next round.
            while begun.elapsed() < EVERY {
                self.restore_power().await;
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Asks all switches that may be asked, and returns what came of it.
    pub async fn rescan(self: &Arc<Self>) -> Vec<Explored> {
        let switches: Vec<DeviceRow> = {
            let state = self.site.state();
            let rows = state.registrar.devices().map(|device| &device.row);
            rows.filter(|row| switches::may_explore(row)).cloned().collect()
        };
        let mut jobs = JoinSet::new();
        for row in switches {
            let devices = self.clone();
            jobs.spawn(async move {
                let _turn = devices.at_once.acquire().await;
                let result = devices.explore(&row).await.map(|(_, found)| found);
                devices.note(&row, result.as_ref().err());
                Explored {
                    switch: row.name,
                    devices: *result.as_ref().unwrap_or(&0),
                    error: result.err().map(|error| error.to_string()),
                }
            });
        }
        let mut explored = jobs.join_all().await;
        explored.sort_by(|a, b| a.switch.cmp(&b.switch));
        explored
    }

    /// Asks a switch for all that it knows, and keeps that.
    async fn explore(&self, row: &DeviceRow) -> Result<(Scan, usize), SnmpError> {
        let access = Access::of(row);
        let scan = async {
            let session = access.open().await?;
            Scan::read(&session).await
        };
        let scan = tokio::time::timeout(PATIENCE, scan).await.unwrap_or_else(|_| Err(access.too_slow(PATIENCE)))?;
        let (found, changes) = {
            let mut state = self.site.state();
            let mut known = Known::of(&state, &self.here);
            // What is somebody else's is not its own, whatever it says.
            let own = scan.own.iter().filter(|mac| !known.is_device(**mac)).copied().collect();
            known.add_aliases(row.mac, &own);
            let links = known.links(row.mac, &scan, now_ms() / 1000);
            let found = links.len();
            (found, state.topology.scanned(row.mac, &own, links))
        };
        self.site.record_links(changes);
        Ok((scan, found))
    }

    fn note(&self, row: &DeviceRow, error: Option<&SnmpError>) {
        let error = error.map(ToString::to_string);
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &error {
            Some(error) => silent.insert(row.mac, error.clone()),
            None => silent.remove(&row.mac),
        };
        drop(silent);
        match (before, error) {
            (None, Some(error)) => self.site.tell(format!("{} does not tell what hangs on it: {error}", row.name)),
            (Some(_), None) => self.site.tell(format!("{} tells again what hangs on it", row.name)),
            _ => {}
        }
    }
}
