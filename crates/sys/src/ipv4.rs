//! IPv4 configuration of an interface, for a machine that has no program to do it.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;

/// Sets `interface` up (`IFF_UP`).
pub fn set_up(interface: &str) -> io::Result<()> {
    let mut request = request(interface)?;
    ioctl(libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has just filled the union's member `ifru_flags`.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    ioctl(libc::SIOCSIFFLAGS, &mut request)
}

/// Gives `interface` its one IPv4 address; the kernel adds the route to its network when it is up.
pub fn set_address(interface: &str, address: Ipv4Addr, netmask: Ipv4Addr) -> io::Result<()> {
    let mut request = request(interface)?;
    request.ifr_ifru.ifru_addr = socket_address(address);
    ioctl(libc::SIOCSIFADDR, &mut request)?;
    request.ifr_ifru.ifru_netmask = socket_address(netmask);
    ioctl(libc::SIOCSIFNETMASK, &mut request)
}

/// Adds the default route.
pub fn add_default_route(gateway: Ipv4Addr) -> io::Result<()> {
    // SAFETY: `rtentry` is a C structure of integers, plain pointers and sockaddrs: zero is valid.
    let mut route: libc::rtentry = unsafe { mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = socket_address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    ioctl(libc::SIOCADDRT, &mut route)
}

/// # Errors
/// `InvalidInput` if `interface` is empty or longer than a name can be (15 bytes).
fn request(interface: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is a C structure of byte arrays and a union of plain data: zero is valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays NUL.
    if interface.is_empty() || interface.len() >= request.ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not an interface name"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut generic = libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: [0; 14] };
    // struct sockaddr_in: two bytes of port, then the address in network order.
    for (to, from) in generic.sa_data[2..6].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    generic
}

fn ioctl<T>(operation: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    // Any IPv4 socket serves; the standard library makes one without `unsafe`.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: the descriptor is open for the whole call, `argument` is a valid, exclusive pointer to
    // the structure that `operation` reads and writes (callers in this file pass `ifreq` to SIOC*IF*
    // and `rtentry` to SIOCADDRT). The cast is to the parameter's type, which differs by C library.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), operation as _, std::ptr::from_mut(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
