//! The server's messages.

use std::net::Ipv4Addr;

use dhcproto::error::EncodeError;
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption};
use dhcproto::{Encodable, Encoder};

use super::{Client, Meta, Request, Settings, Subnet};

/// RFC 951 §3: a BOOTP message is 300 bytes; old boot ROMs drop what is shorter.
const MIN_REPLY: usize = 300;
/// RFC 2131 §2: what every client can take, an IP datagram of 576 bytes.
const MIN_MAX_MESSAGE: u16 = 576;
/// IP and UDP headers, which option 57 counts.
const HEADERS: usize = 28;
/// What is left out, first to last, if a reply is larger than its client can take. Addresses, lease and boot file stay.
const EXPENDABLE: [OptionCode; 8] = [
    OptionCode::DomainName,
    OptionCode::NtpServers,
    OptionCode::TFTPServerName,
    OptionCode::BootfileName,
    OptionCode::ClientMachineIdentifier,
    OptionCode::Hostname,
    OptionCode::BroadcastAddr,
    OptionCode::ClientIdentifier,
];
/// What an Ethernet frame carries of UDP: a frame of our own can't be fragmented.
const MAX_REPLY: usize = 1472;

/// A message of ours, its receiver, and what the codec has no place for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Where it goes.
    pub to: Destination,
    /// Everything but option 82.
    pub message: Message,
    /// Option 82 of the request. RFC 3046 §2.2: it goes back whole and last; the codec's own type would reorder it.
    pub relay_agent: Option<Vec<u8>>,
    /// Option 57 of the request.
    pub max_message_size: Option<u16>,
}

/// A reply can't be put into bytes.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// The codec refuses a field.
    #[error("encode a dhcp reply")]
    Encode(#[from] EncodeError),
    /// What its client or relay wants back leaves no room for the reply.
    #[error("dhcp reply of {0} bytes does not fit into a frame")]
    TooLarge(usize),
}

/// Where a reply goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// 255.255.255.255, port 68.
    Broadcast,
    /// Port 68 of an address that the client does not have yet, in a frame to its hardware address: no ARP.
    Hardware {
        /// Ethernet destination.
        mac: [u8; 6],
        /// IPv4 destination.
        ip: Ipv4Addr,
    },
    /// Port 67 of a relay agent.
    Relay(Ipv4Addr),
    /// Port 68 of the client's configured address.
    Client(Ipv4Addr),
}

/// RFC 2131 §4.1: giaddr, else (a DHCPNAK is broadcast) ciaddr, else the broadcast flag, else the hardware address.
pub(super) fn destination(request: &Request, reply: &Message) -> Destination {
    let nak = reply.opts().has_msg_type(MessageType::Nak);
    if !request.giaddr.is_unspecified() {
        Destination::Relay(request.giaddr)
    } else if nak {
        Destination::Broadcast
    } else if !request.ciaddr.is_unspecified() {
        Destination::Client(request.ciaddr)
    } else if reply.flags().broadcast() {
        Destination::Broadcast
    } else {
        Destination::Hardware { mac: request.mac.0, ip: reply.yiaddr() }
    }
}

/// DHCPOFFER or DHCPACK that gives `yiaddr`.
pub(super) fn lease(
    kind: MessageType,
    request: &Request,
    settings: &Settings,
    subnet: &Subnet,
    yiaddr: Ipv4Addr,
    meta: &Meta,
) -> Message {
    let mut message = configuration(kind, request, settings, subnet, meta);
    // RFC 2131 §4.3.1 table 3: DHCPACK repeats ciaddr, DHCPOFFER has 0.
    if kind == MessageType::Ack {
        message.set_ciaddr(request.ciaddr);
    }
    message.set_yiaddr(yiaddr);
    let seconds = u32::try_from(settings.lease_time.as_secs()).unwrap_or(u32::MAX);
    let options = message.opts_mut();
    options.insert(DhcpOption::AddressLeaseTime(seconds));
    // RFC 2131 §4.4.5: T1 is half of the lease, T2 seven eighths.
    options.insert(DhcpOption::Renewal(seconds / 2));
    options.insert(DhcpOption::Rebinding((u64::from(seconds) * 7 / 8) as u32));
    message
}

/// DHCPACK to DHCPINFORM: configuration without a lease.
///
/// RFC 2131 §4.3.5: no lease time, no yiaddr.
pub(super) fn inform(request: &Request, settings: &Settings, subnet: &Subnet, meta: &Meta) -> Message {
    let mut message = configuration(MessageType::Ack, request, settings, subnet, meta);
    message.set_ciaddr(request.ciaddr);
    message
}

/// DHCPNAK. RFC 2131 §4.3.1 table 3: no address, no parameters but these.
pub(super) fn nak(request: &Request, settings: &Settings, reason: &str) -> Message {
    let mut message = skeleton(MessageType::Nak, request, settings);
    message.opts_mut().insert(DhcpOption::Message(reason.to_owned()));
    if !request.giaddr.is_unspecified() {
        // RFC 2131 §4.3.2: the relay is to broadcast it, the client may have no right address.
        message.set_flags(message.flags().set_broadcast());
    }
    message
}

