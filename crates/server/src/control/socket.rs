//! The socket itself: who may speak to the daemon.
//!
//! Whoever can connect commands all nodes, so the socket belongs to root and, if there is one, to the
//! group `walt`; nobody else can open it.

use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Group whose members may use `walt`.
const GROUP: &str = "walt";

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Its directory can not be made.
    #[error("can not make directory {path} of the control socket: {cause}")]
    Directory {
        /// Directory.
        path: PathBuf,
        /// Reason.
        cause: io::Error,
    },
    /// Another daemon listens on it.
    #[error("another daemon listens on {path}: stop it, or give this one another --socket")]
    InUse {
        /// Socket.
        path: PathBuf,
    },
    /// It can not be made.
    #[error("can not listen on {path}: {cause}")]
    Bind {
        /// Socket.
        path: PathBuf,
        /// Reason.
        cause: io::Error,
    },
    /// Its owner or mode can not be set.
    #[error("can not restrict access to {path}: {cause}")]
    Restrict {
        /// Socket.
        path: PathBuf,
        /// Reason.
        cause: io::Error,
    },
}

/// Listens on `path`, in place of a socket that a daemon before has left.
///
/// # Errors
/// See [`SocketError`].
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|cause| SocketError::Directory { path: dir.to_owned(), cause })?;
    }
    if UnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse { path: path.to_owned() });
    }
    let failed = |cause| SocketError::Bind { path: path.to_owned(), cause };
    // Made under a hidden name and moved when access is restricted: there is no moment in which
    // others could connect, and the name never leads to nothing.
    let new = path.with_file_name(format!(".{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
    match std::fs::remove_file(&new) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed(cause)),
        _ => {}
    }
    let listener = UnixListener::bind(&new).map_err(failed)?;
    let restrict = |cause| SocketError::Restrict { path: path.to_owned(), cause };
    let group = std::fs::read_to_string("/etc/group").ok().and_then(|text| group_id(&text, GROUP));
    let mode = match group {
        Some(group) => {
            chown(&new, None, Some(group)).map_err(restrict)?;
            0o660
        }
        None => 0o600,
    };
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode)).map_err(restrict)?;
    std::fs::rename(&new, path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Id of a group in the text of `/etc/group` (group(5)).
fn group_id(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_ids() {
        let text = "root:x:0:\nwalter:x:5:\nwalt:x:123:ada,bob\n";
        assert_eq!(group_id(text, "walt"), Some(123));
        assert_eq!(group_id(text, "wal"), None);
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control.sock");
        let first = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::InUse { .. })));
        drop(first);
        let _second = bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert!(mode == 0o600 || mode == 0o660, "{mode:o}");
    }
}
