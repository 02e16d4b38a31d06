//! Attributes and the forms in which results carry them (RFC 1813 §2.5, §2.6).

use crate::xdr::{Reader, Writer, XdrError};

/// `ftype3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// NF3REG.
    Regular = 1,
    /// NF3DIR.
    Directory = 2,
    /// NF3BLK.
    BlockDevice = 3,
    /// NF3CHR.
    CharDevice = 4,
    /// NF3LNK.
    Symlink = 5,
    /// NF3SOCK.
    Socket = 6,
    /// NF3FIFO.
    Fifo = 7,
}

impl FileType {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        Ok(match reader.u32()? {
            1 => Self::Regular,
            2 => Self::Directory,
            3 => Self::BlockDevice,
            4 => Self::CharDevice,
            5 => Self::Symlink,
            6 => Self::Socket,
            7 => Self::Fifo,
            other => return Err(XdrError::BadValue(other)),
        })
    }
}

/// `nfstime3`: unsigned seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Seconds.
    pub seconds: u32,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

/// `fattr3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileAttr {
    /// Type.
    pub kind: FileType,
    /// Permission bits, `0..=0o7777`.
    pub mode: u32,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Bytes of disk that it takes.
    pub used: u64,
    /// Major and minor number of a device.
    pub rdev: (u32, u32),
    /// File system.
    pub fsid: u64,
    /// Number of the file within it.
    pub fileid: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the attributes.
    pub ctime: Time,
}

impl FileAttr {
    /// Bytes of the encoding.
    pub const SIZE: usize = 84;

    /// Writes the attributes.
    pub fn encode(&self, out: &mut Writer) {
        let mut words = [0_u8; Self::SIZE];
        let values = [
            self.kind as u32,
            self.mode,
            self.nlink,
            self.uid,
            self.gid,
            (self.size >> 32) as u32,
            self.size as u32,
            (self.used >> 32) as u32,
            self.used as u32,
            self.rdev.0,
            self.rdev.1,
            (self.fsid >> 32) as u32,
            self.fsid as u32,
            (self.fileid >> 32) as u32,
            self.fileid as u32,
            self.atime.seconds,
            self.atime.nanos,
            self.mtime.seconds,
            self.mtime.nanos,
            self.ctime.seconds,
            self.ctime.nanos,
        ];
        for (word, value) in words.chunks_exact_mut(4).zip(values) {
            word.copy_from_slice(&value.to_be_bytes());
        }
        out.raw(&words);
    }

    /// Reads attributes.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        Ok(Self {
            kind: FileType::decode(reader)?,
            mode: reader.u32()?,
            nlink: reader.u32()?,
            uid: reader.u32()?,
            gid: reader.u32()?,
            size: reader.u64()?,
            used: reader.u64()?,
            rdev: (reader.u32()?, reader.u32()?),
            fsid: reader.u64()?,
            fileid: reader.u64()?,
            atime: Time::decode(reader)?,
            mtime: Time::decode(reader)?,
            ctime: Time::decode(reader)?,
        })
    }
}

impl Time {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        Ok(Self { seconds: reader.u32()?, nanos: reader.u32()? })
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.u32(self.seconds);
        out.u32(self.nanos);
    }
}

/// `wcc_attr`: what of an object's attributes shows whether it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WccAttr {
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the attributes.
    pub ctime: Time,
}

impl WccAttr {
    /// Of an object with these attributes.
    pub fn of(attr: &FileAttr) -> Self {
        Self { size: attr.size, mtime: attr.mtime, ctime: attr.ctime }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        Ok(Self { size: reader.u64()?, mtime: Time::decode(reader)?, ctime: Time::decode(reader)? })
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.u64(self.size);
        self.mtime.encode(out);
        self.ctime.encode(out);
    }
}

/// Writes `post_op_attr`.
pub fn encode_post_op(out: &mut Writer, attr: Option<&FileAttr>) {
    out.bool(attr.is_some());
    if let Some(attr) = attr {
        attr.encode(out);
    }
}

/// Reads `post_op_attr`.
pub(super) fn decode_post_op(reader: &mut Reader<'_>) -> Result<Option<FileAttr>, XdrError> {
    if reader.bool()? { FileAttr::decode(reader).map(Some) } else { Ok(None) }
}

/// Writes `wcc_data` of an object that did not change: both halves say the same.
pub fn encode_wcc(out: &mut Writer, attr: Option<&FileAttr>) {
    out.bool(attr.is_some());
    if let Some(attr) = attr {
        WccAttr::of(attr).encode(out);
    }
    encode_post_op(out, attr);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::nfs3) const SAMPLE: FileAttr = FileAttr {
        kind: FileType::Regular,
        mode: 0o4755,
        nlink: 2,
        uid: 1,
        gid: 2,
        size: 5 << 32 | 6,
        used: 7 << 32 | 8,
        rdev: (9, 10),
        fsid: 11 << 32 | 12,
        fileid: 13 << 32 | 14,
        atime: Time { seconds: 15, nanos: 16 },
        mtime: Time { seconds: 17, nanos: 18 },
        ctime: Time { seconds: 19, nanos: 20 },
    };

    #[test]
    fn rfc1813_section_2_6_attributes() {
        let mut out = Writer::new();
        SAMPLE.encode(&mut out);
        assert_eq!(out.len(), FileAttr::SIZE);
        assert_eq!(FileAttr::decode(&mut Reader::new(out.bytes())), Ok(SAMPLE));
        assert_eq!(out.bytes()[20..28], [0, 0, 0, 5, 0, 0, 0, 6]);
    }

    #[test]
    fn rfc1813_section_2_6_wcc_data() {
        let mut out = Writer::new();
        encode_wcc(&mut out, Some(&SAMPLE));
        assert_eq!(out.len(), 4 + 24 + 4 + FileAttr::SIZE);
        let mut reader = Reader::new(out.bytes());
        assert_eq!(reader.bool(), Ok(true));
        assert_eq!(reader.u64(), Ok(SAMPLE.size));
        assert_eq!(Time::decode(&mut reader), Ok(SAMPLE.mtime));
        assert_eq!(Time::decode(&mut reader), Ok(SAMPLE.ctime));
        assert_eq!(decode_post_op(&mut reader), Ok(Some(SAMPLE)));
        out.clear();
        encode_wcc(&mut out, None);
        assert_eq!(out.bytes(), [0; 8]);
    }
}
