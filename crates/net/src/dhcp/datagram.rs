//! UDP in IPv4, by hand: for a client that has no address yet the kernel could not resolve one.

use std::net::Ipv4Addr;

const IPV4_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// A whole IPv4 datagram with `payload` from port 67 of `from` to port 68 of `to`; `None` if the payload is too large
/// for one.
pub(super) fn to_client(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(UDP_HEADER + payload.len()).ok()?;
    let total_length = u16::try_from(IPV4_HEADER + UDP_HEADER + payload.len()).ok()?;
    let mut datagram = Vec::with_capacity(usize::from(total_length));
    // Version 4, five words of header; type of service 0.
    datagram.extend_from_slice(&[0x45, 0]);
    datagram.extend_from_slice(&total_length.to_be_bytes());
    // Identification 0, don't fragment (RFC 6864 §4.1: the identification of what is not fragmented means nothing);
    // time to live 64, protocol UDP, checksum to come.
    datagram.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
    datagram.extend_from_slice(&from.octets());
    datagram.extend_from_slice(&to.octets());
    let sum = checksum(sum_words(0, &datagram));
    datagram[10..12].copy_from_slice(&sum.to_be_bytes());

    let udp = datagram.len();
    datagram.extend_from_slice(&67u16.to_be_bytes());
    datagram.extend_from_slice(&68u16.to_be_bytes());
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
    fn rfc1071_3_the_sum_of_its_example() {
        assert_eq!(checksum(sum_words(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), !0xddf2);
    }

    #[test]
    fn a_payload_that_fits_no_datagram_is_refused() {
        assert!(to_client(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, &vec![0; 65_508]).is_none());
        assert!(to_client(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, &vec![0; 65_507]).is_some());
    }
}
