//! The thread that writes: one transaction for all that has come since the last one.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::pending::Pending;
use super::{DeviceRow, Retention, Shared, Written, links, logs, source};

/// Boots kept of each device.
const BOOTS_KEPT: i64 = 20;
/// Log lines written between two looks at how many there are.
const LOGS_BETWEEN_TRIMS: usize = 10_000;
/// Log lines forgotten at one such look: more than have come since the last one.
const LOGS_TRIMMED: u32 = 20_000;
/// Time to gather what comes together, so that a boot storm costs few transactions.
const GATHER: Duration = Duration::from_millis(20);
/// Pause after a failure, such as a full disk.
const RETRY: Duration = Duration::from_secs(5);

/// Writes until the registry is closed and nothing is left.
pub(super) fn run(db: &mut Connection, shared: &Shared, retention: Retention) {
    let mut logs_since_trim = LOGS_BETWEEN_TRIMS;
    let mut failing = false;
    loop {
        let mut pending = shared.lock();
        while pending.is_empty() && !pending.closed {
            pending = shared.wake.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
        let closed = pending.closed;
        drop(pending);
        if !closed {
            std::thread::sleep(GATHER);
        }
        let mut batch = shared.lock().take();
        if batch.is_empty() {
            return;
        }
        shared.room.notify_waiters();
        logs_since_trim += batch.logs.len();
        let trim = (logs_since_trim >= LOGS_BETWEEN_TRIMS).then_some(retention);
        match write(db, &batch, trim) {
            Ok(last_id) => {
                answer(&mut batch, &Ok(()));
                if let Some(last_id) = last_id {
                    let lines = batch.logs.len() as u64;
                    shared.written.send_modify(|written| {
                        *written = Written { settled: written.settled + lines, last_id };
                    });
                }
                if trim.is_some() {
                    logs_since_trim = 0;
                }
                if failing {
                    tracing::info!("the registry can be written again");
                    failing = false;
                }
            }
            Err(cause) => {
                answer(&mut batch, &Err(cause.to_string()));
                if !failing {
                    tracing::error!(%cause, "can not write the registry; it is tried again every 5 s");
                    failing = true;
                }
                let lost = shared.lock().put_back(batch);
                shared.dropped.fetch_add(lost, Ordering::Relaxed);
                if closed {
                    tracing::error!("the last changes of the registry are lost");
                    return;
                }
                std::thread::sleep(RETRY);
            }
        }
    }
}

/// Tells those who wait for this batch.
fn answer(batch: &mut Pending, result: &Result<(), String>) {
    for waiting in batch.waiting.drain(..) {
        // Fails if nobody waits any more.
        let _ = waiting.send(result.clone());
    }
}

/// Writes all of it or nothing; gives back the number of the last log line, if there was one.
fn write(db: &mut Connection, batch: &Pending, trim: Option<Retention>) -> rusqlite::Result<Option<i64>> {
    // Somebody is about to do what a power cut must not have us forget: this batch is synced.
    let synchronous = if batch.waiting.is_empty() { "NORMAL" } else { "FULL" };
    db.pragma_update(None, "synchronous", synchronous)?;
    let db = db.transaction()?;
    write_devices(&db, batch)?;
    for (key, row) in &batch.images {
        let wanted = key.wanted.to_string();
        match row {
            Some(row) => db
                .prepare_cached(
                    "INSERT OR REPLACE INTO images (fullname, wanted, digest, created, source) VALUES (?, ?, ?, ?, ?)",
                )?
                .execute(params![key.name, wanted, row.digest, row.created, source::to_text(&row.source)])?,
            None => db
                .prepare_cached("DELETE FROM images WHERE fullname = ? AND wanted = ?")?
                .execute(params![key.name, wanted])?,
        };
    }
    for (mac, row) in &batch.leases {
        match row {
            Some(row) => db
                .prepare_cached("INSERT OR REPLACE INTO leases (mac, ip) VALUES (?, ?)")?
                .execute([row.mac.to_string(), row.ip.to_string()])?,
            None => db.prepare_cached("DELETE FROM leases WHERE mac = ?")?.execute([mac.to_string()])?,
        };
    }
    for (key, value) in &batch.meta {
        db.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)")?.execute(params![key, value])?;
    }
    write_boots(&db, batch)?;
    for ((user, name), row) in &batch.checkpoints {
        match row {
            Some(row) => db
                .prepare_cached("INSERT OR REPLACE INTO checkpoints (user, name, at_us) VALUES (?, ?, ?)")?
                .execute(params![user, name, row.at_us])?,
            None => db.prepare_cached("DELETE FROM checkpoints WHERE user = ? AND name = ?")?.execute([user, name])?,
        };
    }
    links::write(&db, batch)?;
    let now_s = crate::site::now_ms() / 1000;
    logs::write(&db, &batch.logs, now_s)?;
    let last_id = (!batch.logs.is_empty()).then(|| db.last_insert_rowid());
    if let Some(retention) = trim {
        logs::trim(&db, retention, now_s, LOGS_TRIMMED)?;
    }
    db.commit()?;
    Ok(last_id)
}

