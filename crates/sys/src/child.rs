//! Children that start elsewhere than their parent: in another root, on another terminal.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Makes `command` run with `root` (an open directory) as its root and working directory.
///
/// The program path of `command` is then looked up in that root. A root that is a network file
/// system may block the child's `execve`, and with it `Command::spawn`, for as long as that file
/// system does not answer.
pub fn in_root(command: &mut Command, root: OwnedFd) {
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe work
    // is allowed: it makes two plain system calls, allocates nothing (rustix passes a constant C
    // string as it is, an `io::Error` of an errno owns no memory), takes no lock, and `root` is an
    // open descriptor that the closure owns.
    unsafe {
        command.pre_exec(move || {
            rustix::process::fchdir(&root)?;
            rustix::process::chroot(c".")?;
            Ok(())
        });
    }
}

/// Makes `command` run in a session of its own whose controlling terminal is its standard input.
pub fn on_terminal(command: &mut Command) {
    // SAFETY: as in `in_root`: two plain system calls, no allocation, no lock.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).map_err(io::Error::from)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_looked_up_in_the_new_root() {
        // The test's own /usr as root: `/bin/true` there is this system's `/usr/bin/true`.
        let root = rustix::fs::open(
            "/usr",
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        );
        let mut command = Command::new("/no-such-program-in-usr");
        in_root(&mut command, root.unwrap());
        let error = command.status().unwrap_err();
        let expected = if rustix::process::geteuid().is_root() {
            io::ErrorKind::NotFound
        } else {
            io::ErrorKind::PermissionDenied
        };
        assert_eq!(error.kind(), expected);
    }
}
