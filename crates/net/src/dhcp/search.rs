//! Looks for DHCP servers, as a client that has just been switched on would.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use sys::Interface;
use sys::packet::{ETHERTYPE_IPV4, PacketSocket};

use super::datagram;

/// RFC 2131 §4.1 has clients wait 4 s before they ask again; a frame that was lost should cost less.
const AGAIN: Duration = Duration::from_secs(1);
/// A frame's worth.
const MAX_FRAME: usize = 2048;

/// A server that has made an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundServer {
    /// Its address, as it calls itself (option 54); else the address that its offer came from.
    pub server: Ipv4Addr,
    /// Address that it offers.
    pub offers: Ipv4Addr,
}

/// The search could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// No packet socket.
    #[error("open a packet socket on {interface} (needs CAP_NET_RAW)")]
    Open {
        /// Name of the interface.
        interface: String,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// Nothing could be sent.
    #[error("send on {interface} (is it up?)")]
    Send {
        /// Name of the interface.
        interface: String,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// Nothing could be received.
    #[error("receive on {interface}")]
    Receive {
        /// Name of the interface.
        interface: String,
        /// Cause.
        #[source]
        cause: io::Error,
    },
}

/// Asks for an address on `interface`, which must be up, and gives the servers that have offered one within `time`. None
/// of the offers is taken. Servers on this machine that serve the same interface do not see the question.
///
/// # Errors
/// See [`SearchError`].
pub fn find_servers(interface: &Interface, time: Duration) -> Result<Vec<FoundServer>, SearchError> {
    let name = || interface.name.clone();
    let open = |cause| SearchError::Open { interface: name(), cause };
    let socket = PacketSocket::open(interface.index, Some(ETHERTYPE_IPV4)).map_err(open)?;
    // Random enough for the one thing it is for: telling our offers from those of others.
    let xid = RandomState::new().hash_one(std::process::id()) as u32;
    let begun = Instant::now();
    let mut next = begun;
    let mut found = BTreeMap::new();
    let mut frame = [0; MAX_FRAME];
    while begun.elapsed() < time {
        if Instant::now() >= next {
            let discover = discover(interface.mac, xid, begun.elapsed());
            let send = |cause| SearchError::Send { interface: name(), cause };
            socket.send([0xff; 6], ETHERTYPE_IPV4, &discover).map_err(send)?;
            next += AGAIN;
        }
        match socket.receive(&mut frame) {
            Ok(bytes) => found.extend(offer(bytes, xid).map(|offer| (offer.server, offer))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(10)),
            Err(cause) => return Err(SearchError::Receive { interface: name(), cause }),
        }
    }
    Ok(found.into_values().collect())
}

/// A DHCPDISCOVER in its datagram (RFC 2131 §4.4.1).
fn discover(mac: [u8; 6], xid: u32, begun: Duration) -> Vec<u8> {
    let any = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(xid, any, any, any, any, &mac);
    message.set_opcode(Opcode::BootRequest);
    message.set_secs(u16::try_from(begun.as_secs()).unwrap_or(u16::MAX));
    // We have no address to be answered at.
    message.set_flags(Flags::default().set_broadcast());
    message.opts_mut().insert(DhcpOption::MessageType(MessageType::Discover));
    message.opts_mut().insert(DhcpOption::ParameterRequestList(vec![OptionCode::SubnetMask, OptionCode::Router]));
    // A message of ours can always be written, and fits into a datagram.
    let mut bytes = message.to_vec().unwrap_or_default();
    // RFC 1542 §2.1: some servers drop what is shorter than a BOOTP message.
    bytes.resize(bytes.len().max(300), 0);
    datagram::to_any_server(&bytes).unwrap_or_default()
}

/// The offer in a datagram, if it is the answer to our question.
fn offer(bytes: &[u8], xid: u32) -> Option<FoundServer> {
    let (source, payload) = datagram::from_server(bytes)?;
    let message = Message::decode(&mut Decoder::new(payload)).ok()?;
    let ours = message.opcode() == Opcode::BootReply && message.xid() == xid;
    if !ours || message.opts().msg_type() != Some(MessageType::Offer) {
        return None;
    }
    let server = match message.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => *server,
        _ => source,
    };
    Some(FoundServer { server, offers: message.yiaddr() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn answer(xid: u32, kind: MessageType) -> Vec<u8> {
        let any = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(xid, any, Ipv4Addr::new(10, 0, 0, 77), any, any, &[2, 0, 0, 0, 0, 9]);
        message.set_opcode(Opcode::BootReply);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        message.opts_mut().insert(DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 0, 2)));
        datagram::to_client(SERVER, Ipv4Addr::BROADCAST, &message.to_vec().unwrap()).unwrap()
    }

    #[test]
    fn an_offer_is_the_answer_to_our_question_alone() {
        let found = FoundServer { server: Ipv4Addr::new(10, 0, 0, 2), offers: Ipv4Addr::new(10, 0, 0, 77) };
        assert_eq!(offer(&answer(7, MessageType::Offer), 7), Some(found));
        assert_eq!(offer(&answer(8, MessageType::Offer), 7), None);
        assert_eq!(offer(&answer(7, MessageType::Ack), 7), None);
        let whole = answer(7, MessageType::Offer);
        for length in 0..whole.len() {
            offer(&whole[..length], 7);
        }
    }

    #[test]
    fn rfc2131_4_4_1_our_own_server_reads_the_question() {
        let datagram = discover([2, 0, 0, 0, 0, 9], 7, Duration::from_secs(2));
        let request = super::super::Request::parse(&datagram[28..]).unwrap();
        assert_eq!(request.kind, super::super::RequestKind::Discover);
        assert!(datagram.len() >= 328);
    }
}
