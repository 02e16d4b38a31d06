//! The registry: what must outlive the daemon, in `walt.db` (SQLite).
//!
//! Nothing outside of this module knows SQL, so that another database can follow. All of it is read
//! once, at start ([`Registry::open`]); from then on the daemon's memory is what counts, and the
//! one thread that writes follows it. Nobody waits for the disk, but who must not be forgotten
//! ([`Registry::meta_on_disk`]): what is still to be
//! written lies in `Pending`, where a newer state of the same thing replaces the older one, so
//! it can not grow beyond the platform itself; log lines and boot steps, which come in any number, are
//! bounded, and counted when they are dropped. Log lines alone are read again later ([`LogReader`]): what has not been
//! written is not seen, so that one place says what there is and in which order it came.

mod links;
mod load;
mod logs;
mod migrations;
mod pending;
mod source;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use image::store::Source;
use net::MacAddr;
use tokio::sync::{Notify, oneshot, watch};

use crate::registration::ImageKey;
pub use links::{LinkRow, Told};
pub use load::Loaded;
pub use logs::{Issuer, KeptLine, LogReader, LogRow, Retention};
use pending::Pending;

/// A device, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRow {
    /// Hardware address: the key.
    pub mac: MacAddr,
    /// Address it had last.
    pub ip: Ipv4Addr,
    /// Name, unique.
    pub name: String,
    /// Model of a node; `None` for an unknown device.
    pub model: Option<String>,
    /// What our first stage calls its board, if that is none that it knows.
    pub board: Option<String>,
    /// Host name it gave to DHCP, may be empty.
    pub host_name: String,
    /// Seconds since 1970.
    pub first_seen: i64,
    /// Seconds since 1970.
    pub last_seen: i64,
    /// Full name of the image that it is to boot.
    pub image: Option<String>,
    /// Id of the image that its links and exports lead to.
    pub served: Option<String>,
    /// Full name that it was served under.
    pub served_as: Option<String>,
    /// Ids of the images it mounted since its bootloader last ran, the last one last.
    pub held: Vec<String>,
    /// Full name that the last one of these was served under: whose the OS is that runs.
    pub runs_as: Option<String>,
    /// Whether it is a machine that the daemon itself runs.
    pub is_virtual: bool,
    /// What people have set, see [`crate::registration::config`]; what is not in here has its default.
    pub config: BTreeMap<String, String>,
}

/// What some machines are given under the name of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    /// Full name, and for which machines: the key.
    pub key: ImageKey,
    /// Digest of the configuration it stands for.
    pub digest: String,
    /// When it came (seconds since 1970).
    pub created: i64,
    /// What the name stood for then.
    pub source: Source,
}

/// A boot that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootRow {
    /// Number of the boot, unique in the database.
    pub id: i64,
    /// Device that boots.
    pub mac: MacAddr,
    /// Milliseconds since 1970.
    pub started_ms: i64,
}

/// One step of a boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRow {
    /// The boot it belongs to.
    pub boot: i64,
    /// Milliseconds since the boot began.
    pub at_ms: i64,
    /// Name of the step.
    pub name: String,
    /// Particulars.
    pub detail: String,
    /// Whether it went well.
    pub ok: bool,
}

/// A moment that a user gave a name to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRow {
    /// User.
    pub user: String,
    /// Name, one of the user's.
    pub name: String,
    /// Microseconds since 1970.
    pub at_us: i64,
}

/// A lease of our DHCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// Client.
    pub mac: MacAddr,
    /// Its address for good.
    pub ip: Ipv4Addr,
}

/// Why the registry can not be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file could not be made.
    #[error("can not make registry {path}: {cause}")]
    Create {
        /// File.
        path: PathBuf,
        /// Reason.
        cause: std::io::Error,
    },
    /// The file could not be opened.
    #[error("can not open registry {path}: {cause}")]
    Open {
        /// File.
        path: PathBuf,
        /// Reason.
        cause: rusqlite::Error,
    },
    /// A migration failed; the database is as it was before.
    #[error("can not bring registry {path} to version {version}: {cause}")]
    Migrate {
        /// File.
        path: PathBuf,
        /// Version that was being made.
        version: u32,
        /// Reason.
        cause: rusqlite::Error,
    },
    /// Written by a daemon that is newer than this one.
    #[error("registry {path} has version {found}, this daemon knows versions up to {known}: run the newer daemon")]
    TooNew {
        /// File.
        path: PathBuf,
        /// Version found.
        found: u32,
        /// Newest version known.
        known: u32,
    },
    /// It could not be read.
    #[error("can not read registry {path}: {cause}")]
    Read {
        /// File.
        path: PathBuf,
        /// Reason.
        cause: rusqlite::Error,
    },
    /// The thread that writes could not be started.
    #[error("can not start the registry's thread: {0}")]
    Thread(std::io::Error),
}

/// Handle to the registry: records what is to be written. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    shared: Arc<Shared>,
    path: Arc<Path>,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    wake: Condvar,
    dropped: AtomicU64,
    /// Log lines may have room again.
    room: Notify,
    written: watch::Sender<Written>,
}

/// How far the log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Lines that were taken since start, and are written.
    settled: u64,
    /// Number of the last line in the database; 0 if there is none.
    pub last_id: i64,
}

