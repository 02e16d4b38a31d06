//! When to send an address probe again, and when it ends.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// RFC 5227 §2.1.1 would take 4 to 7 s, in which a boot ROM gives up; a station on the same Ethernet answers within a
/// millisecond, and two probes more make up for a lost frame.
const INTERVAL: Duration = Duration::from_millis(80);
const PROBES: u8 = 3;

/// The running probes, in the order of their next step.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// All steps are equally long, so the queue is sorted by itself.
    steps: VecDeque<(Instant, Ipv4Addr, u8)>,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Send a probe for this address again.
    Again(Ipv4Addr),
    /// Nobody answered for it.
    Silent(Ipv4Addr),
}

impl Schedule {
    /// The first probe for `ip` has just been sent.
    pub(super) fn begin(&mut self, ip: Ipv4Addr, now: Instant) {
        self.steps.push_back((now + INTERVAL, ip, PROBES - 1));
    }

    /// The next thing that is due at `now`. A probe that was answered meanwhile comes up all the same.
    pub(super) fn due(&mut self, now: Instant) -> Option<Step> {
        let (_, ip, left) = *self.steps.front().filter(|(at, ..)| *at <= now)?;
        self.steps.pop_front();
        if left == 0 {
            return Some(Step::Silent(ip));
        }
        self.steps.push_back((now + INTERVAL, ip, left - 1));
        Some(Step::Again(ip))
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.steps.front().map(|(at, ..)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_probes_then_silence_after_240_ms() {
        let (start, ip) = (Instant::now(), Ipv4Addr::new(10, 0, 0, 2));
        let at = |ms| start + Duration::from_millis(ms);
        let mut schedule = Schedule::default();
        schedule.begin(ip, start);
        assert_eq!(schedule.due(at(79)), None);
        assert_eq!(schedule.next(), Some(at(80)));
        assert_eq!(schedule.due(at(80)), Some(Step::Again(ip)));
        assert_eq!(schedule.due(at(80)), None);
        assert_eq!(schedule.due(at(160)), Some(Step::Again(ip)));
        assert_eq!(schedule.due(at(240)), Some(Step::Silent(ip)));
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn probes_run_side_by_side() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        for host in 0..200 {
            schedule.begin(Ipv4Addr::new(10, 0, 0, host), start);
        }
        let mut silent = 0;
        for ms in [80, 160, 240] {
            while let Some(step) = schedule.due(start + Duration::from_millis(ms)) {
                silent += usize::from(matches!(step, Step::Silent(_)));
            }
        }
        assert_eq!(silent, 200);
    }
}
