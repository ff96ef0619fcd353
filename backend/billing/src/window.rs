//! Readings → whole numbers per meter and UTC hour.
//!
//! A reading belongs to one hour as a whole; nothing is interpolated. The sampler takes a reading at
//! each full hour, so a reading ends in the hour in which it began. The edge reading itself can only
//! come late: one that ends less than [`EDGE_US`] after the full hour is the edge. A reading that
//! spans hours in spite of that (the agent was away) is booked to the hour in which it ends, where its
//! counters were found, and both hours are marked [`Quality::Partial`]. Each reading gives its numbers
//! by itself, so their order is of no account and adding them up can be done in any portions.
//!
//! Reserved quantities are limit × time between two readings of the same start; a change of limits
//! forces a reading, so the limit is the same all through it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use wharf_shared::id::{ContainerId, TenantId};
use wharf_shared::reading::{ReadingKind, ReadingRecord};
use wharf_shared::time::{SECOND_US, Timestamp};
use wharf_shared::usage::{Meter, Quality, UsageHour};

use crate::ledger::correction::Correction;

/// How late the reading at a full hour may be taken.
pub const EDGE_US: i64 = SECOND_US;

/// What one reading adds to one meter's hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsagePart {
    /// Begin of the hour.
    pub hour: Timestamp,
    /// Whose.
    pub tenant: TenantId,
    /// The container; `None` for the tenant's whole cgroup.
    pub container: Option<ContainerId>,
    /// What.
    pub meter: Meter,
    /// How much.
    pub quantity: u128,
    /// How much a correction takes away.
    pub taken: u128,
    /// Whether it is whole.
    pub quality: Quality,
}

impl UsagePart {
    /// With the names and labels of the tenant and the container, as they are kept beside it.
    pub fn named(
        self,
        tenant_name: String,
        container_name: String,
        labels: BTreeMap<String, String>,
    ) -> UsageHour {
        let Self { hour, tenant, container, meter, quantity, taken: _, quality } = self;
        UsageHour { hour, tenant, container, meter, tenant_name, container_name, labels, quantity, quality }
    }
}

/// What a reading adds. Readings without a tenant are the host's own facts and add nothing, except
/// corrections: those add to the hour that they name, or take away from it, and from what the tenant's whole
/// cgroup counted of it.
pub fn parts(reading: &ReadingRecord) -> Vec<UsagePart> {
    if let Some(correction) = Correction::of(reading) {
        let corrected = corrected(correction);
        // Else what the container has more or less would be less or more outside of containers.
        let truth = has_tenant_truth(corrected.meter) && corrected.container.is_some();
        let whole = truth.then(|| UsagePart { container: None, ..corrected.clone() });
        return whole.into_iter().chain([corrected]).collect();
    }
    let Some(tenant) = &reading.series.tenant else { return Vec::new() };
    let container = reading.series.container.as_ref();
    let part = |hour, meter, quantity, quality| UsagePart {
        hour,
        tenant: tenant.clone(),
        container: container.cloned(),
        meter,
        quantity,
        taken: 0,
        quality,
    };
    let begin = reading.t0_utc.hour_start();
    if reading.kind == ReadingKind::Gap {
        let lost =
            used(reading).map(|(meter, _, quality)| part(begin, meter, 0, quality.and(Quality::Partial)));
        return lost.collect();
    }
    let end = booked_hour(reading);
    let spans = end != begin;
    let mut parts = Vec::new();
    for (meter, quantity, quality) in used(reading).chain(reserved(reading)) {
        if reading.duration_ns() == 0 && quantity == 0 {
            continue;
        }
        if spans && quality != Quality::NotMeasurable {
            parts.push(part(begin, meter, 0, Quality::Partial));
            parts.push(part(end, meter, quantity, Quality::Partial));
        } else {
            parts.push(part(end, meter, quantity, quality));
        }
    }
    parts
}