fn write_devices(db: &Connection, batch: &Pending) -> rusqlite::Result<()> {
    // Names may have changed hands within the batch: clear them first, so that UNIQUE holds at each
    // statement.
    for mac in batch.devices.keys() {
        db.prepare_cached("UPDATE devices SET name = 'mac:' || mac WHERE mac = ?")?.execute([mac.to_string()])?;
    }
    for (mac, row) in &batch.devices {
        match row {
            Some(row) => write_device(db, row)?,
            None => {
                db.prepare_cached("DELETE FROM boots WHERE mac = ?")?.execute([mac.to_string()])?;
                db.prepare_cached("DELETE FROM devices WHERE mac = ?")?.execute([mac.to_string()])?;
            }
        }
    }
    Ok(())
}

fn write_device(db: &Connection, row: &DeviceRow) -> rusqlite::Result<()> {
    let mac = row.mac.to_string();
    db.prepare_cached(
        "INSERT INTO devices (mac, ip, name, model, host_name, first_seen, last_seen, image, served, board,
         virtual, config, served_as, runs_as)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
         ON CONFLICT (mac) DO UPDATE SET ip = ?2, name = ?3, model = ?4, host_name = ?5, first_seen = ?6,
         last_seen = ?7, image = ?8, served = ?9, board = ?10, virtual = ?11, config = ?12,
         served_as = ?13, runs_as = ?14",
    )?
    .execute(params![
        mac,
        row.ip.to_string(),
        row.name,
        row.model,
        row.host_name,
        row.first_seen,
        row.last_seen,
        row.image,
        row.served,
        row.board,
        row.is_virtual,
        // A map of texts always has a JSON form.
        serde_json::to_string(&row.config).unwrap_or_default(),
        row.served_as,
        row.runs_as
    ])?;
    db.prepare_cached("DELETE FROM held WHERE mac = ?")?.execute([&mac])?;
    for id in &row.held {
        db.prepare_cached("INSERT OR IGNORE INTO held (mac, image_id) VALUES (?, ?)")?.execute([&mac, id])?;
    }
    Ok(())
}

fn write_boots(db: &Connection, batch: &Pending) -> rusqlite::Result<()> {
    for row in &batch.boots {
        db.prepare_cached("INSERT OR IGNORE INTO boots (id, mac, started_ms) VALUES (?, ?, ?)")?.execute(params![
            row.id,
            row.mac.to_string(),
            row.started_ms
        ])?;
    }
    for row in &batch.steps {
        // A boot that was dropped when the disk could not follow takes its steps with it.
        db.prepare_cached(
            "INSERT INTO boot_events (boot, at_ms, name, detail, ok)
             SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM boots WHERE id = ?1)",
        )?
        .execute(params![row.boot, row.at_ms, row.name, row.detail, row.ok])?;
    }
    for mac in batch.booted() {
        db.prepare_cached(
            "DELETE FROM boots WHERE mac = ?1 AND id NOT IN
             (SELECT id FROM boots WHERE mac = ?1 ORDER BY id DESC LIMIT ?2)",
        )?
        .execute(params![mac.to_string(), BOOTS_KEPT])?;
    }
    Ok(())
}
