//! Client messages, made byte by byte, and a server to send them to.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};

use super::{Action, LeaseTable, Meta, Reply, Request, Settings, Subnet, handle, probe_ended};
use crate::{BoardSeen, Event, LeaseEvent, MacAddr};

pub(super) const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

/// A client's message in the making.
#[derive(Clone)]
pub(super) struct Packet(Vec<u8>);

impl Packet {
    /// `kind` is the value of option 53.
    pub(super) fn new(kind: u8) -> Self {
        let mut bytes = vec![0; 240];
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&[0xca, 0xfe, 0, 1]);
        bytes[28..34].copy_from_slice(&MAC.0);
        bytes[236..].copy_from_slice(&[99, 130, 83, 99]);
        Self(bytes).option(53, &[kind])
    }

    pub(super) fn option(mut self, code: u8, value: &[u8]) -> Self {
        self.0.extend_from_slice(&[code, value.len() as u8]);
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn ip(self, code: u8, address: Ipv4Addr) -> Self {
        self.option(code, &address.octets())
    }

    /// Overwrites header bytes.
    pub(super) fn at(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(super) fn mac(self, mac: MacAddr) -> Self {
        self.at(28, &mac.0)
    }

    pub(super) fn ciaddr(self, address: Ipv4Addr) -> Self {
        self.at(12, &address.octets())
    }

    pub(super) fn giaddr(self, address: Ipv4Addr) -> Self {
        self.at(24, &address.octets())
    }

    pub(super) fn broadcast(self) -> Self {
        self.at(10, &[0x80, 0])
    }

    /// With its end option.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.push(255);
        bytes
    }

    pub(super) fn request(&self) -> Request {
        Request::parse(&self.bytes()).expect("a valid request")
    }
}

pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 5, 1);
pub(super) const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x77]);
pub(super) const RELAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

pub(super) const DISCOVER: u8 = 1;
pub(super) const REQUEST: u8 = 3;
pub(super) const DECLINE: u8 = 4;
pub(super) const RELEASE: u8 = 7;
pub(super) const INFORM: u8 = 8;

pub(super) fn host(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 5, last)
}

/// A server with its leases, and a clock that is set by hand.
pub(super) struct Bench {
    pub(super) table: LeaseTable,
    pub(super) settings: Settings,
    pub(super) now: Instant,
    pub(super) closing: bool,
    pub(super) behind_nat: bool,
}

impl Bench {
    pub(super) fn new(leases: &[(MacAddr, Ipv4Addr)]) -> Self {
        let mut settings = Settings::new(SERVER, Subnet::around(SERVER, 24).unwrap());
        settings.relayed.push(Subnet::around(RELAY, 16).unwrap());
        Self {
            table: LeaseTable::new(leases.iter().copied()),
            settings,
            now: Instant::now(),
            closing: false,
            behind_nat: false,
        }
    }

    pub(super) fn send(&mut self, packet: Packet) -> Outcome {
        let host_name = Some("node-1".into());
        let (source, behind_nat) = (Ipv4Addr::UNSPECIFIED, self.behind_nat);
        let meta = Meta { source, host_name, behind_nat, closing: self.closing };
        Outcome(handle(&mut self.table, &self.settings, packet.request(), meta, self.now))
    }

    pub(super) fn silent(&mut self, ip: Ipv4Addr) -> Outcome {
        Outcome(probe_ended(&mut self.table, &self.settings, ip, None, self.now))
    }

    pub(super) fn answered(&mut self, ip: Ipv4Addr, by: MacAddr) -> Outcome {
        Outcome(probe_ended(&mut self.table, &self.settings, ip, Some(by), self.now))
    }

    pub(super) fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// The address that a new client is offered, by way of a probe.
    pub(super) fn offer_to(&mut self, mac: MacAddr) -> Ipv4Addr {
        let ip = self.send(Packet::new(DISCOVER).mac(mac)).probed().expect("a new client is probed for");
        let offer = self.silent(ip);
        assert_eq!(offer.kind(), Some(MessageType::Offer));
        offer.message().unwrap().yiaddr()
    }
}

pub(super) struct Outcome(pub(super) Vec<Action>);

impl Outcome {
    pub(super) fn reply(&self) -> Option<&Reply> {
        self.0.iter().find_map(|action| match action {
            Action::Send(reply) => Some(&**reply),
            _ => None,
        })
    }

    pub(super) fn message(&self) -> Option<&Message> {
        self.reply().map(|reply| &reply.message)
    }

    pub(super) fn kind(&self) -> Option<MessageType> {
        self.message()?.opts().msg_type()
    }

    pub(super) fn probed(&self) -> Option<Ipv4Addr> {
        self.0.iter().find_map(|action| match action {
            Action::ProbeAddress(ip) => Some(*ip),
            _ => None,
        })
    }

    pub(super) fn change(&self) -> Option<(MacAddr, Option<Ipv4Addr>)> {
        self.0.iter().find_map(|action| match action {
            Action::LeaseChanged(change) => Some((change.mac, change.ip)),
            _ => None,
        })
    }

    pub(super) fn board(&self) -> Option<(MacAddr, BoardSeen)> {
        self.0.iter().find_map(|action| match action {
            Action::Board(mac, seen) => Some((*mac, *seen)),
            _ => None,
        })
    }

    pub(super) fn lease_event(&self) -> Option<&LeaseEvent> {
        self.0.iter().find_map(|action| match action {
            Action::Emit(Event::Lease(lease)) => Some(lease),
            _ => None,
        })
    }

    pub(super) fn events(&self) -> Vec<&'static str> {
        let kind = |action: &Action| match action {
            Action::Emit(Event::Dhcp { kind, .. }) => Some(*kind),
            _ => None,
        };
        self.0.iter().filter_map(kind).collect()
    }

    pub(super) fn option(&self, code: OptionCode) -> Option<&DhcpOption> {
        self.message()?.opts().get(code)
    }
}