/// Which row of usage: hour, tenant, container, meter.
pub type HourKey = (Timestamp, TenantId, Option<ContainerId>, Meter);

/// What readings add to each row, whatever portions and order they come in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums(BTreeMap<HourKey, UsagePart>);

/// An hour's sum cannot be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an hour's quantity has more than 128 bits")]
pub struct Overflow;

impl Sums {
    /// Adds what a reading adds.
    ///
    /// # Errors
    /// When a quantity has more than 128 bits.
    pub fn add(&mut self, reading: &ReadingRecord) -> Result<(), Overflow> {
        for part in parts(reading) {
            let key = (part.hour, part.tenant.clone(), part.container.clone(), part.meter);
            match self.0.entry(key) {
                Entry::Vacant(first) => {
                    first.insert(part);
                }
                Entry::Occupied(mut sum) => {
                    let sum = sum.get_mut();
                    sum.quantity = sum.quantity.checked_add(part.quantity).ok_or(Overflow)?;
                    sum.taken = sum.taken.checked_add(part.taken).ok_or(Overflow)?;
                    sum.quality = sum.quality.and(part.quality);
                }
            }
        }
        Ok(())
    }

    /// How many rows they touch.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether they touch none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rows of which these readings are everything, as they are rated ([`attribute`]) and in the order of
    /// rows, without names and labels, which no reading has.
    pub fn into_rated(self) -> Vec<UsageHour> {
        let mut rated = Vec::with_capacity(self.0.len());
        let mut group: Vec<UsageHour> = Vec::new();
        for part in self.0.into_values() {
            // As the store has it: an hour never goes below nothing.
            let quantity = part.quantity.saturating_sub(part.taken);
            let row = UsageHour { quantity, ..part.named(String::new(), String::new(), BTreeMap::new()) };
            if group.first().is_some_and(|first| (first.hour, &first.tenant) != (row.hour, &row.tenant)) {
                rated.extend(attribute(std::mem::take(&mut group)));
            }
            group.push(row);
        }
        rated.extend(attribute(group));
        rated
    }

    /// One part for each row, in the order of rows.
    pub fn into_parts(self) -> impl Iterator<Item = UsagePart> {
        self.0.into_values()
    }
}

fn corrected(correction: Correction) -> UsagePart {
    let Correction { tenant, container, hour, meter, delta, .. } = correction;
    let amount = delta.unsigned_abs();
    let (quantity, taken) = if delta < 0 { (0, amount) } else { (amount, 0) };
    UsagePart { hour, tenant, container, meter, quantity, taken, quality: Quality::Measured }
}

/// The hour that a reading is booked to.
pub fn booked_hour(reading: &ReadingRecord) -> Timestamp {
    let end = Timestamp(reading.t1_utc.0.saturating_sub(EDGE_US));
    end.max(reading.t0_utc).hour_start()
}

/// Meters that a tenant's whole cgroup counts too: the kernel keeps them in a tree.
const fn has_tenant_truth(meter: Meter) -> bool {
    matches!(meter, Meter::CpuUsed | Meter::BlockRead | Meter::BlockWrite)
}

fn used(reading: &ReadingRecord) -> impl Iterator<Item = (Meter, u128, Quality)> {
    let of_container = reading.series.container.is_some();
    // After the end only what was still to be written back can be used.
    let after_end = reading.kind == ReadingKind::FinalBlock;
    let is_block = |meter| matches!(meter, Meter::BlockRead | Meter::BlockWrite);
    let meters = reading
        .meters
        .iter()
        .filter(move |of| (of_container || has_tenant_truth(of.meter)) && (!after_end || is_block(of.meter)));
    meters.map(|of| (of.meter, of.delta, of.quality))
}

