//! Magic packets (Wake-on-LAN).

use std::io;
use std::net::Ipv4Addr;

use net::MacAddr;
use sys::packet::PacketSocket;
use tokio::net::UdpSocket;

use super::Here;

/// Ethernet type of Wake-on-LAN.
const ETHERTYPE: u16 = 0x0842;
/// UDP port that it is usually sent to ("discard"): the interface looks for the pattern, wherever it is.
const PORT: u16 = 9;

/// Sends one to the device, as a frame and as a datagram: some interfaces heed one of them alone.
pub(super) async fn send(here: &Here, mac: MacAddr) -> io::Result<()> {
    let packet = packet(mac);
    let frame = PacketSocket::open(here.index, None).and_then(|socket| socket.send([0xff; 6], ETHERTYPE, &packet));
    let datagram = async {
        let socket = UdpSocket::bind((here.ip, 0)).await?;
        socket.set_broadcast(true)?;
        socket.send_to(&packet, (broadcast(here), PORT)).await.map(drop)
    };
    datagram.await.or(frame)
}

/// Six times 0xff, then sixteen times the address.
fn packet(mac: MacAddr) -> Vec<u8> {
    [&[0xff; 6][..], &mac.0.repeat(16)].concat()
}

fn broadcast(here: &Here) -> Ipv4Addr {
    let host = u32::MAX.checked_shr(u32::from(here.prefix)).unwrap_or(0);
    (u32::from(here.ip) | host).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_magic_packet_has_its_102_bytes_and_goes_to_all() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let packet = packet(mac);
        assert_eq!(packet.len(), 102);
        assert_eq!((&packet[..6], &packet[96..]), (&[0xff; 6][..], &mac.0[..]));
        let here = |prefix| Here { interface: "x".into(), index: 1, mac, ip: [10, 9, 8, 1].into(), prefix };
        assert_eq!(broadcast(&here(24)), Ipv4Addr::new(10, 9, 8, 255));
        assert_eq!(broadcast(&here(32)), Ipv4Addr::new(10, 9, 8, 1));
        assert_eq!(broadcast(&here(0)), Ipv4Addr::BROADCAST);
    }
}
