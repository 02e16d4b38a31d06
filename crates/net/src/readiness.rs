//! Sockets that tokio has no type for, in its event loop.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a socket for something to read. Must be called within a tokio runtime.
#[expect(
    deprecated,
    reason = "the replacement is unsafe: it demands what a type that owns its one descriptor, as all of `sys` do, has anyway"
)]
pub(crate) fn watch<T: AsRawFd>(socket: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}