/// What follows from a container's limits, and from its being there at all.
fn reserved(reading: &ReadingRecord) -> impl Iterator<Item = (Meter, u128, Quality)> {
    // Between its end and the last write-back a container reserves nothing.
    let reserves = reading.series.container.is_some() && reading.kind != ReadingKind::FinalBlock;
    let duration_ns = u128::from(reading.duration_ns());
    let limits = [
        (Meter::CpuReserved, reading.limits.cpu_millis.map(u128::from)),
        (Meter::MemoryReserved, reading.limits.memory_bytes.map(u128::from)),
        (Meter::ContainerTime, Some(1)),
    ];
    // The product of two 64-bit numbers fits into 128 bits.
    let times = limits.into_iter().filter_map(move |(meter, limit)| {
        Some((meter, limit?.saturating_mul(duration_ns), Quality::Measured))
    });
    let starts = (reading.kind == ReadingKind::Open).then_some((Meter::Starts, 1, Quality::Measured));
    times.chain(starts).filter(move |_| reserves)
}

/// Turns the rows of one tenant's hour into what is rated: in place of the whole cgroup's counts, what
/// they exceed the containers' by. A reading of a container that was taken a moment after that of the
/// whole may make the containers' sum the greater; then nothing is unattributed in this hour.
pub fn attribute(mut rows: Vec<UsageHour>) -> Vec<UsageHour> {
    let of_containers = |meter| {
        let of_meter = rows.iter().filter(|row| row.container.is_some() && row.meter == meter);
        of_meter.fold(0_u128, |sum, row| sum.saturating_add(row.quantity))
    };
    let whole = rows.iter().filter(|row| row.container.is_none());
    let explained: Vec<_> = whole.map(|row| (row.meter, of_containers(row.meter))).collect();
    if explained.is_empty() {
        return rows;
    }
    rows.retain_mut(|row| {
        if row.container.is_some() {
            return true;
        }
        let of_meter = explained.iter().find(|(meter, _)| *meter == row.meter);
        row.quantity = row.quantity.saturating_sub(of_meter.map_or(0, |(_, sum)| *sum));
        row.quantity > 0
    });
    rows.sort_by_key(|row| row.container.is_none());
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wharf_shared::reading::{MeterReading, ReadingLimits, SeriesKey};
    use wharf_shared::time::HOUR_US;

    use super::*;
    use crate::ledger::checkpoint::Moment;

    const TENANT: &str = "tnt_00000000-0000-7000-8000-000000000001";

    fn reading(container: bool, t0_us: i64, t1_us: i64, deltas: &[(Meter, u128)]) -> ReadingRecord {
        let meters = deltas.iter().map(|(meter, delta)| MeterReading {
            meter: *meter,
            raw: None,
            cum: *delta,
            delta: *delta,
            quality: Quality::Measured,
        });
        ReadingRecord {
            series: SeriesKey {
                boot_id: "boot".to_owned(),
                tenant: TENANT.parse().ok(),
                container: container.then(|| "a".repeat(64).parse().expect("an id")),
                incarnation: 1,
            },
            kind: ReadingKind::Periodic,
            t0_boot_ns: u64::try_from(t0_us).expect("positive") * 1_000,
            t1_boot_ns: u64::try_from(t1_us).expect("positive") * 1_000,
            t0_utc: Timestamp(t0_us),
            t1_utc: Timestamp(t1_us),
            meters: meters.collect(),
            limits: ReadingLimits { cpu_millis: Some(500), memory_bytes: Some(1 << 28) },
            source: BTreeMap::new(),
        }
    }

    fn sums(readings: &[ReadingRecord]) -> BTreeMap<(i64, Meter), (u128, Quality)> {
        let mut sums = BTreeMap::new();
        for part in readings.iter().flat_map(parts) {
            let sum = sums.entry((part.hour.0 / HOUR_US, part.meter)).or_insert((0, part.quality));
            *sum = (sum.0 + part.quantity, sum.1.and(part.quality));
        }
        sums
    }

    #[test]
    fn reserves_limit_times_time_and_uses_what_the_counters_rose_by() {
        let sums = sums(&[reading(true, 10 * HOUR_US, 10 * HOUR_US + 525_250_000, &[(Meter::CpuUsed, 7)])]);
        let expected = [
            (Meter::CpuUsed, 7),
            (Meter::CpuReserved, 500 * 525_250_000_000),
            // BILLING.md's worked example: 140.995723264 GB-s.
            (Meter::MemoryReserved, 140_995_723_264_000_000_000),
            (Meter::ContainerTime, 525_250_000_000),
        ];
        let expected = expected.map(|(meter, quantity)| ((10, meter), (quantity, Quality::Measured)));
        assert_eq!(sums, BTreeMap::from(expected));
    }

    #[test]
    fn each_start_counts_once_and_a_tenant_s_whole_group_is_no_container() {
        let first = |container| {
            let mut reading = reading(container, 10 * HOUR_US, 10 * HOUR_US, &[(Meter::CpuUsed, 0)]);
            reading.kind = ReadingKind::Open;
            reading
        };
        let goes_on = reading(true, 10 * HOUR_US, 10 * HOUR_US + SECOND_US, &[]);
        let sums = sums(&[first(true), goes_on, first(true), first(false)]);
        assert_eq!(sums[&(10, Meter::Starts)], (2, Quality::Measured));
        assert_eq!(sums[&(10, Meter::ContainerTime)], (1_000_000_000, Quality::Measured));
    }

    #[test]
    fn the_reading_at_the_full_hour_may_come_late() {
        let edge = 11 * HOUR_US;
        let late = reading(true, edge - 10 * SECOND_US, edge + EDGE_US - 1, &[(Meter::CpuUsed, 3)]);
        assert_eq!(sums(&[late])[&(10, Meter::CpuUsed)], (3, Quality::Measured));
        // A short reading just after the edge belongs to the hour in which it began.
        let short = reading(true, edge + 3, edge + 5_000, &[(Meter::CpuUsed, 3)]);
        assert_eq!(sums(&[short]).keys().map(|(hour, _)| *hour).min(), Some(11));
        let on_time = reading(true, edge - SECOND_US, edge, &[(Meter::CpuUsed, 3)]);
        assert_eq!(sums(&[on_time])[&(10, Meter::CpuUsed)], (3, Quality::Measured));
    }

    #[test]
    fn a_reading_over_hours_is_booked_where_it_ends_and_marks_both() {
        let away = reading(true, 9 * HOUR_US + 5, 12 * HOUR_US - 5, &[(Meter::CpuUsed, 3)]);
        let sums = sums(&[away]);
        assert_eq!(sums[&(9, Meter::CpuUsed)], (0, Quality::Partial));
        assert_eq!(sums[&(11, Meter::CpuUsed)], (3, Quality::Partial));
        assert!(!sums.contains_key(&(10, Meter::CpuUsed)));
    }

    #[test]
    fn a_gap_counts_nothing_and_marks_the_hour_in_which_readings_stop() {
        let mut lost = reading(true, 0, 5 * HOUR_US, &[(Meter::CpuUsed, 0), (Meter::BlockRead, 0)]);
        lost.kind = ReadingKind::Gap;
        let sums = sums(&[lost]);
        assert_eq!(sums.len(), 2, "nothing is reserved in it: {sums:?}");
        assert!(sums.iter().all(|((hour, _), sum)| *hour == 0 && *sum == (0, Quality::Partial)));
    }

    #[test]
    fn after_its_end_a_container_is_charged_for_its_writes_only() {
        let deltas = [(Meter::BlockWrite, 4_096), (Meter::MemoryUsed, 7)];
        let mut lingers = reading(true, 0, 30 * SECOND_US, &deltas);
        lingers.kind = ReadingKind::FinalBlock;
        assert_eq!(sums(&[lingers]), BTreeMap::from([((0, Meter::BlockWrite), (4_096, Quality::Measured))]));
    }

    #[test]
    fn what_the_containers_do_not_explain_is_unattributed() {
        let deltas = [(Meter::CpuUsed, 100), (Meter::NetworkInternetIn, 5), (Meter::MemoryUsed, 5)];
        let whole = reading(false, 0, SECOND_US, &deltas);
        let row = |part: UsagePart| part.named("blue".to_owned(), String::new(), BTreeMap::new());
        let mut rows: Vec<_> = parts(&whole).into_iter().map(row).collect();
        assert_eq!(rows.len(), 1, "gauges, network and limits have no truth of the tenant");
        rows.extend(parts(&reading(true, 0, SECOND_US, &[(Meter::CpuUsed, 60)])).into_iter().map(row));
        let rated = attribute(rows.clone());
        let rest: Vec<_> = rated.iter().filter(|row| row.container.is_none()).collect();
        assert_eq!(rest.iter().map(|row| row.quantity).collect::<Vec<_>>(), [40]);
        rows.extend(parts(&reading(true, 0, SECOND_US, &[(Meter::CpuUsed, 60)])).into_iter().map(row));
        assert!(attribute(rows).iter().all(|row| row.container.is_some()), "never below zero");
    }

    #[test]
    fn a_correction_of_a_container_leaves_what_is_outside_of_containers_as_it_was() {
        let row = |part: UsagePart| part.named("blue".to_owned(), String::new(), BTreeMap::new());
        let outside = |rows: Vec<UsageHour>| -> Vec<u128> {
            let rest = attribute(rows).into_iter().filter(|row| row.container.is_none());
            rest.map(|row| row.quantity).collect()
        };
        for (delta, meter) in [(25, Meter::CpuUsed), (-25, Meter::CpuUsed), (25, Meter::MemoryUsed)] {
            let correction = Correction {
                refers_to: 1,
                tenant: TENANT.parse().expect("an id"),
                container: "a".repeat(64).parse().ok(),
                hour: Timestamp(0),
                meter,
                delta,
                reason: "a test".to_owned(),
                author: "ann".to_owned(),
            };
            let at = Moment { boot_id: "b".to_owned(), boot_ns: 1, utc: Timestamp(2) };
            let mut sums = Sums::default();
            let whole = reading(false, 0, SECOND_US, &[(Meter::CpuUsed, 100)]);
            for record in [whole, reading(true, 0, SECOND_US, &[(meter, 60)]), correction.record(&at)] {
                sums.add(&record).expect("adds up");
            }
            let rows: Vec<_> = sums
                .into_parts()
                .map(|part| {
                    let quantity = part.quantity - part.taken.min(part.quantity);
                    row(UsagePart { quantity, ..part })
                })
                .collect();
            let corrected = rows.iter().find(|row| row.container.is_some() && row.meter == meter);
            assert_eq!(corrected.map(|row| row.quantity), 60_u128.checked_add_signed(delta), "{meter:?}");
            let expected = if meter == Meter::CpuUsed { 40 } else { 100 };
            assert_eq!(outside(rows), [expected], "{meter:?} {delta}");
        }
    }

    proptest! {
        #[test]
        fn splitting_a_reading_never_changes_the_sums(
            cuts in proptest::collection::btree_set(1_i64..3_600_000_000, 0..12), delta in 0_u128..1 << 60
        ) {
            let whole = [reading(true, 0, HOUR_US, &[(Meter::CpuUsed, delta)])];
            let ends: Vec<i64> = cuts.into_iter().chain([HOUR_US]).collect();
            let count = u128::try_from(ends.len()).expect("few");
            let (mut pieces, mut begin) = (Vec::new(), 0);
            for (at, end) in (0_u128..).zip(ends) {
                let share = delta / count + if at == 0 { delta % count } else { 0 };
                pieces.push(reading(true, begin, end, &[(Meter::CpuUsed, share)]));
                begin = end;
            }
            let expected = sums(&whole);
            prop_assert_eq!(&sums(&pieces), &expected);
            pieces.reverse();
            prop_assert_eq!(&sums(&pieces), &expected, "their order is of no account");
        }
    }
}
