//! The way from readings to hours: whatever portions of the journal arrive, how often and in which order, the
//! hours are the same to the last byte.
//!
//! `WHARF_SOAK` runs 100,000 cases.
#![expect(
    clippy::expect_used,
    clippy::tests_outside_test_module,
    reason = "an integration test is a test module"
)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use wharf_billing::ledger::checkpoint::Moment;
use wharf_billing::ledger::correction::Correction;
use wharf_billing::window::{Sums, attribute};
use wharf_shared::id::{ContainerId, HostId, TenantId};
use wharf_shared::reading::{MeterReading, ReadingKind, ReadingLimits, ReadingRecord, SeriesKey};
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, Quality};
use wharf_store::usage::{self, Addition, UsageHour, UsageQuery};
use wharf_store::{Db, Scope};

const READINGS: usize = 40;
const FIRST_US: i64 = 490_000 * HOUR_US;

fn host() -> HostId {
    "hst_00000000-0000-7000-8000-000000000001".parse().expect("an id")
}

fn tenant() -> TenantId {
    "tnt_00000000-0000-7000-8000-000000000001".parse().expect("an id")
}

fn container(number: u8) -> ContainerId {
    format!("{number:064x}").parse().expect("an id")
}

/// Which of two containers, for how many minutes, how much, whether all of it was read, and how much of it a
/// person takes away again.
type Drawn = (u8, u16, u64, bool, Option<u64>);

/// A journal of two containers, their tenant's cgroup and corrections that an agent would accept.
fn journal(drawn: &[Drawn]) -> Vec<ReadingRecord> {
    let mut records = Vec::new();
    let mut ends = [(FIRST_US, 0_u128); 2];
    let mut refers_to = 0;
    for (at, &(which, minutes, by, is_whole, taken)) in (0_u64..).zip(drawn) {
        let (end_us, cum) = &mut ends[usize::from(which)];
        let begin_us = *end_us;
        *end_us += i64::from(minutes) * 60_000_000;
        *cum += u128::from(by);
        let ns = |us: i64| u64::try_from(us - FIRST_US).expect("later") * 1_000;
        let record = ReadingRecord {
            series: SeriesKey {
                boot_id: "boot".to_owned(),
                tenant: Some(tenant()),
                container: Some(container(which)),
                incarnation: 1,
            },
            kind: ReadingKind::Periodic,
            t0_boot_ns: ns(begin_us),
            t1_boot_ns: ns(*end_us),
            t0_utc: Timestamp(begin_us),
            t1_utc: Timestamp(*end_us),
            meters: vec![MeterReading {
                meter: Meter::CpuUsed,
                raw: None,
                cum: *cum,
                delta: u128::from(by),
                quality: if is_whole { Quality::Measured } else { Quality::Partial },
            }],
            limits: ReadingLimits { cpu_millis: Some(250), memory_bytes: None },
            source: BTreeMap::new(),
        };
        let hour = wharf_billing::window::booked_hour(&record);
        // The kernel counts it for the tenant too; each container's in a series, for they do not read at one time.
        let mut whole = record.clone();
        (whole.series.container, whole.series.incarnation) = (None, u64::from(which));
        records.extend([whole, record]);
        refers_to += 2;
        if let Some(taken) = taken {
            let correction = Correction {
                refers_to,
                tenant: tenant(),
                container: Some(container(which)),
                hour,
                meter: Meter::CpuUsed,
                delta: -i128::from(taken.min(by)),
                reason: "a test".to_owned(),
                author: "ann".to_owned(),
            };
            let moment = Moment { boot_id: "boot".to_owned(), boot_ns: at, utc: Timestamp(0) };
            records.push(correction.record(&moment));
            refers_to += 1;
        }
    }
    records
}

