//! Netconsole: what kernels print, one datagram a message, on UDP 12342.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UdpSocket;

use super::now_us;
use crate::registry::{Issuer, LogRow};
use crate::site::Site;

/// Largest datagram taken, in bytes: netconsole cuts at 1000 (Documentation/networking/netconsole.rst).
const MAX_DATAGRAM: usize = 2048;

/// The bound socket.
#[derive(Debug)]
pub struct Netconsole {
    socket: UdpSocket,
    /// Datagrams of others than nodes.
    pub refused: Arc<AtomicU64>,
}

impl Netconsole {
    /// Binds the port on `ip`.
    ///
    /// # Errors
    /// The port can not be had.
    pub async fn bind(ip: Ipv4Addr, port: u16) -> io::Result<Self> {
        let socket = UdpSocket::bind(SocketAddrV4::new(ip, port)).await?;
        Ok(Self { socket, refused: Arc::default() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket has no address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Records lines for ever.
    ///
    /// # Errors
    /// The socket failed for good.
    pub async fn run(self, site: Arc<Site>) -> io::Result<()> {
        let mut datagram = [0; MAX_DATAGRAM];
        loop {
            let (len, peer) = match self.socket.recv_from(&mut datagram).await {
                Ok(received) => received,
                // An ICMP error about an earlier datagram is reported here; it says nothing about ours.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error),
            };
            let SocketAddr::V4(peer) = peer else { continue };
            let Some(issuer) = site.node_at(*peer.ip()).map(Issuer::Device) else {
                self.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let at_us = now_us();
            for line in String::from_utf8_lossy(&datagram[..len]).lines().filter(|line| !line.is_empty()) {
                let (stream, line) = ("netconsole".to_owned(), line.to_owned());
                site.registry().log(LogRow { issuer, stream, at_us, line });
            }
        }
    }
}
