//! Who keeps garbage collection away: everybody who is at work on an image.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// As long as it lives, nothing is removed from the store.
///
/// Take one before a pull, an import or the preparation of an image, and drop it once the result is recorded
/// where [`Store::collect_garbage`](crate::Store::collect_garbage) is told of it.
#[derive(Debug)]
pub struct Hold {
    _guard: OwnedRwLockReadGuard<()>,
}

/// The lock behind the holds of a store: shared by those at work, exclusive to garbage collection.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    lock: Arc<RwLock<()>>,
}

impl Holds {
    /// Waits for a collection that is running: a fraction of a second.
    pub(crate) async fn hold(&self) -> Hold {
        Hold { _guard: self.lock.clone().read_owned().await }
    }

    /// As [`hold`](Self::hold), blocking the thread.
    pub(crate) fn hold_blocking(&self) -> Hold {
        loop {
            if let Ok(guard) = self.lock.clone().try_read_owned() {
                return Hold { _guard: guard };
            }
            // Waits until the collection has ended; another may begin before we try again.
            drop(self.lock.blocking_read());
        }
    }

    /// Keeps new holds waiting; `None` if somebody is at work.
    pub(crate) fn exclude(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        self.lock.clone().try_write_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collection_and_work_exclude_each_other() {
        let holds = Holds::default();
        let (first, second) = (holds.hold_blocking(), holds.hold_blocking());
        assert!(holds.exclude().is_none());
        drop(first);
        assert!(holds.exclude().is_none());
        drop(second);
        let collection = holds.exclude().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| holds.hold_blocking());
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!waiting.is_finished());
            drop(collection);
            waiting.join().unwrap();
        });
    }
}
