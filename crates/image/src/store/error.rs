//! What can go wrong in the store, one variant an operation.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::DiffId;
use crate::config::ConfigError;
use crate::digest::{Digest, ImageDigest};
use crate::platform::Platform;
use crate::registry::manifest::ManifestError;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory cannot be created.
    #[error("cannot create directory {}: {source}", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The lock file cannot be opened, locked or written.
    #[error("cannot lock {}: {source}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Another process has the store open.
    #[error("{} is in use by another server{}", root.display(), pid.map(|p| format!(" (process {p})")).unwrap_or_default())]
    InUse {
        /// The store's directory.
        root: PathBuf,
        /// That process.
        pid: Option<u32>,
    },
    /// What a crash left unfinished cannot be removed.
    #[error("cannot remove unfinished files in {}: {source}", path.display())]
    Clean {
        /// The directory.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// Why the store cannot say what an image is.
#[derive(Debug, thiserror::Error)]
pub enum InfoError {
    /// The image was never completely pulled or imported, or it was removed.
    #[error("image {image} is not there")]
    NotThere {
        /// The image.
        image: ImageDigest,
    },
    /// A layer of the image is missing.
    #[error("image {image} lacks its layer {layer}; pull it again")]
    MissingLayer {
        /// The image.
        image: ImageDigest,
        /// The layer's diff_id.
        layer: DiffId,
    },
    /// The configuration cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The configuration cannot be used.
    #[error("image {image}: {source}")]
    Config {
        /// The image.
        image: ImageDigest,
        /// Why.
        source: ConfigError,
    },
}

/// Why an image cannot be pulled. Nothing of it is visible in the store; layers that were complete stay
/// until the next garbage collection, so that a second attempt need not fetch them.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry has no such image.
    #[error("{reference}: the registry has no such image")]
    NotFound {
        /// The image's name.
        reference: String,
    },
    /// The registry wants credentials, or others than we have.
    #[error("{reference}: the registry refuses access ({detail})")]
    Denied {
        /// The image's name.
        reference: String,
        /// Whether credentials were sent, and what the registry said.
        detail: String,
    },
    /// The registry could not be reached, or went away, more often than we try.
    #[error("{reference}: registry {registry} cannot be reached, given up after {attempts} attempts: {cause}")]
    Unreachable {
        /// The image's name.
        reference: String,
        /// The registry.
        registry: String,
        /// Attempts made.
        attempts: u32,
        /// What happened to the last one.
        cause: String,
    },
    /// The registry answered with something that the protocol does not allow here.
    #[error("{reference}: unexpected answer of the registry: {cause}")]
    Protocol {
        /// The image's name.
        reference: String,
        /// What it answered.
        cause: String,
    },
    /// Credentials cannot be read.
    #[error("{reference}: cannot read credentials from {}: {cause}", path.display())]
    Credentials {
        /// The image's name.
        reference: String,
        /// The file, or the credential helper.
        path: PathBuf,
        /// Cause.
        cause: String,
    },
    /// The manifest or index cannot be used.
    #[error("{reference}: {source}")]
    Manifest {
        /// The image's name.
        reference: String,
        /// Why.
        source: ManifestError,
    },
    /// The configuration cannot be used.
    #[error("{reference}: {source}")]
    Config {
        /// The image's name.
        reference: String,
        /// Why.
        source: ConfigError,
    },
    /// The image is there, but not for this kind of machine.
    #[error("{reference}: not available for {}, only for {}", list(wanted), if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") })]
    NoSuchPlatform {
        /// The image's name.
        reference: String,
        /// What was asked for.
        wanted: Vec<Platform>,
        /// What there is.
        offered: Vec<String>,
    },
    /// A document is not what its digest says.
    #[error("{reference}: the registry sent a {what} with digest {found} instead of {expected}")]
    WrongDigest {
        /// The image's name.
        reference: String,
        /// `manifest` or `configuration`.
        what: &'static str,
        /// Digest asked for.
        expected: Digest,
        /// Digest of what came.
        found: Digest,
    },
    /// A layer cannot be used, or not be stored.
    #[error("{reference}: layer {layer}: {source}")]
    Layer {
        /// The image's name.
        reference: String,
        /// The layer's diff_id.
        layer: DiffId,
        /// Why.
        source: Box<LayerError>,
    },
    /// A file of the store cannot be written.
    #[error("{reference}: cannot write {}: {source}", path.display())]
    Write {
        /// The image's name.
        reference: String,
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

fn list(platforms: &[Platform]) -> String {
    platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")
}

/// Why a layer cannot be used or stored.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// What came is not what the manifest promises.
    #[error("the compressed data have digest {found} instead of {expected}")]
    WrongDigest {
        /// Digest in the manifest.
        expected: Digest,
        /// Digest of what came.
        found: Digest,
    },
    /// The tar is not what the configuration promises.
    #[error("the uncompressed data have digest {found} instead of {expected}")]
    WrongDiffId {
        /// Digest in the configuration.
        expected: DiffId,
        /// Digest of the tar.
        found: DiffId,
    },
    /// Fewer or more bytes than the manifest promises.
    #[error("{found} bytes came instead of {expected}")]
    WrongSize {
        /// Size in the manifest, in bytes.
        expected: u64,
        /// What came, in bytes.
        found: u64,
    },
    /// The compressed stream is damaged, or ends in the middle.
    #[error("cannot be decompressed: {0}")]
    Decompress(String),
    /// The tar is damaged or holds something that we refuse.
    #[error("bad tar: {0}")]
    Tar(String),
    /// More uncompressed bytes than allowed.
    #[error("it is larger than {limit} bytes when uncompressed")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Small when compressed, huge when not: made to fill a disk.
    #[error("{compressed} bytes decompress to more than {uncompressed}: refused as a decompression bomb")]
    Bomb {
        /// Compressed bytes so far.
        compressed: u64,
        /// What they decompressed to, so far, in bytes.
        uncompressed: u64,
    },
    /// The disk has no room.
    #[error("no space left on the disk of {}", path.display())]
    DiskFull {
        /// The file being written.
        path: PathBuf,
    },
    /// The file that it is imported from cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A file of the store cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// An attempt that failed and will be made again.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Attempts made so far without progress.
    pub attempt: u32,
    /// Attempts that will be made.
    pub of: u32,
    /// Pause before the next one.
    pub pause: Duration,
    /// What happened.
    pub cause: String,
}
