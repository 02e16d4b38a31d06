//! When to try again, and when to give up.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::registry::RegistrySettings;

/// Longest pause, whatever a registry asks for.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Longest pause that a registry may ask for by `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

/// Bytes that count as progress: a peer that gives less between two failures would keep us for ever.
const PROGRESS: u64 = 64 << 10;

/// Failures in a row.
#[derive(Debug)]
pub(crate) struct Failures {
    count: u32,
    attempts: u32,
    first_pause: Duration,
}

impl Failures {
    pub(crate) fn new(settings: &RegistrySettings) -> Failures {
        Failures { count: 0, attempts: settings.attempts, first_pause: settings.first_pause }
    }

    /// Attempts that have failed in a row.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The attempt that has just failed had brought `bytes`.
    pub(crate) fn progressed(&mut self, bytes: u64) {
        if bytes >= PROGRESS {
            self.count = 0;
        }
    }

    /// Counts one more failure; the pause before the next attempt, or `None` to give up.
    ///
    /// `random` (0 to 1) spreads clients that failed together, so that they do not come back together.
    pub(crate) fn next(&mut self, retry_after: Option<Duration>, random: f64) -> Option<Duration> {
        self.count += 1;
        if self.count >= self.attempts {
            return None;
        }
        let doubled = self.first_pause.saturating_mul(1 << (self.count - 1).min(16)).min(MAX_PAUSE);
        let spread = doubled.mul_f64(0.5 + random);
        Some(spread.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER)))
    }
}

/// A number from 0 to 1, good enough to spread clients.
pub(crate) fn random() -> f64 {
    // Each RandomState has keys of its own.
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(attempts: u32) -> Failures {
        Failures { count: 0, attempts, first_pause: Duration::from_secs(1) }
    }

    #[test]
    fn pauses_double_and_end() {
        let mut failures = failures(4);
        let pauses: Vec<_> = std::iter::from_fn(|| failures.next(None, 0.5)).map(|p| p.as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4]);
        assert_eq!(failures.count(), 4);
    }

    #[test]
    fn pauses_are_bounded() {
        let mut failures = failures(100);
        let last = std::iter::from_fn(|| failures.next(None, 1.0)).last().unwrap();
        assert_eq!(last, MAX_PAUSE.mul_f64(1.5));
        let mut failures = self::failures(2);
        assert_eq!(failures.next(Some(Duration::from_secs(86_400)), 0.0), Some(MAX_RETRY_AFTER));
    }

    #[test]
    fn the_registrys_wish_counts() {
        assert_eq!(failures(2).next(Some(Duration::from_secs(7)), 0.0), Some(Duration::from_secs(7)));
    }

    #[test]
    fn progress_starts_the_count_again_but_a_trickle_does_not() {
        let mut failures = failures(3);
        assert!(failures.next(None, 0.0).is_some());
        failures.progressed(10);
        assert!(failures.next(None, 0.0).is_some());
        failures.progressed(PROGRESS);
        assert!(failures.next(None, 0.0).is_some());
        assert!(failures.next(None, 0.0).is_some());
        assert!(failures.next(None, 0.0).is_none());
    }
}
