//! Which device hangs on which port of which switch, as it is kept.

use std::str::FromStr;

use net::MacAddr;
use rusqlite::{Connection, params};

use super::load::{parsed, rows};
use super::pending::Pending;

/// A device on the port of a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRow {
    /// The switch.
    pub switch: MacAddr,
    /// The device.
    pub mac: MacAddr,
    /// Number of the port in the switch's table of interfaces (ifIndex); `None` while its name alone is known.
    pub port: Option<u32>,
    /// Name of the port.
    pub port_name: String,
    /// What the switch calls itself, may be empty.
    pub switch_name: String,
    /// What the device calls itself, may be empty.
    pub name: String,
    /// Who says so.
    pub told: Told,
    /// When it was last said: seconds since 1970.
    pub seen: i64,
}

/// Who says where a device hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The switch: it has heard the device by LLDP.
    Neighbour,
    /// The device: it has heard the switch by LLDP.
    Heard,
    /// The switch: no other address than the device's is behind the port.
    Learned,
}

impl Told {
    fn as_str(self) -> &'static str {
        match self {
            Self::Neighbour => "neighbour",
            Self::Heard => "heard",
            Self::Learned => "learned",
        }
    }
}

/// The text says nothing of the kind.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no source of a link")]
pub struct NoSuchSource(String);

impl FromStr for Told {
    type Err = NoSuchSource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Neighbour, Self::Heard, Self::Learned];
        all.into_iter().find(|told| told.as_str() == text).ok_or_else(|| NoSuchSource(text.to_owned()))
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

pub(super) fn load(db: &Connection) -> rusqlite::Result<Vec<LinkRow>> {
    rows(db, "SELECT * FROM links", |row| {
        Ok(LinkRow {
            switch: parsed(row, "switch")?,
            mac: parsed(row, "mac")?,
            port: row.get("port")?,
            port_name: row.get("port_name")?,
            switch_name: row.get("switch_name")?,
            name: row.get("name")?,
            told: parsed(row, "told")?,
            seen: row.get("seen")?,
        })
    })
}

pub(super) fn write(db: &Connection, batch: &Pending) -> rusqlite::Result<()> {
    for ((switch, mac), row) in &batch.links {
        let (switch, mac) = (switch.to_string(), mac.to_string());
        match row {
            Some(row) => db
                .prepare_cached(
                    "INSERT OR REPLACE INTO links (switch, mac, port, port_name, switch_name, name, told, seen)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    switch,
                    mac,
                    row.port,
                    row.port_name,
                    row.switch_name,
                    row.name,
                    row.told.as_str(),
                    row.seen
                ])?,
            None => db.prepare_cached("DELETE FROM links WHERE switch = ? AND mac = ?")?.execute([switch, mac])?,
        };
    }
    Ok(())
}
