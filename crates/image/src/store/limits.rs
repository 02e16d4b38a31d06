//! How much an image may ask of us.

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
    /// Bytes of the disk that a pull leaves free, for the registry and the logs.
    pub reserve: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_layer: 64 << 30, max_image: 128 << 30, max_ratio: 200, bomb_size: 1 << 30, reserve: 256 << 20 }
    }
}
