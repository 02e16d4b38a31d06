//! Why a layer's tar is refused.

/// A layer that is refused: which entry, where, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {path:?} at byte {pos} of the layer: {reason}")]
pub struct TarError {
    /// Offset of the entry's first header in the tar.
    pub pos: u64,
    /// Name of the entry as far as it is known, shortened.
    pub path: String,
    /// What is wrong with it.
    pub reason: TarErrorReason,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TarErrorReason {
    /// Header checksum.
    #[error("the header's checksum is wrong")]
    Checksum,
    /// The tar ends within a header, its metadata or a file.
    #[error("the layer ends in the middle of it")]
    Truncated,
    /// A zero block that is not the end.
    #[error("a block of zeros stands in the middle of the layer")]
    LoneZeroBlock,
    /// A numeric field that is no number, or out of range.
    #[error("its {0} is not a number in range")]
    Number(&'static str),
    /// Type flag.
    #[error("its type {:?} is unknown or means nothing in an image", char::from(*.0))]
    TypeFlag(u8),
    /// A PAX record that does not parse.
    #[error("its extended header is malformed")]
    Pax,
    /// A PAX or GNU long name header of more than 1 MiB.
    #[error("its extended header has {0} bytes, more than the {limit} that are allowed", limit = super::MAX_METADATA)]
    MetadataSize(u64),
    /// A global header sets what can only be one entry's.
    #[error("a global header sets {0:?}")]
    GlobalRecord(String),
    /// An extended header is the last thing in the tar.
    #[error("an extended header stands before no entry")]
    StrayMetadata,
    /// A name of more than 255 bytes.
    #[error("a component of its path is longer than 255 bytes")]
    NameTooLong,
    /// A path of more than 4095 bytes.
    #[error("its path is longer than 4095 bytes")]
    PathTooLong,
    /// NUL in a path.
    #[error("there is a NUL byte in its path")]
    NulInPath,
    /// The root, as something else than a directory.
    #[error("it names the root of the image but is not a directory")]
    RootNotADirectory,
    /// `.wh.` and nothing, `.` or `..` after it, or a directory of that name.
    #[error("it is a whiteout of nothing that could exist")]
    Whiteout,
    /// Empty or overlong target, or a NUL in it.
    #[error("its link target is empty, longer than 4095 bytes or has a NUL byte in it")]
    LinkTarget,
    /// Sparse map.
    #[error("its map of a sparse file is malformed")]
    Sparse,
    /// Extended attribute.
    #[error("the extended attribute {0:?} has a name or value of impossible length or form")]
    Xattr(String),
    /// Too many entries.
    #[error("the layer has more than {limit} entries", limit = super::MAX_ENTRIES)]
    TooManyEntries,
    /// Names, targets, attributes and sparse maps together are too large.
    #[error("the names and attributes of the layer need more than {limit} bytes", limit = super::MAX_TOTAL)]
    TooMuchMetadata,
}
