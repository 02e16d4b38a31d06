//! The streaming parser.

use super::LayerEntries;

/// A layer that is refused: what is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {path:?} at byte {pos} of the layer: {reason}")]
pub struct TarError {
    /// Offset of the entry's header in the tar.
    pub pos: u64,
    /// Name of the entry as far as it is known.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads a layer's uncompressed tar while it is being written: [`push`](Self::push) each piece,
/// in any sizes, then [`finish`](Self::finish).
///
/// Memory is bounded whatever the tar says: by its number of entries and the sum of names, link
/// targets, extended attributes and sparse maps.
#[derive(Debug, Default)]
pub struct LayerScanner {
    entries: LayerEntries,
}

impl LayerScanner {
    /// At the first byte of a tar.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the tar. After an error every further call fails with the same.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.entries.tar_len += bytes.len() as u64;
        Ok(())
    }

    /// The tar is complete.
    pub fn finish(self) -> Result<LayerEntries, TarError> {
        Ok(self.entries)
    }
}

impl LayerEntries {
    /// Compact form for `layers/<diff_id>.toc`.
    pub fn to_toc(&self) -> Vec<u8> {
        Vec::new()
    }
}
