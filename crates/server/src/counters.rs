//! The counters of all services, by name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where each counter is read.
#[derive(Default)]
pub(crate) struct CounterTable {
    readers: Vec<(String, Box<dyn Fn() -> u64 + Send + Sync>)>,
}

/// Picks one counter out of those of a service.
type Pick<C> = fn(&C) -> &AtomicU64;

impl CounterTable {
    /// Adds counters of one service, each as `<service>.<name>`.
    pub(crate) fn add<C: Send + Sync + 'static>(&mut self, service: &str, of: &Arc<C>, counters: &[(&str, Pick<C>)]) {
        for &(name, pick) in counters {
            let of = of.clone();
            self.readers.push((format!("{service}.{name}"), Box::new(move || pick(&of).load(Ordering::Relaxed))));
        }
    }

    /// What they show now.
    pub(crate) fn read(&self) -> BTreeMap<String, u64> {
        self.readers.iter().map(|(name, read)| (name.clone(), read())).collect()
    }
}
