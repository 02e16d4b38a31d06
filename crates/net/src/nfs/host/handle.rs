//! File handles into host directories.

use sys::file_handle::FileHandle;

use crate::nfs::HandleKey;

/// Kind of file system that a handle leads into: a directory of the host. (Images are kind 1.)
const HOST: [u8; 4] = [0, 0, 0, 2];

/// Bytes of a handle apart from the kernel's: kind, file system, kind of the kernel's handle, MAC.
const FRAME: usize = 4 + 8 + 4 + 8;

/// What a handle names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nfs) struct HostHandle {
    /// File system: the directory's fsid.
    pub(in crate::nfs) fsid: u64,
    /// File in the host's file system.
    pub(in crate::nfs) file: FileHandle,
}

impl HostHandle {
    /// Whether these bytes claim to be one.
    pub(in crate::nfs) fn is_claimed_by(bytes: &[u8]) -> bool {
        bytes.starts_with(&HOST)
    }

    /// The handle as it goes over the wire: at most 64 bytes.
    pub(in crate::nfs) fn sign(&self, key: &HandleKey) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FRAME + sys::file_handle::MAX);
        bytes.extend(HOST);
        bytes.extend(self.fsid.to_be_bytes());
        bytes.extend(self.file.kind().to_be_bytes());
        bytes.extend(self.file.bytes());
        bytes.extend(key.mac(&bytes));
        bytes
    }

    /// Reads a handle; `None` unless it was signed with this key.
    pub(in crate::nfs) fn verify(bytes: &[u8], key: &HandleKey) -> Option<Self> {
        let (body, mac) = bytes.split_last_chunk::<8>()?;
        let rest = body.strip_prefix(&HOST)?;
        if key.mac(body) != *mac {
            return None;
        }
        let (fsid, rest) = rest.split_first_chunk()?;
        let (kind, file) = rest.split_first_chunk()?;
        let file = FileHandle::from_parts(i32::from_be_bytes(*kind), file)?;
        Some(Self { fsid: u64::from_be_bytes(*fsid), file })
    }
}

#[cfg(test)]
mod tests {
    use wire::nfs3::MAX_HANDLE;

    use super::*;

    #[test]
    fn a_handle_means_the_same_to_every_server_with_the_key() {
        let file = FileHandle::from_parts(1, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        let handle = HostHandle { fsid: 0x0123_4567_89ab_cdef, file };
        let bytes = handle.sign(&HandleKey::new([7; 16]));
        assert_eq!(HostHandle::verify(&bytes, &HandleKey::new([7; 16])), Some(handle));
        // Written down once: a change here is ESTALE on every node that runs.
        let expected = [0, 0, 0, 2, 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(bytes[..24], expected);
        assert_eq!(bytes.len(), 32);
    }

    #[test]
    fn the_longest_has_room_and_no_bit_of_it_can_be_changed() {
        let file = FileHandle::from_parts(-5, &[9; sys::file_handle::MAX]).unwrap();
        let key = HandleKey::new([7; 16]);
        let bytes = HostHandle { fsid: 1, file }.sign(&key);
        assert_eq!(bytes.len(), MAX_HANDLE);
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(HostHandle::verify(&forged, &key), None, "bit {bit}");
        }
        assert_eq!(HostHandle::verify(&bytes, &HandleKey::new([8; 16])), None);
        for length in 0..bytes.len() {
            assert_eq!(HostHandle::verify(&bytes[..length], &key), None);
        }
    }
}
