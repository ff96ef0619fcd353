//! What a tenant has spent in a month so far, exactly, and what it spends in an hour now.
//!
//! Budgets ask for it every second when a threshold is near. So the hours that are over are rated once, and what
//! the rater knows after them is kept; only the last ones are rated each time.

use std::collections::BTreeMap;

use wharf_billing::amount::Amount;
use wharf_billing::rating::{self, Flow, RatedRow, Rater, RaterState, period};
use wharf_shared::container::Limits;
use wharf_shared::id::TenantId;
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::Meter;
use wharf_store::Scope;
use wharf_store::usage::{UsageQuery, UsageStream};

use super::rated::Terms;
use super::{Billing, SECOND_NS, flows, read_terms};
use crate::error::Result;
use crate::metering::Doing;

/// Hours that are over are rated anew after this time: corrections and readings that come very late change them.
const ANEW_US: i64 = HOUR_US / 6;
/// So long after its end an hour still gets its last readings in the usual course.
const SETTLE_US: i64 = HOUR_US / 60;

/// What was spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spent {
    /// What the usage of the month costs, before credits and tax.
    pub(crate) amount: Amount,
    /// The first hour of the month with any usage.
    pub(crate) since: Option<Timestamp>,
}

/// What is known of a tenant's hours before `upto`.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    from: Timestamp,
    upto: Timestamp,
    made_at: Timestamp,
    terms: Terms,
    state: RaterState,
    spent: Spent,
}

impl Known {
    /// Whether it still holds. With volume tiers the price of what is over depends on what comes.
    fn holds(&self, from: Timestamp, terms: &Terms, now: Timestamp) -> bool {
        let age_us = now.0.saturating_sub(self.made_at.0);
        let is_young = (0..ANEW_US).contains(&age_us) && self.upto <= now;
        self.from == from && is_young && self.terms == *terms && !terms.books.has_volume_tiers()
    }
}

/// What a tenant's containers cost in an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Burn {
    /// As they run now, by the first price of each SKU that is not free.
    pub(crate) now: Amount,
    /// At most.
    pub(crate) limit: Amount,
}

/// What the machine has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capacity {
    pub(crate) cpu_millis: u64,
    pub(crate) memory_bytes: u64,
}

impl Billing {
    /// The currency of the price books.
    pub(crate) async fn currency(&self) -> Result<String> {
        Ok(read_terms(&mut self.0.db.read().await?).await?.books.currency().to_owned())
    }

    /// What a tenant has spent in the month of `now`, by what is rolled up. `known` is what the last answer left.
    pub(crate) async fn spent(
        &self,
        tenant: &TenantId,
        now: Timestamp,
        known: &mut Option<Known>,
    ) -> Result<Spent> {
        let mut tx = self.0.db.read().await?;
        let terms = read_terms(&mut tx).await?;
        let (from, to) = period(now);
        let stream = |from, to| {
            UsageStream::new(Scope::Tenant(tenant.clone()), UsageQuery { from, to, container: None })
        };
        let kept = known.take().filter(|known| known.holds(from, &terms, now));
        let (begin, made_at, state, mut spent) = match kept {
            Some(Known { upto, made_at, state, spent, .. }) => (upto, made_at, state, spent),
            None => (from, now, RaterState::default(), Spent { amount: Amount::zero(), since: None }),
        };
        let mut rater = Rater::resume(&terms.books, &terms.contracts, state);
        if terms.books.has_volume_tiers() {
            let mut all = stream(from, to);
            loop {
                let group = all.next(&mut tx).await?;
                if group.is_empty() {
                    break;
                }
                rater.scan(group);
            }
        }
        // What is over is kept; the rest is rated again the next time.
        let upto = Timestamp(now.0.saturating_sub(SETTLE_US)).hour_start().max(begin);
        let mut over = stream(begin, upto);
        while let Some(amount) = rate_next(&mut rater, &mut over, &mut tx, &mut spent.since).await? {
            spent.amount = spent.amount.plus(&amount);
        }
        let state = rater.state();
        let kept = spent.clone();
        let mut rest = stream(upto, to);
        while let Some(amount) = rate_next(&mut rater, &mut rest, &mut tx, &mut spent.since).await? {
            spent.amount = spent.amount.plus(&amount);
        }
        spent.amount = spent.amount.plus(&cost(&rater.minimums(tenant)));
        *known = Some(Known { from, upto, made_at, terms, state, spent: kept });
        Ok(spent)
    }

