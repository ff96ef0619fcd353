//! Walks a ledger record by record and finds the first that does not belong there.
//!
//! Needed are the records in order and the host's public key; kept is one record of each series that
//! goes on. What is proved of each record: its number follows; its hash is that of its content behind the
//! record before it; it continues its series ([`super::series`]); nothing follows the end of a series; a
//! checkpoint speaks for what is before it and is signed by the key; each start of the agent is signed at
//! once, and no record is more than an hour (of the boot clock) behind the last checkpoint of its boot. So
//! who has not the key can neither alter what is signed nor go on for long behind it. Of an earlier boot
//! only ends may come later: they were found when the host was up again.
//!
//! Gaps are listed and no fault: a power cut leaves one in each series that was open.

use std::collections::BTreeMap;

use wharf_shared::id::{ContainerId, HostId, TenantId};
use wharf_shared::reading::{ReadingKind, ReadingRecord, SeriesKey};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{Meter, Quality};

use super::checkpoint::{NoCheckpoint, Place, PublicKey};
use super::correction::Correction;
use super::record::Hash;
use super::series::{self, Fault};

/// A checkpoint is due after an hour; so much more may pass until the record that comes next.
pub const UNSIGNED_NS: u64 = 3_660 * 1_000_000_000;

/// A record of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number; the first is 1.
    pub seq: u64,
    /// Its hash, as it is said to be.
    pub hash: Hash,
    /// What it says.
    pub record: ReadingRecord,
}

/// The first record that does not belong where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {seq}: {what}: expected {expected}, found {found}")]
pub struct Broken {
    /// Number of the record.
    pub seq: u64,
    /// What does not hold.
    pub what: &'static str,
    /// What had to be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Broken {
    #[expect(clippy::needless_pass_by_value, reason = "numbers, words and texts are given as they come")]
    pub(super) fn new(seq: u64, what: &'static str, expected: impl ToString, found: impl ToString) -> Self {
        Self { seq, what, expected: expected.to_string(), found: found.to_string() }
    }
}

/// An end of a series without a last reading: what was used in it is not known and not billed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Number of the record.
    pub seq: u64,
    /// Whose.
    pub tenant: Option<TenantId>,
    /// The container; `None` for the tenant's whole cgroup.
    pub container: Option<ContainerId>,
    /// The last moment that is known.
    pub from: Timestamp,
    /// When it was found.
    pub to: Timestamp,
}

/// What a ledger without a fault holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Whose it is.
    pub host: HostId,
    /// Records, numbered 1 to this.
    pub records: u64,
    /// Hash of the last one.
    pub head: Hash,
    /// Series of containers and tenants.
    pub series: u64,
    /// Signed checkpoints.
    pub checkpoints: u64,
    /// Number of the last checkpoint: it and all before it are signed. 0 if there is none.
    pub signed_to: u64,
    /// Where readings are missing.
    pub gaps: Vec<Gap>,
    /// Counters that went down.
    pub resets: u64,
    /// Settings of the wall clock.
    pub clock_steps: u64,
    /// Corrections by a person.
    pub corrections: u64,
}

#[derive(Debug)]
struct Signed {
    boot_id: String,
    boot_ns: u64,
}

/// The walk.
#[derive(Debug)]
pub struct Verifier {
    key: Option<PublicKey>,
    wanted: Option<(u64, Hash)>,
    series: BTreeMap<SeriesKey, ReadingRecord>,
    /// The last checkpoint.
    signed: Option<Signed>,
    /// The record before says that the agent started.
    started: bool,
    seen: Summary,
}

impl Verifier {
    /// Begins before the first record of this host's ledger. Without a key no checkpoint is accepted, and
    /// none is needed.
    pub fn new(host: HostId, key: Option<PublicKey>) -> Self {
        let seen = Summary {
            head: Hash::genesis(&host),
            host,
            records: 0,
            series: 0,
            checkpoints: 0,
            signed_to: 0,
            gaps: Vec::new(),
            resets: 0,
            clock_steps: 0,
            corrections: 0,
        };
        Self { key, wanted: None, series: BTreeMap::new(), signed: None, started: false, seen }
    }

