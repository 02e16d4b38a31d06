//! What the server does about a message: a function of its leases, its settings, the message and the time.

use std::net::Ipv4Addr;
use std::time::Instant;

use dhcproto::v4::MessageType;

use super::lease::{Binding, State, Waiting};
use super::reply::{self, Reply};
use super::{Client, LeaseTable, Request, RequestKind, Settings, Subnet};
use crate::{BoardSeen, Event, LeaseEvent, MacAddr};

/// Above this many probes at once a new client is offered its address unprobed: it probes itself (RFC 2131 §4.4.1), and
/// a flood of invented clients must not fill our memory with what they said.
pub(super) const MAX_PROBES: usize = 8192;

/// What is known of a message besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Address that it came from.
    pub source: Ipv4Addr,
    /// The node's name, if it has one (option 12 of the reply).
    pub host_name: Option<String>,
    /// The server is its way to other networks: it gets our address as its router (option 3).
    pub behind_nat: bool,
    /// The server is about to stop: firmware goes unanswered, so that no boot begins that would be cut off.
    pub closing: bool,
}

/// Something to be done, in the order of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell the daemon. What follows in the list waits until it has taken it: an address is acknowledged only if it will
    /// be known after a restart (RFC 2131 §4.3.1: bindings are kept in permanent storage).
    LeaseChanged(LeaseChange),
    /// Send a reply.
    Send(Box<Reply>),
    /// Tell TFTP what runs on a board, before the board can ask it for anything.
    Board(MacAddr, BoardSeen),
    /// Ask by ARP whether somebody has this address; then call [`probe_ended`].
    ProbeAddress(Ipv4Addr),
    /// Tell the daemon, if it has time.
    Emit(Event),
    /// There is no address left for this client, in the subnet of this mask: log it.
    PoolExhausted(MacAddr),
    /// The message came by a relay agent of a subnet that we do not serve: log it.
    UnknownLink(Ipv4Addr),
    /// This address is used by somebody who has no lease: log it.
    Conflict(Ipv4Addr),
}

/// A lease to be kept, or dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseChange {
    /// Client.
    pub mac: MacAddr,
    /// Its address from now on; `None` if it has none any more.
    pub ip: Option<Ipv4Addr>,
}

/// Answers one message.
pub fn handle(table: &mut LeaseTable, settings: &Settings, request: Request, meta: Meta, now: Instant) -> Vec<Action> {
    let mut decision = Decision { settings, now, actions: Vec::with_capacity(4) };
    let client = Client::of(&request);
    if let Some(seen) = client.board_seen(&request) {
        decision.actions.push(Action::Board(request.mac, seen));
    }
    match request.kind {
        RequestKind::Discover if meta.closing && client.is_firmware() => {
            decision.event("discover", &request, request.requested);
        }
        RequestKind::Discover => decision.discover(table, request, meta),
        RequestKind::Request => decision.request(table, request, meta),
        RequestKind::Decline => decision.decline(table, &request),
        RequestKind::Release => decision.release(table, &request),
        RequestKind::Inform => decision.inform(request, &meta),
    }
    decision.actions
}

/// Goes on with the client for which `ip` was probed; `answered_by` is the station that has it, if any.
pub fn probe_ended(
    table: &mut LeaseTable,
    settings: &Settings,
    ip: Ipv4Addr,
    answered_by: Option<MacAddr>,
    now: Instant,
) -> Vec<Action> {
    let mut decision = Decision { settings, now, actions: Vec::with_capacity(4) };
    decision.probe_ended(table, ip, answered_by);
    decision.actions
}

struct Decision<'a> {
    settings: &'a Settings,
    now: Instant,
    actions: Vec<Action>,
}

impl<'a> Decision<'a> {
    /// RFC 2131 §4.3.1.
    fn discover(&mut self, table: &mut LeaseTable, request: Request, meta: Meta) {
        self.event("discover", &request, request.requested);
        let Some(subnet) = self.subnet(&request) else { return };
        match self.usable(table, subnet, request.mac) {
            // "The client's current address as recorded in the client's current binding".
            Some((ip, Standing::Leased | Standing::Offered)) => self.offer(table, subnet, &request, &meta, ip),
            Some((_, Standing::Probing)) => {
                // A retransmission: its answer is on the way, to the latest of them.
                if let Some(Binding { state: State::Probing(waiting), .. }) = table.get_mut(request.mac) {
                    **waiting = Waiting { request, meta };
                }
            }
            None => {
                let preferred = request.requested;
                self.give_new(table, subnet, request, meta, preferred);
            }
        }
    }

