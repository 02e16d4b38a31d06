//! Users of this machine.

use std::ffi::{CStr, CString};
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

/// Ids of a user and of its own group (getpwnam_r(3)); `None` if there is no such user. May ask a directory service: blocks.
///
/// # Errors
/// The user database can not be read.
pub fn ids(name: &str) -> io::Result<Option<(u32, u32)>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    let mut strings: Vec<libc::c_char> = vec![0; MAX_ENTRY];
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are valid and exclusive for the whole call, the name ends with its NUL, and the length is that of
    // the buffer.
    let error =
        unsafe { libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), strings.as_mut_ptr(), strings.len(), &mut found) };
    match error {
        0 if found.is_null() => Ok(None),
        // SAFETY: the call succeeded and found an entry: `found` is `entry`, which it has filled.
        0 => Ok(Some(unsafe { ((*found).pw_uid, (*found).pw_gid) })),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Id of a group (getgrnam_r(3)); `None` if there is no such group. May ask a directory service: blocks.
///
/// # Errors
/// The group database can not be read.
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    // A group has its members in its entry.
    let mut strings: Vec<libc::c_char> = vec![0; 16 * MAX_ENTRY];
    let mut entry = MaybeUninit::<libc::group>::uninit();
    let mut found = std::ptr::null_mut();
    // SAFETY: as in `ids`.
    let error =
        unsafe { libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), strings.as_mut_ptr(), strings.len(), &mut found) };
    match error {
        0 if found.is_null() => Ok(None),
        // SAFETY: the call succeeded and found an entry: `found` is `entry`, which it has filled.
        0 => Ok(Some(unsafe { (*found).gr_gid })),
        error => Err(io::Error::from_raw_os_error(error)),
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

    #[test]
    fn ids_of_names() {
        assert_eq!(ids("root").unwrap(), Some((0, 0)));
        assert_eq!(group_id("root").unwrap(), Some(0));
        for nobody in ["no-such-name", "", "a\0b"] {
            assert_eq!((ids(nobody).unwrap(), group_id(nobody).unwrap()), (None, None), "{nobody:?}");
        }
    }
}
