//! Procedures and their arguments (RFC 1813 §3.3).

use super::MAX_HANDLE;
use crate::xdr::{Reader, Writer, XdrError};

/// Numbers of the procedures.
#[expect(missing_docs, reason = "the names of RFC 1813 §3.3")]
pub mod procedure {
    pub const NULL: u32 = 0;
    pub const GETATTR: u32 = 1;
    pub const SETATTR: u32 = 2;
    pub const LOOKUP: u32 = 3;
    pub const ACCESS: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const READ: u32 = 6;
    pub const WRITE: u32 = 7;
    pub const CREATE: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const SYMLINK: u32 = 10;
    pub const MKNOD: u32 = 11;
    pub const REMOVE: u32 = 12;
    pub const RMDIR: u32 = 13;
    pub const RENAME: u32 = 14;
    pub const LINK: u32 = 15;
    pub const READDIR: u32 = 16;
    pub const READDIRPLUS: u32 = 17;
    pub const FSSTAT: u32 = 18;
    pub const FSINFO: u32 = 19;
    pub const PATHCONF: u32 = 20;
    pub const COMMIT: u32 = 21;
}

/// Bits of ACCESS (RFC 1813 §3.3.4).
pub mod access {
    /// ACCESS3_READ: read a file or list a directory.
    pub const READ: u32 = 0x01;
    /// ACCESS3_LOOKUP: look up a name in a directory.
    pub const LOOKUP: u32 = 0x02;
    /// ACCESS3_MODIFY.
    pub const MODIFY: u32 = 0x04;
    /// ACCESS3_EXTEND.
    pub const EXTEND: u32 = 0x08;
    /// ACCESS3_DELETE.
    pub const DELETE: u32 = 0x10;
    /// ACCESS3_EXECUTE: run a file.
    pub const EXECUTE: u32 = 0x20;
}

/// Longest name that is read at all, so that it can be answered with NAMETOOLONG.
const NAME_READ: u32 = 4096;

/// Arguments of a procedure. Handles and names are as the caller sent them, unchecked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of RFC 1813 §3.3")]
pub enum Arguments<'a> {
    Null,
    GetAttr {
        object: &'a [u8],
    },
    Lookup {
        dir: &'a [u8],
        name: &'a [u8],
    },
    Access {
        object: &'a [u8],
        wanted: u32,
    },
    ReadLink {
        link: &'a [u8],
    },
    Read {
        file: &'a [u8],
        offset: u64,
        count: u32,
    },
    ReadDir {
        dir: &'a [u8],
        cookie: u64,
        verifier: u64,
        count: u32,
    },
    ReadDirPlus {
        dir: &'a [u8],
        cookie: u64,
        verifier: u64,
        dir_count: u32,
        max_count: u32,
    },
    FsStat {
        object: &'a [u8],
    },
    FsInfo {
        object: &'a [u8],
    },
    PathConf {
        object: &'a [u8],
    },
    /// SETATTR, WRITE, CREATE, MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR and COMMIT, all of whose
    /// failures carry the `wcc_data` of `object`. Their other arguments are left unread:
    /// [`Change`](super::Change) has them.
    Modify {
        procedure: u32,
        object: &'a [u8],
    },
    Rename {
        from: &'a [u8],
        to: &'a [u8],
    },
    Link {
        file: &'a [u8],
        dir: &'a [u8],
    },
}

impl<'a> Arguments<'a> {
    /// Reads the arguments of `procedure`; `None` if there is no such procedure.
    pub fn decode(procedure: u32, reader: &mut Reader<'a>) -> Result<Option<Self>, XdrError> {
        use self::procedure as p;
        Ok(Some(match procedure {
            p::NULL => Self::Null,
            p::GETATTR => Self::GetAttr { object: handle(reader)? },
            p::LOOKUP => Self::Lookup { dir: handle(reader)?, name: name(reader)? },
            p::ACCESS => Self::Access { object: handle(reader)?, wanted: reader.u32()? },
            p::READLINK => Self::ReadLink { link: handle(reader)? },
            p::READ => Self::Read { file: handle(reader)?, offset: reader.u64()?, count: reader.u32()? },
            p::READDIR => Self::ReadDir {
                dir: handle(reader)?,
                cookie: reader.u64()?,
                verifier: reader.u64()?,
                count: reader.u32()?,
            },
            p::READDIRPLUS => Self::ReadDirPlus {
                dir: handle(reader)?,
                cookie: reader.u64()?,
                verifier: reader.u64()?,
                dir_count: reader.u32()?,
                max_count: reader.u32()?,
            },
            p::FSSTAT => Self::FsStat { object: handle(reader)? },
            p::FSINFO => Self::FsInfo { object: handle(reader)? },
            p::PATHCONF => Self::PathConf { object: handle(reader)? },
            p::SETATTR | p::WRITE | p::CREATE | p::MKDIR | p::SYMLINK | p::MKNOD | p::REMOVE | p::RMDIR | p::COMMIT => {
                Self::Modify { procedure, object: handle(reader)? }
            }
            p::RENAME => {
                let from = handle(reader)?;
                name(reader)?;
                Self::Rename { from, to: handle(reader)? }
            }
            p::LINK => Self::Link { file: handle(reader)?, dir: handle(reader)? },
            _ => return Ok(None),
        }))
    }

