//! LLDP (IEEE 802.1AB): what a switch tells its neighbours of itself, in one frame of Ethernet type 0x88cc, and the same
//! things as its management information base (LLDP-MIB) writes them.
//!
//! All texts are made printable: they end on terminals.

use std::fmt;
use std::net::Ipv4Addr;

/// Ethernet type of LLDP.
pub const ETHERTYPE: u16 = 0x88cc;

/// Group address that frames are sent to: bridges do not forward it (IEEE 802.1AB §7.1, "nearest bridge").
pub const GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e];

/// Bit of the capabilities that says "MAC bridge" (IEEE 802.1AB table 8-4).
pub const CAPABILITY_BRIDGE: u16 = 1 << 2;

/// Longest text that is kept, in bytes.
const MAX_TEXT: usize = 255;

/// One end of a link, as it names itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The machine.
    pub chassis: Id,
    /// Its port on this link.
    pub port: Id,
    /// Seconds that this is true for; 0: not true any more.
    pub ttl: u16,
    /// The port in words, may be empty.
    pub port_description: String,
    /// Name of the machine, may be empty.
    pub system_name: String,
    /// What it does at present, as bits.
    pub capabilities: u16,
    /// Address it is managed at.
    pub management: Option<Ipv4Addr>,
}

/// How a machine or a port names itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// Ethernet address.
    Mac([u8; 6]),
    /// IPv4 address.
    Ip(Ipv4Addr),
    /// A name or a number; other bytes than text are written in hexadecimal.
    Text(String),
}

/// The frame is no LLDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LldpError {
    /// A TLV is longer than what is left of the frame.
    #[error("the frame ends within a TLV")]
    Short,
    /// The three TLVs that every frame begins with are not there (§8.2: chassis id, port id, time to live).
    #[error("chassis id, port id and time to live are not its first TLVs")]
    Mandatory,
    /// An id has no bytes after its subtype.
    #[error("an id is empty")]
    EmptyId,
}

impl Neighbour {
    /// Reads the payload of a frame. What follows its end, and what is not known, is passed over.
    ///
    /// # Errors
    /// It is no LLDP.
    pub fn parse(payload: &[u8]) -> Result<Self, LldpError> {
        let mut rest = payload;
        let mut mandatory = |kind| match tlv(&mut rest)? {
            Some((found, value)) if found == kind => Ok(value),
            _ => Err(LldpError::Mandatory),
        };
        let (chassis, port, ttl) = (mandatory(1)?, mandatory(2)?, mandatory(3)?);
        let chassis = Id::of_chassis(*chassis.first().ok_or(LldpError::EmptyId)?, chassis.get(1..).unwrap_or_default());
        let port = Id::of_port(*port.first().ok_or(LldpError::EmptyId)?, port.get(1..).unwrap_or_default());
        let mut neighbour = Self {
            chassis: chassis.ok_or(LldpError::EmptyId)?,
            port: port.ok_or(LldpError::EmptyId)?,
            ttl: number(ttl).ok_or(LldpError::Mandatory)?,
            port_description: String::new(),
            system_name: String::new(),
            capabilities: 0,
            management: None,
        };
        while let Some((kind, value)) = tlv(&mut rest)? {
            match kind {
                // End of LLDPDU.
                0 => break,
                4 => neighbour.port_description = text(value),
                5 => neighbour.system_name = text(value),
                // Capabilities that it has, then those that are enabled.
                7 => neighbour.capabilities = value.get(2..4).and_then(number).unwrap_or(0),
                // Length of subtype and address, subtype (1: IPv4), address.
                8 => {
                    if let [5, 1, a, b, c, d, ..] = *value {
                        neighbour.management = neighbour.management.or(Some([a, b, c, d].into()));
                    }
                }
                _ => {}
            }
        }
        Ok(neighbour)
    }

    /// Whether it forwards frames between its ports.
    pub fn is_bridge(&self) -> bool {
        self.capabilities & CAPABILITY_BRIDGE != 0
    }
}

impl Id {
    /// Id of a machine, by its subtype (§8.5.2.2; LLDP-MIB LldpChassisIdSubtype). `None` if it is empty.
    pub fn of_chassis(subtype: u8, value: &[u8]) -> Option<Self> {
        match subtype {
            4 => Some(Self::mac_or_text(value)),
            5 => Some(Self::address_or_text(value)),
            _ => Some(Self::Text(text(value))),
        }
        .filter(|id| !id.is_empty())
    }

    /// Id of a port, by its subtype (§8.5.3.2; LLDP-MIB LldpPortIdSubtype). `None` if it is empty.
    pub fn of_port(subtype: u8, value: &[u8]) -> Option<Self> {
        match subtype {
            3 => Some(Self::mac_or_text(value)),
            4 => Some(Self::address_or_text(value)),
            _ => Some(Self::Text(text(value))),
        }
        .filter(|id| !id.is_empty())
    }

    /// The Ethernet address that it is.
    pub fn mac(&self) -> Option<[u8; 6]> {
        if let Self::Mac(mac) = self { Some(*mac) } else { None }
    }

