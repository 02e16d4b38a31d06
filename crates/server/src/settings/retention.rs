//! How much of the logs is kept.

use std::time::Duration;

use super::file::Logs;
use super::{SettingsError, value};
use crate::registry::Retention;

/// Longest time that can be set: a century.
const MAX_DAYS: u32 = 36_500;
/// Least size that can be set, in MiB: the platform itself must have its place beside the logs.
const MIN_MIB: u32 = 16;

/// What the file says, and the usual where it says nothing.
pub(super) fn check(logs: &Logs) -> Result<Retention, SettingsError> {
    let usual = Retention::default();
    let age = match logs.keep_days {
        None => usual.age,
        Some(days) if (1..=MAX_DAYS).contains(&days) => Duration::from_secs(u64::from(days) * 24 * 3600),
        Some(days) => return Err(value("logs.keep_days", format!("{days} is not between 1 and {MAX_DAYS}"))),
    };
    let bytes = match logs.keep_mib {
        None => usual.bytes,
        Some(mib) if mib >= MIN_MIB => u64::from(mib) << 20,
        Some(mib) => return Err(value("logs.keep_mib", format!("{mib} is less than {MIN_MIB}"))),
    };
    Ok(Retention { age, bytes })
}