    /// The ledger has to have this record, as somebody saw it: its end was not cut off before it.
    pub const fn expect(&mut self, seq: u64, hash: Hash) {
        self.wanted = Some((seq, hash));
    }

    /// What was seen so far.
    pub const fn seen(&self) -> &Summary {
        &self.seen
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// When it does not belong there; nothing that comes behind it proves anything any more.
    pub fn record(&mut self, entry: &Entry) -> Result<(), Broken> {
        let Entry { seq, hash, record } = entry;
        let broken = |what, expected: String, found: String| Broken { seq: *seq, what, expected, found };
        let next = self.seen.records.saturating_add(1);
        if *seq != next {
            return Err(Broken::new(*seq, "its number does not follow the one before it", next, seq));
        }
        let computed = self.seen.head.next(*seq, record);
        if computed != *hash {
            let what = "its hash is not that of its content behind the record before it";
            return Err(Broken::new(*seq, what, computed, hash));
        }
        if let Some((_, wanted)) = self.wanted.filter(|(at, wanted)| at == seq && wanted != hash) {
            return Err(Broken::new(*seq, "it is not the record that was seen before", wanted, hash));
        }
        let kind = record.kind;
        let is_hosts = kind.is_of_host();
        if is_hosts != record.series.tenant.is_none() || (is_hosts && record.series.container.is_some()) {
            let owner = if is_hosts { "the host" } else { "a tenant" };
            let what = "it does not belong to whom its kind belongs";
            return Err(Broken::new(*seq, what, format!("{} of {owner}", kind.as_str()), "another series"));
        }
        if self.started && kind != ReadingKind::Checkpoint {
            return Err(Broken::new(
                *seq,
                "the start of the agent is not signed",
                "checkpoint",
                kind.as_str(),
            ));
        }
        self.check_signed(*seq, record)?;
        match kind {
            ReadingKind::Checkpoint => self.check_checkpoint(*seq, record)?,
            ReadingKind::Correction => {
                let said = Correction::of(record).filter(|said| said.refers_to < *seq && said.refers_to > 0);
                if said.is_none() {
                    let form = "a correction of a record before it".to_owned();
                    return Err(broken("it is no correction", form, format!("{:?}", record.source)));
                }
            }
            _ => {}
        }
        let before = self.series.get(&record.series);
        series::check(before, record)
            .map_err(|Fault { what, expected, found }| broken(what, expected, found))?;
        if !is_hosts {
            self.check_kind(*seq, record)?;
        }
        self.count(*seq, record);
        (self.seen.records, self.seen.head) = (*seq, *hash);
        Ok(())
    }

    /// Ends the walk.
    ///
    /// # Errors
    /// When the ledger ends too early, or nothing in it is signed.
    pub fn finish(self) -> Result<Summary, Broken> {
        let last = self.seen.records;
        let next = last.saturating_add(1);
        if self.started {
            return Err(Broken::new(next, "the start of the agent is not signed", "checkpoint", "nothing"));
        }
        if self.key.is_some() && self.seen.checkpoints == 0 {
            return Err(Broken::new(last, "nothing in the ledger is signed", "a checkpoint", "none"));
        }
        match self.wanted {
            Some((seq, hash)) if seq > last => {
                Err(Broken::new(seq, "the ledger ends before it", hash, format!("{last} records")))
            }
            _ => Ok(self.seen),
        }
    }

    /// Whether the last checkpoint is near enough.
    fn check_signed(&self, seq: u64, record: &ReadingRecord) -> Result<(), Broken> {
        let Some(signed) = &self.signed else { return Ok(()) };
        if matches!(record.kind, ReadingKind::HostStart | ReadingKind::Checkpoint) {
            return Ok(());
        }
        let wanted = "a checkpoint before it";
        let last = format!("the last one at {}", self.seen.signed_to);
        if record.series.boot_id != signed.boot_id {
            if record.kind.is_end() || record.kind == ReadingKind::Reset {
                return Ok(());
            }
            return Err(Broken::new(seq, "nothing of its boot is signed", wanted, last));
        }
        if record.t1_boot_ns > signed.boot_ns.saturating_add(UNSIGNED_NS) {
            return Err(Broken::new(seq, "nothing was signed for more than an hour", wanted, last));
        }
        Ok(())
    }

    fn check_checkpoint(&self, seq: u64, record: &ReadingRecord) -> Result<(), Broken> {
        let Some(key) = &self.key else {
            return Err(Broken::new(seq, "it is signed, and there is no key", "a key", "none"));
        };
        let before = (self.seen.signed_to > 0).then_some(self.seen.signed_to);
        let place = Place { before, seq, head: self.seen.head };
        place.check(&self.seen.host, key, record).map_err(|error| match error {
            NoCheckpoint::Misplaced { expected, found } => {
                Broken { seq, what: "it speaks for other records", expected, found }
            }
            NoCheckpoint::Signature { key, signature } => {
                let what = "what is before it was altered, or another key signed it";
                Broken::new(seq, what, format!("a signature by {key}"), signature)
            }
        })
    }

    /// Whether a reading of this kind may stand here in its series.
    fn check_kind(&self, seq: u64, record: &ReadingRecord) -> Result<(), Broken> {
        let kind = record.kind;
        let before = self.series.get(&record.series).map(|before| before.kind);
        let fault = |expected| Err(Broken::new(seq, "its kind does not follow", expected, kind.as_str()));
        let of_container = record.series.container.is_some();
        match (before, kind) {
            (None, ReadingKind::Open) | (Some(ReadingKind::Final), ReadingKind::FinalBlock) => Ok(()),
            // Its series is not kept: nothing of it was being written back.
            (None, _) => fault("open, or its series goes on behind its end"),
            (Some(ReadingKind::Final), _) if of_container => fault("final_blk or nothing"),
            (Some(_), ReadingKind::FinalBlock) => fault("final_blk only behind final"),
            (Some(_), _) => Ok(()),
        }
    }

    fn count(&mut self, seq: u64, record: &ReadingRecord) {
        let seen = &mut self.seen;
        self.started = record.kind == ReadingKind::HostStart;
        let one_more = |count: &mut u64| *count = count.saturating_add(1);
        match record.kind {
            ReadingKind::Open => one_more(&mut seen.series),
            ReadingKind::Reset => one_more(&mut seen.resets),
            ReadingKind::ClockStep => one_more(&mut seen.clock_steps),
            ReadingKind::Correction => one_more(&mut seen.corrections),
            ReadingKind::Gap => seen.gaps.push(Gap {
                seq,
                tenant: record.series.tenant.clone(),
                container: record.series.container.clone(),
                from: record.t0_utc,
                to: record.t1_utc,
            }),
            ReadingKind::Checkpoint => {
                one_more(&mut seen.checkpoints);
                seen.signed_to = seq;
                let (boot_id, boot_ns) = (record.series.boot_id.clone(), record.t1_boot_ns);
                self.signed = Some(Signed { boot_id, boot_ns });
            }
            _ => {}
        }
        if goes_on(record) {
            self.series.insert(record.series.clone(), record.clone());
        } else {
            self.series.remove(&record.series);
        }
    }
}

/// Whether anything can follow in this series. A tenant's cgroup comes back with its next container.
fn goes_on(record: &ReadingRecord) -> bool {
    let is_written_back = || {
        let writes = record.meter(Meter::BlockWrite);
        writes.is_some_and(|writes| writes.quality != Quality::NotMeasurable)
    };
    match record.kind {
        ReadingKind::Gap | ReadingKind::FinalBlock => false,
        ReadingKind::Final => record.series.container.is_none() || is_written_back(),
        _ => true,
    }
}
