//! The ports that are without power because of us: kept, so that none stays so if the daemon is killed just then.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use net::MacAddr;

use super::Devices;
use super::poe::{MEMORY, PowerPort};
use crate::registry::Loaded;

/// A port of a switch.
type SwitchPort = (MacAddr, PowerPort);

/// Ports without power.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Off {
    /// All of them.
    all: BTreeSet<SwitchPort>,
    /// Those that somebody is about to switch on again.
    under_way: BTreeSet<SwitchPort>,
}

/// As the registry has kept them: those that the daemon before this one did not come to switch on.
pub fn restore(loaded: &Loaded) -> Off {
    let text = loaded.meta.get(MEMORY).map(|kept| String::from_utf8_lossy(kept)).unwrap_or_default();
    Off { all: text.lines().filter_map(parse).collect(), ..Off::default() }
}

impl Devices {
    /// The port is about to be without power; false if it is already.
    pub(super) fn begin_off(&self, switch: MacAddr, port: PowerPort) -> bool {
        let mut off = self.off();
        let new = off.under_way.insert((switch, port));
        if off.all.insert((switch, port)) {
            self.site.registry().meta(MEMORY, off.text().into_bytes());
        }
        new
    }

    /// It was switched on again, or could not be.
    pub(super) fn end_off(&self, switch: MacAddr, port: PowerPort, is_on: bool) {
        let mut off = self.off();
        off.under_way.remove(&(switch, port));
        if is_on && off.all.remove(&(switch, port)) {
            self.site.registry().meta(MEMORY, off.text().into_bytes());
        }
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
        let off = Off { all: all.clone(), under_way: all.clone() };
        let mut loaded = Loaded::default();
        assert_eq!(restore(&loaded), Off::default());
        loaded.meta.insert(MEMORY.into(), (off.text() + "nonsense\n").into_bytes());
        assert_eq!(restore(&loaded), Off { all, ..Off::default() });
    }
}
