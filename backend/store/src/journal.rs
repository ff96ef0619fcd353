//! The host's journal: meter readings, append-only, in a file of their own.
//!
//! A reading that [`Journal::append_batch`] has returned is on the disk (`synchronous = FULL`).
//! Readings are numbered without gaps; triggers refuse to change or remove one. The same reading
//! appended again (same series, kind and end) changes nothing, so that a final reading may be
//! recorded twice after a crash. A reading that does not continue its series exactly
//! (`cum - delta` is not `cum` of the one before) is refused: it would count something twice or
//! lose it.
//!
//! The agent that holds the state directory is the only one that appends. So the last reading of each
//! series that goes on is kept in memory: a reading costs one statement, not three.
//!
//! Some room on the disk is kept free for the last readings of what runs: see [`Journal::has_room`].

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::migrate::Migrator;
use wharf_shared::id::{ContainerId, HostId};
use wharf_shared::reading::{ReadingKind, ReadingRecord, SeriesKey};
use wharf_shared::usage::Meter;

use crate::db::{Durability, SqliteFile, Tx};
use crate::error::StoreError;
use crate::reserve::Reserve;
use crate::row::{Row, Value, args, json};
use crate::statement::statements;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/journal");

/// Readings that [`Journal::verify`] takes at a time.
const VERIFY_BATCH: u32 = 1_000;

/// What became of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It has this number now.
    New(i64),
    /// It was there already, under this number.
    Duplicate(i64),
}

impl Appended {
    /// The reading's number.
    pub const fn seq(self) -> i64 {
        match self {
            Self::New(seq) | Self::Duplicate(seq) => seq,
        }
    }
}

/// What [`Journal::verify`] saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Readings, numbered 1 to this.
    pub readings: i64,
    /// Series among them.
    pub series: usize,
}

/// A host's journal.
#[derive(Debug, Clone)]
pub struct Journal {
    file: SqliteFile,
    host: HostId,
    reserve: Reserve,
    /// Of the series that this handle appended to and that go on.
    latest: Arc<Mutex<HashMap<SeriesKey, ReadingRecord>>>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT seq, boot_id, tenant, container, incarnation, kind, t0_boot_ns, t1_boot_ns, t0_utc_us, ",
            "t1_utc_us, meters, limits, source FROM readings ",
            $rest
        )
    };
}

statements! {
    HOST = "SELECT id FROM host";
    SET_HOST = "INSERT INTO host (only, id) VALUES (1, $1)";
    LAST_SEQ = "SELECT COALESCE(MAX(seq), 0) AS seq FROM readings";
    APPEND = "INSERT INTO readings (seq, boot_id, tenant, container, incarnation, kind, t0_boot_ns, \
        t1_boot_ns, t0_utc_us, t1_utc_us, meters, limits, source) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    SAME = select!("WHERE boot_id = $1 AND tenant = $2 AND container = $3 AND incarnation = $4 \
        AND t1_boot_ns = $5 AND kind = $6");
    LAST_OF_SERIES = select!("WHERE boot_id = $1 AND tenant = $2 AND container = $3 AND incarnation = $4 \
        ORDER BY seq DESC LIMIT 1");
    LAST_OF_CONTAINER = select!("WHERE container = $1 AND incarnation = $2 ORDER BY seq DESC LIMIT 1");
    UNFINISHED = select!("AS r WHERE container <> '' AND kind NOT IN ('final', 'final_blk', 'gap') \
        AND NOT EXISTS (SELECT 1 FROM readings AS later WHERE later.container = r.container \
            AND later.incarnation = r.incarnation AND later.seq > r.seq) ORDER BY seq");
    READ_FROM = select!("WHERE seq > $1 ORDER BY seq LIMIT $2");
}

fn record(row: &Row) -> Result<(i64, ReadingRecord), StoreError> {
    Ok((
        row.integer("seq")?,
        ReadingRecord {
            series: SeriesKey {
                boot_id: row.text("boot_id")?,
                tenant: row.optional_parsed("tenant")?,
                container: row.optional_parsed("container")?,
                incarnation: row.number("incarnation")?,
            },
            kind: row.word("kind", ReadingKind::from_name)?,
            t0_boot_ns: row.number("t0_boot_ns")?,
            t1_boot_ns: row.number("t1_boot_ns")?,
            t0_utc: row.time("t0_utc_us")?,
            t1_utc: row.time("t1_utc_us")?,
            meters: row.json("meters")?,
            limits: row.json("limits")?,
            source: row.json("source")?,
        },
    ))
}