    /// RFC 2131 §4.3.2. Table 4 tells the client's states apart by what it fills in.
    fn request(&mut self, table: &mut LeaseTable, request: Request, meta: Meta) {
        let asked = request.requested.unwrap_or(request.ciaddr);
        self.event("request", &request, Some(asked));
        let Some(subnet) = self.subnet(&request) else { return };
        let selecting = request.server_id.is_some();
        if request.server_id.is_some_and(|server| server != self.settings.server) {
            // SELECTING, another server: "that server's offer is declined".
            if matches!(self.usable(table, subnet, request.mac), Some((_, Standing::Offered | Standing::Probing))) {
                table.forget(request.mac);
            }
            return;
        }
        if asked.is_unspecified() {
            return;
        }
        match self.usable(table, subnet, request.mac) {
            // SELECTING, INIT-REBOOT, RENEWING or REBINDING, and we agree.
            Some((ip, _)) if ip == asked => self.acknowledge(table, subnet, &request, &meta, ip),
            // INIT-REBOOT: "the client's notion of its IP address is not correct" and the like.
            Some((_, Standing::Leased)) => self.nak(&request, "this client has another address"),
            // SELECTING, of an offer that is not ours (any more), or the others without a record of ours: "it MUST remain
            // silent", unless it is known that nobody else has a record. We then rather take up the address, if it is
            // free, than break a client that worked before our memory was lost.
            _ if !selecting && !self.settings.authoritative => {}
            _ if !subnet.in_pool(asked) => self.nak(&request, "address is not of this network"),
            _ if !table.is_free_for(request.mac, asked, self.now) => {
                self.nak(&request, "address belongs to another client")
            }
            _ if selecting || !request.ciaddr.is_unspecified() => {
                // A client that has the address already would answer the probe.
                table.bind(request.mac, asked, State::Offered(self.now));
                self.acknowledge(table, subnet, &request, &meta, asked);
            }
            _ => self.give_new(table, subnet, request, meta, Some(asked)),
        }
    }

    /// RFC 2131 §4.3.3: the address is in use by somebody else.
    fn decline(&mut self, table: &mut LeaseTable, request: &Request) {
        self.event("decline", request, request.requested);
        // Only of its own address, or one client could take the whole pool out of use.
        let Some(binding) = table.get(request.mac).filter(|binding| Some(binding.ip) == request.requested) else {
            return;
        };
        let (ip, leased) = (binding.ip, matches!(binding.state, State::Leased { .. }));
        table.forget(request.mac);
        table.quarantine(ip, self.settings, self.now);
        self.actions.push(Action::Conflict(ip));
        if leased {
            self.actions.push(Action::LeaseChanged(LeaseChange { mac: request.mac, ip: None }));
        }
    }

    /// RFC 2131 §4.3.4: the lease ends, but "the server SHOULD retain a record". Ours are permanent, so nothing changes,
    /// save for an offer that was never taken.
    fn release(&mut self, table: &mut LeaseTable, request: &Request) {
        self.event("release", request, Some(request.ciaddr));
        if table.get(request.mac).is_some_and(|binding| matches!(binding.state, State::Offered(_))) {
            table.forget(request.mac);
        }
    }

    /// RFC 2131 §4.3.5.
    fn inform(&mut self, mut request: Request, meta: &Meta) {
        // Some clients leave ciaddr out; "the server unicasts to the address in ciaddr" needs one.
        if request.ciaddr.is_unspecified() && request.giaddr.is_unspecified() {
            request.ciaddr = meta.source;
        }
        self.event("inform", &request, Some(request.ciaddr));
        if request.ciaddr.is_unspecified() {
            return;
        }
        let Some(subnet) = self.settings.subnet_of(request.ciaddr) else { return };
        let message = reply::inform(&request, self.settings, subnet, meta);
        self.actions.push(Action::Send(Box::new(Reply::new(&request, message))));
        self.event("ack", &request, Some(request.ciaddr));
    }

    /// Finds an address for a client without one, and offers or acknowledges it when it is known to be free.
    fn give_new(
        &mut self,
        table: &mut LeaseTable,
        subnet: &Subnet,
        request: Request,
        meta: Meta,
        preferred: Option<Ipv4Addr>,
    ) {
        let Ok(ip) = table.choose(subnet, request.mac, preferred, self.now) else {
            self.actions.push(Action::PoolExhausted(request.mac));
            return;
        };
        // ARP does not pass a relay.
        let on_our_link = *subnet == self.settings.subnet && request.giaddr.is_unspecified();
        if on_our_link && table.probing() < MAX_PROBES {
            table.bind(request.mac, ip, State::Probing(Box::new(Waiting { request, meta })));
            self.actions.push(Action::ProbeAddress(ip));
        } else {
            table.bind(request.mac, ip, State::Offered(self.now));
            self.answer(table, subnet, &request, &meta, ip);
        }
    }

