//! One timeline for each boot of a node: what the server saw of it, in order.
//!
//! A [`Timeline`] takes observations and the time, and says what is new; it does no I/O. It also
//! tells where a boot hangs: [`Timeline::stuck`].

mod stage;
mod stuck;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use api::{NodeState, StepStatus, Stuck};

pub use stage::Stage;

use crate::registry::StepRow;

/// Steps kept of one boot: a boot over HTTP may fetch many files, a hostile node any number.
const MAX_STEPS: usize = 1000;
/// Longest detail kept, in bytes.
const MAX_DETAIL: usize = 400;
/// A boot of which nothing was heard for so long has ended: the machine is off.
const SILENT_IS_OFF_MS: i64 = 15 * 60 * 1000;

/// Something that was seen of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A DHCP message (see [`net::Event::Dhcp`]).
    Dhcp {
        /// `discover`, `offer`, …
        kind: &'static str,
        /// `pxe-bios`, …, `walt`, `other`.
        client: &'static str,
        /// Address offered or acknowledged.
        ip: Option<Ipv4Addr>,
    },
    /// Registration has come to this point.
    Registration {
        /// `registered`, `image-pull`, `image-ready`, …
        step: &'static str,
        /// Particulars.
        detail: String,
        /// Whether it went well.
        ok: bool,
    },
    /// A file was served, or not.
    File {
        /// `tftp`, `http`, or `firmware` (see [`net::Event::FileServed`]).
        service: &'static str,
        /// As the client named it.
        path: String,
        /// Bytes sent.
        bytes: u64,
        /// How long it took.
        duration: Duration,
        /// Why it was not served whole.
        error: Option<String>,
    },
    /// The image was mounted.
    Mounted {
        /// Its id.
        image: String,
    },
    /// A mount was refused.
    MountRefused {
        /// As the client named it.
        path: String,
        /// Reason.
        reason: &'static str,
    },
    /// The agent tells a step.
    Agent(wire::node::BootStep),
    /// The agent says that ssh answers, and keeps the connection.
    Up,
    /// That connection is lost.
    Lost,
    /// The server has asked for a reboot, and the node has agreed.
    RebootRequested,
}

/// What an observation changed: what is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new boot began.
    Boot {
        /// Its number.
        id: i64,
        /// Milliseconds since 1970.
        started_ms: i64,
    },
    /// A step was added to the boot of this number.
    Step(StepRow),
}

/// Whether the node keeps the connection that says it is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Never,
    Up,
    Lost,
}

/// The last boot of one node.
#[derive(Debug, Clone)]
pub struct Timeline {
    boot: Option<Boot>,
    link: Link,
    heard_ms: i64,
    reboot_requested: bool,
}

#[derive(Debug, Clone)]
struct Boot {
    id: i64,
    started_ms: i64,
    stage: Stage,
    steps: Vec<StepRow>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { boot: None, link: Link::Never, heard_ms: 0, reboot_requested: false }
    }
}

impl Timeline {
    /// The last boot, as the registry kept it. A node that was up is unreachable until it connects again.
    pub fn restore(id: i64, started_ms: i64, steps: Vec<StepRow>) -> Self {
        let stage = steps.iter().filter_map(Stage::of_step).max().unwrap_or(Stage::Firmware);
        let heard_ms = started_ms + steps.last().map_or(0, |step| step.at_ms);
        let link = if stage == Stage::Up { Link::Lost } else { Link::Never };
        Self { boot: Some(Boot { id, started_ms, stage, steps }), link, heard_ms, reboot_requested: false }
    }

