//! The names by which a tenant's containers find each other: in each one's hosts file, renewed when
//! another comes or goes.
//!
//! What actors last showed is the list of names, so that nothing is asked of the store. Changes are
//! gathered for a moment: of a hundred containers that start together each hosts file is written a few
//! times, not a hundred.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use wharf_network::hosts::{HostEntry, hosts};
use wharf_shared::id::TenantId;
use wharf_store::containers::ContainerRecord;

use super::actor::Command;
use super::{Containers, Deps};
use crate::tasks::OnEnd;

/// Changes within this time are told together.
const GATHER: Duration = Duration::from_millis(100);

/// Tenants whose containers' names changed since they were last told.
#[derive(Debug, Default)]
pub(crate) struct Names {
    changed: Mutex<BTreeSet<TenantId>>,
    nudge: Notify,
}

impl Names {
    fn mark(&self, tenant: &TenantId) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone());
        self.nudge.notify_one();
    }

    fn take(&self) -> BTreeSet<TenantId> {
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Containers {
    /// Has hosts files renewed until the agent stops.
    pub(crate) fn tell_names(&self) {
        let (deps, stop) = (Arc::clone(&self.deps), self.deps.tasks.stopping());
        self.deps.tasks.spawn("tell names", OnEnd::Shutdown, async move {
            loop {
                // A nudge that comes while this runs is kept by the Notify.
                let nudged = async {
                    deps.names.nudge.notified().await;
                    tokio::time::sleep(GATHER).await;
                };
                tokio::select! {
                    () = nudged => deps.tell_names(&deps.names.take()),
                    () = stop.cancelled() => return,
                }
            }
        });
    }
}

impl Deps {
    /// Has the tenant's containers renew their hosts files, if this one has a name among them.
    pub(super) fn names_changed(&self, row: &ContainerRecord) {
        if row.observed.address.is_some() {
            self.names.mark(&row.tenant);
        }
    }

    fn tell_names(&self, tenants: &BTreeSet<TenantId>) {
        let actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        for handle in actors.values() {
            let row = &handle.seen.borrow().row;
            let concerned = tenants.contains(&row.tenant)
                && row.observed.state.is_live()
                && row.observed.address.is_some();
            if concerned && handle.mailbox.try_send(Box::new(Command::RefreshHosts)).is_err() {
                // Its mailbox is full: in the next round.
                self.names.mark(&row.tenant);
            }
        }
    }

    /// The hosts file of a container that has this address, or none.
    pub(super) fn hosts_file(&self, row: &ContainerRecord, address: Option<Ipv4Addr>) -> String {
        let actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        let entry_of = |other: &ContainerRecord| {
            let listed = other.tenant == row.tenant && other.id != row.id && other.observed.state.is_live();
            let address = other.observed.address.filter(|_| listed)?;
            Some(HostEntry { address, names: names_of(other) })
        };
        let others: Vec<HostEntry> = match address {
            Some(_) => actors.values().filter_map(|handle| entry_of(&handle.seen.borrow().row)).collect(),
            // It reaches none of them.
            None => Vec::new(),
        };
        drop(actors);
        let names = names_of(row);
        let own = address.map(|address| HostEntry { address, names: names.clone() });
        hosts(own.as_ref(), &names, &others)
    }
}

fn names_of(row: &ContainerRecord) -> Vec<String> {
    let mut names = vec![row.name.clone(), row.id.short().to_owned()];
    names.extend(row.spec.hostname.clone());
    names
}
