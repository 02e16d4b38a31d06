//! UDP in IPv4, by hand: for a client that has no address yet the kernel could not resolve one.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{CLIENT_PORT, SERVER_PORT};

const IPV4_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// A whole IPv4 datagram with `payload` from port 67 of `from` to port 68 of `to`; `None` if the payload is too large
/// for one.
pub(super) fn to_client(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Option<Vec<u8>> {
    datagram(SocketAddrV4::new(from, SERVER_PORT), SocketAddrV4::new(to, CLIENT_PORT), payload)
}

/// What a client without an address sends to whatever server there is.
pub(super) fn to_any_server(payload: &[u8]) -> Option<Vec<u8>> {
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT);
    datagram(from, SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT), payload)
}

/// The sender and the payload of a datagram from a server to a client; `None` if it is anything else. Its checksums
/// were seen to by Ethernet and, if at all, by the kernel.
pub(super) fn from_server(datagram: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let header: &[u8; IPV4_HEADER] = datagram.first_chunk()?;
    let length = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // RFC 791 §3.1: the lower bits are the offset of a fragment, the one above says that there are more.
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    if header[0] >> 4 != 4 || length < IPV4_HEADER || fragment != 0 || header[9] != 17 {
        return None;
    }
    // A short frame is padded; a long one may have been cut.
    let udp = datagram.get(length..total.min(datagram.len()))?;
    let ports: &[u8; UDP_HEADER] = udp.first_chunk()?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    (port(0) == SERVER_PORT && port(2) == CLIENT_PORT).then(|| (source, &udp[UDP_HEADER..]))
}

fn datagram(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(UDP_HEADER + payload.len()).ok()?;
    let total_length = u16::try_from(IPV4_HEADER + UDP_HEADER + payload.len()).ok()?;
    let mut datagram = Vec::with_capacity(usize::from(total_length));
    // Version 4, five words of header; type of service 0.
    datagram.extend_from_slice(&[0x45, 0]);
    datagram.extend_from_slice(&total_length.to_be_bytes());
    // Identification 0, don't fragment (RFC 6864 §4.1: the identification of what is not fragmented means nothing);
    // time to live 64, protocol UDP, checksum to come.
    datagram.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
    datagram.extend_from_slice(&from.ip().octets());
    datagram.extend_from_slice(&to.ip().octets());
    let sum = checksum(sum_words(0, &datagram));
    datagram[10..12].copy_from_slice(&sum.to_be_bytes());

    let udp = datagram.len();
    datagram.extend_from_slice(&from.port().to_be_bytes());
    datagram.extend_from_slice(&to.port().to_be_bytes());
    datagram.extend_from_slice(&udp_length.to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    // RFC 768: over a pseudo header of both addresses, the protocol and the length; 0 means "none", so it is sent as ones.
    let pseudo = sum_words(17 + u32::from(udp_length), &datagram[12..20]);
    let sum = match checksum(sum_words(pseudo, &datagram[udp..])) {
        0 => u16::MAX,
        sum => sum,
    };
    datagram[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
    Some(datagram)
}

/// RFC 1071: the sum of 16-bit words, an odd byte at the end counting as the high one. 64 KiB can't overflow it.
fn sum_words(start: u32, bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .fold(start, |sum, word| sum + u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])))
}

fn checksum(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc1071_the_sum_over_a_header_with_its_checksum_is_zero() {
        for payload in [&b"walt"[..], b"odd", b""] {
            let datagram = to_client(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 9), payload).expect("fits");
            assert_eq!(checksum(sum_words(0, &datagram[..20])), 0);
            let pseudo = sum_words(17 + (8 + payload.len()) as u32, &datagram[12..20]);
            assert_eq!(checksum(sum_words(pseudo, &datagram[20..])), 0);
            assert_eq!(datagram[2..4], (28 + payload.len() as u16).to_be_bytes());
            assert_eq!(&datagram[28..], payload);
        }
    }

    #[test]
    fn what_is_sent_to_a_client_is_read_and_nothing_else() {
        let (server, client) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 9));
        let mut datagram = to_client(server, client, b"walt").expect("fits");
        assert_eq!(from_server(&datagram), Some((server, &b"walt"[..])));
        for length in 0..datagram.len() {
            // A datagram that is cut has less in it, or nothing.
            let payload = from_server(&datagram[..length]).map_or(&b""[..], |(_, payload)| payload);
            assert!(payload.len() < 4);
        }
        // Padding of a short frame.
        datagram.extend_from_slice(&[0; 18]);
        assert_eq!(from_server(&datagram), Some((server, &b"walt"[..])));
        for (at, byte) in [(0, 0x65), (0, 0x44), (0, 0x4f), (6, 0x20), (7, 1), (9, 6), (21, 68), (23, 67)] {
            let mut wrong = datagram.clone();
            wrong[at] = byte;
            assert_eq!(from_server(&wrong), None, "byte {at} is {byte:#x}");
        }
        assert_eq!(from_server(&to_any_server(b"walt").expect("fits")), None);
    }

    #[test]
    fn rfc1071_3_the_sum_of_its_example() {
        assert_eq!(checksum(sum_words(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), !0xddf2);
    }

    #[test]
    fn a_payload_that_fits_no_datagram_is_refused() {
        assert!(to_client(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, &vec![0; 65_508]).is_none());
        assert!(to_client(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, &vec![0; 65_507]).is_some());
    }
}
