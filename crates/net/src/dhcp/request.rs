//! A client's message, parsed.
//!
//! From the codec we take its borrowed view and raw option values. Its owned messages stop at the first option of a wrong
//! length, slice by the sender's `hlen`, and know nothing of option overload.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcproto::v4::borrowed::{DhcpOptionIterator, Message};
use dhcproto::v4::{HType, MAGIC, MessageType, Opcode};

use crate::MacAddr;

/// A DHCP message that a client sent, with the options that a boot server needs.
///
/// Parsing is forgiving where clients are sloppy: an option of the wrong length counts as absent, and says nothing
/// about the options after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Option 53: one of the messages that a client sends.
    pub kind: RequestKind,
    /// Transaction id. Raspberry Pi 3 firmware always sends the same one, so it identifies nothing.
    pub xid: u32,
    /// The flags field as it came; the reply repeats it.
    pub flags: u16,
    /// Relays passed.
    pub hops: u8,
    /// Seconds since the client began.
    pub secs: u16,
    /// The address that the client has and answers ARP for; unspecified if none.
    pub ciaddr: Ipv4Addr,
    /// The relay agent's address; unspecified if the client is on our link.
    pub giaddr: Ipv4Addr,
    /// Hardware address: what a lease belongs to.
    pub mac: MacAddr,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 54.
    pub server_id: Option<Ipv4Addr>,
    /// Option 57, bytes.
    pub max_message_size: Option<u16>,
    /// Option 12, lossy UTF-8, empty if absent.
    pub host_name: String,
    /// Option 60, lossy UTF-8, empty if absent.
    pub vci: String,
    /// Option 77, lossy UTF-8, empty if absent; several classes (RFC 3004) are joined by commas.
    pub uci: String,
    /// Option 61, verbatim.
    pub client_id: Option<Vec<u8>>,
    /// Option 82, verbatim.
    pub relay_agent: Option<Vec<u8>>,
    /// Option 93: the first architecture type of RFC 4578 §2.1.
    pub architecture: Option<u16>,
    /// Option 97, verbatim.
    pub machine_id: Option<Vec<u8>>,
    /// Option 175 is present: an iPXE, whatever its user class.
    pub has_ipxe_options: bool,
    /// Option 175 says that this iPXE has HTTP built in.
    pub ipxe_has_http: bool,
}

/// The messages that a client sends (RFC 2131 §3.1, table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// DHCPDISCOVER
    Discover,
    /// DHCPREQUEST
    Request,
    /// DHCPDECLINE
    Decline,
    /// DHCPRELEASE
    Release,
    /// DHCPINFORM
    Inform,
}

/// The bytes are no client message that we can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Fewer than the 240 bytes of a header with its magic cookie.
    #[error("message of {0} bytes is too short for DHCP")]
    Short(usize),
    /// A server's message, or no BOOTP at all.
    #[error("op {0} is not a client's message")]
    NotARequest(u8),
    /// BOOTP without DHCP.
    #[error("no DHCP magic cookie or message type")]
    NotDhcp,
    /// A message type that only servers send, or an unknown one.
    #[error("DHCP message type {0} is not one that clients send")]
    Kind(u8),
    /// Not Ethernet, or an address that no client can have.
    #[error("hardware address is not that of an Ethernet client")]
    HardwareAddress,
}

impl Request {
    /// Parses one UDP payload.
    ///
    /// # Errors
    /// The message is cut short, not from a client, not DHCP, or not from Ethernet.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        let message = Message::new(bytes).map_err(|_| RequestError::Short(bytes.len()))?;
        if message.opcode() != Opcode::BootRequest {
            return Err(RequestError::NotARequest(bytes[0]));
        }
        if bytes[236..240] != MAGIC {
            return Err(RequestError::NotDhcp);
        }
        let mac = hardware_address(&message)?;
        let options = Options::collect(&message, bytes);
        let kind = match options.get(53) {
            Some(&[kind]) => RequestKind::try_from(kind)?,
            _ => return Err(RequestError::NotDhcp),
        };
        Ok(Self {
            kind,
            xid: message.xid(),
            flags: message.flags().into(),
            hops: message.hops(),
            secs: message.secs(),
            ciaddr: message.ciaddr(),
            giaddr: message.giaddr(),
            mac,
            requested: options.address(50),
            server_id: options.address(54),
            max_message_size: options.u16(57),
            host_name: options.get(12).map(text).unwrap_or_default(),
            vci: options.get(60).map(text).unwrap_or_default(),
            uci: options.get(77).map(user_class).unwrap_or_default(),
            client_id: options.get(61).map(<[u8]>::to_vec),
            relay_agent: options.get(82).map(<[u8]>::to_vec),
            architecture: options.u16(93),
            machine_id: options.get(97).map(<[u8]>::to_vec),
            has_ipxe_options: options.get(175).is_some(),
            ipxe_has_http: options.get(175).is_some_and(|features| suboption(features, 0x13).is_some()),
        })
    }

    /// The address that says which subnet the client is on: the link that its relay names (RFC 3527 §3), or else the
    /// relay's own address; unspecified without a relay.
    pub fn link(&self) -> Ipv4Addr {
        if self.giaddr.is_unspecified() {
            return self.giaddr;
        }
        let link = suboption(self.relay_agent.as_deref().unwrap_or_default(), 5);
        link.and_then(|link| <[u8; 4]>::try_from(link).ok()).map_or(self.giaddr, Ipv4Addr::from)
    }
}

