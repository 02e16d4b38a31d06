//! The schema, as the sequence of changes that made it. `user_version` counts those applied.

use std::path::Path;

use rusqlite::Connection;

use super::RegistryError;

/// Each entry is applied once, in its own transaction. Never change one that was released: add.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE devices (
        mac TEXT PRIMARY KEY,
        ip TEXT NOT NULL,
        name TEXT NOT NULL UNIQUE,
        model TEXT,
        host_name TEXT NOT NULL,
        first_seen INTEGER NOT NULL,
        last_seen INTEGER NOT NULL,
        image TEXT,
        served TEXT
    ) STRICT;
    CREATE TABLE held (
        mac TEXT NOT NULL REFERENCES devices (mac) ON DELETE CASCADE,
        image_id TEXT NOT NULL,
        PRIMARY KEY (mac, image_id)
    ) STRICT;
    CREATE TABLE leases (mac TEXT PRIMARY KEY, ip TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE images (
        fullname TEXT PRIMARY KEY,
        digest TEXT NOT NULL,
        created INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE boots (
        id INTEGER PRIMARY KEY,
        mac TEXT NOT NULL,
        started_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX boots_of_device ON boots (mac, id);
    CREATE TABLE boot_events (
        boot INTEGER NOT NULL REFERENCES boots (id) ON DELETE CASCADE,
        at_ms INTEGER NOT NULL,
        name TEXT NOT NULL,
        detail TEXT NOT NULL,
        ok INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX events_of_boot ON boot_events (boot);
    CREATE TABLE logs (
        issuer TEXT NOT NULL,
        stream TEXT NOT NULL,
        at_us INTEGER NOT NULL,
        line TEXT NOT NULL
    ) STRICT;
    CREATE INDEX logs_by_time ON logs (at_us);
    CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
",
    "
    -- One content for each group of machines that takes the same one. What was there was for PCs, maybe of an index of
    -- which nothing is known: other machines get theirs anew.
    CREATE TABLE image_variants (
        fullname TEXT NOT NULL,
        wanted TEXT NOT NULL,
        digest TEXT NOT NULL,
        created INTEGER NOT NULL,
        source TEXT NOT NULL,
        PRIMARY KEY (fullname, wanted)
    ) STRICT;
    INSERT INTO image_variants SELECT fullname, 'x86_64,i686', digest, created, '{}' FROM images;
    DROP TABLE images;
    ALTER TABLE image_variants RENAME TO images;
    ALTER TABLE devices ADD COLUMN board TEXT;
",
    "
    -- Each line has a number for good, by which readers go on where they were.
    CREATE TABLE numbered_logs (
        id INTEGER PRIMARY KEY,
        issuer TEXT NOT NULL,
        stream TEXT NOT NULL,
        at_us INTEGER NOT NULL,
        came_s INTEGER NOT NULL,
        line TEXT NOT NULL
    ) STRICT;
    INSERT INTO numbered_logs (issuer, stream, at_us, came_s, line)
        SELECT issuer, stream, at_us, at_us / 1000000, line FROM logs ORDER BY rowid;
    DROP TABLE logs;
    ALTER TABLE numbered_logs RENAME TO logs;
    CREATE INDEX logs_by_time ON logs (at_us);
    CREATE TABLE checkpoints (
        user TEXT NOT NULL,
        name TEXT NOT NULL,
        at_us INTEGER NOT NULL,
        PRIMARY KEY (user, name)
    ) STRICT;
",
    "
    -- What people have set, as a JSON object of texts; and which nodes are machines of the server's own.
    ALTER TABLE devices ADD COLUMN config TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE devices ADD COLUMN virtual INTEGER NOT NULL DEFAULT 0;
",
    "
    -- Which device hangs on which port of which switch.
    CREATE TABLE links (
        switch TEXT NOT NULL,
        mac TEXT NOT NULL,
        port INTEGER,
        port_name TEXT NOT NULL,
        switch_name TEXT NOT NULL,
        name TEXT NOT NULL,
        told TEXT NOT NULL,
        seen INTEGER NOT NULL,
        PRIMARY KEY (switch, mac)
    ) STRICT;
",
    "
    -- Under which names: whose what a node is served is, and whose the OS that it runs.
    ALTER TABLE devices ADD COLUMN served_as TEXT;
    ALTER TABLE devices ADD COLUMN runs_as TEXT;
    UPDATE devices SET served_as = image WHERE served IS NOT NULL;
    UPDATE devices SET runs_as = image WHERE mac IN (SELECT mac FROM held);
",
];

/// Brings the database to the newest version.
pub(super) fn run(db: &mut Connection, path: &Path) -> Result<(), RegistryError> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let found: u32 = db
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|cause| RegistryError::Open { path: path.to_owned(), cause })?;
    if found > known {
        return Err(RegistryError::TooNew { path: path.to_owned(), found, known });
    }
    for (version, sql) in (1..).zip(MIGRATIONS).skip(found as usize) {
        let migrate = |cause| RegistryError::Migrate { path: path.to_owned(), version, cause };
        let step = db.transaction().map_err(migrate)?;
        step.execute_batch(sql).map_err(migrate)?;
        step.pragma_update(None, "user_version", version).map_err(migrate)?;
        step.commit().map_err(migrate)?;
    }
    Ok(())
}
