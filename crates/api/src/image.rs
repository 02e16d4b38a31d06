//! Images on the server.

use serde::{Deserialize, Serialize};

/// What has a name on the server: an image, or one of its variants for several platforms, each an entry of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Image {
    /// Full name, such as `docker.io/waltplatform/pc-x86-64-default:latest`.
    pub name: String,
    /// Digest of its configuration; absent until it has arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// State.
    pub state: ImageState,
    /// Models it declares (label `walt.node.models`).
    #[serde(default)]
    pub models: Vec<String>,
    /// What its programs run on, as OCI names it (`linux/amd64`, `linux/arm/v7`, …); absent until it has arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// When it was built (RFC 3339), as its configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Sum of its layers' uncompressed tars, in bytes.
    #[serde(default)]
    pub size: u64,
    /// Its layers, the lowest first.
    #[serde(default)]
    pub layers: Vec<Layer>,
    /// Names of the nodes that are to boot it.
    #[serde(default)]
    pub nodes: Vec<String>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Layer {
    /// Digest of the uncompressed tar.
    pub diff_id: String,
    /// Bytes of the uncompressed tar.
    pub size: u64,
}

/// State of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ImageState {
    /// Whole, on the server's disk.
    Present,
    /// On its way from the registry.
    Pulling {
        /// Bytes so far.
        done: u64,
        /// All of them; 0 while this is not known.
        total: u64,
    },
    /// Not there, and the last try to get or to prepare it failed.
    Failed {
        /// What failed, on what, and why.
        cause: String,
    },
    /// Not there.
    Missing,
}

/// One entry of a directory in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileEntry {
    /// Name; bytes that are not UTF-8 are replaced by U+FFFD.
    pub name: String,
    /// `file`, `directory`, `symlink`, `block`, `char`, `fifo` or `socket`.
    pub kind: String,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: i64,
    /// Where a symlink leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// Archive format of `image export`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ImageFormat {
    /// OCI image layout in a tar.
    #[default]
    Oci,
    /// What `docker save` writes.
    Docker,
}

/// Which image was cloned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Cloned {
    /// Full name.
    pub name: String,
    /// Digest of its configuration.
    pub digest: String,
}

/// Images that an archive held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Imported {
    /// Full names they have on the server now.
    pub names: Vec<String>,
}

/// Result of an export, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Exported {
    /// Full name.
    pub name: String,
    /// Bytes written.
    pub bytes: u64,
}

/// Result of a removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Removed {
    /// Full name.
    pub name: String,
}
