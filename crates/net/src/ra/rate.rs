//! How many answers a second.

use std::time::{Duration, Instant};

/// A token bucket: bursts up to its size, in the long run one token each interval.
#[derive(Debug)]
pub struct RateLimit {
    tokens: u32,
    size: u32,
    interval: Duration,
    last: Instant,
}

impl RateLimit {
    /// A full bucket of `size` tokens that gets one more each `interval` (above zero).
    pub fn new(size: u32, interval: Duration, now: Instant) -> Self {
        Self { tokens: size, size, interval, last: now }
    }

    /// Takes a token; false if there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.last).as_nanos() / self.interval.as_nanos().max(1);
        let earned = u32::try_from(elapsed).unwrap_or(u32::MAX);
        if earned >= self.size - self.tokens {
            self.tokens = self.size;
            self.last = now;
        } else {
            self.tokens += earned;
            self.last += self.interval * earned;
        }
        let granted = self.tokens > 0;
        self.tokens -= u32::from(granted);
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_each_interval() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limit = RateLimit::new(3, Duration::from_millis(10), start);
        let taken = [0, 0, 0, 0, 9, 10, 11, 19, 20, 1000, 1000, 1000, 1000].map(|ms| limit.take(at(ms)));
        assert_eq!(taken, [true, true, true, false, false, true, false, false, true, true, true, true, false],);
    }
}
