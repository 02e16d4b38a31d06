//! What the services and the nodes tell: into timelines, and on to registration.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use net::{BoardSeen, Event, LeaseEvent, MacAddr};

use super::{Site, State, now_ms};
use crate::registration::Input;
use crate::registry::BootRow;
use crate::timeline::{Change, Seen};

/// Timelines of devices that are not registered: a hostile client may invent any number of addresses.
const MAX_STRANGERS: usize = 4096;

impl Site {
    /// Takes what a service tells.
    pub(super) fn event(self: &Arc<Self>, event: Event) {
        match event {
            Event::Dhcp { mac, kind, client, ip } => self.see(mac, &Seen::Dhcp { kind, client, ip }),
            Event::Lease(lease) => {
                self.apply(Input::Lease(lease)).ok();
            }
            Event::FileServed { client, service, path, bytes, duration, error } => {
                self.see_at(client, &Seen::File { service, path, bytes, duration, error });
            }
            Event::Mounted { client, image } => {
                self.see_at(client, &Seen::Mounted { image: image.clone() });
                self.apply(Input::Mounted { client, image }).ok();
            }
            Event::MountRefused { client, path, reason } => {
                tracing::warn!(%client, path, reason, "mount refused");
                self.see_at(client, &Seen::MountRefused { path, reason });
            }
        }
    }

    /// A lease of another DHCP server: of the firmware of a Raspberry Pi 3, which sends no DHCPREQUEST, that server tells
    /// nothing. So its boards are taken to be in their firmware whenever U-Boot does not say otherwise; the image goes first
    /// all the same.
    pub fn lease_elsewhere(&self, event: &LeaseEvent) {
        let boards = self.exports.boards();
        boards.remember([(event.mac, event.ip)]);
        if crate::names::model_of_class(&event.vci, &event.uci).is_some() {
            boards.see(event.mac, BoardSeen::Bootloader, Instant::now());
        }
    }

    /// Adds an observation to the timeline of the device at this address, if there is one.
    pub fn see_at(&self, client: Ipv4Addr, seen: &Seen) {
        let mac = {
            let state = self.state();
            state.registrar.devices().find(|device| device.row.ip == client).map(|device| device.row.mac)
        };
        if let Some(mac) = mac {
            self.see(mac, seen);
        }
    }

    /// Adds an observation to a device's timeline.
    pub fn see(&self, mac: MacAddr, seen: &Seen) {
        let now = now_ms();
        let (changes, name) = {
            let mut state = self.state();
            let changes = state.see(mac, seen, now);
            let name = state.registrar.device(mac).map_or_else(|| mac.to_string(), |device| device.row.name.clone());
            (changes, name)
        };
        if let (Seen::Registration { step, detail, ok }, true) = (seen, changes.is_empty()) {
            // Nothing is known of a boot that it could be a step of.
            self.tell(format!("{name}: {step}{}: {detail}", if *ok { "" } else { " failed" }));
        }
        for change in changes {
            match change {
                Change::Boot { id, started_ms } => {
                    tracing::info!(%mac, "a boot begins");
                    self.tell(format!("{name}: a boot begins"));
                    self.registry.boot(BootRow { id, mac, started_ms });
                }
                Change::Step(step) => {
                    let seconds = step.at_ms as f64 / 1000.0;
                    if step.ok {
                        tracing::info!(%mac, at_s = seconds, step = step.name, detail = step.detail, "boot step");
                    } else {
                        tracing::warn!(%mac, at_s = seconds, step = step.name, detail = step.detail, "boot step failed");
                    }
                    let failed = if step.ok { "" } else { " failed" };
                    self.tell(format!("{name}: {:.3} s: {}{failed}: {}", seconds, step.name, step.detail));
                    if let Some(took_ms) = self.state().timeline(mac).and_then(|timeline| timeline.boot_took(&step)) {
                        self.boot_times.record(took_ms);
                    }
                    self.registry.step(step);
                }
            }
        }
        self.tell_waiting();
    }
}

impl State {
    fn see(&mut self, mac: MacAddr, seen: &Seen, now_ms: i64) -> Vec<Change> {
        if !self.timelines.contains_key(&mac) {
            // An OS that asks for a lease is no boot: nothing to remember.
            if matches!(seen, Seen::Dhcp { client: "other", .. } | Seen::Lost) {
                return Vec::new();
            }
            self.make_room();
        }
        let next_boot = &mut self.next_boot;
        let next_id = || {
            *next_boot += 1;
            *next_boot - 1
        };
        self.timelines.entry(mac).or_default().see(seen, now_ms, next_id)
    }

    /// Forgets the stranger that has been silent for longest, if there are too many.
    fn make_room(&mut self) {
        let known = self.registrar.devices().count();
        if self.timelines.len() < known + MAX_STRANGERS {
            return;
        }
        let strangers = self.timelines.iter().filter(|(mac, _)| self.registrar.device(**mac).is_none());
        let oldest = strangers.min_by_key(|(_, timeline)| timeline.heard_ms()).map(|(mac, _)| *mac);
        if let Some(mac) = oldest {
            self.timelines.remove(&mac);
        }
    }
}

/// Kind of DHCP client (see [`net::Event::Dhcp`]) that a lease of another DHCP server shows.
pub fn client_kind(event: &LeaseEvent) -> &'static str {
    if crate::names::model_of_class(&event.vci, &event.uci).is_some() {
        return "walt";
    }
    if event.uci.contains("iPXE") {
        return "ipxe";
    }
    // RFC 4578 §2.1 numbers the architectures; PXEClient:Arch:00000 is a BIOS, HTTPClient boots over HTTP.
    if event.vci.starts_with("PXEClient") && net::is_raspberry_pi(event.mac) {
        "pxe-rpi"
    } else if event.vci.starts_with("PXEClient:Arch:00000") {
        "pxe-bios"
    } else if event.vci.starts_with("PXEClient") {
        "pxe-uefi"
    } else if event.vci.starts_with("HTTPClient") {
        "http-uefi"
    } else {
        "other"
    }
}
