//! `wharf ledger`: where the host's ledger stands, all of it as a file, corrections, the proof that a copy
//! of it was not altered, and what the copy alone says was used.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Serialize;
use wharf_billing::ledger::checkpoint::PublicKey;
use wharf_billing::ledger::lines::Reader;
use wharf_billing::ledger::record::Hash;
use wharf_billing::ledger::verify::Summary;
use wharf_billing::window::Sums;
use wharf_shared::decimal::Decimal;
use wharf_shared::id::{ContainerId, HostId, TenantId};
use wharf_shared::ledger::{CorrectionSpec, CorrectionView, LedgerView};
use wharf_shared::metering::{HostReportView, RetireSpec};
use wharf_shared::reading::ReadingRecord;
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{Meter, Quality};

use super::{Shell, host, save};
use crate::output::{self, Table};

/// The ledger of years takes a while.
const EXPORT_TIMEOUT: Duration = Duration::from_hours(6);
/// What an SQLite file begins with (its format, section 1.2).
const SQLITE: &[u8] = b"SQLite format 3\0";
/// No record comes near this; a file of one endless line is none of a ledger.
const LINE_MAX: u64 = 16 << 20;

/// `wharf ledger`.
#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Show its head, its last checkpoint and the key that signs.
    Show,
    /// Write all records with their hashes as JSON lines.
    Export {
        /// Write it here instead of standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Prove, without an agent, that a copy of the ledger was not altered; names the first bad record and
    /// ends with 1.
    Verify(VerifyArguments),
    /// Compute each hour's usage, without an agent, from a copy of the ledger, which is proved as by `verify`:
    /// the rows that are billed.
    Hours(VerifyArguments),
    /// Put right what a reading counted, by a record of its own.
    Correct(CorrectArguments),
    /// List the hosts of the agent's store, and how far each has reported.
    Hosts,
    /// Say that a host will never report again, so that statements do not wait for it.
    Retire {
        /// Its id.
        host: HostId,
        /// Why; printed on the statements of the period in which it ended.
        #[arg(long)]
        reason: String,
    },
}

/// `wharf ledger verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// A file of `wharf ledger export`, or a copy of the journal (`journal.db`).
    path: PathBuf,
    /// The host's public key, from `wharf ledger show`; without it the file is held against the key it names itself.
    #[arg(long, value_name = "PUBLIC_KEY")]
    key: Option<PublicKey>,
    /// A record that the ledger has to have, as `wharf ledger show` or a statement said; then its end
    /// cannot have been cut off before it.
    #[arg(long, value_name = "SEQ:HASH", value_parser = head_of)]
    head: Option<(u64, Hash)>,
}

/// `wharf ledger correct`.
#[derive(Debug, Args)]
pub(crate) struct CorrectArguments {
    /// Number of the reading.
    seq: u64,
    /// Which meter, such as `cpu_used`.
    #[arg(long, value_parser = meter_of)]
    meter: Meter,
    /// How much more it was, in the meter's unit (`cpu_used`: nanoseconds); negative if it was less.
    #[arg(long, allow_hyphen_values = true)]
    delta: Decimal,
    /// Why.
    #[arg(long)]
    reason: String,
}

fn head_of(text: &str) -> Result<(u64, Hash), String> {
    let (seq, hash) = text.split_once(':').ok_or("write SEQ:HASH")?;
    let seq = seq.parse().map_err(|error| format!("{seq:?} is no number of a record: {error}"))?;
    Ok((seq, hash.parse().map_err(|error| format!("{hash:?} is no hash: {error}"))?))
}

fn meter_of(text: &str) -> Result<Meter, String> {
    let known = || Meter::ALL.map(Meter::as_str).join(", ");
    Meter::from_name(text).ok_or_else(|| format!("{text:?} is no meter; there are {}", known()))
}

