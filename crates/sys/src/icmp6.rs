//! Router solicitations (RFC 4861) on one interface.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

/// All routers of the link, RFC 4291 §2.7.1.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// ICMPv6 type of a router solicitation, RFC 4861 §4.1.
const ROUTER_SOLICITATION: u8 = 133;
/// `ICMP6_FILTER` of `linux/icmpv6.h`; the C library's headers have it, the `libc` crate does not.
const ICMP6_FILTER: libc::c_int = 1;

/// A raw ICMPv6 socket that receives what is sent to all routers of one link, router solicitations alone. Not blocking.
#[derive(Debug)]
pub struct RouterSocket {
    socket: Socket,
    index: u32,
}

/// One received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'b> {
    /// ICMPv6 message. The kernel has verified its checksum.
    pub message: &'b [u8],
    /// Sender.
    pub source: Ipv6Addr,
    /// Hop limit as it arrived; `None` if the kernel did not say.
    pub hop_limit: Option<u8>,
}

impl RouterSocket {
    /// Opens the socket and joins the all-routers group on the interface.
    ///
    /// # Errors
    /// CAP_NET_RAW is missing, or IPv6 is off, altogether or on this interface.
    pub fn open(interface: &str, index: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW.nonblocking().cloexec(), Some(Protocol::ICMPV6))?;
        socket.bind_device(Some(interface.as_bytes()))?;
        // A set bit blocks its type.
        let mut filter = [u32::MAX; 8];
        filter[usize::from(ROUTER_SOLICITATION / 32)] &= !(1 << (ROUTER_SOLICITATION % 32));
        set_option(&socket, libc::IPPROTO_ICMPV6, ICMP6_FILTER, &filter)?;
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, &1i32)?;
        // RFC 4861 §6.1.2: a host drops an advertisement that could have crossed a router.
        socket.set_unicast_hops_v6(255)?;
        socket.set_multicast_hops_v6(255)?;
        socket.set_multicast_loop_v6(false)?;
        socket.set_multicast_if_v6(index)?;
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        Ok(Self { socket, index })
    }

    /// Receives one message, cut to the size of `buffer`.
    ///
    /// # Errors
    /// There is none ([`io::ErrorKind::WouldBlock`]), or the interface is gone.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Received<'b>> {
        let mut source = MaybeUninit::<libc::sockaddr_in6>::zeroed();
        // Room for one control message with an int; u64 for its alignment.
        let mut control = [0u64; 8];
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: msghdr is plain data, for which zeroes are valid.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = source.as_mut_ptr().cast();
        header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        // SAFETY: every pointer in `header` is to memory of ours that outlives the call, with its true length.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: zeroed before, and at most overwritten by the kernel: valid plain data either way.
        let source = Ipv6Addr::from(unsafe { source.assume_init() }.sin6_addr.s6_addr);
        // SAFETY: the kernel left a list of whole control messages in `control` and its length in `header`.
        let hop_limit = unsafe { hop_limit(&header) };
        Ok(Received { message: &buffer[..length], source, hop_limit })
    }

    /// Sends an ICMPv6 message (the kernel fills in its checksum) to an address on the link.
    ///
    /// # Errors
    /// The interface has no link-local address yet, or the queue is full.
    pub fn send(&self, to: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        self.socket.send_to(message, &SocketAddrV6::new(to, 0, 0, self.index).into()).map(drop)
    }
}

impl AsFd for RouterSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for RouterSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn set_option<T: Copy>(socket: &Socket, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// # Safety
/// `header` describes control messages that recvmsg(2) has just written.
unsafe fn hop_limit(header: &libc::msghdr) -> Option<u8> {
    // SAFETY: the macro's contract is this function's.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: non-null results of CMSG_FIRSTHDR and CMSG_NXTHDR point to a header within the control buffer.
        let (level, kind) = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        if (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) {
            // SAFETY: the data of IPV6_HOPLIMIT is an int (RFC 3542 §6.3); read unaligned.
            let value = unsafe { libc::CMSG_DATA(message).cast::<libc::c_int>().read_unaligned() };
            return u8::try_from(value).ok();
        }
        // SAFETY: `message` is a header of this list.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}
