//! File handles: what they name, and proof that this server gave them out.

use std::fmt;
use std::hash::Hasher;

use image::Ino;
use siphasher::sip::SipHasher24;

/// The key that handles are signed with: 128 random bits that the daemon keeps on disk.
///
/// A server with the same key accepts the handles of another, and its own after a restart.
#[derive(Clone)]
pub struct HandleKey(SipHasher24);

impl HandleKey {
    /// A key from 16 secret bytes.
    pub fn new(secret: [u8; 16]) -> Self {
        Self(SipHasher24::new_with_key(&secret))
    }

    pub(super) fn mac(&self, body: &[u8]) -> [u8; 8] {
        let mut hasher = self.0;
        hasher.write(body);
        hasher.finish().to_be_bytes()
    }
}

impl fmt::Debug for HandleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandleKey(secret)")
    }
}

/// Bytes of a handle: kind, file system, inode, MAC.
pub(super) const SIZE: usize = 4 + 8 + 8 + 8;

/// Kind of file system that a handle leads into: an image.
///
/// A word of its own, so that another kind can follow without a change to the handles given out.
const IMAGE: [u8; 4] = [0, 0, 0, 1];

/// What a handle names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHandle {
    /// File system (the view's fsid).
    pub(super) fsid: u64,
    /// Inode in it.
    pub(super) ino: Ino,
}

impl FileHandle {
    /// The handle as it goes over the wire.
    pub(super) fn sign(self, key: &HandleKey) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..4].copy_from_slice(&IMAGE);
        bytes[4..12].copy_from_slice(&self.fsid.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.ino.to_be_bytes());
        let mac = key.mac(&bytes[..20]);
        bytes[20..].copy_from_slice(&mac);
        bytes
    }

    /// Reads a handle; `None` unless it was signed with this key.
    pub(super) fn verify(bytes: &[u8], key: &HandleKey) -> Option<Self> {
        let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
        let (body, mac) = bytes.split_at(20);
        if body[..4] != IMAGE || key.mac(body) != mac {
            return None;
        }
        Some(Self {
            fsid: u64::from_be_bytes(body[4..12].try_into().ok()?),
            ino: u64::from_be_bytes(body[12..].try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_means_the_same_to_every_server_with_the_key() {
        let handle = FileHandle { fsid: 0x0123_4567_89ab_cdef, ino: 77 };
        let bytes = handle.sign(&HandleKey::new([7; 16]));
        assert_eq!(FileHandle::verify(&bytes, &HandleKey::new([7; 16])), Some(handle));
        // Written down once: a change here is ESTALE on every node that runs.
        assert_eq!(bytes[..20], [0, 0, 0, 1, 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0, 0, 0, 0, 0, 0, 0, 77]);
        assert_eq!(bytes[20..], FIXED_MAC);
    }

    const FIXED_MAC: [u8; 8] = [145, 57, 70, 217, 46, 111, 193, 242];

    #[test]
    fn no_bit_of_a_handle_can_be_changed() {
        let key = HandleKey::new([7; 16]);
        let bytes = FileHandle { fsid: 1, ino: 2 }.sign(&key);
        for bit in 0..SIZE * 8 {
            let mut forged = bytes;
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHandle::verify(&forged, &key), None, "bit {bit}");
        }
        assert_eq!(FileHandle::verify(&bytes, &HandleKey::new([8; 16])), None);
        assert_eq!(FileHandle::verify(&bytes[..SIZE - 1], &key), None);
        assert_eq!(FileHandle::verify(&[], &key), None);
    }

    #[test]
    fn siphash_2_4_of_its_paper() {
        // Aumasson and Bernstein, "SipHash: a fast short-input PRF", appendix A.
        let key = HandleKey::new(std::array::from_fn(|i| i as u8));
        let input: [u8; 15] = std::array::from_fn(|i| i as u8);
        assert_eq!(key.mac(&input), 0xa129_ca61_49be_45e5_u64.to_be_bytes());
    }
}