/// Does one of these.
pub(crate) async fn ledger(shell: &Shell, command: LedgerCommand) -> Result<()> {
    match command {
        LedgerCommand::Show => {
            let view: LedgerView = shell.client()?.get(&["ledger"], &[]).await?;
            if shell.output.json { output::document(&view) } else { output::line(show(&view).trim_end()) }
        }
        LedgerCommand::Export { output } => {
            let client = shell.client()?;
            let request = client.request(Method::GET, &["ledger", "export"]).timeout(EXPORT_TIMEOUT);
            save(client.send(request).await?, output.as_deref()).await
        }
        LedgerCommand::Hosts => {
            let hosts: Vec<HostReportView> = shell.client()?.get(&["metering", "hosts"], &[]).await?;
            if shell.output.json {
                return output::document(&hosts);
            }
            let mut table = Table::new(&["HOST", "REPORTED", "RETIRED", "REASON"]);
            for host in hosts {
                let at = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
                let reason = host.reason.unwrap_or_default();
                table.row([host.host.to_string(), at(host.reported_at), at(host.retired_at), reason]);
            }
            output::write_out(table.render().as_bytes())
        }
        LedgerCommand::Retire { host, reason } => {
            let path = ["metering", "hosts", host.as_str(), "retire"];
            let view: HostReportView = shell.client()?.post(&path, &[], &RetireSpec { reason }).await?;
            shell.output.outcome(&view, view.host.as_str())
        }
        LedgerCommand::Verify(given) => verify(shell, &given),
        LedgerCommand::Hours(given) => hours(shell, &given),
        LedgerCommand::Correct(CorrectArguments { seq, meter, delta, reason }) => {
            let spec = CorrectionSpec { refers_to: seq, meter, delta, reason };
            let view: CorrectionView = shell.client()?.post(&["ledger", "corrections"], &[], &spec).await?;
            let done = format!(
                "record {}: {} of the hour {} is {} {} now",
                view.seq,
                view.meter.as_str(),
                view.hour,
                view.quantity,
                view.meter.unit()
            );
            shell.output.outcome(&view, &done)
        }
    }
}

fn show(view: &LedgerView) -> String {
    let mut table = Table::new(&["LEDGER", ""]);
    let signed = view.last_checkpoint.as_ref();
    for (name, value) in [
        ("host", view.host.to_string()),
        ("public key", view.public_key.clone()),
        ("head", format!("{}:{}", view.head_seq, view.head_hash)),
        ("signed to", signed.map_or("nothing".to_owned(), |last| format!("{} at {}", last.seq, last.at))),
        ("room for last readings", if view.reserve_is_whole { "kept" } else { "given up" }.to_owned()),
    ] {
        table.row([name.to_owned(), value]);
    }
    table.render()
}

#[derive(Serialize)]
struct Verified<'a> {
    host: &'a str,
    public_key: String,
    key_was_given: bool,
    records: u64,
    head_hash: String,
    series: u64,
    checkpoints: u64,
    signed_to: u64,
    resets: u64,
    clock_steps: u64,
    corrections: u64,
    gaps: Vec<VerifiedGap>,
}

#[derive(Serialize)]
struct VerifiedGap {
    seq: u64,
    tenant: Option<String>,
    container: Option<String>,
    from: String,
    to: String,
}

fn verify(shell: &Shell, given: &VerifyArguments) -> Result<()> {
    let (summary, key) = walk_copy(given, |_| Ok(()))?;
    tell(shell, &summary, &key, given.key.is_some())
}

/// An hour's usage as the ledger alone says it.
#[derive(Serialize)]
struct RebuiltRow {
    hour: Timestamp,
    tenant: TenantId,
    /// `null` for the tenant's use outside its containers.
    container: Option<ContainerId>,
    meter: &'static str,
    /// Text, because no reader of JSON keeps 128 bits of a number.
    quantity: String,
    unit: &'static str,
    quality: Quality,
}

fn hours(shell: &Shell, given: &VerifyArguments) -> Result<()> {
    let mut sums = Sums::default();
    walk_copy(given, |record| Ok(sums.add(record)?))?;
    let hours: Vec<_> = sums
        .into_rated()
        .into_iter()
        .map(|row| RebuiltRow {
            hour: row.hour,
            tenant: row.tenant,
            container: row.container,
            meter: row.meter.as_str(),
            quantity: row.quantity.to_string(),
            unit: row.meter.unit(),
            quality: row.quality,
        })
        .collect();
    shell.output.list(&hours, |hours| {
        let mut table = Table::new(&["HOUR", "TENANT", "CONTAINER", "METER", "QUANTITY", "UNIT", "QUALITY"]);
        for row in hours {
            table.row([
                row.hour.to_string(),
                row.tenant.to_string(),
                row.container.as_ref().map_or("unattributed", ContainerId::short).to_owned(),
                row.meter.to_owned(),
                row.quantity.clone(),
                row.unit.to_owned(),
                row.quality.as_str().to_owned(),
            ]);
        }
        table
    })
}

