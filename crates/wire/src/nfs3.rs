//! NFS version 3 (RFC 1813), as far as a read-only server needs it, and a client that tests it.

mod attributes;
mod calls;
mod directory;
mod results;

pub use attributes::{FileAttr, FileType, Time, encode_post_op, encode_wcc};
pub use calls::{Arguments, access, procedure};
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
    /// NFS3ERR_NOENT: no such name.
    NotFound = 2,
    /// NFS3ERR_IO: the content could not be read.
    Io = 5,
    /// NFS3ERR_ACCES: the caller may not.
    Access = 13,
    /// NFS3ERR_NOTDIR: a directory was wanted.
    NotDirectory = 20,
    /// NFS3ERR_ISDIR: a file was wanted.
    IsDirectory = 21,
    /// NFS3ERR_INVAL: not for this type of object.
    Invalid = 22,
    /// NFS3ERR_ROFS: the file system is read-only.
    ReadOnly = 30,
    /// NFS3ERR_NAMETOOLONG: a name of more than 255 bytes.
    NameTooLong = 63,
    /// NFS3ERR_STALE: the file system is not (or no longer) this client's.
    Stale = 70,
    /// NFS3ERR_BADHANDLE: no handle of this server.
    BadHandle = 10001,
    /// NFS3ERR_BAD_COOKIE: no cookie of this directory.
    BadCookie = 10003,
    /// NFS3ERR_TOOSMALL: the answer does not fit in what the caller has room for.
    TooSmall = 10005,
    /// NFS3ERR_SERVERFAULT: the server can't do it.
    ServerFault = 10006,
}
