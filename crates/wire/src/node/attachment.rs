//! One line of what a node hears of the switch it hangs on.

use std::fmt;

use crate::lldp::{Id, Neighbour};

/// Which port of which switch a node hangs on, as that switch says by LLDP:
/// `mac=<of the node's interface> switch=<mac> port=<id> name=<text>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The node's interface that has heard it.
    pub mac: [u8; 6],
    /// The switch.
    pub switch: [u8; 6],
    /// Id of the switch's port; spaces are written as `_`.
    pub port: String,
    /// Name of the switch, may be empty.
    pub name: String,
}

/// The line tells no attachment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachmentError {
    /// A field is absent or out of its order.
    #[error("attachment without {0}=")]
    MissingField(&'static str),
    /// It is no Ethernet address.
    #[error("{0:?} is not an Ethernet address")]
    BadMac(String),
    /// The port has no id.
    #[error("attachment to a port without an id")]
    EmptyPort,
}

impl Attachment {
    /// What the interface with this address has heard; `None` unless it was a switch with an address for its id.
    pub fn heard(mac: [u8; 6], neighbour: &Neighbour) -> Option<Self> {
        let switch = neighbour.chassis.mac().filter(|_| neighbour.is_bridge() && neighbour.ttl > 0)?;
        Some(Self { mac, switch, port: word(&neighbour.port.to_string()), name: neighbour.system_name.clone() })
    }

    /// Reads a line (without its newline).
    ///
    /// # Errors
    /// It is none.
    pub fn parse(line: &str) -> Result<Self, AttachmentError> {
        let (mac, rest) = field(line, "mac")?;
        let (switch, rest) = field(rest, "switch")?;
        let (port, rest) = field(rest, "port")?;
        let name = rest.strip_prefix("name=").ok_or(AttachmentError::MissingField("name"))?;
        let (mac, switch, port) = (address(mac)?, address(switch)?, word(port));
        if port.is_empty() {
            return Err(AttachmentError::EmptyPort);
        }
        Ok(Self { mac, switch, port, name: crate::lldp::text(name.as_bytes()) })
    }
}

impl fmt::Display for Attachment {
    /// The line to send, without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = crate::lldp::text(self.name.as_bytes());
        write!(f, "mac={} switch={} port={} name={name}", Id::Mac(self.mac), Id::Mac(self.switch), word(&self.port))
    }
}

/// One printable word of bounded length.
fn word(text: &str) -> String {
    let text = crate::lldp::text(text.as_bytes());
    text.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect()
}

fn field<'a>(text: &'a str, name: &'static str) -> Result<(&'a str, &'a str), AttachmentError> {
    let value = text.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
    value.and_then(|rest| rest.split_once(' ')).ok_or(AttachmentError::MissingField(name))
}

fn address(text: &str) -> Result<[u8; 6], AttachmentError> {
    let wrong = || AttachmentError::BadMac(text.chars().take(40).collect());
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
        *byte = u8::from_str_radix(part.ok_or_else(wrong)?, 16).map_err(|_| wrong())?;
    }
    if parts.next().is_some() { Err(wrong()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_survives_the_wire() {
        let said = Attachment {
            mac: [2, 0, 0, 0, 0, 1],
            switch: [2, 0, 0, 0, 0, 0x99],
            port: "gi 3".into(),
            name: "rack\nmac=x".into(),
        };
        let line = said.to_string();
        assert_eq!(line, "mac=02:00:00:00:00:01 switch=02:00:00:00:00:99 port=gi_3 name=rack mac=x");
        let read = Attachment::parse(&line).unwrap();
        assert_eq!((read.port.as_str(), read.name.as_str()), ("gi_3", "rack mac=x"));
        assert_eq!(read.to_string(), line);
    }

    #[test]
    fn each_broken_field_is_named() {
        for (line, error) in [
            ("", AttachmentError::MissingField("mac")),
            ("mac=02:00:00:00:00:01", AttachmentError::MissingField("mac")),
            ("mac=x switch=y port=1 name=", AttachmentError::BadMac("x".into())),
            (
                "mac=02:00:00:00:00:01 switch=02:00:00:00:00:01:02 port=1 name=",
                AttachmentError::BadMac("02:00:00:00:00:01:02".into()),
            ),
            ("mac=02:00:00:00:00:01 switch=02:00:00:00:00:02 port= name=", AttachmentError::EmptyPort),
            ("mac=02:00:00:00:00:01 switch=02:00:00:00:00:02 port=1 ", AttachmentError::MissingField("name")),
        ] {
            assert_eq!(Attachment::parse(line), Err(error), "{line:?}");
        }
    }

    #[test]
    fn only_a_switch_counts() {
        let mut neighbour = Neighbour {
            chassis: Id::Mac([2, 0, 0, 0, 0, 9]),
            port: Id::Text("3".into()),
            ttl: 120,
            port_description: String::new(),
            system_name: "rack".into(),
            capabilities: crate::lldp::CAPABILITY_BRIDGE,
            management: None,
        };
        assert!(Attachment::heard([0; 6], &neighbour).is_some());
        neighbour.capabilities = 0;
        assert!(Attachment::heard([0; 6], &neighbour).is_none());
        neighbour.capabilities = u16::MAX;
        neighbour.ttl = 0;
        assert!(Attachment::heard([0; 6], &neighbour).is_none(), "it says goodbye");
    }
}
