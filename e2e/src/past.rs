//! A month that is over, for tests of what is done with one.
//!
//! Containers run now. So the readings of those that have ended are put into the journal once more as those of
//! another boot, two months ago, with a price book and a contract of that time. Everything from there on is the
//! agent's own work.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use wharf_shared::reading::ReadingRecord;
use wharf_shared::time::{DAY_US, Timestamp};
use wharf_store::journal::Journal;
use wharf_store::{Db, contracts, prices};

/// The tenth of the month before last, and that month's name.
pub fn past_month(now: Timestamp) -> Result<(Timestamp, String)> {
    let (year, month, _) = now.date();
    let (year, month) = if month > 2 { (year, month - 2) } else { (year - 1, month + 10) };
    let begin = Timestamp::from_date(year, month, 10).context("a date")?;
    Ok((begin, format!("{year:04}-{month:02}")))
}

/// Puts a book, a contract and the readings into a stopped agent's state as of the tenth of that month.
pub fn move_back(state_dir: &Path, begin: Timestamp, contract: &Value) -> Result<()> {
    let month = Timestamp(begin.0 - 9 * DAY_US);
    let book = json!({ "currency": "EUR", "effective_from": month, "price_unattributed": true, "prices": [
        { "meter": "cpu_used", "policy": "max", "unit": "Core-Hours", "unit_price": "3600" },
        { "meter": "memory_reserved", "unit": "GiB-Hours", "allowance": "0.0000001", "unit_price": "100" },
    ] });
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let nobody = "hst_00000000-0000-7000-8000-000000000000".parse().context("a host id")?;
        let journal = Journal::open(&state_dir.join("journal.db"), &nobody).await?;
        let count = u32::try_from(journal.last_seq().await?)?;
        let readings = journal.read_from(0, count).await?.into_iter().map(|(_, reading)| reading);
        journal.append_batch(&moved(readings.collect(), begin)?).await.context("append the readings")?;
        journal.close().await;
        let db = Db::connect(&format!("sqlite:{}", state_dir.join("wharf.db").display())).await?;
        let mut tx = db.begin().await?;
        let id = "prb_00000000-0000-7000-8000-000000000001".parse().context("an id")?;
        prices::insert(&mut tx, &id, &serde_json::from_value(book)?, month, "test").await?;
        let mut spec = contract.clone();
        spec["from"] = json!(month);
        let id = "ctr_00000000-0000-7000-8000-000000000001".parse().context("an id")?;
        contracts::insert(&mut tx, &id, &serde_json::from_value(spec)?, month, "test").await?;
        tx.commit().await?;
        db.close().await;
        Ok(())
    })
}

/// Readings of tenants' whole cgroups and of starts that have ended, as if the first had been at `begin`.
fn moved(readings: Vec<ReadingRecord>, begin: Timestamp) -> Result<Vec<ReadingRecord>> {
    let ended: BTreeSet<_> =
        readings.iter().filter(|of| of.kind.is_end()).map(|of| of.series.clone()).collect();
    let is_meant = |of: &ReadingRecord| {
        of.series.tenant.is_some() && (of.series.container.is_none() || ended.contains(&of.series))
    };
    let meant: Vec<_> = readings.into_iter().filter(is_meant).collect();
    let first = meant.iter().map(|reading| reading.t0_utc).min().context("a reading")?;
    let by_us = first.hour_start().0 - begin.0;
    Ok(meant.into_iter().map(|reading| earlier(reading, by_us)).collect())
}

/// A reading as it would have been so much earlier, after another boot.
fn earlier(reading: ReadingRecord, by_us: i64) -> ReadingRecord {
    let mut moved = reading;
    moved.series.boot_id = format!("{}-before", moved.series.boot_id);
    moved.t0_utc.0 -= by_us;
    moved.t1_utc.0 -= by_us;
    moved
}
