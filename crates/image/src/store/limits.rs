//! How much an image may ask of us.

use std::io;
use std::os::fd::AsFd;

/// Bounds on what the store takes in. The defaults let every sane image pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest uncompressed layer, in bytes.
    pub max_layer: u64,
    /// Largest sum of an image's uncompressed layers, in bytes.
    pub max_image: u64,
    /// A layer that is larger than [`bomb_size`](Self::bomb_size) and more than this many times its compressed
    /// size is refused. A root file system reaches 2 to 10.
    pub max_ratio: u64,
    /// Uncompressed bytes below which [`max_ratio`](Self::max_ratio) does not matter.
    pub bomb_size: u64,
    /// Bytes of the disk that a pull or an import leaves free, for the registry and the logs.
    pub reserve: u64,
}

impl Limits {
    /// Bytes that may be written between two looks at [`have_room`](Self::have_room).
    pub const LOOK_EVERY: u64 = 64 << 20;

    /// Is there room on the disk of `file`, beside [`reserve`](Self::reserve)?
    ///
    /// # Errors
    /// The kernel can't tell.
    pub fn have_room(&self, file: impl AsFd) -> io::Result<bool> {
        let stat = rustix::fs::fstatvfs(file)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize) >= self.reserve)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_layer: 64 << 30, max_image: 128 << 30, max_ratio: 200, bomb_size: 1 << 30, reserve: 256 << 20 }
    }
}
