//! A thread that asks the file system for things on behalf of somebody else.
//!
//! File system user, group and supplementary groups belong to a thread in Linux, whatever the C library makes of them:
//! so these are bare system calls.

use std::io;

/// Which user asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: &'a [u32],
}

/// What the kernel takes for "no change", and so nobody's number.
const NOBODY: u32 = u32::MAX;

#[cfg(any(target_arch = "x86", target_arch = "arm"))]
const SYS_SETGROUPS: libc::c_long = libc::SYS_setgroups32;
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
const SYS_SETGROUPS: libc::c_long = libc::SYS_setgroups;

/// Runs `work` as another user, as far as file systems are concerned: the kernel then checks permissions as that user's,
/// and makes files that are the user's. The capabilities that concern files are gone meanwhile, unless the user is root
/// (capabilities(7), "Effect of user ID changes on capabilities").
///
/// Needs `CAP_SETUID` and `CAP_SETGID`, and a caller that is root to file systems.
///
/// # Errors
/// The kernel refuses the change; `work` was not run.
pub fn acting_as<R>(identity: Identity<'_>, work: impl FnOnce() -> R) -> io::Result<R> {
    if identity.uid == NOBODY || identity.gid == NOBODY {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // Ends by itself, whatever happens in between.
    let _own = OwnAgain;
    set_groups(identity.groups)?;
    set_group(identity.gid)?;
    set_user(identity.uid)?;
    Ok(work())
}

/// Makes the thread root again when it is dropped.
struct OwnAgain;

impl Drop for OwnAgain {
    fn drop(&mut self) {
        if set_user(0).and_then(|()| set_group(0)).and_then(|()| set_groups(&[])).is_err() {
            // A thread of the server that stays somebody else's must not go on: what it does next is for another.
            std::process::abort();
        }
    }
}

fn set_user(uid: u32) -> io::Result<()> {
    // SAFETY: takes an integer, returns the previous one, and reports no error; asked for a number that is nobody's, it
    // changes nothing and so tells what is set.
    let now = unsafe {
        libc::setfsuid(uid);
        libc::setfsuid(NOBODY)
    };
    if now as u32 == uid { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
}

fn set_group(gid: u32) -> io::Result<()> {
    // SAFETY: as in `set_user`.
    let now = unsafe {
        libc::setfsgid(gid);
        libc::setfsgid(NOBODY)
    };
    if now as u32 == gid { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
}

/// Of this thread alone: the C library's function would set those of all.
fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer is to as many numbers as the length says, alive for the whole call, which only reads them.
    let result = unsafe { libc::syscall(SYS_SETGROUPS, groups.len(), groups.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes, for this thread alone, the file creation mask away: files get exactly the mode that is asked for. The thread gets
/// a working directory and a root of its own by it, equal to those it had.
///
/// # Errors
/// The kernel has no memory for it.
pub fn own_empty_umask() -> io::Result<()> {
    // SAFETY: CLONE_FS makes working directory, root and umask the thread's own; no memory and no descriptor changes hands.
    if unsafe { libc::unshare(libc::CLONE_FS) } < 0 {
        return Err(io::Error::last_os_error());
    }
    rustix::process::umask(rustix::fs::Mode::empty());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};

    #[test]
    fn what_a_user_may_not_is_refused_and_what_they_make_is_theirs() {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let directory = std::env::temp_dir().join(format!("walt-sys-identity-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o1777)).unwrap();
        let (closed, made, shared) = (directory.join("closed"), directory.join("made"), directory.join("shared"));
        std::fs::write(&closed, "root's").unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&shared, "the group's").unwrap();
        std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::chown(&shared, None, Some(4242)).unwrap();
        let user = Identity { uid: 1234, gid: 1235, groups: &[4242] };
        let work = std::thread::spawn(move || {
            own_empty_umask().unwrap();
            let done = acting_as(user, || {
                let create = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o666).open(&made);
                (std::fs::read(&closed).map_err(|e| e.kind()), std::fs::read(&shared).is_ok(), create.is_ok())
            });
            assert_eq!(done.unwrap(), (Err(io::ErrorKind::PermissionDenied), true, true));
            let metadata = std::fs::metadata(&made).unwrap();
            assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 1235, 0o666));
            // And root again, with all its rights.
            assert!(std::fs::read(&closed).is_ok());
            let nobody = Identity { uid: u32::MAX, gid: 0, groups: &[] };
            assert!(acting_as(nobody, || ()).is_err());
        });
        work.join().unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
