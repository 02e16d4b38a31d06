//! Who has which address.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::{Meta, Request, Settings, Subnet};
use crate::MacAddr;

/// A full search of a full pool is not done again for this long, or strangers could keep us busy with it.
const EXHAUSTED_PAUSE: Duration = Duration::from_secs(1);

/// Leases (permanent, one a MAC), offers, addresses being probed, addresses in quarantine. In memory only.
#[derive(Debug, Default)]
pub struct LeaseTable {
    by_mac: HashMap<MacAddr, Binding>,
    by_ip: HashMap<Ipv4Addr, MacAddr>,
    /// Address → when it may be given away again.
    quarantine: HashMap<Ipv4Addr, Instant>,
    exhausted_until: Option<Instant>,
    probing: usize,
}

/// An address and what is between us and its client.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) ip: Ipv4Addr,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    /// Never leased before: the client waits until the probe says that nobody has the address.
    Probing(Box<Waiting>),
    /// Kept for the client until then.
    Offered(Instant),
    /// Its own for good; `saved` once the daemon has been told.
    Leased { saved: bool },
}

/// The message that is answered when a probe ends.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) request: Request,
    pub(super) meta: Meta,
}

/// Why there is no address for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

impl LeaseTable {
    /// A table with the leases that were kept. Of two that name one address the first counts.
    pub fn new(leases: impl IntoIterator<Item = (MacAddr, Ipv4Addr)>) -> Self {
        let mut table = Self::default();
        for (mac, ip) in leases {
            if !table.by_ip.contains_key(&ip) {
                table.bind(mac, ip, State::Leased { saved: true });
            }
        }
        table
    }

    /// The address leased to `mac`.
    pub fn address_of(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        self.by_mac.get(&mac).filter(|binding| matches!(binding.state, State::Leased { .. })).map(|binding| binding.ip)
    }

    /// Every lease, in no order.
    pub fn leases(&self) -> impl Iterator<Item = (MacAddr, Ipv4Addr)> + '_ {
        let leased = |binding: &Binding| matches!(binding.state, State::Leased { .. });
        self.by_mac.iter().filter(move |(_, binding)| leased(binding)).map(|(mac, binding)| (*mac, binding.ip))
    }

    /// Forgets what is known of `mac`; its address may go to another client. False if nothing was known.
    pub fn forget(&mut self, mac: MacAddr) -> bool {
        let Some(binding) = self.by_mac.remove(&mac) else { return false };
        self.by_ip.remove(&binding.ip);
        self.probing -= usize::from(matches!(binding.state, State::Probing(_)));
        // Room again.
        self.exhausted_until = None;
        true
    }

    /// The daemon has the lease of `mac`: it need not be told again.
    pub fn mark_saved(&mut self, mac: MacAddr) {
        if let Some(Binding { state: State::Leased { saved }, .. }) = self.by_mac.get_mut(&mac) {
            *saved = true;
        }
    }

    pub(super) fn get(&self, mac: MacAddr) -> Option<&Binding> {
        self.by_mac.get(&mac)
    }

    pub(super) fn get_mut(&mut self, mac: MacAddr) -> Option<&mut Binding> {
        self.by_mac.get_mut(&mac)
    }

    /// Number of addresses being probed.
    pub(super) fn probing(&self) -> usize {
        self.probing
    }

    /// The client whose probe of `ip` runs.
    pub(super) fn prober_of(&self, ip: Ipv4Addr) -> Option<MacAddr> {
        let mac = *self.by_ip.get(&ip)?;
        matches!(self.by_mac.get(&mac)?.state, State::Probing(_)).then_some(mac)
    }

    /// Gives `ip` to `mac`, which has nothing else from now on. The caller knows that it is free.
    pub(super) fn bind(&mut self, mac: MacAddr, ip: Ipv4Addr, state: State) {
        self.forget(mac);
        if let Some(stale) = self.by_ip.get(&ip).copied() {
            self.forget(stale);
        }
        self.probing += usize::from(matches!(state, State::Probing(_)));
        self.by_ip.insert(ip, mac);
        self.by_mac.insert(mac, Binding { ip, state });
    }

    /// Replaces the state of a binding that is there; returns the old one.
    pub(super) fn set_state(&mut self, mac: MacAddr, state: State) -> Option<State> {
        let binding = self.by_mac.get_mut(&mac)?;
        self.probing += usize::from(matches!(state, State::Probing(_)));
        self.probing -= usize::from(matches!(binding.state, State::Probing(_)));
        Some(std::mem::replace(&mut binding.state, state))
    }

    /// `ip` belongs to nobody else, is not offered to anybody else, and is not in quarantine.
    pub(super) fn is_free_for(&self, mac: MacAddr, ip: Ipv4Addr, now: Instant) -> bool {
        if self.quarantine.get(&ip).is_some_and(|until| now < *until) {
            return false;
        }
        match self.by_ip.get(&ip).filter(|owner| **owner != mac).and_then(|owner| self.by_mac.get(owner)) {
            None => true,
            Some(Binding { state: State::Offered(until), .. }) => now >= *until,
            Some(_) => false,
        }
    }

    /// A free address of `subnet` for `mac`: `preferred` if it can be had, else the first free candidate.
    ///
    /// RFC 2131 §4.3.1: the client's requested address is taken before a new one from the pool.
    pub(super) fn choose(
        &mut self,
        subnet: &Subnet,
        mac: MacAddr,
        preferred: Option<Ipv4Addr>,
        now: Instant,
    ) -> Result<Ipv4Addr, Exhausted> {
        if let Some(ip) = preferred.filter(|ip| subnet.in_pool(*ip) && self.is_free_for(mac, *ip, now)) {
            return Ok(ip);
        }
        if self.exhausted_until.is_some_and(|until| now < until) {
            return Err(Exhausted);
        }
        let found = subnet.candidates(mac).find(|ip| self.is_free_for(mac, *ip, now));
        if found.is_none() {
            self.exhausted_until = Some(now + EXHAUSTED_PAUSE);
        }
        found.ok_or(Exhausted)
    }

    /// Takes `ip` out of use for a time.
    pub(super) fn quarantine(&mut self, ip: Ipv4Addr, settings: &Settings, now: Instant) {
        self.quarantine.retain(|_, until| now < *until);
        self.quarantine.insert(ip, now + settings.quarantine_time);
    }
}
