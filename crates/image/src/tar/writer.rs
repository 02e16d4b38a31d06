//! Writes tars in POSIX pax format: the server's own layer is made with it.

use super::BLOCK;
use crate::Timestamp;

/// A tar in memory.
#[derive(Debug, Default)]
pub struct TarWriter {
    bytes: Vec<u8>,
}

/// What all kinds of entries have.
#[derive(Debug, Clone, Copy)]
pub struct TarAttr<'a> {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Extended attributes (name, value).
    pub xattrs: &'a [(&'a [u8], &'a [u8])],
}

impl Default for TarAttr<'_> {
    fn default() -> Self {
        Self { mode: 0o644, uid: 0, gid: 0, mtime: Timestamp::default(), xattrs: &[] }
    }
}

impl TarAttr<'_> {
    /// root's, with these permission bits.
    pub fn mode(mode: u32) -> Self {
        Self { mode, ..Self::default() }
    }
}

impl TarWriter {
    /// An empty tar.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a regular file.
    pub fn file(&mut self, path: &[u8], attr: TarAttr<'_>, content: &[u8]) -> &mut Self {
        self.entry(path, b'0', attr, b"", content, (0, 0))
    }

    /// Adds a directory.
    pub fn directory(&mut self, path: &[u8], attr: TarAttr<'_>) -> &mut Self {
        self.entry(path, b'5', attr, b"", b"", (0, 0))
    }

    /// Adds a symlink.
    pub fn symlink(&mut self, path: &[u8], attr: TarAttr<'_>, target: &[u8]) -> &mut Self {
        self.entry(path, b'2', attr, target, b"", (0, 0))
    }

    /// Adds another name of the file at `target`.
    pub fn hard_link(&mut self, path: &[u8], attr: TarAttr<'_>, target: &[u8]) -> &mut Self {
        self.entry(path, b'1', attr, target, b"", (0, 0))
    }

    /// Adds a character device (major, minor).
    pub fn char_device(&mut self, path: &[u8], attr: TarAttr<'_>, device: (u32, u32)) -> &mut Self {
        self.entry(path, b'3', attr, b"", b"", device)
    }

    /// Adds a block device (major, minor).
    pub fn block_device(&mut self, path: &[u8], attr: TarAttr<'_>, device: (u32, u32)) -> &mut Self {
        self.entry(path, b'4', attr, b"", b"", device)
    }

    /// Adds a named pipe.
    pub fn fifo(&mut self, path: &[u8], attr: TarAttr<'_>) -> &mut Self {
        self.entry(path, b'6', attr, b"", b"", (0, 0))
    }

    /// Hides what lower layers have at `path`.
    pub fn whiteout(&mut self, path: &[u8]) -> &mut Self {
        let name_at = path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
        let (parent, name) = path.split_at(name_at);
        self.file(&[parent, b".wh.", name].concat(), TarAttr::default(), b"")
    }

    /// Hides what lower layers have in the directory `path` (empty: the root).
    pub fn opaque(&mut self, path: &[u8]) -> &mut Self {
        let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
        self.file(&[path, slash, b".wh..wh..opq"].concat(), TarAttr::default(), b"")
    }

    /// Adds the end mark and gives the tar.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }

    fn entry(
        &mut self,
        path: &[u8],
        type_flag: u8,
        attr: TarAttr<'_>,
        link: &[u8],
        content: &[u8],
        device: (u32, u32),
    ) -> &mut Self {
        let mut records = Vec::new();
        if path.len() > 100 {
            push_record(&mut records, b"path", path);
        }
        if link.len() > 100 {
            push_record(&mut records, b"linkpath", link);
        }
        // Eleven octal digits fit into the size and time fields, seven into those of the owner.
        if content.len() as u64 > 0o77_777_777_777 {
            push_record(&mut records, b"size", content.len().to_string().as_bytes());
        }
        for (key, id) in [(&b"uid"[..], attr.uid), (b"gid", attr.gid)] {
            if id > 0o7_777_777 {
                push_record(&mut records, key, id.to_string().as_bytes());
            }
        }
        let Timestamp { secs, nanos } = attr.mtime;
        if nanos != 0 || !(0..=0o77_777_777_777).contains(&secs) {
            push_record(&mut records, b"mtime", pax_time(attr.mtime).as_bytes());
        }
        for (name, value) in attr.xattrs {
            push_record(&mut records, &[b"SCHILY.xattr.", *name].concat(), value);
        }
        if !records.is_empty() {
            self.header(b"pax-header", b'x', TarAttr::default(), b"", records.len(), (0, 0));
            self.data(&records);
        }
        self.header(path, type_flag, attr, link, content.len(), device);
        self.data(content);
        self
    }

    fn header(&mut self, path: &[u8], type_flag: u8, attr: TarAttr<'_>, link: &[u8], size: usize, device: (u32, u32)) {
        let mut header = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        let octal = |number: u64, digits: usize| format!("{:0digits$o}", number & ((1 << (3 * digits)) - 1));
        put(0, &path[..path.len().min(100)]);
        put(100, octal(attr.mode.into(), 7).as_bytes());
        put(108, octal(attr.uid.into(), 7).as_bytes());
        put(116, octal(attr.gid.into(), 7).as_bytes());
        put(124, octal(size as u64, 11).as_bytes());
        put(136, octal(attr.mtime.secs.max(0).cast_unsigned(), 11).as_bytes());
        put(148, b"        ");
        put(156, &[type_flag]);
        put(157, &link[..link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, octal(device.0.into(), 7).as_bytes());
        put(337, octal(device.1.into(), 7).as_bytes());
        let sum: u64 = header.iter().map(|&byte| u64::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{}\0 ", octal(sum, 6)).as_bytes());
        self.bytes.extend(header);
    }

    fn data(&mut self, data: &[u8]) {
        self.bytes.extend(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }
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

fn pax_time(Timestamp { secs, nanos }: Timestamp) -> String {
    match (secs < 0, nanos) {
        (_, 0) => format!("{secs}"),
        (false, _) => format!("{secs}.{nanos:09}"),
        // -2 s and 0.75 s are -1.25.
        (true, _) => format!("-{}.{:09}", (secs + 1).unsigned_abs(), 1_000_000_000 - nanos),
    }
}
