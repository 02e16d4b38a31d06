//! Receive buffers that hold a boot storm.

use std::os::fd::AsFd;

/// Bytes asked for: some 3,000 small datagrams, for the kernel counts 1 to 2 kB each. A room that is
/// powered on at once arrives as one burst.
const SIZE: usize = 4 << 20;

/// Enlarges the receive buffer of `socket` as far as the kernel lets us.
pub(crate) fn enlarge(socket: &impl AsFd) {
    if let Err(error) = sys::enlarge_receive_buffer(socket, SIZE) {
        tracing::debug!(%error, "cannot enlarge a receive buffer");
    }
}
