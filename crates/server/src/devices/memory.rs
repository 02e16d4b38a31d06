//! The ports that are without power because of us: kept, so that none stays so if the daemon is killed just then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use net::MacAddr;

use super::Devices;
use super::poe::{MEMORY, PowerPort};
use crate::registry::Loaded;

/// Time that the disk has to take down which port is about to be switched off.
const DISK: Duration = Duration::from_secs(10);

/// A port of a switch.
type SwitchPort = (MacAddr, PowerPort);

/// Ports without power.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Off {
    /// All of them.
    all: BTreeSet<SwitchPort>,
    /// Those that somebody is about to switch on again.
    under_way: BTreeSet<SwitchPort>,
    /// Why those that could not be switched on could not, as it was last said.
    said: BTreeMap<SwitchPort, String>,
}

/// Why a port is not switched off now.
#[derive(Debug)]
pub(super) enum NotBegun {
    /// Somebody does so already, or switches it on.
    UnderWay,
    /// It could not be recorded that it will be off.
    NotRecorded(String),
}

/// As the registry has kept them: those that the daemon before this one did not come to switch on.
pub fn restore(loaded: &Loaded) -> Off {
    let text = loaded.meta.get(MEMORY).map(|kept| String::from_utf8_lossy(kept)).unwrap_or_default();
    Off { all: text.lines().filter_map(parse).collect(), ..Off::default() }
}

impl Devices {
    /// The port is about to be without power: comes back once this is on the disk, so that whatever ends the daemon
    /// does not leave it so. False if it was without power before.
    pub(super) async fn begin_off(&self, switch: MacAddr, port: PowerPort) -> Result<bool, NotBegun> {
        let (was_on, recorded) = {
            let mut off = self.off();
            if !off.under_way.insert((switch, port)) {
                return Err(NotBegun::UnderWay);
            }
            let was_on = off.all.insert((switch, port));
            (was_on, self.site.registry().meta_on_disk(MEMORY, off.text().into_bytes()))
        };
        let too_slow = |_| Err(format!("the disk has not done so within {} s", DISK.as_secs()));
        match tokio::time::timeout(DISK, recorded).await.unwrap_or_else(too_slow) {
            Ok(()) => Ok(was_on),
            Err(cause) => {
                self.end_off(switch, port, was_on);
                Err(NotBegun::NotRecorded(cause))
            }
        }
    }

    /// The port is about to be switched on again; false if somebody does so already.
    pub(super) fn begin_on(&self, switch: MacAddr, port: PowerPort) -> bool {
        let mut off = self.off();
        off.all.contains(&(switch, port)) && off.under_way.insert((switch, port))
    }

    /// It was switched on again, or could not be.
    pub(super) fn end_off(&self, switch: MacAddr, port: PowerPort, is_on: bool) {
        let mut off = self.off();
        off.under_way.remove(&(switch, port));
        if !is_on {
            return;
        }
        off.said.remove(&(switch, port));
        if off.all.remove(&(switch, port)) {
            self.site.registry().meta(MEMORY, off.text().into_bytes());
        }
    }

    /// Whether this reason why a port stays without power has not been said yet.
    pub(super) fn is_news(&self, switch: MacAddr, port: PowerPort, reason: &str) -> bool {
        self.off().said.insert((switch, port), reason.to_owned()).is_none_or(|before| before != reason)
    }

    /// Those that nobody is about to switch on.
    pub(super) fn left_off(&self) -> Vec<SwitchPort> {
        let off = self.off();
        off.all.difference(&off.under_way).copied().collect()
    }

    fn off(&self) -> MutexGuard<'_, Off> {
        self.off.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Off {
    fn text(&self) -> String {
        self.all.iter().map(|(switch, (group, port))| format!("{switch} {group} {port}\n")).collect()
    }
}

fn parse(line: &str) -> Option<SwitchPort> {
    let mut words = line.split(' ');
    let switch = words.next()?.parse().ok()?;
    Some((switch, (words.next()?.parse().ok()?, words.next()?.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_off_is_known_after_a_restart() {
        let switch = MacAddr([2, 0, 0, 0, 0, 9]);
        let all = BTreeSet::from([(switch, (1, 3)), (switch, (2, 30))]);
        let off = Off { all: all.clone(), under_way: all.clone(), ..Off::default() };
        let mut loaded = Loaded::default();
        assert_eq!(restore(&loaded), Off::default());
        loaded.meta.insert(MEMORY.into(), (off.text() + "nonsense\n").into_bytes());
        assert_eq!(restore(&loaded), Off { all, ..Off::default() });
    }
}
