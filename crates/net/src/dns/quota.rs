//! How much of something all clients together, and each of them, may have at a time.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

/// The shares that are taken.
#[derive(Debug)]
pub(super) struct Quota {
    total: usize,
    each: usize,
    taken: Mutex<(usize, HashMap<Ipv4Addr, usize>)>,
}

/// One share; it is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Quota>,
    client: Ipv4Addr,
}

impl Quota {
    /// At most `total`, and `each` for one client.
    pub(super) fn new(total: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { total, each, taken: Mutex::default() })
    }

    /// A share for this client, if there is one.
    pub(super) fn take(self: &Arc<Self>, client: Ipv4Addr) -> Option<Share> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, by_client) = &mut *taken;
        let own = by_client.get(&client).copied().unwrap_or(0);
        if *total >= self.total || own >= self.each {
            return None;
        }
        *total += 1;
        by_client.insert(client, own + 1);
        Some(Share { of: self.clone(), client })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, by_client) = &mut *taken;
        *total -= 1;
        if let Some(own) = by_client.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_and_what_is_given_back_is_there_again() {
        let quota = Quota::new(3, 2);
        let (greedy, modest) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let (first, _second) = (quota.take(greedy).unwrap(), quota.take(greedy).unwrap());
        assert!(quota.take(greedy).is_none());
        let _third = quota.take(modest).unwrap();
        assert!(quota.take(modest).is_none());
        drop(first);
        assert!(quota.take(modest).is_some());
        assert_eq!(quota.taken.lock().unwrap().1.len(), 2);
    }
}
