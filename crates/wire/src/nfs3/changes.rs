//! Arguments of the procedures that change something (RFC 1813 §3.3.2, §3.3.7 to §3.3.15, §3.3.21).

use super::calls::{handle, name, procedure};
use super::{FileType, Time};
use crate::xdr::{Reader, Writer, XdrError};

/// Longest target of a symlink that is read at all: beyond what any file system takes, so that it can be refused as too long.
const TARGET_READ: u32 = 8192;

/// `sattr3`: attributes to be set; what is `None` stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NewAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: NewTime,
    /// Last change of the content.
    pub mtime: NewTime,
}

/// `set_atime` and `set_mtime`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NewTime {
    /// DONT_CHANGE.
    #[default]
    Keep,
    /// SET_TO_SERVER_TIME.
    Now,
    /// SET_TO_CLIENT_TIME.
    To(Time),
}

/// `stable_how`: what a WRITE waits for, and what has been done when it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stable {
    /// UNSTABLE: for nothing; a COMMIT follows.
    Unstable = 0,
    /// DATA_SYNC: for the data and what is needed to find it.
    Data = 1,
    /// FILE_SYNC: for everything.
    File = 2,
}

/// How CREATE treats a name that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateHow {
    /// UNCHECKED: it is used.
    Unchecked(NewAttributes),
    /// GUARDED: an error.
    Guarded(NewAttributes),
    /// EXCLUSIVE: an error, unless it was made by a call with this verifier.
    Exclusive(u64),
}

/// `mknoddata3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A socket, or a FIFO.
    Pipe(FileType, NewAttributes),
    /// A block or character device with its major and minor number.
    Device(FileType, NewAttributes, (u32, u32)),
    /// A type that MKNOD does not make: NFS3ERR_BADTYPE.
    Bad,
}

/// Arguments of a call that changes something. Handles and names are as the caller sent them, unchecked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of RFC 1813 §3.3")]
pub enum Change<'a> {
    SetAttr {
        object: &'a [u8],
        new: NewAttributes,
        /// `sattrguard3`: the object's ctime, without which nothing is to be changed.
        guard: Option<Time>,
    },
    Write {
        file: &'a [u8],
        offset: u64,
        stable: Stable,
        /// At most `count` bytes of what was sent.
        data: &'a [u8],
    },
    Create {
        dir: &'a [u8],
        name: &'a [u8],
        how: CreateHow,
    },
    MkDir {
        dir: &'a [u8],
        name: &'a [u8],
        new: NewAttributes,
    },
    SymLink {
        dir: &'a [u8],
        name: &'a [u8],
        new: NewAttributes,
        target: &'a [u8],
    },
    MkNod {
        dir: &'a [u8],
        name: &'a [u8],
        node: Node,
    },
    Remove {
        dir: &'a [u8],
        name: &'a [u8],
    },
    RmDir {
        dir: &'a [u8],
        name: &'a [u8],
    },
    Rename {
        from: (&'a [u8], &'a [u8]),
        to: (&'a [u8], &'a [u8]),
    },
    Link {
        file: &'a [u8],
        dir: &'a [u8],
        name: &'a [u8],
    },
    Commit {
        file: &'a [u8],
        offset: u64,
        /// 0: to the end of the file.
        count: u32,
    },
}

impl<'a> Change<'a> {
    /// Reads the arguments of `procedure`; `None` if it is none that changes anything.
    pub fn decode(procedure: u32, reader: &mut Reader<'a>) -> Result<Option<Self>, XdrError> {
        use self::procedure as p;
        Ok(Some(match procedure {
            p::SETATTR => Self::SetAttr {
                object: handle(reader)?,
                new: NewAttributes::decode(reader)?,
                guard: if reader.bool()? { Some(Time::decode(reader)?) } else { None },
            },
            p::WRITE => {
                let (file, offset, count) = (handle(reader)?, reader.u64()?, reader.u32()?);
                let stable = Stable::decode(reader)?;
                let data = reader.opaque(u32::MAX)?;
                Self::Write { file, offset, stable, data: data.get(..count as usize).unwrap_or(data) }
            }
            p::CREATE => Self::Create { dir: handle(reader)?, name: name(reader)?, how: CreateHow::decode(reader)? },
            p::MKDIR => Self::MkDir { dir: handle(reader)?, name: name(reader)?, new: NewAttributes::decode(reader)? },
            p::SYMLINK => Self::SymLink {
                dir: handle(reader)?,
                name: name(reader)?,
                new: NewAttributes::decode(reader)?,
                target: reader.opaque(TARGET_READ)?,
            },
            p::MKNOD => Self::MkNod { dir: handle(reader)?, name: name(reader)?, node: Node::decode(reader)? },
            p::REMOVE => Self::Remove { dir: handle(reader)?, name: name(reader)? },
            p::RMDIR => Self::RmDir { dir: handle(reader)?, name: name(reader)? },
            p::RENAME => Self::Rename { from: (handle(reader)?, name(reader)?), to: (handle(reader)?, name(reader)?) },
            p::LINK => Self::Link { file: handle(reader)?, dir: handle(reader)?, name: name(reader)? },
            p::COMMIT => Self::Commit { file: handle(reader)?, offset: reader.u64()?, count: reader.u32()? },
            _ => return Ok(None),
        }))
    }

