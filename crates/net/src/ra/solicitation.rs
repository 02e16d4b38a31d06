//! What is asked, and the answer to it.

use std::net::Ipv6Addr;

/// All nodes of the link, RFC 4291 §2.7.1.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The advertisement, RFC 4861 §4.2: type 134, code 0, checksum (the kernel's), hop limit unspecified, neither managed
/// nor other configuration, lifetime 0, reachable time and retransmission timer unspecified, no options.
pub const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A valid router solicitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solicitation {
    source: Ipv6Addr,
}

/// Why a message is no valid solicitation; RFC 4861 §6.1.1 has it silently discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It could have come through a router.
    #[error("hop limit is not 255")]
    HopLimit,
    /// Fewer than 8 bytes.
    #[error("message is too short")]
    Short,
    /// Not type 133, code 0.
    #[error("not a router solicitation")]
    Kind,
    /// An option of length 0, or one that leaves the message.
    #[error("option has a wrong length")]
    OptionLength,
    /// A link-layer address for no address.
    #[error("source link-layer address from the unspecified address")]
    SourceLinkLayer,
}

impl Solicitation {
    /// Validates a message.
    ///
    /// # Errors
    /// RFC 4861 §6.1.1 says to discard it.
    pub fn parse(message: &[u8], source: Ipv6Addr, hop_limit: Option<u8>) -> Result<Self, Malformed> {
        if hop_limit != Some(255) {
            return Err(Malformed::HopLimit);
        }
        let Some((header, mut options)) = message.split_first_chunk::<8>() else { return Err(Malformed::Short) };
        if header[..2] != [133, 0] {
            return Err(Malformed::Kind);
        }
        while let [kind, units, ..] = *options {
            if kind == 1 && source.is_unspecified() {
                return Err(Malformed::SourceLinkLayer);
            }
            let length = usize::from(units) * 8;
            options = options.get(length..).filter(|_| length > 0).ok_or(Malformed::OptionLength)?;
        }
        if options.is_empty() { Ok(Self { source }) } else { Err(Malformed::OptionLength) }
    }

    /// Where the advertisement goes.
    ///
    /// RFC 4861 §6.2.6: to the solicitor alone, if it has an address. To all nodes it would have to keep three seconds of
    /// distance from the one before, and the second of two nodes that start together would wait for it.
    pub fn reply_to(&self) -> Ipv6Addr {
        if self.source.is_unspecified() { ALL_NODES } else { self.source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);

    #[test]
    fn rfc4861_6_1_1_validation() {
        let plain = [133, 0, 1, 2, 0, 0, 0, 0];
        let link = [&plain[..], &[1, 1, 2, 0, 0, 0, 0, 1]].concat();
        let none = Ipv6Addr::UNSPECIFIED;
        let ok = |source| Ok(Solicitation { source });
        type Case<'a> = (&'a [u8], Ipv6Addr, Option<u8>, Result<Solicitation, Malformed>);
        let table: &[Case<'_>] = &[
            (&plain, SOURCE, Some(255), ok(SOURCE)),
            (&plain, none, Some(255), ok(none)),
            (&link, SOURCE, Some(255), ok(SOURCE)),
            (&link, none, Some(255), Err(Malformed::SourceLinkLayer)),
            (&plain, SOURCE, Some(64), Err(Malformed::HopLimit)),
            (&plain, SOURCE, None, Err(Malformed::HopLimit)),
            (&plain[..7], SOURCE, Some(255), Err(Malformed::Short)),
            (&[], SOURCE, Some(255), Err(Malformed::Short)),
            (&[134, 0, 1, 2, 0, 0, 0, 0], SOURCE, Some(255), Err(Malformed::Kind)),
            (&[133, 1, 1, 2, 0, 0, 0, 0], SOURCE, Some(255), Err(Malformed::Kind)),
            (&[133, 0, 1, 2, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0], SOURCE, Some(255), Err(Malformed::OptionLength)),
            (&[133, 0, 1, 2, 0, 0, 0, 0, 5, 2, 0, 0, 0, 0, 0, 0], SOURCE, Some(255), Err(Malformed::OptionLength)),
            (&[133, 0, 1, 2, 0, 0, 0, 0, 5], SOURCE, Some(255), Err(Malformed::OptionLength)),
        ];
        for (message, source, hop_limit, expected) in table {
            assert_eq!(
                Solicitation::parse(message, *source, *hop_limit),
                *expected,
                "{message:?} {source} {hop_limit:?}"
            );
        }
    }

    #[test]
    fn rfc4861_6_2_6_the_answer_goes_to_the_solicitor_if_it_has_an_address() {
        assert_eq!(Solicitation { source: SOURCE }.reply_to(), SOURCE);
        assert_eq!(Solicitation { source: Ipv6Addr::UNSPECIFIED }.reply_to(), ALL_NODES);
    }

    #[test]
    fn rfc4861_6_3_4_the_advertisement_makes_us_nobodys_router() {
        assert_eq!(ADVERTISEMENT.len(), 16, "no options: no prefix");
        assert_eq!(ADVERTISEMENT[5], 0, "no flags");
        assert_eq!(ADVERTISEMENT[6..8], [0, 0], "lifetime 0");
    }
}
