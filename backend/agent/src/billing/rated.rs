//! Usage out of the store, rated hour by hour: what lists, exports and statements are made of.

use wharf_billing::contract::Contracts;
use wharf_billing::price::PriceBooks;
use wharf_billing::rating::{RatedRow, Rater, period};
use wharf_shared::id::{ContainerId, TenantId};
use wharf_shared::time::Timestamp;
use wharf_store::usage::{UsageQuery, UsageStream};
use wharf_store::{Scope, Tx};

use crate::error::Result;

/// What prices follow from, as it was at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) books: PriceBooks,
    pub(crate) contracts: Contracts,
}

/// Reads and rates a period tenant by tenant, so that it never has to be in memory as a whole.
pub(crate) struct RatedStream<'a> {
    stream: UsageStream,
    rater: Rater<'a>,
    /// Before this hour rows are rated only for what they take from allowances and caps.
    from: Timestamp,
    /// The only container that is wanted.
    container: Option<ContainerId>,
}

impl<'a> RatedStream<'a> {
    /// Begins to read where rating has to begin: at the period's first hour if prices depend on what was
    /// used before, and with every container, because a tenant's share allowances and tiers.
    pub(crate) async fn open(
        tx: &mut Tx,
        scope: Scope,
        query: UsageQuery,
        terms: &'a Terms,
    ) -> Result<RatedStream<'a>> {
        let mut rater = Rater::new(&terms.books, &terms.contracts);
        let UsageQuery { from, to, container } = query.clone();
        let read = if terms.books.has_memory() || terms.contracts.has_memory() {
            UsageQuery { from: period(from).0, to, container: None }
        } else {
            query
        };
        if terms.books.has_volume_tiers() {
            let last = Timestamp(to.0.saturating_sub(1));
            let whole = UsageQuery { to: period(last).1, ..read.clone() };
            let mut stream = UsageStream::new(scope.clone(), whole);
            loop {
                let group = stream.next(tx).await?;
                if group.is_empty() {
                    break;
                }
                rater.scan(group);
            }
        }
        Ok(Self { stream: UsageStream::new(scope, read), rater, from, container })
    }

    /// What is missing to the minimums of the period that was read last.
    pub(crate) fn minimums(&self, tenant: &TenantId) -> Vec<RatedRow> {
        self.rater.minimums(tenant)
    }

    /// The rows of the next tenant and hour that has any that are wanted; `None` at the end.
    pub(crate) async fn next(&mut self, tx: &mut Tx) -> Result<Option<RatedHour>> {
        loop {
            let group = self.stream.next(tx).await?;
            let Some(first) = group.first() else { return Ok(None) };
            let (hour, tenant) = (first.hour, first.tenant.clone());
            let mut rows = self.rater.rate_hour(group);
            if hour < self.from {
                continue;
            }
            if let Some(wanted) = &self.container {
                rows.retain(|row| {
                    row.usage().is_some_and(|row| row.usage.container.as_ref() == Some(wanted))
                });
            }
            if !rows.is_empty() {
                return Ok(Some(RatedHour { hour, tenant, rows }));
            }
        }
    }
}

/// All rows of one tenant's hour.
pub(crate) struct RatedHour {
    pub(crate) hour: Timestamp,
    pub(crate) tenant: TenantId,
    pub(crate) rows: Vec<RatedRow>,
}
