//! The MOUNT protocol, version 3 (RFC 1813 §5 and Appendix I).

use crate::nfs3::MAX_HANDLE;
use crate::xdr::{Reader, Writer, XdrError};

/// Program number.
pub const PROGRAM: u32 = 100_005;
/// The version served; versions 1 and 2 hand out NFSv2 handles, which we have not.
pub const VERSION: u32 = 3;

/// MNTPATHLEN: longest path, in bytes.
pub const MAX_PATH: u32 = 1024;

/// MOUNTPROC3_NULL.
pub const NULL: u32 = 0;
/// MOUNTPROC3_MNT.
pub const MNT: u32 = 1;
/// MOUNTPROC3_DUMP.
pub const DUMP: u32 = 2;
/// MOUNTPROC3_UMNT.
pub const UMNT: u32 = 3;
/// MOUNTPROC3_UMNTALL.
pub const UMNTALL: u32 = 4;
/// MOUNTPROC3_EXPORT.
pub const EXPORT: u32 = 5;

/// `mountstat3`, as far as we say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountStat {
    /// MNT3ERR_NOENT: no such path.
    NotFound = 2,
    /// MNT3ERR_ACCES: not for this client.
    Access = 13,
    /// MNT3ERR_NOTDIR: the path is no directory.
    NotDirectory = 20,
    /// MNT3ERR_NAMETOOLONG: more than 1024 bytes.
    NameTooLong = 63,
    /// MNT3ERR_SERVERFAULT: the server can't do it now.
    ServerFault = 10006,
}

/// Reads the path that MNT and UMNT carry.
pub fn decode_path<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], XdrError> {
    reader.opaque(MAX_PATH)
}

/// Writes MNT's result with a handle: AUTH_SYS and AUTH_NONE are served.
pub fn encode_mounted(out: &mut Writer, handle: &[u8]) {
    out.u32(0);
    out.opaque(handle);
    out.u32(2);
    out.u32(1);
    out.u32(0);
}

/// Writes MNT's result without one.
pub fn encode_refused(out: &mut Writer, stat: MountStat) {
    out.u32(stat as u32);
}

/// Reads MNT's result: the handle, or the status as a number.
pub fn decode_mnt_result<'a>(reader: &mut Reader<'a>) -> Result<Result<&'a [u8], u32>, XdrError> {
    match reader.u32()? {
        0 => reader.opaque(MAX_HANDLE as u32).map(Ok),
        stat => Ok(Err(stat)),
    }
}

/// Writes one entry of DUMP's list (`mountbody`).
pub fn encode_dump_entry(out: &mut Writer, host: &[u8], path: &[u8]) {
    out.bool(true);
    out.opaque(host);
    out.opaque(path);
}

/// Writes one entry of EXPORT's list (`exportnode`) with the one group that may mount it.
pub fn encode_export_entry(out: &mut Writer, path: &[u8], group: &[u8]) {
    out.bool(true);
    out.opaque(path);
    out.bool(true);
    out.opaque(group);
    out.bool(false);
}

/// Writes the end of DUMP's or EXPORT's list.
pub fn encode_list_end(out: &mut Writer) {
    out.bool(false);
}
