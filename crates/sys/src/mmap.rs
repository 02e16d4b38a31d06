//! Read-only mapping of a whole file.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A file's bytes, mapped for reading; the page cache is shared with everybody else who maps it.
///
/// The file must not change or shrink while it is mapped: a shrunken one would raise SIGBUS. So
/// map only files that are written under another name, renamed into place, and never touched
/// again (removing them is fine).
#[derive(Debug)]
pub struct Mmap {
    address: NonNull<u8>,
    len: usize,
}

impl Mmap {
    /// Maps the file from its start to its present end.
    ///
    /// Fails on an empty file, and with what `mmap(2)` says.
    pub fn read_only(file: &File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        if len == 0 || len > isize::MAX as usize {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty or oversized file cannot be mapped"));
        }
        // SAFETY: a null hint makes the kernel choose an unused range, so no existing object of
        // this process is overlaid.
        let address =
            unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, 0) }?.cast::<u8>();
        let address = NonNull::new(address).ok_or_else(|| io::Error::other("mmap gave a null address"))?;
        Ok(Self { address, len })
    }
}

impl Deref for Mmap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `address..address + len` is a mapping that this value owns until it is dropped,
        // readable, not larger than isize::MAX, and, by the contract of the type, never written.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.len) }
    }
}

impl Drop for Mmap {
    fn drop(&mut self) {
        // SAFETY: the range is the one that `mmap` gave, and the borrow checker lets no slice of
        // it outlive this value. An error could only mean a wrong range; there is nothing to undo.
        let _ = unsafe { munmap(self.address.as_ptr().cast(), self.len) };
    }
}

// SAFETY: the mapping is read-only memory that belongs to the process, not to a thread.
unsafe impl Send for Mmap {}
// SAFETY: as above, and no method changes it.
unsafe impl Sync for Mmap {}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn shows_the_bytes_of_the_file_and_refuses_an_empty_one() {
        let path = std::env::temp_dir().join(format!("walt-sys-mmap-{}", std::process::id()));
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        assert!(Mmap::read_only(&file).is_err());
        file.write_all(b"immutable").unwrap();
        let map = Mmap::read_only(&file).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&*map, b"immutable");
    }
}