fn series_values(series: &SeriesKey) -> Vec<Value> {
    args![
        &series.boot_id,
        series.tenant.as_ref().map_or("", |tenant| tenant.as_str()),
        series.container.as_ref().map_or("", |container| container.as_str()),
        series.incarnation,
    ]
}

impl Journal {
    /// Opens the journal at this path, or makes it for the host `new_host`. An existing journal
    /// keeps its host: see [`Journal::host`].
    pub async fn open(path: &Path, new_host: &HostId) -> Result<Self, StoreError> {
        let file = SqliteFile::open(path, &MIGRATIONS).await?;
        let mut tx = file.begin(Durability::Synced).await?;
        let known = tx.row(HOST, args![]).await?.map(|row| row.parsed("id")).transpose()?;
        let host = if let Some(host) = known {
            host
        } else {
            tx.execute(SET_HOST, args![new_host]).await?;
            new_host.clone()
        };
        tx.commit().await?;
        let reserve = Reserve::beside(path);
        // Without it nothing starts; that is found when something shall.
        reserve.ensure().await;
        Ok(Self { file, host, reserve, latest: Arc::default() })
    }

    /// The host whose journal it is.
    pub const fn host(&self) -> &HostId {
        &self.host
    }

    /// Whether the room that is kept for last readings is there. When it had to be given up, this
    /// takes it back as soon as the disk has as much; until then nothing should start.
    pub async fn has_room(&self) -> bool {
        self.reserve.ensure().await
    }

    /// As [`Journal::append_batch`], for readings that cannot be taken again: on a full disk it is tried
    /// once more in the room that was kept.
    pub async fn append_last(&self, readings: &[ReadingRecord]) -> Result<Vec<Appended>, StoreError> {
        match self.append_batch(readings).await {
            Err(StoreError::Full(_)) if self.reserve.give_up().await => self.append_batch(readings).await,
            appended => appended,
        }
    }

    /// Appends readings in one durable transaction: all of them or none.
    pub async fn append_batch(&self, readings: &[ReadingRecord]) -> Result<Vec<Appended>, StoreError> {
        if readings.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.file.begin(Durability::Synced).await?;
        let mut last = last_seq(&mut tx).await?;
        let mut appended = Vec::with_capacity(readings.len());
        // Taken out until the commit: if that fails, or nobody learns of it, the file is asked.
        let mut latest: HashMap<&SeriesKey, ReadingRecord> = HashMap::new();
        for reading in readings {
            latest.extend(self.latest().remove(&reading.series).map(|known| (&reading.series, known)));
        }
        for reading in readings {
            let known = latest.get(&reading.series);
            // What ends after everything that is known of its series is no reading of long ago.
            let before = match known {
                Some(known) if known.t1_boot_ns < reading.t1_boot_ns => Some(known.clone()),
                _ => {
                    let mut key = series_values(&reading.series);
                    key.extend(args![reading.t1_boot_ns, reading.kind.as_str()]);
                    if let Some(row) = tx.row(SAME, key).await? {
                        appended.push(Appended::Duplicate(row.integer("seq")?));
                        continue;
                    }
                    last_of_series(&mut tx, &reading.series).await?.map(|(_, reading)| reading)
                }
            };
            let seq = last + 1;
            check(seq, before.as_ref(), reading)?;
            let mut values = args![seq];
            values.extend(series_values(&reading.series));
            values.extend(args![
                reading.kind.as_str(),
                reading.t0_boot_ns,
                reading.t1_boot_ns,
                reading.t0_utc,
                reading.t1_utc,
                json("meters", &reading.meters)?,
                json("limits", &reading.limits)?,
                json("source", &reading.source)?,
            ]);
            tx.execute(APPEND, values).await?;
            last = seq;
            appended.push(Appended::New(seq));
            latest.insert(&reading.series, reading.clone());
        }
        tx.commit().await?;
        let going_on = latest.into_iter().filter(|(_, reading)| !reading.kind.is_end());
        self.latest().extend(going_on.map(|(series, reading)| (series.clone(), reading)));
        Ok(appended)
    }