    /// Takes an observation made at `now_ms` (milliseconds since 1970). `next_id` gives the number
    /// of a boot, if one begins.
    pub fn see(&mut self, seen: &Seen, now_ms: i64, next_id: impl FnOnce() -> i64) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.begins_boot(seen) {
            let id = next_id();
            self.boot = Some(Boot { id, started_ms: now_ms, stage: Stage::Firmware, steps: Vec::new() });
            self.link = Link::Never;
            self.reboot_requested = false;
            changes.push(Change::Boot { id, started_ms: now_ms });
        }
        self.heard_ms = now_ms;
        self.follow_link(seen);
        if let Some(boot) = &mut self.boot {
            changes.extend(boot.add(seen, now_ms).map(Change::Step));
        }
        changes
    }

    /// Power state, as far as the server can see.
    pub fn state(&self, now_ms: i64) -> NodeState {
        match (&self.boot, self.link) {
            // It still has its connection for a moment: who waits for it waits for the next boot.
            _ if self.reboot_requested && now_ms - self.heard_ms <= SILENT_IS_OFF_MS => NodeState::Booting,
            (_, Link::Up) => NodeState::Booted,
            (_, Link::Lost) => NodeState::Unreachable,
            (Some(_), Link::Never) if now_ms - self.heard_ms <= SILENT_IS_OFF_MS => NodeState::Booting,
            _ => NodeState::Off,
        }
    }

    /// The step that the boot under way has reached, in words.
    pub fn step(&self, now_ms: i64) -> Option<String> {
        if self.state(now_ms) != NodeState::Booting {
            return None;
        }
        if self.reboot_requested {
            return Some("rebooting".into());
        }
        self.boot.as_ref().map(|boot| boot.stage.words().to_owned())
    }

    /// Where the boot hangs, if it does; `registration` is what is known of the node's image.
    pub fn stuck(&self, now_ms: i64, registration: &api::Registration) -> Option<Stuck> {
        let boot = self.boot.as_ref()?;
        if self.state(now_ms) == NodeState::Booted {
            return None;
        }
        let silent_ms = u64::try_from(now_ms - self.heard_ms).unwrap_or(0);
        stuck::stuck(boot.stage, boot.steps.last(), silent_ms, registration)
    }

    /// When the last boot began (milliseconds since 1970) and its steps.
    pub fn steps(&self) -> Option<(i64, impl Iterator<Item = api::Step>)> {
        let boot = self.boot.as_ref()?;
        let steps = boot.steps.iter().map(|step| api::Step {
            at_ms: u64::try_from(step.at_ms).unwrap_or(0),
            name: step.name.clone(),
            detail: step.detail.clone(),
            status: if step.ok { StepStatus::Ok } else { StepStatus::Failed },
        });
        Some((boot.started_ms, steps))
    }

    /// How long the boot took that has come to its end with this step, in milliseconds; `None` if it has not, or if its
    /// beginning was not seen.
    pub fn boot_took(&self, last: &StepRow) -> Option<u64> {
        let boot = self.boot.as_ref().filter(|boot| boot.id == last.boot && last.name == "ssh-ready")?;
        let is_whole = boot.steps.first()?.name.starts_with("dhcp-");
        is_whole.then(|| u64::try_from(last.at_ms).unwrap_or(0))
    }

    /// Number of the last boot; it changes when a new one begins.
    pub fn boot_id(&self) -> Option<i64> {
        self.boot.as_ref().map(|boot| boot.id)
    }

    /// When this node was last heard of (milliseconds since 1970).
    pub fn heard_ms(&self) -> i64 {
        self.heard_ms
    }

    /// A machine that speaks DHCP as an earlier stage than it has reached was reset in between. The
    /// same stage again is a retransmission, or the firmware trying once more.
    fn begins_boot(&self, seen: &Seen) -> bool {
        let earlier = |stage: Stage| self.boot.as_ref().is_none_or(|boot| stage < boot.stage);
        match seen {
            // An acknowledgement is all that is seen of another DHCP server's clients.
            Seen::Dhcp { kind: "discover" | "request" | "ack", client, .. } => {
                Stage::of_dhcp_client(client).is_some_and(earlier)
            }
            // The server started while a node was booting: its timeline begins in the middle.
            Seen::File { .. } | Seen::Mounted { .. } | Seen::Agent(_) | Seen::Up => self.boot.is_none(),
            _ => false,
        }
    }

    fn follow_link(&mut self, seen: &Seen) {
        match seen {
            Seen::Up => {
                self.link = Link::Up;
                self.reboot_requested = false;
            }
            Seen::Lost if self.link == Link::Up => self.link = Link::Lost,
            Seen::RebootRequested => self.reboot_requested = true,
            _ => {}
        }
    }
}

impl Boot {
    fn add(&mut self, seen: &Seen, now_ms: i64) -> Option<StepRow> {
        let (name, mut detail, ok) = stage::describe(seen, self.stage)?;
        if self.steps.len() >= MAX_STEPS {
            return None;
        }
        if let Some((end, _)) = detail.char_indices().find(|(at, _)| *at >= MAX_DETAIL) {
            detail.truncate(end);
            detail.push('…');
        }
        // A file name is the client's own text, and this goes to terminals.
        let detail = detail.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let step = StepRow { boot: self.id, at_ms: (now_ms - self.started_ms).max(0), name, detail, ok };
        self.stage = self.stage.max(stage::Stage::of_step(&step).unwrap_or(self.stage));
        self.steps.push(step.clone());
        Some(step)
    }
}
