//! What there is on the server: walked once, and again read once, so that both servers answer from memory.

use wire::nfs3::{Arguments, FileType, decode_attributes, decode_directory, decode_lookup, decode_read};

use crate::Error;
use crate::connection::{Connection, accepted};

/// Most bytes of files that READ goes over.
const READ_SET: u64 = 256 << 20;
/// Smallest file among them, unless there are none so large.
const LARGE: u64 = 1 << 20;

pub(crate) struct Object {
    pub(crate) name: Vec<u8>,
    pub(crate) handle: Vec<u8>,
    /// Directory that it is in, as an index into [`Tree::directories`].
    pub(crate) parent: usize,
}

pub(crate) struct Tree {
    pub(crate) objects: Vec<Object>,
    pub(crate) directories: Vec<Vec<u8>>,
    /// Handle and size of the files to read.
    pub(crate) read_set: Vec<(Vec<u8>, u64)>,
}

impl Tree {
    /// Lists all directories below `root`, by READDIRPLUS.
    pub(crate) async fn walk(connection: &mut Connection, root: Vec<u8>) -> Result<Self, Error> {
        let mut tree = Self { objects: Vec::new(), directories: vec![root], read_set: Vec::new() };
        let mut files = Vec::new();
        let mut next = 0;
        while next < tree.directories.len() {
            let dir = tree.directories[next].clone();
            for name in names(connection, &dir).await? {
                // Some servers leave attributes or handles out of a listing: ask.
                let mut reply = connection.nfs(&Arguments::Lookup { dir: &dir, name: &name }).await?;
                let found = accepted(decode_lookup(&mut reply)?)?;
                let (handle, attr) = (found.handle.to_vec(), found.attr);
                let attr = match attr {
                    Some(attr) => attr,
                    None => {
                        let mut reply = connection.nfs(&Arguments::GetAttr { object: &handle }).await?;
                        accepted(decode_attributes(&mut reply)?)?
                    }
                };
                match attr.kind {
                    FileType::Directory => tree.directories.push(handle.clone()),
                    FileType::Regular => files.push((name.clone(), handle.clone(), attr.size)),
                    _ => {}
                }
                tree.objects.push(Object { name, handle, parent: next });
            }
            next += 1;
        }
        tree.read_set = read_set(files);
        // The same order from every server, so that the same random numbers pick the same objects.
        let Self { objects, read_set, .. } = &mut tree;
        objects.sort_by(|a, b| (a.parent, &a.name).cmp(&(b.parent, &b.name)));
        for (file, size) in read_set {
            let mut offset = 0;
            while offset < *size {
                let mut reply = connection.nfs(&Arguments::Read { file, offset, count: 1 << 20 }).await?;
                offset += accepted(decode_read(&mut reply)?)?.0.len().max(1) as u64;
            }
        }
        Ok(tree)
    }

    /// Whether both have the same names in the same places, and the same sizes of what is read.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let names = |tree: &'_ Self| tree.objects.iter().map(|o| (o.parent, o.name.clone())).collect::<Vec<_>>();
        let sizes = |tree: &Self| tree.read_set.iter().map(|(_, size)| *size).collect::<Vec<_>>();
        names(self) == names(other) && sizes(self) == sizes(other)
    }
}

async fn names(connection: &mut Connection, dir: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let (mut names, mut cookie, mut verifier) = (Vec::new(), 0, 0);
    loop {
        let arguments = Arguments::ReadDirPlus { dir, cookie, verifier, dir_count: 32_768, max_count: 32_768 };
        let mut reply = connection.nfs(&arguments).await?;
        let end = accepted(decode_directory(&mut reply, true, |entry| {
            cookie = entry.cookie;
            if entry.name != b"." && entry.name != b".." {
                names.push(entry.name.to_vec());
            }
        })?)?;
        verifier = end.verifier;
        if end.eof {
            names.sort();
            return Ok(names);
        }
    }
}

/// Large files if there are any, the largest first, up to [`READ_SET`] bytes.
fn read_set(mut files: Vec<(Vec<u8>, Vec<u8>, u64)>) -> Vec<(Vec<u8>, u64)> {
    files.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
    let large = files.iter().any(|file| file.2 >= LARGE);
    let mut left = READ_SET;
    files
        .into_iter()
        .filter(|(_, _, size)| *size > 0 && (!large || *size >= LARGE))
        .take_while(|(_, _, size)| {
            let room = left > 0;
            left = left.saturating_sub(*size);
            room
        })
        .map(|(_, handle, size)| (handle, size))
        .collect()
}