/// Adds readings `(from, to]`, as an agent does; whether they were not there yet.
async fn deliver(db: &Db, records: &[ReadingRecord], from: usize, to: usize) -> bool {
    let mut sums = Sums::default();
    for record in &records[from..to] {
        sums.add(record).expect("small");
    }
    let additions: Vec<_> = sums
        .into_parts()
        .map(|part| {
            let taken = part.taken;
            Addition { hour: part.named("blue".to_owned(), "web".to_owned(), BTreeMap::new()), taken }
        })
        .collect();
    let seq = |at: usize| i64::try_from(at).expect("few");
    let mut tx = db.begin_unsynced().await.expect("begun");
    let is_new = usage::apply(&mut tx, &host(), seq(from), seq(to), &additions).await.expect("applied");
    tx.commit().await.expect("committed");
    is_new
}

/// Everything in the table.
async fn hours(db: &Db) -> Vec<UsageHour> {
    let query = UsageQuery { from: Timestamp(0), to: Timestamp(i64::MAX), container: None };
    let mut tx = db.read().await.expect("begun");
    usage::list(&mut tx, &Scope::All, &query, None, 1_000).await.expect("listed")
}

/// What is rated of it, as bytes.
fn rated(hours: &[UsageHour]) -> String {
    let groups = hours.chunk_by(|a, b| a.hour == b.hour).map(<[UsageHour]>::to_vec);
    format!("{:?}", groups.flat_map(attribute).collect::<Vec<_>>())
}

/// What the records alone say, without a store, as the bytes of what is rated.
fn rebuilt(records: &[ReadingRecord]) -> String {
    let mut sums = Sums::default();
    for record in records {
        sums.add(record).expect("small");
    }
    let mut rows: Vec<_> = sums
        .into_rated()
        .into_iter()
        .map(|row| UsageHour { tenant_name: "blue".to_owned(), container_name: "web".to_owned(), ..row })
        .collect();
    rows.sort_by_key(|row| (row.hour, row.container.clone(), row.meter.as_str()));
    format!("{rows:?}")
}

async fn clear(db: &Db) {
    let mut tx = db.begin_unsynced().await.expect("begun");
    usage::clear(&mut tx).await.expect("cleared");
    tx.commit().await.expect("committed");
}

#[test]
fn duplicates_reordering_and_late_delivery_give_the_same_bytes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", directory.path().join("store.db").display());
    let db = runtime.block_on(Db::connect(&url)).expect("a store");
    let cases = if std::env::var_os("WHARF_SOAK").is_some() { 100_000 } else { 2_000 };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let drawn = (0_u8..2, 0_u16..50, 0_u64..1_000, any::<bool>(), proptest::option::of(0_u64..1_000));
    let strategy = (
        proptest::collection::vec(drawn, 1..READINGS),
        proptest::collection::btree_set(1_usize..2 * READINGS, 0..6),
        proptest::collection::vec((any::<usize>(), any::<usize>()), 0..20),
    );
    let checked = TestRunner::new(config).run(&strategy, |(drawn, cuts, arrivals)| {
        let records = journal(&drawn);
        runtime.block_on(async {
            clear(&db).await;
            prop_assert!(deliver(&db, &records, 0, records.len()).await);
            let expected = hours(&db).await;
            prop_assert_eq!(rebuilt(&records), rated(&expected));
            prop_assert!(expected.iter().any(|row| row.container.is_none()) || expected.is_empty());
            clear(&db).await;
            let ends: Vec<_> =
                cuts.into_iter().filter(|cut| *cut < records.len()).chain([records.len()]).collect();
            let stretches: Vec<_> =
                std::iter::once(0).chain(ends.iter().copied()).zip(ends.iter().copied()).collect();
            // They come in any order, any number of times, also some that overlap; a sender goes on until
            // all were taken.
            for (first, last) in arrivals {
                let (from, _) = stretches[first % stretches.len()];
                let (_, to) = stretches[last % stretches.len()];
                if from < to {
                    deliver(&db, &records, from, to).await;
                }
            }
            loop {
                let at = usage::watermark(&mut db.one().await.expect("begun"), &host()).await.expect("reads");
                let at = usize::try_from(at).expect("few");
                let Some((from, to)) = stretches.iter().find(|(from, _)| *from == at) else { break };
                prop_assert!(deliver(&db, &records, *from, *to).await);
            }
            prop_assert_eq!(format!("{:?}", hours(&db).await), format!("{expected:?}"));
            Ok(())
        })
    });
    checked.expect("the hours are the same");
}
