//! Several datagrams in one system call.

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Most datagrams in one call.
pub const MAX_DATAGRAMS: usize = 64;

/// Sends each item as one datagram, its two parts one after the other, to the peer that the socket is
/// connected to (sendmmsg(2)). Returns how many went out, at least 1 of a list that is not empty; the rest,
/// and whatever goes beyond [`MAX_DATAGRAMS`], is for the next call.
///
/// `heard` says that the peer has just answered what it was sent: its link-layer address is right, and the kernel need
/// not ask for it again (send(2), `MSG_CONFIRM`).
///
/// # Errors
/// What kept the first datagram from going out, `WouldBlock` on a non-blocking socket included.
pub fn send(socket: BorrowedFd<'_>, datagrams: &mut [[IoSlice<'_>; 2]], heard: bool) -> io::Result<usize> {
    // SAFETY: `mmsghdr` is a C structure of integers and plain pointers: zero is valid.
    let mut headers: [libc::mmsghdr; MAX_DATAGRAMS] = unsafe { mem::zeroed() };
    let mut count: libc::c_uint = 0;
    for (header, parts) in headers.iter_mut().zip(datagrams) {
        // `IoSlice` is guaranteed to have the layout of `iovec`.
        header.msg_hdr.msg_iov = parts.as_mut_ptr().cast();
        // The type of the length differs by C library.
        header.msg_hdr.msg_iovlen = parts.len() as _;
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    let flags = if heard { libc::MSG_CONFIRM } else { 0 };
    // SAFETY: the descriptor is open for the whole call. `count` headers are filled in; each points to an
    // array of two valid iovecs that the exclusive borrow of `datagrams` keeps alive, as their slices
    // are by their own borrows. The kernel writes to the headers alone.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags as _) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_item_is_one_datagram() {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        assert_eq!(send(sender.as_fd(), &mut [], false).unwrap(), 0);
        let bodies: Vec<String> = (0..100).map(|number| "x".repeat(number)).collect();
        let mut items: Vec<_> =
            bodies.iter().map(|body| [IoSlice::new(b"head"), IoSlice::new(body.as_bytes())]).collect();
        let sent = send(sender.as_fd(), &mut items, true).unwrap();
        assert_eq!(sent, MAX_DATAGRAMS);
        assert_eq!(send(sender.as_fd(), &mut items[sent..], false).unwrap(), 100 - MAX_DATAGRAMS);
        let mut buffer = [0; 200];
        for body in &bodies {
            let len = receiver.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..len], *format!("head{body}").as_bytes());
        }
    }

    #[test]
    fn the_first_failure_is_the_error() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut items = [[IoSlice::new(b"to"), IoSlice::new(b"nobody")]];
        assert!(send(socket.as_fd(), &mut items, false).is_err());
    }
}
