//! Leases: what work in flight needs although no image owns it yet.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use super::unpoisoned;
use crate::digest::Digest;

/// All leases of a store. Its lock also orders garbage collection against new leases: a name is
/// removed only while the lock is held and no lease has it, so whoever leases first finds it.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    digests: HashMap<u64, BTreeSet<Digest>>,
}

impl Leases {
    /// Runs `remove` unless some lease has `digest`; no lease can begin meanwhile.
    pub(super) fn unless_held<T>(&self, digest: Digest, remove: impl FnOnce() -> T) -> Option<T> {
        let held = unpoisoned(&self.held);
        let leased = held.digests.values().any(|digests| digests.contains(&digest));
        let removed = (!leased).then(remove);
        drop(held);
        removed
    }

    /// Returns everything that some lease has.
    pub(super) fn all(&self) -> BTreeSet<Digest> {
        unpoisoned(&self.held).digests.values().flatten().copied().collect()
    }
}

/// Keeps garbage collection from the content it names, until its last clone is dropped.
#[derive(Clone, Debug)]
pub struct Lease {
    held: Arc<Slot>,
}

#[derive(Debug)]
struct Slot {
    leases: Arc<Leases>,
    id: u64,
}

impl Lease {
    pub(super) fn new(leases: &Arc<Leases>) -> Self {
        let mut held = unpoisoned(&leases.held);
        held.next += 1;
        let id = held.next;
        held.digests.insert(id, BTreeSet::new());
        drop(held);
        Self { held: Arc::new(Slot { leases: Arc::clone(leases), id }) }
    }

    /// Adds content, which need not be there yet.
    pub fn protect(&self, digests: impl IntoIterator<Item = Digest>) {
        unpoisoned(&self.held.leases.held).digests.entry(self.held.id).or_default().extend(digests);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        unpoisoned(&self.leases.held).digests.remove(&self.id);
    }
}
