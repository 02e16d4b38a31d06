//! Log lines: read when somebody asks, since there are more of them than memory should hold.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use net::MacAddr;
use rusqlite::{Connection, OpenFlags, Row, params};

use super::RegistryError;

/// Longest that a reader waits for the thread that writes: with a write-ahead log it never should.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Issuer {
    /// This server.
    Server,
    /// A device.
    Device(MacAddr),
}

/// As it is kept: `server`, or a mac.
impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("server"),
            Self::Device(mac) => mac.fmt(f),
        }
    }
}

impl FromStr for Issuer {
    type Err = <MacAddr as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "server" { Ok(Self::Server) } else { text.parse().map(Self::Device) }
    }
}

/// A log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// Who wrote it.
    pub issuer: Issuer,
    /// Stream it belongs to.
    pub stream: String,
    /// Microseconds since 1970, by the clock of its issuer.
    pub at_us: i64,
    /// The line, without its end.
    pub line: String,
}

/// A log line that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLine {
    /// Its number: a line that came later has a greater one.
    pub id: i64,
    /// The line.
    pub row: LogRow,
}

/// How much of the logs is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// What is older than this is forgotten.
    pub age: Duration,
    /// Once the registry has more bytes than this, the lines that came first are forgotten.
    pub bytes: u64,
}

impl Default for Retention {
    /// Three months, 4 GiB.
    fn default() -> Self {
        Self { age: Duration::from_secs(90 * 24 * 3600), bytes: 4 << 30 }
    }
}

/// A connection that reads log lines, beside the thread that writes. Blocks on the disk.
#[derive(Debug)]
pub struct LogReader {
    db: Connection,
}

impl LogReader {
    pub(super) fn open(path: &Path) -> Result<Self, RegistryError> {
        let open = |cause| RegistryError::Open { path: path.to_owned(), cause };
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(open)?;
        db.busy_timeout(PATIENCE).map_err(open)?;
        Ok(Self { db })
    }

    /// At most `most` lines of a range of time, `from_us` included, `until_us` not, in the order of their time: those
    /// behind `after` (time and number of a line), up to the number `last`.
    ///
    /// # Errors
    /// The database can not be read.
    pub fn between(
        &self,
        (from_us, until_us): (i64, i64),
        after: (i64, i64),
        last: i64,
        most: usize,
    ) -> rusqlite::Result<Vec<KeptLine>> {
        let mut query = self.db.prepare_cached(
            "SELECT id, issuer, stream, at_us, line FROM logs
             WHERE at_us >= ?1 AND at_us < ?2 AND (at_us, id) > (?3, ?4) AND id <= ?5 ORDER BY at_us, id LIMIT ?6",
        )?;
        // The index on time is entered where the last batch ended.
        let from_us = from_us.max(after.0);
        query.query_map(params![from_us, until_us, after.0, after.1, last, most as i64], line)?.collect()
    }

    /// At most `most` lines that came behind the one with the number `id`, in the order in which they came.
    ///
    /// # Errors
    /// The database can not be read.
    pub fn since(&self, id: i64, most: usize) -> rusqlite::Result<Vec<KeptLine>> {
        let mut query = self
            .db
            .prepare_cached("SELECT id, issuer, stream, at_us, line FROM logs WHERE id > ? ORDER BY id LIMIT ?")?;
        query.query_map(params![id, most as i64], line)?.collect()
    }
}

/// Number of the last line that is kept; 0 if there is none.
pub(super) fn last_id(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("SELECT coalesce(max(id), 0) FROM logs", [], |row| row.get(0))
}

fn line(row: &Row<'_>) -> rusqlite::Result<KeptLine> {
    Ok(KeptLine {
        id: row.get("id")?,
        row: LogRow {
            issuer: super::load::parsed(row, "issuer")?,
            stream: row.get("stream")?,
            at_us: row.get("at_us")?,
            line: row.get("line")?,
        },
    })
}

/// Writes lines.
pub(super) fn write(db: &Connection, rows: &[LogRow], now_s: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO logs (issuer, stream, at_us, came_s, line) VALUES (?, ?, ?, ?, ?)";
    let mut insert = db.prepare_cached(sql)?;
    for row in rows {
        insert.execute(params![row.issuer.to_string(), row.stream, row.at_us, now_s, row.line])?;
    }
    Ok(())
}

/// Forgets what is too old or too much, at most `most` lines of each: a little each time, so that nobody waits for long.
///
/// The age of a line is counted from when it came: a node's clock may be wrong.
pub(super) fn trim(db: &Connection, retention: Retention, now_s: i64, most: u32) -> rusqlite::Result<()> {
    let oldest = now_s.saturating_sub(i64::try_from(retention.age.as_secs()).unwrap_or(i64::MAX));
    db.execute(
        "DELETE FROM logs WHERE id IN
         (SELECT id FROM (SELECT id, came_s FROM logs ORDER BY id LIMIT ?2) WHERE came_s < ?1)",
        params![oldest, most],
    )?;
    // Pages that are free count as room: they are the first to be used again.
    let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let used = (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?;
    if u64::try_from(used).is_ok_and(|used| used > retention.bytes) {
        db.execute("DELETE FROM logs WHERE id IN (SELECT id FROM logs ORDER BY id LIMIT ?)", [most])?;
    }
    Ok(())
}
