//! Reads the whole registry, at start.

use std::collections::BTreeMap;
use std::str::FromStr;

use rusqlite::types::Type;
use rusqlite::{Connection, Row};

use super::{BootRow, CheckpointRow, DeviceRow, ImageRow, LeaseRow, LinkRow, StepRow, links, source};
use crate::registration::ImageKey;

/// All that the daemon starts from.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Devices.
    pub devices: Vec<DeviceRow>,
    /// Names of images.
    pub images: Vec<ImageRow>,
    /// Leases of our DHCP server.
    pub leases: Vec<LeaseRow>,
    /// The last boot of each device with its steps.
    pub boots: Vec<(BootRow, Vec<StepRow>)>,
    /// Number that the next boot gets.
    pub next_boot: i64,
    /// Moments with names.
    pub checkpoints: Vec<CheckpointRow>,
    /// Which device hangs on which switch.
    pub links: Vec<LinkRow>,
    /// Values of the daemon itself.
    pub meta: BTreeMap<String, Vec<u8>>,
}

/// Settings as they are kept. What is no JSON object of texts was not written by us: the defaults count then.
fn config_of_text(text: &str) -> BTreeMap<String, String> {
    serde_json::from_str(text).unwrap_or_default()
}

pub(super) fn all(db: &Connection) -> rusqlite::Result<Loaded> {
    let mut devices = rows(db, "SELECT * FROM devices", |row| {
        Ok(DeviceRow {
            mac: parsed(row, "mac")?,
            ip: parsed(row, "ip")?,
            name: row.get("name")?,
            model: row.get("model")?,
            board: row.get("board")?,
            host_name: row.get("host_name")?,
            first_seen: row.get("first_seen")?,
            last_seen: row.get("last_seen")?,
            image: row.get("image")?,
            served: row.get("served")?,
            served_as: row.get("served_as")?,
            held: Vec::new(),
            runs_as: row.get("runs_as")?,
            is_virtual: row.get("virtual")?,
            config: config_of_text(&row.get::<_, String>("config")?),
        })
    })?;
    for device in &mut devices {
        let mut held = db.prepare_cached("SELECT image_id FROM held WHERE mac = ? ORDER BY rowid")?;
        device.held = held.query_map([device.mac.to_string()], |row| row.get(0))?.collect::<Result<_, _>>()?;
    }
    let images = rows(db, "SELECT * FROM images", |row| {
        let source: String = row.get("source")?;
        Ok(ImageRow {
            key: ImageKey { name: row.get("fullname")?, wanted: parsed(row, "wanted")? },
            digest: row.get("digest")?,
            created: row.get("created")?,
            source: source::of_text(&source),
        })
    })?;
    let leases =
        rows(db, "SELECT * FROM leases", |row| Ok(LeaseRow { mac: parsed(row, "mac")?, ip: parsed(row, "ip")? }))?;
    let meta = rows(db, "SELECT * FROM meta", |row| Ok((row.get("key")?, row.get("value")?)))?;
    let checkpoints = rows(db, "SELECT * FROM checkpoints", |row| {
        Ok(CheckpointRow { user: row.get("user")?, name: row.get("name")?, at_us: row.get("at_us")? })
    })?;
    let next_boot = db.query_row("SELECT coalesce(max(id), 0) + 1 FROM boots", [], |row| row.get(0))?;
    let meta = meta.into_iter().collect();
    Ok(Loaded { devices, images, leases, boots: boots(db)?, next_boot, checkpoints, links: links::load(db)?, meta })
}

fn boots(db: &Connection) -> rusqlite::Result<Vec<(BootRow, Vec<StepRow>)>> {
    let last = rows(db, "SELECT * FROM boots WHERE id IN (SELECT max(id) FROM boots GROUP BY mac)", |row| {
        Ok(BootRow { id: row.get("id")?, mac: parsed(row, "mac")?, started_ms: row.get("started_ms")? })
    })?;
    let mut steps = db.prepare("SELECT * FROM boot_events WHERE boot = ? ORDER BY rowid")?;
    last.into_iter()
        .map(|boot| {
            let steps = steps.query_map([boot.id], |row| {
                Ok(StepRow {
                    boot: row.get("boot")?,
                    at_ms: row.get("at_ms")?,
                    name: row.get("name")?,
                    detail: row.get("detail")?,
                    ok: row.get("ok")?,
                })
            })?;
            Ok((boot, steps.collect::<Result<_, _>>()?))
        })
        .collect()
}

pub(super) fn rows<T>(
    db: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    db.prepare(sql)?.query_map([], read)?.collect()
}

/// A column that holds the text form of a value.
pub(super) fn parsed<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    let index = row.as_ref().column_index(column)?;
    text.parse().map_err(|cause| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(cause)))
}
