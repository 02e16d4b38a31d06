//! What the services tell the daemon.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use tokio::sync::mpsc;

/// Ethernet address, written `hh:hh:hh:hh:hh:hh` in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an Ethernet address (expected hh:hh:hh:hh:hh:hh)")]
pub struct MacAddrError(String);

impl FromStr for MacAddr {
    type Err = MacAddrError;

    /// Accepts colons or dashes between the bytes, either case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || MacAddrError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(part.ok_or_else(error)?, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(bytes)) }
    }
}

/// An acknowledged lease, from our DHCP server or from somebody else's by `walt-dhcp-event`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseEvent {
    /// Client hardware address.
    pub mac: MacAddr,
    /// Address it was given.
    pub ip: Ipv4Addr,
    /// Vendor class identifier (option 60), lossy UTF-8, empty if absent.
    pub vci: String,
    /// User class (option 77), lossy UTF-8, empty if absent.
    pub uci: String,
    /// Host name (option 12), empty if absent.
    pub host_name: String,
}

/// Something that happened on the wire. The daemon stamps it with the time of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A DHCP message: `kind` is `discover`, `offer`, `request`, `ack`, `nak`, `inform`, `decline`
    /// or `release`; `client` says who speaks (`pxe-bios`, `pxe-uefi`, `pxe-rpi`, `http-uefi`, `ipxe`, `walt`, `other`).
    Dhcp {
        /// Client hardware address.
        mac: MacAddr,
        /// Message type.
        kind: &'static str,
        /// Kind of client, from options 60, 77 and 93.
        client: &'static str,
        /// Address offered, acknowledged or asked for, if any.
        ip: Option<Ipv4Addr>,
    },
    /// A lease was acknowledged: the start of registration.
    Lease(LeaseEvent),
    /// A file transfer over TFTP or HTTP ended.
    FileServed {
        /// Client address.
        client: Ipv4Addr,
        /// `tftp` or `http`; `firmware`: TFTP to the firmware of a board, which loads itself and not yet the image.
        service: &'static str,
        /// Path as the client named it.
        path: String,
        /// Bytes sent.
        bytes: u64,
        /// From the request to the last acknowledgement.
        duration: Duration,
        /// `None` if it was served whole, else the reason (`not ready`, `not found`, `timeout`, …).
        error: Option<String>,
    },
    /// A node mounted its image over NFS.
    Mounted {
        /// Client address.
        client: Ipv4Addr,
        /// Image id that the root handle names.
        image: String,
    },
    /// A mount was refused.
    MountRefused {
        /// Client address.
        client: Ipv4Addr,
        /// Path as the client named it (lossy UTF-8, bounded).
        path: String,
        /// Reason.
        reason: &'static str,
    },
}

/// Sending end of the bounded event channel.
///
/// A service never waits for the daemon: when the channel is full the event is dropped and counted
/// (leases are sent again by the client's next request).
#[derive(Debug, Clone)]
pub struct Events {
    sender: mpsc::Sender<Event>,
}

impl Events {
    /// A channel that holds at most `capacity` events.
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self { sender }, receiver)
    }

    /// Queues `event`; false if the channel is full or closed.
    pub fn send(&self, event: Event) -> bool {
        self.sender.try_send(event).is_ok()
    }
}
