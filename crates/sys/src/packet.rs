//! Link-layer datagrams (packet(7)): to stations that have no IP address yet, ARP, and what switches say of themselves.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Ethernet type of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Ethernet type of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;

/// A packet socket on one interface, not blocking; the kernel writes and strips the Ethernet header.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
    index: i32,
}

impl PacketSocket {
    /// A socket on the interface with this index that receives what has Ethernet type `receive`, and nothing if `None`.
    ///
    /// # Errors
    /// CAP_NET_RAW is missing, or the interface is gone.
    pub fn open(index: u32, receive: Option<u16>) -> io::Result<Self> {
        let index = i32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // Protocol 0 receives nothing: no packet of another interface can slip in before `bind`.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::from(0)))?;
        if let Some(ethertype) = receive {
            socket.bind(&link_address(index, ethertype, [0; 6])?)?;
        }
        Ok(Self { socket, index })
    }

    /// Sends `payload` (at most the interface's MTU) in one frame to a station.
    ///
    /// # Errors
    /// The queue is full ([`io::ErrorKind::WouldBlock`]), or the interface is down.
    pub fn send(&self, to: [u8; 6], ethertype: u16, payload: &[u8]) -> io::Result<()> {
        self.socket.send_to(payload, &link_address(self.index, ethertype, to)?).map(drop)
    }

    /// Receives the payload of one frame, cut to the size of `buffer`.
    ///
    /// # Errors
    /// There is none ([`io::ErrorKind::WouldBlock`]), or the interface is down.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        // SAFETY: `u8` and `MaybeUninit<u8>` have one layout, and recv(2) writes nothing but initialised bytes.
        let slots = unsafe { &mut *(std::ptr::from_mut(buffer) as *mut [MaybeUninit<u8>]) };
        let length = self.socket.recv(slots)?;
        Ok(&buffer[..length])
    }
}

/// Hears what has one Ethernet type on all interfaces, not blocking; what goes to groups it has to [`join`](Self::join).
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
}

impl Listener {
    /// Begins to hear frames of this Ethernet type.
    ///
    /// # Errors
    /// CAP_NET_RAW is missing.
    pub fn open(ethertype: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::from(0)))?;
        // Interface 0: any (packet(7)).
        socket.bind(&link_address(0, ethertype, [0; 6])?)?;
        Ok(Self { socket })
    }

    /// Has the interface with this index take in frames for the group, as long as the socket lives.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn join(&self, index: u32, group: [u8; 6]) -> io::Result<()> {
        let mut address = [0; 8];
        address[..6].copy_from_slice(&group);
        let membership = libc::packet_mreq {
            mr_ifindex: i32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
            mr_type: libc::PACKET_MR_MULTICAST as libc::c_ushort,
            mr_alen: 6,
            mr_address: address,
        };
        let size = size_of::<libc::packet_mreq>() as libc::socklen_t;
        // SAFETY: the descriptor is open, and the pointer and the size are those of one whole packet_mreq, which the kernel
        // only reads.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const membership).cast(),
                size,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Receives the payload of one frame, cut to the size of `buffer`, and the index of the interface it came in by.
    ///
    /// # Errors
    /// There is none ([`io::ErrorKind::WouldBlock`]).
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<(&'b [u8], u32)> {
        // SAFETY: `u8` and `MaybeUninit<u8>` have one layout, and recvfrom(2) writes nothing but initialised bytes.
        let slots = unsafe { &mut *(std::ptr::from_mut(buffer) as *mut [MaybeUninit<u8>]) };
        let (length, from) = self.socket.recv_from(slots)?;
        if i32::from(from.family()) != libc::AF_PACKET {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: a packet socket gives addresses of the type sockaddr_ll, as the family has confirmed; the storage behind
        // the pointer is larger than that, and is read unaligned, by value.
        let link = unsafe { from.as_ptr().cast::<libc::sockaddr_ll>().read_unaligned() };
        Ok((&buffer[..length], u32::try_from(link.sll_ifindex).unwrap_or(0)))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn link_address(index: i32, ethertype: u16, mac: [u8; 6]) -> io::Result<SockAddr> {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&mac);
    let link = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::sa_family_t,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: address,
    };
    // SAFETY: the closure writes a whole sockaddr_ll, which fits into the sockaddr_storage behind the pointer, and its
    // size; `sa_family` says which type it is.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<libc::sockaddr_ll>().write(link);
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    Ok(address)
}
