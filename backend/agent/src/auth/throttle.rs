//! Bounds how often something may be tried: a bucket of tokens per key, in bounded memory.
//!
//! Used for sign-ins (per user name and per address) and for a tenant's changing requests. Pure but
//! for its map: the caller brings the time.

use std::collections::HashMap;
use std::hash::Hash;

use wharf_shared::time::{SECOND_US, Timestamp};

/// How many tries there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// So many at once.
    pub(crate) burst: u32,
    /// Then one in so many microseconds.
    pub(crate) one_in_us: i64,
}

impl Rate {
    /// So many a second, four seconds' worth at once.
    pub(crate) fn per_second(tries: u32) -> Self {
        Self { burst: tries.saturating_mul(4), one_in_us: (SECOND_US / i64::from(tries.max(1))).max(1) }
    }
}

/// Counts tries by key.
#[derive(Debug)]
pub(crate) struct Throttle<K> {
    rate: Rate,
    capacity: usize,
    /// When each key's bucket is full again; a full one is not kept.
    full_at: HashMap<K, Timestamp>,
}

impl<K: Hash + Eq + Clone> Throttle<K> {
    pub(crate) fn new(rate: Rate, capacity: usize) -> Self {
        Self { rate, capacity, full_at: HashMap::new() }
    }

    /// Takes a try; `false` when there is none left.
    pub(crate) fn take(&mut self, key: &K, now: Timestamp) -> bool {
        let full_at = self.full_at.get(key).map_or(now, |&full_at| full_at.max(now));
        let after = Timestamp(full_at.0 + self.rate.one_in_us);
        if after.0 - now.0 > self.rate.one_in_us * i64::from(self.rate.burst) {
            return false;
        }
        self.make_room(key, now);
        self.full_at.insert(key.clone(), after);
        true
    }

    /// Gives a try back, because it was a good one.
    pub(crate) fn give_back(&mut self, key: &K) {
        if let Some(full_at) = self.full_at.get_mut(key) {
            full_at.0 -= self.rate.one_in_us;
        }
    }

    /// Forgets full buckets when the map is full, then the fullest: who tried most is remembered longest.
    fn make_room(&mut self, key: &K, now: Timestamp) {
        if self.full_at.len() < self.capacity || self.full_at.contains_key(key) {
            return;
        }
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() >= self.capacity {
            let fullest =
                self.full_at.iter().min_by_key(|(_, full_at)| **full_at).map(|(key, _)| key.clone());
            if let Some(fullest) = fullest {
                self.full_at.remove(&fullest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, one_in_us: 10 };

    #[test]
    fn after_the_burst_tries_come_back_one_by_one() {
        let mut throttle = Throttle::new(RATE, 10);
        let taken = |throttle: &mut Throttle<&str>, now| throttle.take(&"a", Timestamp(now));
        assert!((0..3).all(|_| taken(&mut throttle, 0)));
        assert!(!taken(&mut throttle, 9));
        assert!(taken(&mut throttle, 10));
        assert!(!taken(&mut throttle, 10));
        assert!(throttle.take(&"b", Timestamp(10)), "another key has its own");
    }

    #[test]
    fn a_good_try_costs_nothing() {
        let mut throttle = Throttle::new(RATE, 10);
        for _ in 0..100 {
            assert!(throttle.take(&"a", Timestamp(0)));
            throttle.give_back(&"a");
        }
    }

    #[test]
    fn a_flood_of_names_takes_bounded_memory_and_frees_nobody_who_is_out_of_tries() {
        let mut throttle = Throttle::new(RATE, 10);
        while throttle.take(&0, Timestamp(0)) {}
        for name in 1..1_000 {
            assert!(throttle.take(&name, Timestamp(0)));
        }
        assert!(throttle.full_at.len() <= 10);
        assert!(!throttle.take(&0, Timestamp(0)));
    }
}
