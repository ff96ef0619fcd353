//! Finds the readings of single hours among very many, without an index by time.
//!
//! What orders readings already is enough. Checkpoints come before the first record of each hour, so they tell which
//! stretch of the journal an hour was written in; and the readings of one start are by series in an index, in their
//! order. Both are looked up once, and then each hour costs its own readings. Where the wall clock was set, an hour
//! was written in more than one stretch, and all from the first to the last are looked at.

use std::collections::HashMap;

use wharf_billing::ledger::correction::Correction;
use wharf_shared::id::{ContainerId, TenantId};
use wharf_shared::reading::ReadingRecord;
use wharf_shared::time::Timestamp;
use wharf_shared::usage::Meter;

use super::{Journal, record};
use crate::error::StoreError;
use crate::row::args;
use crate::statement::statements;

/// Readings that are in memory at a time.
const BATCH: u32 = 500;

statements! {
    CHECKPOINTS = "SELECT seq, t1_utc_us FROM readings WHERE kind = 'checkpoint' ORDER BY seq";
    CORRECTIONS = super::select!("WHERE container = '' AND incarnation = 0 AND tenant = '' \
        AND kind = 'correction' ORDER BY seq");
    NEXT_START = "SELECT incarnation FROM readings WHERE container = $1 AND incarnation > $2 \
        ORDER BY incarnation LIMIT 1";
    NEXT_BOOT = "SELECT boot_id FROM readings WHERE container = $1 AND incarnation = $2 AND tenant = $3 \
        AND boot_id > $4 ORDER BY boot_id LIMIT 1";
    FIRST = "SELECT seq, t0_utc_us FROM readings WHERE container = $1 AND incarnation = $2 AND tenant = $3 AND boot_id = $4 \
        ORDER BY seq LIMIT 1";
    LAST = "SELECT seq FROM readings WHERE container = $1 AND incarnation = $2 AND tenant = $3 AND boot_id = $4 \
        ORDER BY seq DESC LIMIT 1";
    OF_SERIES = super::select!("WHERE container = $1 AND incarnation = $2 AND tenant = $3 AND boot_id = $4 \
        AND seq > $5 ORDER BY seq LIMIT $6");
}

/// One series, and where in the journal it is.
#[derive(Debug, Clone)]
struct Span {
    incarnation: i64,
    boot_id: String,
    first: i64,
    begins: Timestamp,
    last: i64,
}

type Of = (TenantId, Option<ContainerId>);

/// What is known of where readings are; for one request, as the journal grows.
#[derive(Debug)]
pub struct Seek {
    journal: Journal,
    checkpoints: Vec<(i64, Timestamp)>,
    corrections: Vec<(i64, Correction)>,
    spans: HashMap<Of, Vec<Span>>,
}

impl Journal {
    /// Begins to look for readings of hours.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn seek(&self) -> Result<Seek, StoreError> {
        let mut tx = self.file.read().await?;
        let rows = tx.rows(CHECKPOINTS, args![]).await?;
        let checkpoints = rows.iter().map(|row| Ok((row.integer("seq")?, row.time("t1_utc_us")?)));
        let checkpoints = checkpoints.collect::<Result<_, StoreError>>()?;
        let mut corrections = Vec::new();
        for row in tx.rows(CORRECTIONS, args![]).await? {
            let (seq, record) = record(&row)?;
            corrections.extend(Correction::of(&record).map(|correction| (seq, correction)));
        }
        Ok(Seek { journal: self.clone(), checkpoints, corrections, spans: HashMap::new() })
    }
}

