//! What a caller may do with an object, by mode and owner.

use image::{Attr, FileKind};
use wire::nfs3::access;
use wire::rpc::Credential;

const READ: u32 = 4;
const EXECUTE: u32 = 1;

/// Bits of ACCESS that are granted. Those that would change something never are.
pub(super) fn granted(attr: &Attr, who: &Credential) -> u32 {
    let mode = class_bits(attr, who);
    let mut bits = 0;
    if mode & READ != 0 {
        bits |= access::READ;
    }
    if attr.kind == FileKind::Directory {
        if mode & EXECUTE != 0 {
            bits |= access::LOOKUP | access::EXECUTE;
        }
    } else if attr.mode & 0o111 != 0 {
        // On a root file system over NFS programs are run by the kernel in more identities than one:
        // a file that anybody may run is never refused here (DESIGN §6.7).
        bits |= access::EXECUTE;
    }
    bits
}

/// Whether the content of a file may be read.
pub(super) fn may_read(attr: &Attr, who: &Credential) -> bool {
    // RFC 1813 §4.4: running a program is reading it, and an owner may read what it has open.
    class_bits(attr, who) & (READ | EXECUTE) != 0 || is_owner(attr, who)
}

/// Whether a directory may be listed.
pub(super) fn may_list(attr: &Attr, who: &Credential) -> bool {
    class_bits(attr, who) & READ != 0
}

/// Whether a name may be looked up in a directory.
pub(super) fn may_search(attr: &Attr, who: &Credential) -> bool {
    class_bits(attr, who) & EXECUTE != 0
}

/// The `rwx` bits that apply to the caller. Root has them all (a file's `x` apart).
fn class_bits(attr: &Attr, who: &Credential) -> u32 {
    match who {
        Credential::Sys(id) if id.uid == 0 => 7,
        Credential::Sys(id) if id.uid == attr.uid => attr.mode >> 6 & 7,
        Credential::Sys(id) if id.in_group(attr.gid) => attr.mode >> 3 & 7,
        _ => attr.mode & 7,
    }
}

fn is_owner(attr: &Attr, who: &Credential) -> bool {
    matches!(who, Credential::Sys(id) if id.uid == attr.uid)
}

#[cfg(test)]
mod tests {
    use image::Timestamp;
    use wire::rpc::UnixIdentity;

    use super::*;

    #[test]
    fn access_by_class() {
        const R: u32 = access::READ;
        const L: u32 = access::LOOKUP;
        const X: u32 = access::EXECUTE;
        let user = |uid, gid, groups: &[u32]| Credential::Sys(UnixIdentity::new(uid, gid, groups));
        let (file, dir) = (FileKind::Regular, FileKind::Directory);
        let table = [
            (file, 0o600, user(0, 0, &[]), R, true),
            (file, 0o600, user(10, 0, &[]), R, true),
            (file, 0o600, user(11, 0, &[]), 0, false),
            (file, 0o640, user(11, 20, &[]), R, true),
            (file, 0o640, user(11, 5, &[6, 20]), R, true),
            (file, 0o640, Credential::None, 0, false),
            (file, 0o644, Credential::None, R, true),
            (file, 0o711, user(11, 1, &[]), X, true),
            // Readable to nobody here, and yet never refused to be run.
            (file, 0o700, user(11, 1, &[]), X, false),
            (file, 0o4755, user(11, 1, &[]), R | X, true),
            (file, 0o000, user(0, 0, &[]), R, true),
            (dir, 0o755, user(11, 1, &[]), R | L | X, true),
            (dir, 0o711, user(11, 1, &[]), L | X, true),
            (dir, 0o700, user(11, 1, &[]), 0, false),
            (dir, 0o000, user(0, 0, &[]), R | L | X, true),
        ];
        for (kind, mode, who, bits, readable) in table {
            let mtime = Timestamp::default();
            let attr = Attr { ino: 2, kind, mode, nlink: 1, uid: 10, gid: 20, size: 0, mtime, rdev: (0, 0) };
            assert_eq!(granted(&attr, &who), bits, "{kind:?} {mode:o} {who:?}");
            assert_eq!(may_read(&attr, &who), readable, "{kind:?} {mode:o} {who:?}");
        }
    }
}
