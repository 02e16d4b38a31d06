//! Writing: POSIX pax format (POSIX.1-2017 pax, "ustar Interchange Format" and "pax Extended Header").

use super::BLOCK;

/// What a header says of one file.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Path without a leading slash.
    pub path: &'a [u8],
    /// Kind of file.
    pub kind: Kind<'a>,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes (name, value).
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// Kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A regular file, whose content follows.
    File {
        /// Bytes.
        size: u64,
    },
    /// A regular file with holes (GNU's PAX format 1.0); the content of its runs follows.
    Sparse {
        /// Bytes, the holes included.
        size: u64,
        /// Offset and length of what is no hole, in order.
        runs: &'a [(u64, u64)],
    },
    /// A directory.
    Directory,
    /// A symlink to this.
    Symlink(&'a [u8]),
    /// Another name of an entry before.
    HardLink(&'a [u8]),
    /// A character device (major, minor).
    CharDevice(u32, u32),
    /// A block device (major, minor).
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

impl Kind<'_> {
    /// Bytes of content that follow the header.
    pub fn content(&self) -> u64 {
        match self {
            Self::File { size } => *size,
            Self::Sparse { runs, .. } => runs.iter().map(|(_, len)| len).sum(),
            _ => 0,
        }
    }
}

/// The header blocks of an entry. Its content, if it has any, follows, up to the end of a block.
pub fn encode(entry: &Entry<'_>) -> Vec<u8> {
    let mut records = Vec::new();
    let mut map = Vec::new();
    let (flag, link, device) = match entry.kind {
        Kind::File { .. } | Kind::Sparse { .. } => (b'0', &b""[..], (0, 0)),
        Kind::Directory => (b'5', &b""[..], (0, 0)),
        Kind::Symlink(target) => (b'2', target, (0, 0)),
        Kind::HardLink(target) => (b'1', target, (0, 0)),
        Kind::CharDevice(major, minor) => (b'3', &b""[..], (major, minor)),
        Kind::BlockDevice(major, minor) => (b'4', &b""[..], (major, minor)),
        Kind::Fifo => (b'6', &b""[..], (0, 0)),
    };
    if let Kind::Sparse { size, runs } = entry.kind {
        map = sparse_map(runs);
        for (key, value) in [
            (&b"GNU.sparse.major"[..], &b"1"[..]),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", entry.path),
            (b"GNU.sparse.realsize", size.to_string().as_bytes()),
        ] {
            push_record(&mut records, key, value);
        }
    } else if entry.path.len() > 100 {
        push_record(&mut records, b"path", entry.path);
    }
    if link.len() > 100 {
        push_record(&mut records, b"linkpath", link);
    }
    let size = entry.kind.content() + map.len() as u64;
    // Eleven octal digits fit into the size and time fields, seven into those of the owner.
    if size > 0o77_777_777_777 {
        push_record(&mut records, b"size", size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if id > 0o7_777_777 {
            push_record(&mut records, key, id.to_string().as_bytes());
        }
    }
    let (secs, nanos) = entry.mtime;
    if nanos != 0 || !(0..=0o77_777_777_777).contains(&secs) {
        push_record(&mut records, b"mtime", pax_time(secs, nanos).as_bytes());
    }
    for (name, value) in entry.xattrs {
        push_record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    let mut out = Vec::new();
    if !records.is_empty() {
        push_block(&mut out, &extended(b'x', records.len() as u64));
        push_padded(&mut out, &records);
    }
    push_block(&mut out, &Header { path: entry.path, flag, link, device, size, secs, entry: Some(entry) });
    push_padded(&mut out, &map);
    out
}

/// A header that tells how many bytes of content will come, in all, for those who show progress.
pub fn encode_total(bytes: u64) -> Vec<u8> {
    let mut records = Vec::new();
    push_record(&mut records, super::decode::TOTAL, bytes.to_string().as_bytes());
    let mut out = Vec::new();
    push_block(&mut out, &extended(b'g', records.len() as u64));
    push_padded(&mut out, &records);
    out
}

struct Header<'a> {
    path: &'a [u8],
    flag: u8,
    link: &'a [u8],
    device: (u32, u32),
    size: u64,
    secs: i64,
    entry: Option<&'a Entry<'a>>,
}

fn extended(flag: u8, size: u64) -> Header<'static> {
    Header { path: b"pax-header", flag, link: b"", device: (0, 0), size, secs: 0, entry: None }
}

fn push_block(out: &mut Vec<u8>, head: &Header<'_>) {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    let octal = |number: u64, digits: usize| format!("{:0digits$o}", number & ((1 << (3 * digits)) - 1));
    let (mode, uid, gid) = head.entry.map_or((0o644, 0, 0), |entry| (entry.mode, entry.uid, entry.gid));
    put(0, &head.path[..head.path.len().min(100)]);
    put(100, octal(mode.into(), 7).as_bytes());
    put(108, octal(uid.into(), 7).as_bytes());
    put(116, octal(gid.into(), 7).as_bytes());
    put(124, octal(head.size, 11).as_bytes());
    put(136, octal(head.secs.max(0).unsigned_abs(), 11).as_bytes());
    put(148, b"        ");
    put(156, &[head.flag]);
    put(157, &head.link[..head.link.len().min(100)]);
    put(257, b"ustar\x0000");
    put(329, octal(head.device.0.into(), 7).as_bytes());
    put(337, octal(head.device.1.into(), 7).as_bytes());
    let sum: u64 = header.iter().map(|&byte| u64::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{}\0 ", octal(sum, 6)).as_bytes());
    out.extend(header);
}

fn push_padded(out: &mut Vec<u8>, data: &[u8]) {
    out.extend(data);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// Decimal numbers, one a line: how many runs, then offset and length of each; whole blocks.
fn sparse_map(runs: &[(u64, u64)]) -> Vec<u8> {
    let mut map = format!("{}\n", runs.len());
    for (offset, len) in runs {
        map.push_str(&format!("{offset}\n{len}\n"));
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn push_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    records.extend(len.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend(part);
    }
}

fn pax_time(secs: i64, nanos: u32) -> String {
    match (secs < 0, nanos) {
        (_, 0) => format!("{secs}"),
        (false, _) => format!("{secs}.{nanos:09}"),
        // -2 s and 0.75 s are -1.25.
        (true, _) => format!("-{}.{:09}", (secs + 1).unsigned_abs(), 1_000_000_000 - nanos),
    }
}
