//! What is still to be written.

use std::collections::{BTreeMap, BTreeSet};

use net::MacAddr;
use tokio::sync::oneshot;

use super::{BootRow, CheckpointRow, DeviceRow, ImageRow, LeaseRow, LinkRow, LogRow, StepRow};
use crate::registration::ImageKey;

/// Log lines, and boots with their steps, that may wait for the disk: some seconds of a storm.
const MAX_LOGS: usize = 65_536;
const MAX_STEPS: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Pending {
    /// `None`: forgotten.
    pub(super) devices: BTreeMap<MacAddr, Option<DeviceRow>>,
    pub(super) images: BTreeMap<ImageKey, Option<ImageRow>>,
    pub(super) leases: BTreeMap<MacAddr, Option<LeaseRow>>,
    pub(super) meta: BTreeMap<String, Vec<u8>>,
    pub(super) boots: Vec<BootRow>,
    pub(super) steps: Vec<StepRow>,
    pub(super) logs: Vec<LogRow>,
    /// Log lines that were taken since start; not lines that wait.
    pub(super) logs_taken: u64,
    /// `None`: removed.
    pub(super) checkpoints: BTreeMap<(String, String), Option<CheckpointRow>>,
    /// By switch and device; `None`: it hangs there no more.
    pub(super) links: BTreeMap<(MacAddr, MacAddr), Option<LinkRow>>,
    /// Who waits to hear whether all of this is on the disk.
    pub(super) waiting: Vec<oneshot::Sender<Result<(), String>>>,
    pub(super) closed: bool,
}

impl Pending {
    pub(super) fn device(&mut self, row: DeviceRow) {
        self.devices.insert(row.mac, Some(row));
    }

    pub(super) fn forget_device(&mut self, mac: MacAddr) {
        self.devices.insert(mac, None);
    }

    pub(super) fn image(&mut self, row: ImageRow) {
        self.images.insert(row.key.clone(), Some(row));
    }

    pub(super) fn remove_image(&mut self, key: ImageKey) {
        self.images.insert(key, None);
    }

    pub(super) fn lease(&mut self, row: LeaseRow) {
        self.leases.insert(row.mac, Some(row));
    }

    pub(super) fn forget_lease(&mut self, mac: MacAddr) {
        self.leases.insert(mac, None);
    }

    pub(super) fn meta(&mut self, key: &str, value: Vec<u8>) {
        self.meta.insert(key.to_owned(), value);
    }

    pub(super) fn boot(&mut self, row: BootRow) -> bool {
        push(&mut self.boots, row, MAX_STEPS)
    }

    pub(super) fn step(&mut self, row: StepRow) -> bool {
        push(&mut self.steps, row, MAX_STEPS)
    }

    /// Gives the row back if there is no room.
    pub(super) fn log(&mut self, row: LogRow) -> Result<(), LogRow> {
        if self.logs.len() >= MAX_LOGS {
            return Err(row);
        }
        self.logs.push(row);
        self.logs_taken += 1;
        Ok(())
    }

    pub(super) fn checkpoint(&mut self, row: CheckpointRow) {
        self.checkpoints.insert((row.user.clone(), row.name.clone()), Some(row));
    }

    pub(super) fn remove_checkpoint(&mut self, user: String, name: String) {
        self.checkpoints.insert((user, name), None);
    }

    pub(super) fn link(&mut self, switch: MacAddr, mac: MacAddr, row: Option<LinkRow>) {
        self.links.insert((switch, mac), row);
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.devices.is_empty()
            && self.images.is_empty()
            && self.leases.is_empty()
            && self.meta.is_empty()
            && self.checkpoints.is_empty()
            && self.links.is_empty()
            && self.boots.is_empty()
            && self.steps.is_empty()
            && self.logs.is_empty()
    }

    /// Takes all that is to be written; what is told of the future or the past stays.
    pub(super) fn take(&mut self) -> Self {
        let Self { closed, logs_taken, .. } = *self;
        let batch = std::mem::take(self);
        (self.closed, self.logs_taken) = (closed, logs_taken);
        batch
    }

    /// Puts back a batch that could not be written, below what has come since. Its log lines all come back: whoever sent
    /// them may have been told to wait, and none is taken while there is no room. Steps come back as far as there is
    /// room; returns how many did not.
    pub(super) fn put_back(&mut self, mut batch: Self) -> u64 {
        for (mac, row) in batch.devices {
            self.devices.entry(mac).or_insert(row);
        }
        for (key, row) in batch.images {
            self.images.entry(key).or_insert(row);
        }
        for (mac, row) in batch.leases {
            self.leases.entry(mac).or_insert(row);
        }
        for (key, value) in batch.meta {
            self.meta.entry(key).or_insert(value);
        }
        for (key, row) in batch.checkpoints {
            self.checkpoints.entry(key).or_insert(row);
        }
        for (key, row) in batch.links {
            self.links.entry(key).or_insert(row);
        }
        batch.logs.append(&mut self.logs);
        self.logs = batch.logs;
        put_back(&mut self.boots, batch.boots, MAX_STEPS) + put_back(&mut self.steps, batch.steps, MAX_STEPS)
    }

    /// Devices whose old boots may now be one too many.
    pub(super) fn booted(&self) -> BTreeSet<MacAddr> {
        self.boots.iter().map(|boot| boot.mac).collect()
    }
}

fn push<T>(rows: &mut Vec<T>, row: T, max: usize) -> bool {
    let room = rows.len() < max;
    if room {
        rows.push(row);
    }
    room
}

fn put_back<T>(rows: &mut Vec<T>, mut older: Vec<T>, max: usize) -> u64 {
    let newer = std::mem::take(rows);
    let room = max.saturating_sub(older.len());
    let lost = newer.len().saturating_sub(room);
    older.extend(newer.into_iter().take(room));
    *rows = older;
    lost as u64
}