impl TryFrom<u8> for RequestKind {
    type Error = RequestError;

    fn try_from(kind: u8) -> Result<Self, RequestError> {
        match MessageType::from(kind) {
            MessageType::Discover => Ok(Self::Discover),
            MessageType::Request => Ok(Self::Request),
            MessageType::Decline => Ok(Self::Decline),
            MessageType::Release => Ok(Self::Release),
            MessageType::Inform => Ok(Self::Inform),
            _ => Err(RequestError::Kind(kind)),
        }
    }
}

/// `hlen` is the sender's word: only 6 is Ethernet, and the codec would slice by any other.
fn hardware_address(message: &Message<'_>) -> Result<MacAddr, RequestError> {
    if message.htype() != HType::Eth || message.hlen() != 6 {
        return Err(RequestError::HardwareAddress);
    }
    let mac: [u8; 6] = message.chaddr().try_into().map_err(|_| RequestError::HardwareAddress)?;
    // A lease for the null or a group address could never be used: it would only eat the pool.
    if mac == [0; 6] || mac[0] & 1 == 1 {
        return Err(RequestError::HardwareAddress);
    }
    Ok(MacAddr(mac))
}

/// The first option of this code among those that another option encloses (RFC 2132 §8.4, RFC 3046 §2.0).
fn suboption(mut rest: &[u8], wanted: u8) -> Option<&[u8]> {
    while let [code, length, tail @ ..] = rest {
        let (value, tail) = tail.split_at_checked(usize::from(*length))?;
        if *code == wanted {
            return Some(value);
        }
        rest = tail;
    }
    None
}

/// Raw option values by code, parts joined.
struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// RFC 3396 §5: the parts of an option are joined in the order options, file, sname; RFC 2132 §9.3: option 52 says
    /// which of these two fields hold options.
    fn collect(message: &Message<'_>, bytes: &[u8]) -> Self {
        let mut options = Self(BTreeMap::new());
        options.add(message.opts());
        if let Some(&[overload]) = options.get(52) {
            if overload & 1 != 0 {
                options.add(DhcpOptionIterator::new(&bytes[108..236]));
            }
            if overload & 2 != 0 {
                options.add(DhcpOptionIterator::new(&bytes[44..108]));
            }
        }
        options
    }

    fn add(&mut self, iterator: DhcpOptionIterator<'_>) {
        for option in iterator {
            self.0.entry(option.code().into()).or_default().extend_from_slice(option.data());
        }
    }

    fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    fn address(&self, code: u8) -> Option<Ipv4Addr> {
        <[u8; 4]>::try_from(self.get(code)?).ok().map(Ipv4Addr::from)
    }

    /// The first of one or several 16-bit values.
    fn u16(&self, code: u8) -> Option<u16> {
        self.get(code)?.first_chunk().copied().map(u16::from_be_bytes)
    }
}

/// RFC 2132 §2: a receiver must tolerate (and drop) trailing NULs.
fn text(value: &[u8]) -> String {
    let end = value.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// RFC 3004 §4 wants each class preceded by its length; iPXE, U-Boot and dhclient send plain text.
/// Text can't be taken for the other form: its first byte, a letter, would be a length above what follows.
fn user_class(value: &[u8]) -> String {
    let mut classes = Vec::new();
    let mut rest = value;
    while let [length, tail @ ..] = rest {
        match tail.split_at_checked(usize::from(*length)) {
            Some((class, tail)) if *length > 0 => {
                classes.push(text(class));
                rest = tail;
            }
            _ => return text(value),
        }
    }
    classes.join(",")
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
