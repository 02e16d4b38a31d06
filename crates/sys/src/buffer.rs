//! Socket buffers.

use std::io;
use std::os::fd::AsFd;

use rustix::net::sockopt;

/// Makes room for `bytes` of received datagrams: beyond `net.core.rmem_max` with CAP_NET_ADMIN, else up to it.
///
/// # Errors
/// The kernel refuses both ways.
pub fn enlarge_receive_buffer(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    sockopt::set_socket_recv_buffer_size_force(&socket, bytes)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, bytes))
        .map_err(io::Error::from)
}