    /// What a tenant's containers cost in an hour. Of those with `limits` it is known what they do, unless they
    /// have just begun.
    pub(crate) async fn burn(
        &self,
        tenant: &TenantId,
        now: Timestamp,
        limits: &[Limits],
        doings: &[Doing],
        capacity: Capacity,
    ) -> Result<Burn> {
        let mut burn = Burn { now: Amount::zero(), limit: Amount::zero() };
        if limits.is_empty() {
            return Ok(burn);
        }
        let terms = read_terms(&mut self.0.db.read().await?).await?;
        let Some(book) = terms.books.at(now) else { return Ok(burn) };
        let contract = terms.contracts.at(tenant, now);
        let mut others: BTreeMap<Meter, u128> = BTreeMap::new();
        for Doing { point, limits, traffic } in doings {
            let own = flows(point, *limits, traffic);
            burn.now = burn.now.plus(&rating::contracted_rate_per_hour(book, contract, &own));
            for flow in own.into_iter().filter(|flow| !is_limited(flow.meter)) {
                let sum = others.entry(flow.meter).or_default();
                *sum = sum.saturating_add(flow.quantity);
            }
        }
        let most = limited_flows(limits, capacity).into_iter().chain(others).map(|(meter, quantity)| Flow {
            meter,
            quantity,
            duration_ns: SECOND_NS,
        });
        burn.limit = rating::highest_rate_per_hour(book, contract, &most.collect::<Vec<_>>());
        // A rate is measured, and may be a little above what a limit allows in the long run.
        burn.limit = burn.limit.max(burn.now.clone());
        Ok(burn)
    }
}

/// Rates the next hour and says what it costs; `None` at the end.
async fn rate_next(
    rater: &mut Rater<'_>,
    stream: &mut UsageStream,
    tx: &mut wharf_store::Tx,
    since: &mut Option<Timestamp>,
) -> Result<Option<Amount>> {
    let group = stream.next(tx).await?;
    let Some(first) = group.first() else { return Ok(None) };
    since.get_or_insert(first.hour);
    Ok(Some(cost(&rater.rate_hour(group))))
}

fn cost(rows: &[RatedRow]) -> Amount {
    rows.iter().map(RatedRow::billed_cost).sum()
}

const fn is_limited(meter: Meter) -> bool {
    matches!(meter, Meter::CpuUsed | Meter::CpuReserved | Meter::MemoryUsed | Meter::MemoryReserved)
}

/// What containers with these limits can count of CPU and memory in a second. All those without a limit together
/// have the machine.
fn limited_flows(limits: &[Limits], capacity: Capacity) -> [(Meter, u128); 4] {
    let sum = |of: fn(&Limits) -> Option<u64>| limits.iter().filter_map(of).map(u128::from).sum::<u128>();
    let most = |of: fn(&Limits) -> Option<u64>, all: u64| {
        let unlimited = limits.iter().any(|limits| of(limits).is_none());
        sum(of).saturating_add(if unlimited { u128::from(all) } else { 0 })
    };
    let cpu = |limits: &Limits| limits.cpu_millis.map(u64::from);
    let memory = |limits: &Limits| limits.memory_bytes;
    let (second, per_milli) = (u128::from(SECOND_NS), u128::from(SECOND_NS / 1_000));
    [
        (Meter::CpuUsed, most(cpu, capacity.cpu_millis).saturating_mul(per_milli)),
        (Meter::CpuReserved, sum(cpu).saturating_mul(per_milli)),
        (Meter::MemoryUsed, most(memory, capacity.memory_bytes).saturating_mul(second)),
        (Meter::MemoryReserved, sum(memory).saturating_mul(second)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_without_a_limit_have_the_machine_together_and_the_others_their_own() {
        let capacity = Capacity { cpu_millis: 4_000, memory_bytes: 8 << 30 };
        let limited = Limits { cpu_millis: Some(500), memory_bytes: Some(1 << 30), ..Limits::default() };
        let free = Limits::default();
        let of = |limits: &[Limits]| limited_flows(limits, capacity).map(|(_, quantity)| quantity);
        let (milli, second) = (1_000_000, 1_000_000_000);
        let gib = (1 << 30) * second;
        assert_eq!(of(&[limited.clone(), limited.clone()]), [1_000 * milli, 1_000 * milli, 2 * gib, 2 * gib]);
        let mixed = of(&[limited, free.clone(), free]);
        assert_eq!(mixed, [4_500 * milli, 500 * milli, 9 * gib, gib]);
    }
}