    /// Number of the procedure.
    pub fn procedure(&self) -> u32 {
        match *self {
            Self::Null => procedure::NULL,
            Self::GetAttr { .. } => procedure::GETATTR,
            Self::Lookup { .. } => procedure::LOOKUP,
            Self::Access { .. } => procedure::ACCESS,
            Self::ReadLink { .. } => procedure::READLINK,
            Self::Read { .. } => procedure::READ,
            Self::ReadDir { .. } => procedure::READDIR,
            Self::ReadDirPlus { .. } => procedure::READDIRPLUS,
            Self::FsStat { .. } => procedure::FSSTAT,
            Self::FsInfo { .. } => procedure::FSINFO,
            Self::PathConf { .. } => procedure::PATHCONF,
            Self::Modify { procedure, .. } => procedure,
            Self::Rename { .. } => procedure::RENAME,
            Self::Link { .. } => procedure::LINK,
        }
    }

    /// Writes the arguments. Of a call that would change something only what [`decode`](Self::decode) reads.
    pub fn encode(&self, out: &mut Writer) {
        match *self {
            Self::Null => {}
            Self::GetAttr { object }
            | Self::ReadLink { link: object }
            | Self::FsStat { object }
            | Self::FsInfo { object }
            | Self::PathConf { object }
            | Self::Modify { object, .. } => out.opaque(object),
            Self::Lookup { dir, name } => {
                out.opaque(dir);
                out.opaque(name);
            }
            Self::Access { object, wanted } => {
                out.opaque(object);
                out.u32(wanted);
            }
            Self::Read { file, offset, count } => {
                out.opaque(file);
                out.u64(offset);
                out.u32(count);
            }
            Self::ReadDir { dir, cookie, verifier, count } => {
                out.opaque(dir);
                out.u64(cookie);
                out.u64(verifier);
                out.u32(count);
            }
            Self::ReadDirPlus { dir, cookie, verifier, dir_count, max_count } => {
                out.opaque(dir);
                out.u64(cookie);
                out.u64(verifier);
                out.u32(dir_count);
                out.u32(max_count);
            }
            Self::Rename { from, to } => {
                out.opaque(from);
                out.opaque(b"from");
                out.opaque(to);
                out.opaque(b"to");
            }
            Self::Link { file, dir } => {
                out.opaque(file);
                out.opaque(dir);
                out.opaque(b"name");
            }
        }
    }
}

pub(super) fn handle<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], XdrError> {
    reader.opaque(MAX_HANDLE as u32)
}

pub(super) fn name<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], XdrError> {
    reader.opaque(NAME_READ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_procedure_is_read_as_written_and_no_shorter() {
        let h = &[7_u8; 28][..];
        let all = [
            Arguments::Null,
            Arguments::GetAttr { object: h },
            Arguments::Lookup { dir: h, name: b"bin" },
            Arguments::Access { object: h, wanted: 0x3f },
            Arguments::ReadLink { link: h },
            Arguments::Read { file: h, offset: 1 << 40, count: 1 << 20 },
            Arguments::ReadDir { dir: h, cookie: 3, verifier: 0, count: 4096 },
            Arguments::ReadDirPlus { dir: h, cookie: 3, verifier: 0, dir_count: 512, max_count: 4096 },
            Arguments::FsStat { object: h },
            Arguments::FsInfo { object: h },
            Arguments::PathConf { object: h },
            Arguments::Modify { procedure: procedure::COMMIT, object: h },
        ];
        for arguments in all {
            let mut out = Writer::new();
            arguments.encode(&mut out);
            let decoded = Arguments::decode(arguments.procedure(), &mut Reader::new(out.bytes()));
            assert_eq!(decoded, Ok(Some(arguments)));
            for length in 0..out.len() {
                let cut = Arguments::decode(arguments.procedure(), &mut Reader::new(&out.bytes()[..length]));
                assert_eq!(cut, Err(XdrError::Truncated), "{arguments:?} cut to {length}");
            }
        }
        let mut out = Writer::new();
        Arguments::Rename { from: h, to: b"other" }.encode(&mut out);
        let decoded = Arguments::decode(procedure::RENAME, &mut Reader::new(out.bytes()));
        assert_eq!(decoded, Ok(Some(Arguments::Rename { from: h, to: b"other" })));
        assert_eq!(Arguments::decode(22, &mut Reader::new(&[])), Ok(None));
    }

    #[test]
    fn rfc1813_section_2_4_a_handle_has_at_most_64_bytes() {
        let mut out = Writer::new();
        out.opaque(&[0; 65]);
        let decoded = Arguments::decode(procedure::GETATTR, &mut Reader::new(out.bytes()));
        assert_eq!(decoded, Err(XdrError::TooLong { length: 65, limit: 64 }));
    }
}