    /// Number of the procedure.
    pub fn procedure(&self) -> u32 {
        match self {
            Self::SetAttr { .. } => procedure::SETATTR,
            Self::Write { .. } => procedure::WRITE,
            Self::Create { .. } => procedure::CREATE,
            Self::MkDir { .. } => procedure::MKDIR,
            Self::SymLink { .. } => procedure::SYMLINK,
            Self::MkNod { .. } => procedure::MKNOD,
            Self::Remove { .. } => procedure::REMOVE,
            Self::RmDir { .. } => procedure::RMDIR,
            Self::Rename { .. } => procedure::RENAME,
            Self::Link { .. } => procedure::LINK,
            Self::Commit { .. } => procedure::COMMIT,
        }
    }

    /// Writes the arguments.
    pub fn encode(&self, out: &mut Writer) {
        match *self {
            Self::SetAttr { object, new, guard } => {
                out.opaque(object);
                new.encode(out);
                out.bool(guard.is_some());
                guard.iter().for_each(|time| time.encode(out));
            }
            Self::Write { file, offset, stable, data } => {
                out.opaque(file);
                out.u64(offset);
                out.u32(data.len() as u32);
                out.u32(stable as u32);
                out.opaque(data);
            }
            Self::Create { dir, name, how } => {
                out.opaque(dir);
                out.opaque(name);
                how.encode(out);
            }
            Self::MkDir { dir, name, new } => {
                out.opaque(dir);
                out.opaque(name);
                new.encode(out);
            }
            Self::SymLink { dir, name, new, target } => {
                out.opaque(dir);
                out.opaque(name);
                new.encode(out);
                out.opaque(target);
            }
            Self::MkNod { dir, name, node } => {
                out.opaque(dir);
                out.opaque(name);
                node.encode(out);
            }
            Self::Remove { dir, name } | Self::RmDir { dir, name } => {
                out.opaque(dir);
                out.opaque(name);
            }
            Self::Rename { from, to } => [from.0, from.1, to.0, to.1].into_iter().for_each(|item| out.opaque(item)),
            Self::Link { file, dir, name } => [file, dir, name].into_iter().for_each(|item| out.opaque(item)),
            Self::Commit { file, offset, count } => {
                out.opaque(file);
                out.u64(offset);
                out.u32(count);
            }
        }
    }
}

impl NewAttributes {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        let word = |reader: &mut Reader<'_>| if reader.bool()? { reader.u32().map(Some) } else { Ok(None) };
        Ok(Self {
            mode: word(reader)?,
            uid: word(reader)?,
            gid: word(reader)?,
            size: if reader.bool()? { Some(reader.u64()?) } else { None },
            atime: NewTime::decode(reader)?,
            mtime: NewTime::decode(reader)?,
        })
    }

    fn encode(&self, out: &mut Writer) {
        for word in [self.mode, self.uid, self.gid] {
            out.bool(word.is_some());
            word.iter().for_each(|word| out.u32(*word));
        }
        out.bool(self.size.is_some());
        self.size.iter().for_each(|size| out.u64(*size));
        for time in [self.atime, self.mtime] {
            match time {
                NewTime::Keep => out.u32(0),
                NewTime::Now => out.u32(1),
                NewTime::To(time) => {
                    out.u32(2);
                    time.encode(out);
                }
            }
        }
    }
}

impl NewTime {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        Ok(match reader.u32()? {
            0 => Self::Keep,
            1 => Self::Now,
            2 => Self::To(Time::decode(reader)?),
            other => return Err(XdrError::BadValue(other)),
        })
    }
}

impl Stable {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        Ok(match reader.u32()? {
            0 => Self::Unstable,
            1 => Self::Data,
            2 => Self::File,
            other => return Err(XdrError::BadValue(other)),
        })
    }
}

