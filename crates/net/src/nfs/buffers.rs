//! Large reply buffers, used again.

use std::sync::{Mutex, PoisonError};

use wire::xdr::Writer;

/// Buffers above this size go back to the pool when their connection has nothing to say.
const SMALL: usize = 64 << 10;
/// Most buffers that wait in the pool (each of about 1 MiB).
const KEPT: usize = 32;

/// A pool of reply buffers: so an idle connection holds no megabyte, and a busy one allocates none.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    free: Mutex<Vec<Writer>>,
}

impl Buffers {
    /// An empty buffer, a large one if there is one.
    pub(super) fn take(&self) -> Writer {
        self.lock().pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub(super) fn give(&self, mut buffer: Writer) {
        buffer.clear();
        let mut free = self.lock();
        if buffer.capacity() > SMALL && free.len() < KEPT {
            free.push(buffer);
        }
    }

    /// Keeps a small buffer where it is, empty; a large one goes back.
    pub(super) fn recycle(&self, buffer: &mut Writer) {
        if buffer.capacity() > SMALL {
            self.give(std::mem::take(buffer));
        } else {
            buffer.clear();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Writer>> {
        // Nothing that panics is done under the lock.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
