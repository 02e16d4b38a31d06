//! Handles of the kernel's own for files (name_to_handle_at(2)): a file can be opened by its handle after a restart,
//! whatever its name is by then, and never another file.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

/// Longest handle that is taken, in bytes. ext4 has 8, XFS 12, btrfs 20.
pub const MAX: usize = 40;

/// What a handle is in memory (`struct file_handle`), with room for its bytes.
#[repr(C)]
#[derive(Clone, Copy)]
struct Raw {
    length: libc::c_uint,
    kind: libc::c_int,
    bytes: [u8; MAX],
}

/// The handle of one file in its file system.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FileHandle {
    kind: i32,
    length: u8,
    bytes: [u8; MAX],
}

impl std::fmt::Debug for FileHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileHandle({}, {:02x?})", self.kind, self.bytes())
    }
}

impl FileHandle {
    /// The handle of an open file; opened by path alone (`O_PATH`) is enough.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: its file system has none. `EOVERFLOW`: they are longer than [`MAX`].
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        let mut raw = Raw { length: MAX as libc::c_uint, kind: 0, bytes: [0; MAX] };
        let mut mount = 0;
        // SAFETY: the descriptor is open for the whole call and the path is a string with its NUL. `raw` has the layout of
        // `struct file_handle` (two ints, then bytes, without padding between), is exclusive, and says how many bytes it
        // has room for, which bounds what the kernel writes.
        let result = unsafe {
            libc::name_to_handle_at(
                file.as_fd().as_raw_fd(),
                c"".as_ptr(),
                std::ptr::from_mut(&mut raw).cast(),
                &mut mount,
                libc::AT_EMPTY_PATH,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let length = u8::try_from(raw.length).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
        Ok(Self { kind: raw.kind, length, bytes: raw.bytes })
    }

    /// A handle that was taken apart; `None` if it is longer than any.
    pub fn from_parts(kind: i32, bytes: &[u8]) -> Option<Self> {
        let mut all = [0; MAX];
        all.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self { kind, length: u8::try_from(bytes.len()).ok()?, bytes: all })
    }

    /// Kind of handle: its file system knows what it means.
    pub fn kind(&self) -> i32 {
        self.kind
    }

    /// The handle's own bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// Opens the file, in the file system that the open file `mount` is in, by path alone: nothing happens to it, and no
    /// permission is asked for. Needs `CAP_DAC_READ_SEARCH`.
    ///
    /// # Errors
    /// `ESTALE`: the file is no more.
    pub fn open_path(&self, mount: impl AsFd) -> io::Result<OwnedFd> {
        let mut raw = Raw { length: libc::c_uint::from(self.length), kind: self.kind, bytes: self.bytes };
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: the descriptor is open for the whole call; `raw` has the layout of `struct file_handle`, is exclusive, and
        // its length is that of bytes it has. The kernel checks what they say.
        let opened =
            unsafe { libc::open_by_handle_at(mount.as_fd().as_raw_fd(), std::ptr::from_mut(&mut raw).cast(), flags) };
        if opened < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded: this is a new descriptor that nobody else has.
        Ok(unsafe { OwnedFd::from_raw_fd(opened) })
    }
}

/// Most names that a file can have in the file system of `file`, as far as the C library knows (fpathconf(3)).
pub fn max_links(file: impl AsFd) -> Option<u32> {
    // SAFETY: the descriptor is open for the whole call, which only reads.
    let links = unsafe { libc::fpathconf(file.as_fd().as_raw_fd(), libc::_PC_LINK_MAX) };
    u32::try_from(links).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_file_is_found_by_its_handle_whatever_its_name() {
        let directory = std::env::temp_dir().join(format!("walt-sys-handle-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (one, two) = (directory.join("one"), directory.join("two"));
        std::fs::write(&one, "content").unwrap();
        let file = std::fs::File::open(&one).unwrap();
        let handle = FileHandle::of(&file).unwrap();
        assert!(!handle.bytes().is_empty());
        std::fs::rename(&one, &two).unwrap();
        let copy = FileHandle::from_parts(handle.kind(), handle.bytes()).unwrap();
        assert_eq!(copy, handle);
        let mount = std::fs::File::open(&directory).unwrap();
        let found = copy.open_path(&mount).unwrap();
        let ino = std::fs::metadata(format!("/proc/self/fd/{}", found.as_raw_fd())).unwrap().ino();
        assert_eq!(ino, std::fs::metadata(&two).unwrap().ino());
        drop((file, found));
        std::fs::remove_file(&two).unwrap();
        let error = copy.open_path(&mount).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESTALE));
        let nonsense = FileHandle::from_parts(77, &[1; MAX]).unwrap();
        assert!(nonsense.open_path(&mount).is_err());
        assert_eq!(FileHandle::from_parts(1, &[0; MAX + 1]), None);
        assert!(max_links(&mount).is_some_and(|links| links > 1));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
