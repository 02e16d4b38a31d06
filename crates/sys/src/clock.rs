//! What the kernel knows of its clock, and when it received a datagram.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// State of the system clock (adjtimex(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockState {
    /// Something (chrony, ntpd, systemd-timesyncd) keeps it right, and says so.
    pub synchronised: bool,
    /// A second will be inserted (`Some(true)`) or deleted (`Some(false)`) at the end of the UTC day.
    pub leap_second: Option<bool>,
    /// Largest error, by the kernel's estimate; grows by 500 µs/s while nobody corrects it, up to 16 s.
    pub max_error: Duration,
}

/// Reads the state of the system clock; needs no privilege.
pub fn state() -> io::Result<ClockState> {
    // SAFETY: `timex` is a C structure of integers: zero is valid, and `modes` 0 changes nothing.
    let mut timex: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: `timex` is a valid, exclusive pointer to the structure that the call fills.
    let state = unsafe { libc::adjtimex(&mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ClockState {
        synchronised: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
        leap_second: match state {
            libc::TIME_INS => Some(true),
            libc::TIME_DEL => Some(false),
            _ => None,
        },
        max_error: Duration::from_micros(u64::try_from(timex.maxerror).unwrap_or(u64::MAX)),
    })
}

/// Asks the kernel to note the time of arrival of each datagram (`SO_TIMESTAMPNS`).
pub fn enable_timestamps(socket: &UdpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the whole call; the pointer and the length name one int,
    // which the option takes.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            std::ptr::from_ref(&on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// One datagram of an IPv4 socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamped {
    /// Bytes in the buffer; the rest of a longer datagram is lost.
    pub len: usize,
    /// Sender.
    pub peer: SocketAddrV4,
    /// When it arrived, since 1970 by the system clock; `None` if the kernel did not say.
    pub arrived: Option<Duration>,
}

/// Receives a datagram with its time of arrival, if [`enable_timestamps`] was called.
///
/// # Errors
/// Those of recvmsg(2), `WouldBlock` on a non-blocking socket included; `InvalidData` if the sender
/// has no IPv4 address.
pub fn receive_stamped(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Stamped> {
    /// Room for one control message, aligned as its header must be.
    #[repr(C, align(8))]
    struct Control([u8; 64]);

    let mut control = Control([0; 64]);
    // SAFETY: `sockaddr_in` is a C structure of integers: zero is valid.
    let mut name: libc::sockaddr_in = unsafe { mem::zeroed() };
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: `msghdr` is a C structure of integers and plain pointers: zero is valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = std::ptr::from_mut(&mut name).cast();
    message.msg_namelen = mem::size_of_val(&name) as libc::socklen_t;
    message.msg_iov = &mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // The type of the length differs by C library.
    message.msg_controllen = control.0.len() as _;
    // SAFETY: the descriptor is open for the whole call. Every pointer in `message` names a live local
    // or the caller's exclusive `buffer`, with its true length.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, 0) };
    let len = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    if i32::from(name.sin_family) != libc::AF_INET {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let peer = SocketAddrV4::new(Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr)), u16::from_be(name.sin_port));
    Ok(Stamped { len, peer, arrived: arrival(&message) })
}

fn arrival(message: &libc::msghdr) -> Option<Duration> {
    // SAFETY: `message` was filled by recvmsg, and its control buffer is alive: the macro yields null
    // or a header that lies whole within the buffer.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
        return None;
    }
    // SAFETY: the kernel writes a `timespec` as the data of this message. Read unaligned, for the
    // data's place is not known to be aligned for it.
    let time = unsafe { libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned() };
    // The fields are narrower than 64 bits in some C libraries.
    #[expect(clippy::useless_conversion, reason = "differs by C library")]
    let (secs, nanos) = (u64::try_from(i64::from(time.tv_sec)).ok()?, u32::try_from(time.tv_nsec).ok()?);
    Some(Duration::new(secs, nanos))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_kernel_tells_the_state_of_its_clock() {
        let state = state().unwrap();
        assert!(state.max_error <= Duration::from_secs(16));
    }

    #[test]
    fn datagrams_carry_their_time_of_arrival() {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        enable_timestamps(&receiver).unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        // The kernel turns arrival stamps on from a work queue: a datagram that comes before that is stamped when it
        // is read.
        let stamped_on_arrival = (0..100).any(|_| {
            let before = now();
            sender.send_to(b"what time is it", receiver.local_addr().unwrap()).unwrap();
            let after = now();
            // The stamp is that of the arrival, not of the reading.
            std::thread::sleep(Duration::from_millis(20));
            let mut buffer = [0; 8];
            let stamped = receive_stamped(receiver.as_fd(), &mut buffer).unwrap();
            assert_eq!((stamped.len, &buffer), (8, b"what tim"));
            assert_eq!(std::net::SocketAddr::V4(stamped.peer), sender.local_addr().unwrap());
            let arrived = stamped.arrived.unwrap();
            before <= arrived && arrived <= after
        });
        assert!(stamped_on_arrival);
    }
}
