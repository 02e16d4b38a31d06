//! The kernel's ring buffer.

use std::io;

/// `SYSLOG_ACTION_READ_ALL` and `SYSLOG_ACTION_SIZE_BUFFER` of syslog(2).
const READ_ALL: libc::c_int = 3;
const SIZE_BUFFER: libc::c_int = 10;

/// All messages in the kernel's log, as `dmesg` reads them. Needs `CAP_SYSLOG`.
pub fn read() -> io::Result<Vec<u8>> {
    // SAFETY: this action ignores the buffer, so a null pointer of length 0 is never followed.
    let size = unsafe { libc::klogctl(SIZE_BUFFER, std::ptr::null_mut(), 0) };
    let mut text = vec![0u8; usize::try_from(size).map_err(|_| io::Error::last_os_error())?];
    // SAFETY: the kernel writes at most `size` bytes, and `text` is exactly that long.
    let read = unsafe { libc::klogctl(READ_ALL, text.as_mut_ptr().cast(), size) };
    text.truncate(usize::try_from(read).map_err(|_| io::Error::last_os_error())?);
    Ok(text)
}
