//! What a pull tells about itself while it runs.

use crate::DiffId;
use crate::store::error::Retry;

/// One piece of news from a pull.
#[derive(Debug, Clone)]
pub enum PullProgress {
    /// Manifest and configuration are known and verified.
    Resolved {
        /// Layers of the image.
        layers: usize,
        /// Layers that are not in the store yet.
        missing: usize,
        /// Compressed bytes of the missing ones.
        bytes: u64,
    },
    /// More bytes have come; at most ten times a second.
    Bytes {
        /// Compressed bytes so far.
        done: u64,
        /// Compressed bytes of all missing layers.
        total: u64,
    },
    /// A layer is in the store.
    LayerDone {
        /// Its diff_id.
        diff_id: DiffId,
        /// Bytes of its tar.
        size: u64,
    },
    /// An attempt failed; there will be another.
    Retry(Retry),
}
