//! Receive buffers that hold a boot storm.

use std::os::fd::AsFd;

use socket2::SockRef;

/// Bytes asked for: some 3,000 small datagrams, for the kernel counts 1 to 2 kB each. A room that is
/// powered on at once arrives as one burst.
const SIZE: usize = 4 << 20;

/// Enlarges the receive buffer of `socket` as far as the kernel lets us.
pub(crate) fn enlarge(socket: &impl AsFd) {
    // Without CAP_NET_ADMIN the kernel stops at net.core.rmem_max, and says nothing.
    if let Err(error) = SockRef::from(socket).set_recv_buffer_size(SIZE) {
        tracing::debug!(%error, "cannot enlarge a receive buffer");
    }
}
