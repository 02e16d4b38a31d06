//! Users of this machine.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;

/// Largest entry of the user database that is read, in bytes.
const MAX_ENTRY: usize = 64 * 1024;

/// Name of a user, from wherever this machine has its users (getpwuid_r(3)); `None` if nobody has this id. May ask a
/// directory service: blocks.
///
/// # Errors
/// The user database can not be read.
pub fn name(uid: u32) -> io::Result<Option<String>> {
    let mut size = 1024;
    loop {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut strings: Vec<libc::c_char> = vec![0; size];
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid and exclusive for the whole call, and the length is that of the buffer.
        let error =
            unsafe { libc::getpwuid_r(uid, entry.as_mut_ptr(), strings.as_mut_ptr(), strings.len(), &mut found) };
        match error {
            libc::ERANGE if size < MAX_ENTRY => size *= 4,
            0 if found.is_null() => return Ok(None),
            0 => {
                // SAFETY: the call succeeded and found an entry: `found` is `entry`, which it has filled, and its name is
                // a string with its NUL in `strings`, which still lives.
                let name = unsafe { CStr::from_ptr((*found).pw_name) };
                return Ok(Some(name.to_string_lossy().into_owned()));
            }
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_users() {
        assert_eq!(name(0).unwrap().as_deref(), Some("root"));
        assert_eq!(name(4_000_000_000).unwrap(), None);
    }
}
