//! What garbage collection must leave alone because somebody is at work on it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::DiffId;
use crate::digest::ImageDigest;

/// Keeps images and layers from garbage collection as long as it lives.
#[derive(Debug)]
pub struct Hold {
    id: u64,
    table: Arc<Mutex<Table>>,
}

/// All holds of a store.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    held: HashMap<u64, HashSet<[u8; 32]>>,
}

impl Holds {
    pub(crate) fn hold(&self) -> Hold {
        let mut table = locked(&self.table);
        table.next += 1;
        let id = table.next;
        table.held.insert(id, HashSet::new());
        Hold { id, table: self.table.clone() }
    }

    /// An image has become complete: all present holds keep it.
    pub(crate) fn completed(&self, image: &ImageDigest, layers: &[DiffId]) {
        for held in locked(&self.table).held.values_mut() {
            held.insert(*image.0.as_bytes());
            held.extend(layers.iter().map(DiffId::as_bytes));
        }
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "garbage collection comes next"))]
    /// Runs `remove` unless `digest` is held, with no chance for a new hold in between.
    ///
    /// The table stays locked meanwhile: `remove` should be one rename, no more.
    pub(crate) fn unless_held<T>(&self, digest: &[u8; 32], remove: impl FnOnce() -> T) -> Option<T> {
        let table = locked(&self.table);
        let held = table.held.values().any(|h| h.contains(digest));
        (!held).then(remove)
    }
}

impl Hold {
    /// Keeps these, too.
    pub(crate) fn add(&self, digests: impl IntoIterator<Item = [u8; 32]>) {
        if let Some(held) = locked(&self.table).held.get_mut(&self.id) {
            held.extend(digests);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        locked(&self.table).held.remove(&self.id);
    }
}

fn locked(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    // Every change to the table is one step: a panic elsewhere cannot leave it half done.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn keeps_what_was_added_until_dropped() {
        let holds = Holds::default();
        let digest = *Digest::of(b"layer").as_bytes();
        let hold = holds.hold();
        assert_eq!(holds.unless_held(&digest, || 1), Some(1));
        hold.add([digest]);
        assert_eq!(holds.unless_held(&digest, || 1), None);
        drop(hold);
        assert_eq!(holds.unless_held(&digest, || 1), Some(1));
    }

    #[test]
    fn keeps_images_that_were_completed_meanwhile() {
        let holds = Holds::default();
        let (image, layer) = (ImageDigest(Digest::of(b"config")), DiffId::from(Digest::of(b"layer")));
        let hold = holds.hold();
        holds.completed(&image, &[layer]);
        assert_eq!(holds.unless_held(image.0.as_bytes(), || 1), None);
        assert_eq!(holds.unless_held(layer.as_bytes(), || 1), None);
        drop(hold);
        assert_eq!(holds.unless_held(layer.as_bytes(), || 1), Some(1));
    }
}