    fn probe_ended(&mut self, table: &mut LeaseTable, ip: Ipv4Addr, answered_by: Option<MacAddr>) {
        let Some(mac) = table.prober_of(ip) else { return };
        let Some(State::Probing(waiting)) = table.set_state(mac, State::Offered(self.now)) else { return };
        let Waiting { request, meta } = *waiting;
        let Some(subnet) = self.subnet(&request) else { return };
        // A client may still answer for the address that it had when our memory was lost.
        if answered_by.is_none_or(|station| station == mac) {
            return self.answer(table, subnet, &request, &meta, ip);
        }
        self.actions.push(Action::Conflict(ip));
        table.forget(mac);
        table.quarantine(ip, self.settings, self.now);
        if request.kind == RequestKind::Request {
            return self.nak(&request, "address is used by another station");
        }
        self.give_new(table, subnet, request, meta, None);
    }

    /// The answer that gives `ip`.
    fn answer(&mut self, table: &mut LeaseTable, subnet: &Subnet, request: &Request, meta: &Meta, ip: Ipv4Addr) {
        match request.kind {
            RequestKind::Request => self.acknowledge(table, subnet, request, meta, ip),
            _ => self.offer(table, subnet, request, meta, ip),
        }
    }

    fn offer(&mut self, table: &mut LeaseTable, subnet: &Subnet, request: &Request, meta: &Meta, ip: Ipv4Addr) {
        let early = Client::of(request).boots_from_offer();
        if early {
            // No DHCPREQUEST may follow: this is the lease, and the start of registration.
            self.commit(table, request.mac, ip);
            self.actions.push(Action::Board(request.mac, BoardSeen::Firmware(ip)));
        } else if !matches!(table.get(request.mac), Some(Binding { state: State::Leased { .. }, .. })) {
            table.set_state(request.mac, State::Offered(self.now + self.settings.offer_time));
        }
        self.send(MessageType::Offer, subnet, request, meta, ip);
        self.event("offer", request, Some(ip));
        if early {
            self.lease_event(request, ip);
        }
    }

    fn acknowledge(&mut self, table: &mut LeaseTable, subnet: &Subnet, request: &Request, meta: &Meta, ip: Ipv4Addr) {
        self.commit(table, request.mac, ip);
        self.send(MessageType::Ack, subnet, request, meta, ip);
        self.event("ack", request, Some(ip));
        self.lease_event(request, ip);
    }

    fn commit(&mut self, table: &mut LeaseTable, mac: MacAddr, ip: Ipv4Addr) {
        if !matches!(table.get(mac), Some(Binding { state: State::Leased { .. }, .. })) {
            table.set_state(mac, State::Leased { saved: false });
        }
        if matches!(table.get(mac), Some(Binding { state: State::Leased { saved: false }, .. })) {
            self.actions.push(Action::LeaseChanged(LeaseChange { mac, ip: Some(ip) }));
        }
    }

    fn send(&mut self, kind: MessageType, subnet: &Subnet, request: &Request, meta: &Meta, ip: Ipv4Addr) {
        let message = reply::lease(kind, request, self.settings, subnet, ip, meta);
        self.actions.push(Action::Send(Box::new(Reply::new(request, message))));
    }

    fn nak(&mut self, request: &Request, reason: &str) {
        let message = reply::nak(request, self.settings, reason);
        self.actions.push(Action::Send(Box::new(Reply::new(request, message))));
        self.event("nak", request, Some(request.requested.unwrap_or(request.ciaddr)));
    }

    /// RFC 2131 §4.3.1: the subnet is that of the relay agent, or of the interface.
    fn subnet(&mut self, request: &Request) -> Option<&'a Subnet> {
        let link = request.link();
        let found = self.settings.subnet_of(link);
        if found.is_none() {
            self.actions.push(Action::UnknownLink(link));
        }
        found
    }

    /// The address that `mac` has and may keep in `subnet`.
    fn usable(&self, table: &LeaseTable, subnet: &Subnet, mac: MacAddr) -> Option<(Ipv4Addr, Standing)> {
        let binding = table.get(mac).filter(|binding| subnet.admits(binding.ip))?;
        let standing = match binding.state {
            State::Leased { .. } => Standing::Leased,
            State::Offered(_) => Standing::Offered,
            State::Probing(_) => Standing::Probing,
        };
        Some((binding.ip, standing))
    }

    fn lease_event(&mut self, request: &Request, ip: Ipv4Addr) {
        self.actions.push(Action::Emit(Event::Lease(LeaseEvent {
            mac: request.mac,
            ip,
            vci: request.vci.clone(),
            uci: request.uci.clone(),
            host_name: request.host_name.clone(),
        })));
    }

    fn event(&mut self, kind: &'static str, request: &Request, ip: Option<Ipv4Addr>) {
        let ip = ip.filter(|ip| !ip.is_unspecified());
        let client = Client::of(request).label();
        self.actions.push(Action::Emit(Event::Dhcp { mac: request.mac, kind, client, ip }));
    }
}

/// [`State`] without its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Leased,
    Offered,
    Probing,
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
