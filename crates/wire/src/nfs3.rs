//! NFS version 3 (RFC 1813): what a server needs, and a client that tests it.

mod attributes;
mod calls;
mod changed;
mod changes;
mod directory;
mod results;

pub use attributes::{FileAttr, FileType, Time, WccAttr, encode_post_op, encode_wcc};
pub use calls::{Arguments, access, procedure};
pub use changed::{
    Created, Wcc, Written, decode_changed, decode_committed, decode_created, decode_linked, decode_renamed,
    decode_written, encode_changed, encode_committed, encode_created, encode_linked, encode_renamed, encode_written,
};
pub use changes::{Change, CreateHow, NewAttributes, NewTime, Node, Stable};
pub use directory::{DirectoryWriter, Entry, ListingEnd, decode_directory};
pub use results::{
    FsInfo, FsStat, LookupResult, PathConf, ReadHeader, decode_access, decode_attributes, decode_lookup, decode_read,
    decode_readlink, encode_access, encode_attributes, encode_lookup, encode_readlink,
};

/// Program number.
pub const PROGRAM: u32 = 100_003;
/// The version served.
pub const VERSION: u32 = 3;
/// Port of TCP and UDP.
pub const PORT: u16 = 2049;

/// NFS3_FHSIZE: longest file handle, in bytes.
pub const MAX_HANDLE: usize = 64;
/// Longest file name we look at, in bytes; XDR sets no bound, file systems do.
pub const MAX_NAME: u32 = 255;

/// `nfsstat3` (RFC 1813 §2.6), as far as we say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// NFS3_OK.
    Ok = 0,
    /// NFS3ERR_PERM: only the owner or root may.
    NotPermitted = 1,
    /// NFS3ERR_NOENT: no such name.
    NotFound = 2,
    /// NFS3ERR_IO: the content could not be read.
    Io = 5,
    /// NFS3ERR_ACCES: the caller may not.
    Access = 13,
    /// NFS3ERR_EXIST: the name is taken.
    Exists = 17,
    /// NFS3ERR_XDEV: a link or a name can't lead into another file system.
    OtherFilesystem = 18,
    /// NFS3ERR_NOTDIR: a directory was wanted.
    NotDirectory = 20,
    /// NFS3ERR_ISDIR: a file was wanted.
    IsDirectory = 21,
    /// NFS3ERR_INVAL: not for this type of object.
    Invalid = 22,
    /// NFS3ERR_FBIG: larger than the file system takes.
    TooBig = 27,
    /// NFS3ERR_NOSPC: the disk is full, or what is left is kept for others.
    NoSpace = 28,
    /// NFS3ERR_ROFS: the file system is read-only.
    ReadOnly = 30,
    /// NFS3ERR_MLINK: the object has as many names as it can have.
    TooManyLinks = 31,
    /// NFS3ERR_NAMETOOLONG: a name of more than 255 bytes.
    NameTooLong = 63,
    /// NFS3ERR_NOTEMPTY: the directory is not empty.
    NotEmpty = 66,
    /// NFS3ERR_DQUOT: the owner has used up what they may.
    Quota = 69,
    /// NFS3ERR_STALE: the file system is not (or no longer) this client's.
    Stale = 70,
    /// NFS3ERR_BADHANDLE: no handle of this server.
    BadHandle = 10001,
    /// NFS3ERR_NOT_SYNC: the object has changed since the caller looked at it.
    NotSynchronised = 10002,
    /// NFS3ERR_BAD_COOKIE: no cookie of this directory.
    BadCookie = 10003,
    /// NFS3ERR_NOTSUPP: the file system can't do that.
    NotSupported = 10004,
    /// NFS3ERR_TOOSMALL: the answer does not fit in what the caller has room for.
    TooSmall = 10005,
    /// NFS3ERR_SERVERFAULT: the server can't do it.
    ServerFault = 10006,
    /// NFS3ERR_BADTYPE: no type that can be made.
    BadType = 10007,
}