impl Seek {
    /// What persons have corrected of a row of usage, with the numbers of the records.
    pub fn corrections<'a>(
        &'a self,
        tenant: &'a TenantId,
        container: Option<&'a ContainerId>,
        hour: Timestamp,
        meter: Meter,
    ) -> impl Iterator<Item = &'a (i64, Correction)> {
        self.corrections.iter().filter(move |(_, of)| {
            (&of.tenant, of.container.as_ref(), of.hour, of.meter) == (tenant, container, hour, meter)
        })
    }

    /// Shows `take` every reading of a container, or of a tenant's whole cgroup, that touches `[from, to]`: start by
    /// start, each in its order.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn readings(
        &mut self,
        tenant: &TenantId,
        container: Option<&ContainerId>,
        (from, to): (Timestamp, Timestamp),
        mut take: impl FnMut(i64, &ReadingRecord),
    ) -> Result<(), StoreError> {
        let (after, until) = stretch(&self.checkpoints, from, to);
        let of = (tenant.clone(), container.cloned());
        if !self.spans.contains_key(&of) {
            let spans = self.look_up(&of).await?;
            self.spans.insert(of.clone(), spans);
        }
        let spans = self.spans.get(&of).into_iter().flatten();
        // One that begins behind the stretch may have been written late as a whole.
        for span in spans.filter(|span| span.last > after && (span.first <= until || span.begins < to)) {
            let mut at = after;
            'series: loop {
                let mut tx = self.journal.file.one().await?;
                let mut values = args![text(container), span.incarnation, tenant, &span.boot_id];
                values.extend(args![at, BATCH]);
                let rows = tx.rows(OF_SERIES, values).await?;
                if rows.is_empty() {
                    break;
                }
                for row in &rows {
                    let (seq, reading) = record(row)?;
                    at = seq;
                    // One that began in the hour may have been written long after it, but none after that.
                    if seq > until && reading.t0_utc >= to {
                        break 'series;
                    }
                    // One over a clock that was set back ends before it begins, and is booked to where it begins.
                    if reading.t0_utc < to && reading.t0_utc.max(reading.t1_utc) >= from {
                        take(seq, &reading);
                    }
                }
            }
        }
        Ok(())
    }

    /// The series of a container's starts, or of a tenant's cgroup in each boot, in their order.
    async fn look_up(&self, (tenant, container): &Of) -> Result<Vec<Span>, StoreError> {
        let mut tx = self.journal.file.read().await?;
        let container = text(container.as_ref());
        let (mut spans, mut incarnation) = (Vec::new(), -1);
        while let Some(row) = tx.row(NEXT_START, args![container, incarnation]).await? {
            incarnation = row.integer("incarnation")?;
            let mut boot_id = String::new();
            while let Some(row) = tx.row(NEXT_BOOT, args![container, incarnation, tenant, &boot_id]).await? {
                boot_id = row.text("boot_id")?;
                let of = || args![container, incarnation, tenant, &boot_id];
                let [first, last] = [tx.row(FIRST, of()).await?, tx.row(LAST, of()).await?];
                let (Some(first), Some(last)) = (first, last) else { return Err(StoreError::corrupt("seq")) };
                spans.push(Span {
                    incarnation,
                    first: first.integer("seq")?,
                    begins: first.time("t0_utc_us")?,
                    last: last.integer("seq")?,
                    boot_id: boot_id.clone(),
                });
            }
        }
        spans.sort_by_key(|span| span.first);
        Ok(spans)
    }
}

fn text(container: Option<&ContainerId>) -> &str {
    container.map_or("", ContainerId::as_str)
}

/// After which number, and until which, readings that were taken in `[from, to]` may have been written.
fn stretch(checkpoints: &[(i64, Timestamp)], from: Timestamp, to: Timestamp) -> (i64, i64) {
    let begins = std::iter::once(&(0, Timestamp(i64::MIN))).chain(checkpoints);
    let ends = checkpoints.iter().chain(std::iter::once(&(i64::MAX, Timestamp(i64::MAX))));
    let touched =
        begins.zip(ends).filter(|((_, begin), (_, end))| begin.min(end) <= &to && begin.max(end) >= &from);
    touched.fold((i64::MAX, 0), |(after, until), ((begin, _), (end, _))| (after.min(*begin), until.max(*end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_where_its_checkpoints_say_however_the_clock_was_set() {
        let at = |checkpoints: &[(i64, i64)], from, to| {
            let checkpoints: Vec<_> = checkpoints.iter().map(|(seq, at)| (*seq, Timestamp(*at))).collect();
            stretch(&checkpoints, Timestamp(from), Timestamp(to))
        };
        let steady = [(10, 100), (20, 200), (30, 300)];
        assert_eq!(at(&steady, 210, 290), (20, 30));
        assert_eq!(at(&steady, 200, 300), (10, i64::MAX), "what is at an edge may be on either side");
        assert_eq!(at(&steady, 0, 50), (0, 10));
        assert_eq!(at(&steady, 310, 400), (30, i64::MAX));
        assert_eq!(at(&[], 5, 6), (0, i64::MAX));
        // Set back by 250 at 30, and gone on with.
        let back = [(10, 100), (20, 200), (30, 50), (40, 150), (50, 250)];
        assert_eq!(at(&back, 110, 140), (10, 40), "that hour came twice");
    }
}
