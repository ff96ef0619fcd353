//! From readings in the journal to usage per tenant, container and hour in the store.
//!
//! Each batch moves the watermark and adds its quantities in one transaction, so that a reading is
//! counted once whatever happens in between. Nothing here measures; it can be done again from the
//! journal at any time with the same result.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use wharf_billing::window::Sums;
use wharf_shared::id::{ContainerId, TenantId};
use wharf_shared::problem::ProblemKind;
use wharf_store::journal::Seek;
use wharf_store::usage::Addition;
use wharf_store::{Db, Scope, StoreError, Tx, containers, outbox, tenants, usage};

use super::Metering;
use crate::error::{Result, ServiceError, chain};
use crate::tasks::{OnEnd, Tasks};

/// Readings that are in memory at a time.
const BATCH: u32 = 500;
/// About so many rows of usage are written in one transaction: the store has one writer.
const ROWS: usize = 10_000;
/// Whoever asks for usage rolls up first, so this only bounds what there is to do then. In a minute several
/// readings of a container come together in one row.
const EVERY: Duration = Duration::from_mins(1);

/// Rolls up in the background until the agent stops.
pub(crate) fn roll_up(metering: &Metering, db: Db, tasks: &Tasks) {
    let (metering, stop) = (metering.clone(), tasks.stopping());
    tasks.spawn("roll up usage", OnEnd::Shutdown, async move {
        loop {
            if let Err(error) = metering.roll_up_now(&db).await {
                tracing::error!(error = chain(&error), "usage was not rolled up; it is tried again");
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    });
}

impl Metering {
    /// Rolls up everything that is in the journal now.
    pub(crate) async fn roll_up_now(&self, db: &Db) -> Result<()> {
        loop {
            let host = self.host();
            // Before the journal is read: what comes into it meanwhile is not promised.
            let now = self.0.clock.now();
            let from = usage::watermark(&mut db.one().await?, host).await?;
            // What is summed up anew ends where the outbox does, so that no stretch is in it in part.
            let until = match self.0.events_max {
                Some(_) => {
                    Some(outbox::watermark(&mut db.one().await?, host).await?).filter(|mark| *mark > from)
                }
                None => None,
            };
            let (to, sums) = self.sums_after(from, until).await?;
            if to == from {
                // A journal from a backup would have its next readings taken for known ones.
                let (head, _) = self.0.journal.head().await?;
                if head < from {
                    let what = format!(
                        "the journal ends at record {head}, but usage was rolled up to record {from}: it is an \
                         older copy; put the newer one back"
                    );
                    return Err(ServiceError::new(ProblemKind::Unavailable, what));
                }
                let mut tx = db.begin_unsynced().await?;
                usage::report(&mut tx, host, now).await?;
                return Ok(tx.commit().await?);
            }
            // Lost with its watermark, if at all: then it is computed again.
            let mut tx = db.begin_unsynced().await?;
            let mut names = Names::default();
            let mut additions: Vec<Addition> = Vec::with_capacity(sums.len());
            for part in sums.into_parts() {
                let tenant = names.tenant(&mut tx, &part.tenant).await?;
                let (container, labels) = match &part.container {
                    Some(id) => names.container(&mut tx, id).await?,
                    None => (String::new(), BTreeMap::new()),
                };
                let taken = part.taken;
                additions.push(Addition { hour: part.named(tenant, container, labels), taken });
            }
            // `false`: somebody else was faster; look again where the watermark is now.
            if usage::apply(&mut tx, host, from, to, &additions).await? {
                if let Some(most) = self.0.events_max {
                    self.gather_events(&mut tx, (from, to), &additions, most).await?;
                }
                tx.commit().await?;
            }
        }
    }

    /// Begins to look for the readings of single hours.
    pub(crate) async fn seek(&self) -> Result<Seek> {
        Ok(self.0.journal.seek().await?)
    }

    /// Gathers the events of what is added, in the same transaction.
    async fn gather_events(
        &self,
        tx: &mut Tx,
        stretch: (i64, i64),
        additions: &[Addition],
        most: u64,
    ) -> Result<()> {
        let dropped = outbox::gather(tx, self.host(), stretch, additions, most, self.0.clock.now()).await?;
        if dropped > 0 {
            tracing::error!(
                dropped,
                most,
                "the outbox is full; usage is kept, but events of it are not sent"
            );
        }
        Ok(())
    }

    /// What the readings after this one add to each hour, and which is the last of them, or `until` if that comes
    /// before. A row is written once for all of them, which is what a roll-up costs.
    async fn sums_after(&self, from: i64, until: Option<i64>) -> Result<(i64, Sums)> {
        let (mut to, mut sums) = (from, Sums::default());
        while sums.len() < ROWS {
            let mut readings = self.0.journal.read_from(to, BATCH).await?;
            readings.retain(|(seq, _)| until.is_none_or(|until| *seq <= until));
            let Some((last, _)) = readings.last() else { break };
            to = *last;
            for (_, reading) in &readings {
                sums.add(reading)
                    .map_err(|error| ServiceError::internal("usage cannot be added up", error))?;
            }
        }
        Ok((to, sums))
    }
}

/// Names and labels as they are now; what was removed in the meantime keeps its id.
#[derive(Default)]
struct Names {
    tenants: HashMap<TenantId, String>,
    containers: HashMap<ContainerId, (String, BTreeMap<String, String>)>,
}

impl Names {
    async fn tenant(&mut self, tx: &mut Tx, id: &TenantId) -> Result<String> {
        if let Some(name) = self.tenants.get(id) {
            return Ok(name.clone());
        }
        let name = match tenants::get(tx, id).await {
            Ok(tenant) => tenant.name,
            Err(StoreError::NotFound(_)) => id.to_string(),
            Err(error) => return Err(error.into()),
        };
        self.tenants.insert(id.clone(), name.clone());
        Ok(name)
    }

    async fn container(
        &mut self,
        tx: &mut Tx,
        id: &ContainerId,
    ) -> Result<(String, BTreeMap<String, String>)> {
        if let Some(known) = self.containers.get(id) {
            return Ok(known.clone());
        }
        let found = match containers::get(tx, &Scope::All, id).await {
            Ok(container) => (container.name, container.spec.labels),
            Err(StoreError::NotFound(_)) => (id.short().to_owned(), BTreeMap::new()),
            Err(error) => return Err(error.into()),
        };
        self.containers.insert(id.clone(), found.clone());
        Ok(found)
    }
}