impl Reply {
    pub(super) fn new(request: &Request, message: Message) -> Self {
        let relay_agent = request.relay_agent.clone().filter(|_| !request.giaddr.is_unspecified());
        Self { to: destination(request, &message), message, relay_agent, max_message_size: request.max_message_size }
    }

    /// The bytes on the wire: at least 300, and no more than the client takes where that can be had.
    ///
    /// # Errors
    /// The options that the client or its relay wants back are too large.
    pub fn encode(mut self) -> Result<Vec<u8>, ReplyError> {
        let limit = usize::from(self.max_message_size.unwrap_or(0).max(MIN_MAX_MESSAGE)) - HEADERS;
        let limit = limit.min(MAX_REPLY);
        let mut expendable = EXPENDABLE.iter();
        loop {
            let bytes = self.encode_whole()?;
            match expendable.next().filter(|_| bytes.len() > limit) {
                Some(code) => self.message.opts_mut().remove(*code),
                None if bytes.len() > MAX_REPLY => return Err(ReplyError::TooLarge(bytes.len())),
                None => return Ok(bytes),
            };
        }
    }

    fn encode_whole(&self) -> Result<Vec<u8>, ReplyError> {
        let mut bytes = Vec::with_capacity(576);
        self.message.encode(&mut Encoder::new(&mut bytes))?;
        if let Some(agent) = &self.relay_agent {
            // The codec ended the options.
            bytes.pop();
            // RFC 3396 §5: what is longer than 255 bytes goes in parts.
            for part in agent.chunks(255) {
                bytes.extend_from_slice(&[82, part.len() as u8]);
                bytes.extend_from_slice(part);
            }
            bytes.push(255);
        }
        if bytes.len() < MIN_REPLY {
            bytes.resize(MIN_REPLY, 0);
        }
        Ok(bytes)
    }
}

/// Header and the options that every reply has.
fn skeleton(kind: MessageType, request: &Request, settings: &Settings) -> Message {
    let zero = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(request.xid, zero, zero, zero, request.giaddr, &request.mac.0);
    message.set_opcode(Opcode::BootReply).set_flags(Flags::from(request.flags));
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(settings.server));
    // RFC 6842 §3: the client identifier goes back as it came.
    if let Some(id) = &request.client_id {
        options.insert(DhcpOption::ClientIdentifier(id.clone()));
    }
    message
}

fn configuration(kind: MessageType, request: &Request, settings: &Settings, subnet: &Subnet, meta: &Meta) -> Message {
    let client = Client::of(request);
    let mut message = skeleton(kind, request, settings);
    let server_text = settings.server.to_string();
    message.set_siaddr(settings.server).set_sname_str(&server_text);
    let options = message.opts_mut();
    options.insert(DhcpOption::SubnetMask(subnet.mask()));
    if let Some(gateway) = router(settings, subnet, meta) {
        options.insert(DhcpOption::Router(vec![gateway]));
    }
    let dns = if settings.dns.is_empty() { vec![settings.server] } else { settings.dns.clone() };
    options.insert(DhcpOption::DomainNameServer(dns));
    if let Some(name) = &meta.host_name {
        options.insert(DhcpOption::Hostname(name.clone()));
    }
    if let Some(domain) = &settings.domain {
        options.insert(DhcpOption::DomainName(domain.clone()));
    }
    options.insert(DhcpOption::BroadcastAddr(subnet.broadcast()));
    options.insert(DhcpOption::NtpServers(vec![settings.server]));
    // Raspberry Pi 3 firmware reads its TFTP server from option 66 alone.
    options.insert(DhcpOption::TFTPServerName(server_text.into_bytes()));
    if let Some(class) = client.class_identifier() {
        options.insert(DhcpOption::ClassIdentifier(class.as_bytes().to_vec()));
    }
    if let Some(vendor) = client.vendor_options() {
        options.insert(DhcpOption::VendorExtensions(vendor.to_vec()));
    }
    // PXE 2.1 §2.2.3: firmware may refuse a reply without its own machine id.
    if let Some(id) = request.machine_id.clone().filter(|_| client.class_identifier().is_some()) {
        options.insert(DhcpOption::ClientMachineIdentifier(id));
    }
    if request.has_ipxe_options || matches!(client, Client::Ipxe { .. }) {
        // iPXE's own option 175, sub-option 176 "no-pxedhcp": do not wait two seconds for a proxy DHCP server.
        options.insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(175), vec![176, 1, 1])));
    }
    if let Some(file) = client.boot_file(settings.server, settings.uefi_loader) {
        options.insert(DhcpOption::BootfileName(file.clone().into_bytes()));
        message.set_fname_str(&file);
    }
    message
}

/// RFC 2132 §3.5: routers on the client's subnet. Behind a relay agent we are not on it: there the way to us is the
/// agent's network's own router.
fn router(settings: &Settings, subnet: &Subnet, meta: &Meta) -> Option<Ipv4Addr> {
    let by_us = meta.behind_nat && *subnet == settings.subnet;
    if by_us { Some(settings.server) } else { subnet.gateway }
}