    fn latest(&self) -> MutexGuard<'_, HashMap<SeriesKey, ReadingRecord>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of the last reading, 0 before the first.
    pub async fn last_seq(&self) -> Result<i64, StoreError> {
        last_seq(&mut self.file.read().await?).await
    }

    /// The last reading of this start of a container, in whichever boot it was.
    pub async fn last_reading(
        &self,
        container: &ContainerId,
        incarnation: u64,
    ) -> Result<Option<(i64, ReadingRecord)>, StoreError> {
        let mut tx = self.file.one().await?;
        let row = tx.row(LAST_OF_CONTAINER, args![container, incarnation]).await?;
        row.as_ref().map(record).transpose()
    }

    /// The last reading of a series.
    pub async fn last_of_series(
        &self,
        series: &SeriesKey,
    ) -> Result<Option<(i64, ReadingRecord)>, StoreError> {
        last_of_series(&mut self.file.one().await?, series).await
    }

    /// The last reading of every start of a container that has neither a final reading nor a gap:
    /// what is to be adopted or closed after a crash.
    pub async fn unfinished(&self) -> Result<Vec<(i64, ReadingRecord)>, StoreError> {
        let mut tx = self.file.read().await?;
        tx.rows(UNFINISHED, args![]).await?.iter().map(record).collect()
    }

    /// Readings after this number, in order.
    pub async fn read_from(&self, after: i64, limit: u32) -> Result<Vec<(i64, ReadingRecord)>, StoreError> {
        let mut tx = self.file.one().await?;
        tx.rows(READ_FROM, args![after, limit]).await?.iter().map(record).collect()
    }

    /// Reads everything and proves that numbers have no gap and that in each series the sum of
    /// differences is what the cumulative values rose by.
    pub async fn verify(&self) -> Result<Verified, StoreError> {
        let mut tx = self.file.read().await?;
        let mut seen = Verified::default();
        let mut series: BTreeMap<SeriesKey, (ReadingRecord, Sums)> = BTreeMap::new();
        loop {
            let rows = tx.rows(READ_FROM, args![seen.readings, VERIFY_BATCH]).await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                let (seq, reading) = record(row)?;
                if seq != seen.readings + 1 {
                    return Err(StoreError::Broken { seq, what: "the number before it is missing" });
                }
                seen.readings = seq;
                let before = series.remove(&reading.series);
                check(seq, before.as_ref().map(|(reading, _)| reading), &reading)?;
                let mut sums = before.map(|(_, sums)| sums).unwrap_or_default();
                sums.add(seq, &reading)?;
                series.insert(reading.series.clone(), (reading, sums));
            }
        }
        seen.series = series.len();
        Ok(seen)
    }

    /// Closes the file.
    pub async fn close(&self) {
        self.file.close().await;
    }

    /// Prepares every statement; an error names the first that is refused.
    pub async fn check_statements(&self) -> Result<usize, StoreError> {
        let mut tx = self.file.read().await?;
        for statement in STATEMENTS {
            tx.prepare(statement).await?;
        }
        Ok(STATEMENTS.len())
    }
}

/// Sum of differences and first cumulative value of each meter of a series.
#[derive(Debug, Default)]
struct Sums(BTreeMap<Meter, (u128, u128)>);

impl Sums {
    /// The telescoping law: differences so far add up to what the counter rose by.
    fn add(&mut self, seq: i64, reading: &ReadingRecord) -> Result<(), StoreError> {
        let broken = || StoreError::Broken { seq, what: "differences do not add up to the cumulative value" };
        for meter in &reading.meters {
            let first = meter.cum.checked_sub(meter.delta).ok_or_else(broken)?;
            let (first, sum) = self.0.entry(meter.meter).or_insert((first, 0));
            *sum = sum.checked_add(meter.delta).ok_or_else(broken)?;
            if first.checked_add(*sum) != Some(meter.cum) {
                return Err(broken());
            }
        }
        Ok(())
    }
}

async fn last_seq(tx: &mut Tx) -> Result<i64, StoreError> {
    tx.row(LAST_SEQ, args![]).await?.ok_or(StoreError::corrupt("seq"))?.integer("seq")
}