impl CreateHow {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        Ok(match reader.u32()? {
            0 => Self::Unchecked(NewAttributes::decode(reader)?),
            1 => Self::Guarded(NewAttributes::decode(reader)?),
            2 => Self::Exclusive(reader.u64()?),
            other => return Err(XdrError::BadValue(other)),
        })
    }

    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Unchecked(new) => {
                out.u32(0);
                new.encode(out);
            }
            Self::Guarded(new) => {
                out.u32(1);
                new.encode(out);
            }
            Self::Exclusive(verifier) => {
                out.u32(2);
                out.u64(*verifier);
            }
        }
    }
}

impl Node {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        Ok(match FileType::decode(reader)? {
            kind @ (FileType::BlockDevice | FileType::CharDevice) => {
                Self::Device(kind, NewAttributes::decode(reader)?, (reader.u32()?, reader.u32()?))
            }
            kind @ (FileType::Socket | FileType::Fifo) => Self::Pipe(kind, NewAttributes::decode(reader)?),
            FileType::Regular | FileType::Directory | FileType::Symlink => Self::Bad,
        })
    }

    fn encode(&self, out: &mut Writer) {
        match *self {
            Self::Pipe(kind, new) => {
                out.u32(kind as u32);
                new.encode(out);
            }
            Self::Device(kind, new, (major, minor)) => {
                out.u32(kind as u32);
                new.encode(out);
                out.u32(major);
                out.u32(minor);
            }
            Self::Bad => out.u32(FileType::Regular as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_read_as_written_and_no_shorter() {
        let h = &[7_u8; 36][..];
        let time = Time { seconds: 5, nanos: 6 };
        let all = NewAttributes {
            mode: Some(0o4755),
            uid: Some(1),
            gid: Some(2),
            size: Some(3 << 32),
            atime: NewTime::Now,
            mtime: NewTime::To(time),
        };
        let none = NewAttributes::default();
        let changes = [
            Change::SetAttr { object: h, new: all, guard: Some(time) },
            Change::SetAttr { object: h, new: none, guard: None },
            Change::Write { file: h, offset: 1 << 40, stable: Stable::Unstable, data: b"hello" },
            Change::Write { file: h, offset: 0, stable: Stable::File, data: b"" },
            Change::Create { dir: h, name: b"a", how: CreateHow::Unchecked(all) },
            Change::Create { dir: h, name: b"a", how: CreateHow::Guarded(none) },
            Change::Create { dir: h, name: b"a", how: CreateHow::Exclusive(9 << 32 | 8) },
            Change::MkDir { dir: h, name: b"d", new: all },
            Change::SymLink { dir: h, name: b"l", new: none, target: b"../x" },
            Change::MkNod { dir: h, name: b"n", node: Node::Pipe(FileType::Fifo, all) },
            Change::MkNod { dir: h, name: b"n", node: Node::Device(FileType::CharDevice, none, (1, 3)) },
            Change::MkNod { dir: h, name: b"n", node: Node::Bad },
            Change::Remove { dir: h, name: b"x" },
            Change::RmDir { dir: h, name: b"x" },
            Change::Rename { from: (h, b"x"), to: (b"other", b"y") },
            Change::Link { file: h, dir: b"other", name: b"y" },
            Change::Commit { file: h, offset: 1, count: 2 },
        ];
        for change in changes {
            let mut out = Writer::new();
            change.encode(&mut out);
            let decoded = Change::decode(change.procedure(), &mut Reader::new(out.bytes()));
            assert_eq!(decoded, Ok(Some(change)));
            for length in 0..out.len() {
                let cut = Change::decode(change.procedure(), &mut Reader::new(&out.bytes()[..length]));
                assert_eq!(cut, Err(XdrError::Truncated), "{change:?} cut to {length}");
            }
        }
        assert_eq!(Change::decode(procedure::GETATTR, &mut Reader::new(&[])), Ok(None));
    }

    #[test]
    fn rfc1813_section_3_3_7_no_more_than_count_is_written() {
        let mut out = Writer::new();
        out.opaque(b"h");
        for word in [0, 0, 3, 2] {
            out.u32(word);
        }
        out.opaque(b"hello");
        let decoded = Change::decode(procedure::WRITE, &mut Reader::new(out.bytes()));
        let expected = Change::Write { file: b"h", offset: 0, stable: Stable::File, data: b"hel" };
        assert_eq!(decoded, Ok(Some(expected)));
        let decode = |procedure, words: &[u32]| {
            let mut out = Writer::new();
            out.opaque(b"h");
            words.iter().for_each(|word| out.u32(*word));
            Change::decode(procedure, &mut Reader::new(out.bytes())).map(drop)
        };
        assert_eq!(decode(procedure::WRITE, &[0, 0, 3, 3]), Err(XdrError::BadValue(3)), "no such stable_how");
        assert_eq!(decode(procedure::SETATTR, &[0, 0, 0, 0, 3]), Err(XdrError::BadValue(3)), "no such time_how");
    }
}