    fn mac_or_text(value: &[u8]) -> Self {
        <[u8; 6]>::try_from(value).map_or_else(|_| Self::Text(text(value)), Self::Mac)
    }

    /// A byte for the family (IANA address family numbers: 1 is IPv4), and the address.
    fn address_or_text(value: &[u8]) -> Self {
        match *value {
            [1, a, b, c, d] => Self::Ip([a, b, c, d].into()),
            _ => Self::Text(text(value)),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac([a, b, c, d, e, g]) => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Bytes as printable text: UTF-8 without control characters, or else their hexadecimal digits.
pub fn text(bytes: &[u8]) -> String {
    let bytes = bytes.get(..MAX_TEXT).unwrap_or(bytes);
    // Some agents end their texts with NULs.
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    match std::str::from_utf8(&bytes[..end]) {
        Ok(text) if !text.chars().any(char::is_control) => text.trim().to_owned(),
        Ok(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned(),
        Err(_) => bytes.iter().take(MAX_TEXT / 2).map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Takes one TLV off: seven bits of type, nine bits of length, the value. `None` at the end of the frame.
fn tlv<'a>(rest: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, LldpError> {
    let (high, low, after) = match **rest {
        [] => return Ok(None),
        [high, low, ref after @ ..] => (high, low, after),
        _ => return Err(LldpError::Short),
    };
    let length = usize::from(high & 1) << 8 | usize::from(low);
    let value = after.get(..length).ok_or(LldpError::Short)?;
    *rest = &after[length..];
    Ok(Some((high >> 1, value)))
}

fn number(value: &[u8]) -> Option<u16> {
    <[u8; 2]>::try_from(value.get(..2)?).ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tlvs: &[(u8, &[u8])]) -> Vec<u8> {
        let mut frame = Vec::new();
        for (kind, value) in tlvs {
            let head = u16::from(*kind) << 9 | u16::try_from(value.len()).unwrap();
            frame.extend(head.to_be_bytes());
            frame.extend(*value);
        }
        frame
    }

    #[test]
    fn what_a_switch_says_is_read() {
        let mut bytes = frame(&[
            (1, b"\x04\x02\0\0\0\0\x99"),
            (2, b"\x05gi3"),
            (3, &[0, 120]),
            (4, b"port 3\0"),
            (5, b"rack\x1b[2J"),
            (127, b"anything"),
            (7, &[0, 0x14, 0, 4]),
            (8, &[5, 1, 10, 9, 8, 2, 2, 0, 0, 0, 1, 0]),
            (0, b""),
        ]);
        // Ethernet pads short frames.
        bytes.extend([0xff; 10]);
        let found = Neighbour::parse(&bytes).unwrap();
        assert_eq!(found.chassis, Id::Mac([2, 0, 0, 0, 0, 0x99]));
        assert_eq!((found.port.to_string().as_str(), found.ttl), ("gi3", 120));
        assert_eq!((found.port_description.as_str(), found.system_name.as_str()), ("port 3", "rack [2J"));
        assert!(found.is_bridge());
        assert_eq!(found.management, Some([10, 9, 8, 2].into()));
    }

    #[test]
    fn what_is_no_lldp_is_refused() {
        let [chassis, port, ttl]: [(u8, &[u8]); 3] = [(1, b"\x07x"), (2, b"\x07y"), (3, &[0, 1])];
        for (tlvs, error) in [
            (&[][..], LldpError::Mandatory),
            (&[chassis, ttl, port], LldpError::Mandatory),
            (&[chassis, port], LldpError::Mandatory),
            (&[chassis, port, (3, &[1])], LldpError::Mandatory),
            (&[chassis, (2, b""), ttl], LldpError::EmptyId),
            (&[(1, b"\x07"), port, ttl], LldpError::EmptyId),
        ] {
            assert_eq!(Neighbour::parse(&frame(tlvs)), Err(error), "{tlvs:?}");
        }
        let whole = frame(&[chassis, port, ttl]);
        assert!(Neighbour::parse(&whole).is_ok());
        for cut in 1..whole.len() {
            Neighbour::parse(&whole[..cut]).unwrap_err();
        }
    }

    #[test]
    fn ids_are_what_their_subtype_says() {
        assert_eq!(Id::of_port(3, &[2, 0, 0, 0, 0, 1]), Some(Id::Mac([2, 0, 0, 0, 0, 1])));
        assert_eq!(Id::of_port(7, b"12"), Some(Id::Text("12".into())));
        assert_eq!(Id::of_chassis(5, &[1, 10, 0, 0, 1]), Some(Id::Ip([10, 0, 0, 1].into())));
        assert_eq!(Id::of_chassis(4, b"abc"), Some(Id::Text("abc".into())));
        assert_eq!(Id::of_chassis(7, &[0xff, 0x00, 0x01]), Some(Id::Text("ff0001".into())));
        assert_eq!(Id::of_chassis(7, &[0, 0]), None);
    }
}