/// The thread that writes. Dropping it writes what is left and ends it.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    /// Opens or makes the database, brings it to the newest version, reads it, and starts the
    /// thread that writes.
    ///
    /// # Errors
    /// The file can not be used; see [`RegistryError`].
    pub fn open(path: &Path, retention: Retention) -> Result<(Self, Writer, Loaded), RegistryError> {
        let open = |cause| RegistryError::Open { path: path.to_owned(), cause };
        // The key of the NFS handles is in it: for root alone.
        let options = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        options.map_err(|cause| RegistryError::Create { path: path.to_owned(), cause })?;
        let mut db = rusqlite::Connection::open(path).map_err(open)?;
        // WAL with synchronous=NORMAL: a power cut may lose the last moments, never the consistency.
        db.pragma_update(None, "journal_mode", "WAL").map_err(open)?;
        db.pragma_update(None, "synchronous", "NORMAL").map_err(open)?;
        db.pragma_update(None, "foreign_keys", true).map_err(open)?;
        migrations::run(&mut db, path)?;
        let read = |cause| RegistryError::Read { path: path.to_owned(), cause };
        let loaded = load::all(&db).map_err(read)?;
        let shared = Arc::new(Shared::default());
        shared.written.send_replace(Written { settled: 0, last_id: logs::last_id(&db).map_err(read)? });
        let for_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("registry".into())
            .spawn(move || {
                crate::privileges::drop_or_exit();
                write::run(&mut db, &for_thread, retention);
            })
            .map_err(RegistryError::Thread)?;
        Ok((Self { shared: shared.clone(), path: path.into() }, Writer { shared, thread: Some(thread) }, loaded))
    }

    /// The device is now like this.
    pub fn device(&self, row: DeviceRow) {
        self.shared.change(|pending| pending.device(row));
    }

    /// The device is forgotten, with its boots.
    pub fn forget_device(&self, mac: MacAddr) {
        self.shared.change(|pending| pending.forget_device(mac));
    }

    /// The name stands for this image now.
    pub fn image(&self, row: ImageRow) {
        self.shared.change(|pending| pending.image(row));
    }

    /// The name stands for nothing any more for these machines.
    pub fn remove_image(&self, key: ImageKey) {
        self.shared.change(|pending| pending.remove_image(key));
    }

    /// The client keeps this address.
    pub fn lease(&self, row: LeaseRow) {
        self.shared.change(|pending| pending.lease(row));
    }

    /// The client keeps no address any more.
    pub fn forget_lease(&self, mac: MacAddr) {
        self.shared.change(|pending| pending.forget_lease(mac));
    }

    /// A value of the daemon itself, such as a key.
    pub fn meta(&self, key: &str, value: Vec<u8>) {
        self.shared.change(|pending| pending.meta(key, value));
    }

    /// As [`meta`](Self::meta), at once; what is returned waits until it is on the disk, safe from a power cut.
    ///
    /// # Errors
    /// It could not be written. That is tried again all the same.
    pub fn meta_on_disk(&self, key: &str, value: Vec<u8>) -> impl Future<Output = Result<(), String>> + use<> {
        let (waiting, answer) = oneshot::channel();
        self.shared.change(|pending| {
            pending.meta(key, value);
            pending.waiting.push(waiting);
        });
        async { answer.await.unwrap_or_else(|_| Err("the registry is closed".into())) }
    }

    /// A boot has begun.
    pub fn boot(&self, row: BootRow) {
        self.shared.append(|pending| pending.boot(row));
    }

    /// A step of a boot has been seen.
    pub fn step(&self, row: StepRow) {
        self.shared.append(|pending| pending.step(row));
    }

    /// The checkpoint is now there; another one of this name is not any more.
    pub fn checkpoint(&self, row: CheckpointRow) {
        self.shared.change(|pending| pending.checkpoint(row));
    }

    /// The checkpoint is there no more.
    pub fn remove_checkpoint(&self, user: String, name: String) {
        self.shared.change(|pending| pending.remove_checkpoint(user, name));
    }

    /// The device hangs on this switch so, or no more.
    pub fn link(&self, switch: MacAddr, mac: MacAddr, row: Option<LinkRow>) {
        self.shared.change(|pending| pending.link(switch, mac, row));
    }

    /// A log line has come; it is dropped, and counted, if the disk can not follow.
    pub fn log(&self, row: LogRow) {
        self.shared.append(|pending| pending.log(row).is_ok());
    }

    /// As [`log`](Self::log), but waits until there is room for the line.
    pub async fn log_in_turn(&self, mut row: LogRow) {
        loop {
            let mut room = pin!(self.shared.room.notified());
            // From here on no news of room is missed.
            room.as_mut().enable();
            let taken = self.shared.lock().log(row);
            match taken {
                Ok(()) => return self.shared.wake.notify_one(),
                Err(refused) => row = refused,
            }
            room.await;
        }
    }

    /// Changes each time that log lines were written.
    pub fn written(&self) -> watch::Receiver<Written> {
        self.shared.written.subscribe()
    }

    /// Waits until the log lines that have come so far are written: they can be read then, and a daemon that is killed
    /// does not lose them.
    pub async fn settle_logs(&self) {
        let taken = self.shared.lock().logs_taken;
        let mut written = self.written();
        // The sender lives as long as the registry.
        let _ = written.wait_for(|written| written.settled >= taken).await;
    }

    /// A connection to read log lines with. Blocks on the disk.
    ///
    /// # Errors
    /// The database can not be opened.
    pub fn log_reader(&self) -> Result<LogReader, RegistryError> {
        LogReader::open(&self.path)
    }

    /// Boot steps and log lines that were dropped because the disk could not follow.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        // Every change of `Pending` is whole or not at all, so a panic elsewhere leaves it usable.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.lock());
        self.wake.notify_one();
    }

    fn append(&self, append: impl FnOnce(&mut Pending) -> bool) {
        if !append(&mut self.lock()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.wake.notify_one();
    }
}

impl Writer {
    /// True while the thread runs; it ends by itself only if it panics.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.change(Pending::close);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the registry's thread panicked");
        }
    }
}