async fn last_of_series(tx: &mut Tx, series: &SeriesKey) -> Result<Option<(i64, ReadingRecord)>, StoreError> {
    tx.row(LAST_OF_SERIES, series_values(series)).await?.as_ref().map(record).transpose()
}

/// Whether a reading continues its series.
fn check(seq: i64, before: Option<&ReadingRecord>, reading: &ReadingRecord) -> Result<(), StoreError> {
    let broken = |what| Err(StoreError::Broken { seq, what });
    if reading.t1_boot_ns < reading.t0_boot_ns {
        return broken("it ends before it begins");
    }
    for (at, meter) in reading.meters.iter().enumerate() {
        if reading.meters.iter().take(at).any(|other| other.meter == meter.meter) {
            return broken("it has a meter twice");
        }
        let Some(start) = meter.cum.checked_sub(meter.delta) else {
            return broken("a difference is greater than its cumulative value");
        };
        let earlier = before.and_then(|before| before.meter(meter.meter));
        if earlier.is_some_and(|earlier| earlier.cum != start) {
            return broken("it does not continue from the cumulative value before it");
        }
    }
    if let Some(before) = before {
        if reading.kind == ReadingKind::Open {
            return broken("its series was opened before");
        }
        if reading.t0_boot_ns < before.t1_boot_ns {
            return broken("it begins before the one before it ended");
        }
        if before.meters.iter().any(|earlier| reading.meter(earlier.meter).is_none()) {
            return broken("a meter of the one before it is missing");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wharf_shared::reading::{MeterReading, ReadingLimits};
    use wharf_shared::time::Timestamp;
    use wharf_shared::usage::Quality;

    use super::*;

    fn reading(t0: u64, t1: u64, cum: u128, delta: u128) -> ReadingRecord {
        let meter = Meter::CpuUsed;
        ReadingRecord {
            series: SeriesKey {
                boot_id: "b".to_owned(),
                tenant: None,
                container: "c".repeat(64).parse().ok(),
                incarnation: 1,
            },
            kind: ReadingKind::Periodic,
            t0_boot_ns: t0,
            t1_boot_ns: t1,
            t0_utc: Timestamp(0),
            t1_utc: Timestamp(0),
            meters: vec![MeterReading { meter, raw: None, cum, delta, quality: Quality::Measured }],
            limits: ReadingLimits::default(),
            source: BTreeMap::new(),
        }
    }

    #[test]
    fn a_reading_that_counts_something_twice_or_loses_it_is_refused() {
        let before = reading(0, 10, 100, 100);
        assert!(check(2, Some(&before), &reading(10, 20, 150, 50)).is_ok());
        for bad in [
            reading(10, 20, 150, 51),
            reading(10, 20, 150, 49),
            reading(10, 20, 90, 0),
            reading(9, 20, 150, 50),
            reading(20, 10, 150, 50),
            reading(10, 20, 10, 50),
        ] {
            assert!(check(2, Some(&before), &bad).is_err(), "{bad:?}");
        }
        let missing = ReadingRecord { meters: Vec::new(), ..reading(10, 20, 0, 0) };
        assert!(check(2, Some(&before), &missing).is_err());
        let twice = reading(10, 20, 150, 50);
        let twice = ReadingRecord { meters: [twice.meters.clone(), twice.meters].concat(), ..before.clone() };
        assert!(check(1, None, &twice).is_err());
    }

    proptest! {
        #[test]
        fn the_differences_of_every_accepted_series_add_up(
            start in 0_u128..1_000, deltas in proptest::collection::vec(0_u128..1_000, 1..40)
        ) {
            let (mut sums, mut cum, mut before) = (Sums::default(), start, None);
            for (at, delta) in (0_u64..).zip(deltas.iter().copied()) {
                cum += delta;
                let next = reading(at, at + 1, cum, delta);
                prop_assert!(check(1, before.as_ref(), &next).is_ok());
                prop_assert!(sums.add(1, &next).is_ok());
                before = Some(next);
            }
            prop_assert_eq!(deltas.iter().sum::<u128>(), cum - start);
            let wrong = reading(100, 101, cum + 2, 1);
            prop_assert!(sums.add(1, &wrong).is_err());
        }
    }
}
