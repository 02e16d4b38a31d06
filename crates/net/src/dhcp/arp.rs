//! ARP for IPv4 over Ethernet (RFC 826), as much of it as an address probe needs (RFC 5227).

use std::net::Ipv4Addr;

use crate::MacAddr;

/// Hardware type Ethernet, protocol type IPv4, address lengths 6 and 4.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

/// Payload of an ARP probe for `target`.
///
/// RFC 5227 §2.1.1: a request with an all-zero sender IP address, so that nobody's cache is changed by it.
pub(super) fn probe(sender: MacAddr, target: Ipv4Addr) -> [u8; 28] {
    let mut packet = [0; 28];
    packet[..6].copy_from_slice(&ETHERNET_IPV4);
    packet[7] = 1;
    packet[8..14].copy_from_slice(&sender.0);
    packet[24..28].copy_from_slice(&target.octets());
    packet
}

/// An ARP packet's claim to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) mac: MacAddr,
    pub(super) ip: Ipv4Addr,
}

/// Who claims which address in an ARP payload; `None` if nobody does, or if it is malformed.
///
/// RFC 5227 §2.1.1: any packet with the address as its sender is a conflict, and so is another station's probe for it.
pub(super) fn claim(payload: &[u8]) -> Option<Claim> {
    let packet: &[u8; 28] = payload.first_chunk()?;
    if packet[..6] != ETHERNET_IPV4 {
        return None;
    }
    let mac = MacAddr(packet[8..14].try_into().ok()?);
    let sender = Ipv4Addr::from(<[u8; 4]>::try_from(&packet[14..18]).ok()?);
    let target = Ipv4Addr::from(<[u8; 4]>::try_from(&packet[24..28]).ok()?);
    match (sender.is_unspecified(), packet[7]) {
        (false, _) => Some(Claim { mac, ip: sender }),
        (true, 1) => Some(Claim { mac, ip: target }),
        (true, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

    #[test]
    fn rfc5227_2_1_1_a_probe_has_no_sender_address() {
        let packet = probe(US, IP);
        assert_eq!(packet[..8], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(packet[8..14], US.0);
        assert_eq!(packet[14..24], [0; 10]);
        assert_eq!(packet[24..], [10, 0, 0, 7]);
    }

    #[test]
    fn rfc5227_2_1_1_a_probe_of_another_station_is_a_claim() {
        assert_eq!(claim(&probe(US, IP)), Some(Claim { mac: US, ip: IP }));
    }

    #[test]
    fn a_reply_claims_its_sender_address() {
        let mut packet = probe(US, Ipv4Addr::new(10, 0, 0, 1));
        packet[7] = 2;
        packet[14..18].copy_from_slice(&IP.octets());
        assert_eq!(claim(&packet), Some(Claim { mac: US, ip: IP }));
        // Ethernet pads it to 46 bytes.
        assert_eq!(claim(&[&packet[..], &[0; 18]].concat()), Some(Claim { mac: US, ip: IP }));
    }

    #[test]
    fn what_is_cut_or_not_ethernet_claims_nothing() {
        let packet = probe(US, IP);
        assert_eq!(claim(&packet[..27]), None);
        let mut other = packet;
        other[1] = 6;
        assert_eq!(claim(&other), None);
    }
}