/// Walks a copy from its first to its last record; what `see` is given is proved as far as the copy goes.
fn walk_copy(
    given: &VerifyArguments,
    see: impl FnMut(&ReadingRecord) -> Result<()>,
) -> Result<(Summary, String)> {
    let path = &given.path;
    let what = || format!("verify {}", path.display());
    let mut file = File::open(path).with_context(what)?;
    let mut magic = [0; SQLITE.len()];
    let is_journal = file.read_exact(&mut magic).is_ok() && magic == SQLITE;
    if is_journal {
        walk_journal(path, given, see).with_context(what)
    } else {
        walk(File::open(path).with_context(what)?, given, see).with_context(what)
    }
}

/// The agent's program knows the file's form; what it says is proved here all the same.
fn walk_journal(
    path: &Path,
    given: &VerifyArguments,
    see: impl FnMut(&ReadingRecord) -> Result<()>,
) -> Result<(Summary, String)> {
    let program = host::agent_program();
    let mut agent = Command::new(&program)
        .args(["ledger", "export"])
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {} to read a journal", program.display()))?;
    let mut out = agent.stdout.take().context("read what it says")?;
    let walked = walk(&mut out, given, see);
    // Where the walk stopped first, the program fails for want of a reader: that is no failure of its own.
    let stopped_first = walked.is_err() && out.read(&mut [0]).is_ok_and(|more| more > 0);
    drop(out);
    let ended = agent.wait().context("wait for it")?;
    match walked {
        Err(_) if !stopped_first && ended.code() == Some(1) => bail!("the journal cannot be read"),
        Err(error) => Err(error),
        Ok(found) => {
            ensure!(ended.success(), "the journal cannot be read to its end");
            Ok(found)
        }
    }
}

fn walk(
    input: impl Read,
    given: &VerifyArguments,
    mut see: impl FnMut(&ReadingRecord) -> Result<()>,
) -> Result<(Summary, String)> {
    let mut lines = Reader::new(given.key, given.head);
    let mut input = BufReader::with_capacity(1 << 16, input);
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if let Some(record) = lines.line(&line)? {
            see(&record)?;
        }
    }
    let key = lines.key().map(|key| key.to_string()).unwrap_or_default();
    Ok((lines.finish()?, key))
}

fn tell(shell: &Shell, summary: &Summary, key: &str, key_was_given: bool) -> Result<()> {
    if shell.output.json {
        let gaps = summary.gaps.iter().map(|gap| VerifiedGap {
            seq: gap.seq,
            tenant: gap.tenant.as_ref().map(ToString::to_string),
            container: gap.container.as_ref().map(ToString::to_string),
            from: gap.from.to_string(),
            to: gap.to.to_string(),
        });
        return output::document(&Verified {
            host: summary.host.as_str(),
            public_key: key.to_owned(),
            key_was_given,
            records: summary.records,
            head_hash: summary.head.to_string(),
            series: summary.series,
            checkpoints: summary.checkpoints,
            signed_to: summary.signed_to,
            resets: summary.resets,
            clock_steps: summary.clock_steps,
            corrections: summary.corrections,
            gaps: gaps.collect(),
        });
    }
    let unsigned = summary.records.saturating_sub(summary.signed_to);
    let mut lines = vec![
        format!(
            "the ledger of {} is whole: {} records of {} series, {} checkpoints",
            summary.host, summary.records, summary.series, summary.checkpoints
        ),
        format!(
            "signed to record {}; the {unsigned} behind it are chained, and the next checkpoint signs them",
            summary.signed_to
        ),
        format!("head {}:{}", summary.records, summary.head),
        format!(
            "{} gaps, {} resets, {} settings of the clock, {} corrections",
            summary.gaps.len(),
            summary.resets,
            summary.clock_steps,
            summary.corrections
        ),
    ];
    for gap in &summary.gaps {
        let whose = match (&gap.container, &gap.tenant) {
            (Some(container), _) => format!("container {container}"),
            (None, Some(tenant)) => format!("tenant {tenant}"),
            (None, None) => "the host".to_owned(),
        };
        lines.push(format!("gap {}: {whose}, from {} to {}", gap.seq, gap.from, gap.to));
    }
    lines.push(if key_was_given {
        format!("signed by {key}")
    } else {
        format!("signed by {key}, which the file names itself: compare it with `wharf ledger show`")
    });
    output::line(&lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_a_number_and_a_hash() {
        let hash = "ab".repeat(32);
        let (seq, found) = head_of(&format!("7:{hash}")).expect("a head");
        assert_eq!((seq, found.to_string()), (7, hash));
        for bad in ["7", "x:y", "7:zz", ":"] {
            assert!(head_of(bad).is_err(), "{bad}");
        }
    }
}
