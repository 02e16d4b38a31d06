//! How long boots took, from the first DHCP message to an ssh server that answers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the buckets, in seconds.
pub const BOUNDS_S: [u64; 10] = [5, 10, 15, 20, 30, 45, 60, 90, 120, 300];

/// Boots since the daemon started, by how long they took.
#[derive(Debug, Default)]
pub struct BootTimes {
    /// Boots of each bucket, and of those above all bounds.
    buckets: [AtomicU64; BOUNDS_S.len() + 1],
    sum_ms: AtomicU64,
}

impl BootTimes {
    /// A boot took so long.
    pub(super) fn record(&self, took_ms: u64) {
        let bucket = BOUNDS_S.iter().position(|bound| took_ms <= bound * 1000).unwrap_or(BOUNDS_S.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ms.fetch_add(took_ms, Ordering::Relaxed);
    }

    /// How many took at most each of [`BOUNDS_S`], how many there were, and how many milliseconds they took together.
    pub fn read(&self) -> (Vec<u64>, u64, u64) {
        let mut count = 0;
        let mut cumulative = Vec::with_capacity(self.buckets.len());
        for bucket in &self.buckets {
            count += bucket.load(Ordering::Relaxed);
            cumulative.push(count);
        }
        cumulative.truncate(BOUNDS_S.len());
        (cumulative, count, self.sum_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_boot_is_in_its_bucket_and_in_those_above() {
        let times = BootTimes::default();
        for took_ms in [5_000, 5_001, 200_000, 400_000] {
            times.record(took_ms);
        }
        let (cumulative, count, sum_ms) = times.read();
        assert_eq!(cumulative, [1, 2, 2, 2, 2, 2, 2, 2, 2, 3]);
        assert_eq!((count, sum_ms), (4, 610_001));
    }
}
