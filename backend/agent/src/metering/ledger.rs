//! The host's own facts in the ledger: starts and stops of the agent, settings of the wall clock, corrections,
//! and the checkpoints that sign everything.
//!
//! A checkpoint comes before the first record of each hour, at each start and at an orderly stop. The key
//! that signs is made at the first start and stays in the state directory, readable by root alone.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use ring::signature::{Ed25519KeyPair, KeyPair};
use wharf_billing::ledger::checkpoint::{Moment, PublicKey};
use wharf_billing::ledger::correction::Correction;
use wharf_billing::ledger::verify::Entry;
use wharf_shared::id::ContainerId;
use wharf_shared::ledger::{LedgerCheckpointView, LedgerView};
use wharf_shared::metering::{FaultView, MeteringView};
use wharf_shared::reading::{ReadingKind, ReadingRecord, SeriesKey};
use wharf_shared::time::Timestamp;
use wharf_store::journal::{Appended, Faults};
use wharf_store::{Db, Scope, StoreError, containers};

use super::Metering;
use super::series::Series;
use crate::error::{Result, ServiceError, chain};

/// File in the state directory.
const KEY_FILE: &str = "ledger.key";
/// A checkpoint is due so long after the last one, by the boot clock.
const SIGNED_EVERY_NS: u64 = 3_600 * 1_000_000_000;
/// A wall clock that moves by more than this against the boot clock was set.
const STEP_US: i128 = 1_000_000;
/// Two clocks are read together if no more than this passes between; a busy machine may need some tries.
const TOGETHER_NS: u64 = 50_000_000;
const TRIES: u32 = 5;
/// In a start's or step's source: by how much the wall clock moved.
const STEP: &str = "step_us";

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("cannot make the host's key {}", path.display())]
    Make { path: PathBuf, source: std::io::Error },
    #[error("cannot read the host's key {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is no key: it has to have 64 hexadecimal digits", path.display())]
    Malformed { path: PathBuf },
    #[error(
        "the host's key {} is gone, and the journal is signed with it: put it back, or move the journal away to \
         begin a new one", path.display()
    )]
    Gone { path: PathBuf },
}

/// What signs checkpoints.
pub(crate) struct HostKey(Ed25519KeyPair);

impl HostKey {
    /// The key in this directory; made if there is none and nothing was signed with it yet.
    pub(crate) fn load(state_dir: &Path, was_used: bool) -> Result<Self, KeyError> {
        let path = state_dir.join(KEY_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && was_used => {
                return Err(KeyError::Gone { path });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make(state_dir, &path).map_err(|source| KeyError::Make { path: path.clone(), source })?
            }
            Err(source) => return Err(KeyError::Read { path, source }),
        };
        let mut seed = [0; 32];
        let pair = match hex::decode_to_slice(text.trim_end(), &mut seed) {
            Ok(()) => Ed25519KeyPair::from_seed_unchecked(&seed).ok(),
            Err(_) => None,
        };
        pair.map(Self).ok_or(KeyError::Malformed { path })
    }

    /// Its other half, for who verifies.
    pub(crate) fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey::new(bytes)
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.0.sign(message).as_ref());
        bytes
    }
}

/// A key is there whole or not at all, whenever the power fails.
fn make(state_dir: &Path, path: &Path) -> std::io::Result<String> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let text = format!("{}\n", hex::encode(seed));
    let fresh = path.with_extension("key.new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    File::open(state_dir)?.sync_all()?;
    Ok(text)
}

/// What of the ledger is kept in mind.
#[derive(Debug, Default)]
pub(super) struct Mind {
    signed: Option<Signed>,
    /// The wall clock less the boot clock, in µs, at the last look.
    offset_us: Option<i128>,
}

#[derive(Debug, Clone, Copy)]
struct Signed {
    boot_ns: u64,
    hour: Timestamp,
}

/// Whether the hour of the last checkpoint is over, by either clock.
fn is_due(last: Option<Signed>, now: &Moment) -> bool {
    last.is_none_or(|last| {
        last.hour != now.utc.hour_start() || now.boot_ns.saturating_sub(last.boot_ns) >= SIGNED_EVERY_NS
    })
}

fn offset_us(at: &Moment) -> i128 {
    i128::from(at.utc.0) - i128::from(at.boot_ns / 1_000)
}

/// By how much the wall clock was set between two looks, if it was.
fn step_us(before: i128, now: i128) -> Option<i128> {
    let step = now - before;
    (step.abs() > STEP_US).then_some(step)
}

/// The fact that the wall clock was set: it begins where that clock would be.
fn clock_step(at: &Moment, step_us: i128) -> ReadingRecord {
    let source = BTreeMap::from([(STEP.to_owned(), step_us.to_string())]);
    let expected = i64::try_from(i128::from(at.utc.0) - step_us).unwrap_or(at.utc.0);
    ReadingRecord { t0_utc: Timestamp(expected), ..at.fact(ReadingKind::ClockStep, source) }
}

impl Metering {
    /// Both clocks, and whether they were read together.
    fn moment(&self) -> (Moment, bool) {
        let clock = &self.0.clock;
        let mut tries = 0;
        loop {
            let (before, utc, after) = (clock.boot_ns(), clock.now(), clock.boot_ns());
            tries += 1;
            let together = after.saturating_sub(before) <= TOGETHER_NS;
            if together || tries == TRIES {
                return (Moment { boot_id: self.0.boot_id.clone(), boot_ns: after, utc }, together);
            }
        }
    }

    fn mind(&self) -> std::sync::MutexGuard<'_, Mind> {
        self.0.mind.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Signs if an hour is over. Called before everything that is appended, so that nothing is ever more than
    /// an hour behind a checkpoint; while the order is held.
    pub(super) async fn sign_if_due(&self, is_last: bool) -> Result<()> {
        let now = Moment { boot_id: String::new(), boot_ns: self.0.clock.boot_ns(), utc: self.0.clock.now() };
        let signed = self.mind().signed;
        if is_due(signed, &now) {
            let (at, _) = self.moment();
            self.sign(&[], &at, is_last).await?;
        }
        Ok(())
    }

    async fn sign(&self, facts: &[ReadingRecord], at: &Moment, is_last: bool) -> Result<()> {
        let sign = |message: &[u8]| self.0.key.sign(message);
        let journal = &self.0.journal;
        let signed = if is_last {
            journal.append_last_checkpoint(facts, at, sign).await
        } else {
            journal.append_checkpoint(facts, at, sign).await
        };
        let (seq, hash) = signed?;
        tracing::info!(seq, hash = %hash, "the ledger was signed");
        self.mind().signed = Some(Signed { boot_ns: at.boot_ns, hour: at.utc.hour_start() });
        Ok(())
    }

    /// The agent begins to meter on this host: says so before anything else, and whether the wall clock was set
    /// since the last look of this boot.
    pub(crate) async fn host_started(&self) -> Result<()> {
        let order = self.order().await;
        let (at, together) = self.moment();
        let key = SeriesKey { boot_id: at.boot_id.clone(), tenant: None, container: None, incarnation: 0 };
        let before = self.0.journal.last_of_series(&key).await?;
        let step = before.filter(|_| together).and_then(|(_, before)| {
            let (boot_ns, utc) = (before.t1_boot_ns, before.t1_utc);
            step_us(offset_us(&Moment { boot_id: String::new(), boot_ns, utc }), offset_us(&at))
        });
        let mut facts: Vec<_> = step.map(|step| clock_step(&at, step)).into_iter().collect();
        facts.push(at.fact(ReadingKind::HostStart, BTreeMap::new()));
        self.sign(&facts, &at, true).await?;
        self.mind().offset_us = together.then(|| offset_us(&at));
        drop(order);
        Ok(())
    }

    /// Says where a power cut left series without an end. A start that its row speaks of ends by what its
    /// supervisor left; here are the others, once what is left of them was swept up: those of containers without
    /// a row, those that are not in the row (the journal is on the disk before the row is), and the tenants'
    /// whole cgroups.
    pub(crate) async fn close_lost(&self, db: &Db) -> Result<()> {
        let order = self.order().await;
        let boot_id = &self.0.boot_id;
        let mut gaps = Vec::new();
        for (seq, last) in self.0.journal.unfinished(|series| series.boot_id != *boot_id).await? {
            let is_closed_by_its_row = match &last.series.container {
                Some(id) => is_of_row(db, id, last.series.incarnation).await?,
                None => false,
            };
            if !is_closed_by_its_row {
                tracing::warn!(seq, "a series of an earlier boot has no end; what followed is not billed");
                gaps.push(Series::resume(&last).gap(self.0.clock.now()));
            }
        }
        self.append_last(&gaps).await?;
        drop(order);
        Ok(())
    }

    /// The agent stops orderly, after everything else of it has.
    pub(crate) async fn host_stopped(&self) {
        let order = self.order().await;
        let (at, _) = self.moment();
        let stop = at.fact(ReadingKind::HostStop, BTreeMap::new());
        if let Err(error) = self.sign(&[stop], &at, true).await {
            tracing::error!(
                error = chain(&error),
                "the stop is not in the ledger; it will look like a crash"
            );
        }
        // Whoever copies the file now has everything in it: the write-ahead log is moved into it.
        self.0.journal.close().await;
        drop(order);
    }

    /// Looks whether the wall clock was set, and signs what is due; while the order is held.
    pub(super) async fn look_at_clock(&self) -> Result<()> {
        let (at, together) = self.moment();
        if together {
            let (now, before) = (offset_us(&at), self.mind().offset_us);
            if let Some(step) = before.and_then(|before| step_us(before, now)) {
                tracing::warn!(step_us = %step, "the wall clock was set; durations do not depend on it");
                // Signed at once: a checkpoint that is due would have to come before it, and be of a later moment.
                self.sign(&[clock_step(&at, step)], &at, false).await?;
            }
            self.mind().offset_us = Some(now);
        }
        self.sign_if_due(false).await
    }

    /// The ledger as it stands.
    pub(crate) async fn ledger(&self) -> Result<LedgerView> {
        let journal = &self.0.journal;
        let (head, hash) = journal.head().await?;
        let last = journal.last_checkpoint().await?;
        Ok(LedgerView {
            host: journal.host().clone(),
            public_key: self.0.key.public().to_string(),
            head_seq: unsigned(head),
            head_hash: hash.to_string(),
            last_checkpoint: last
                .map(|(seq, record)| LedgerCheckpointView { seq: unsigned(seq), at: record.t1_utc }),
            reserve_is_whole: journal.is_reserve_whole().await,
        })
    }

    /// How metering stands, given how far the journal is in the hours; with so many faults, the newest first.
    pub(crate) async fn view(
        &self,
        (rolled_up_seq, rolled_up_at): (i64, Option<Timestamp>),
        faults: u32,
    ) -> Result<MeteringView> {
        let journal = &self.0.journal;
        let Faults { counts, last } = journal.faults(faults).await?;
        let count = |kind| counts.get(&kind).copied().unwrap_or(0);
        let containers = self.targets().len();
        Ok(MeteringView {
            host: journal.host().clone(),
            containers: u32::try_from(containers).unwrap_or(u32::MAX),
            is_storing: !self.0.failing.load(Ordering::Relaxed),
            head_seq: unsigned(journal.last_seq().await?),
            rolled_up_seq: unsigned(rolled_up_seq),
            rolled_up_at,
            gaps: count(ReadingKind::Gap),
            resets: count(ReadingKind::Reset),
            clock_steps: count(ReadingKind::ClockStep),
            last_faults: last.into_iter().map(fault).collect(),
        })
    }

    /// The key that the ledger is signed with.
    pub(crate) fn public_key(&self) -> PublicKey {
        self.0.key.public()
    }

    /// Number of the last record now.
    pub(crate) async fn ledger_head(&self) -> Result<u64> {
        Ok(unsigned(self.0.journal.head().await?.0))
    }

    /// Records after this number, in order.
    pub(crate) async fn ledger_entries(&self, after: u64, limit: u32) -> Result<Vec<Entry>> {
        Ok(self.0.journal.entries_from(after, limit).await?)
    }

    /// The record of this number.
    pub(crate) async fn ledger_record(&self, seq: u64) -> Result<Option<ReadingRecord>> {
        let Ok(seq) = i64::try_from(seq) else { return Ok(None) };
        Ok(self.0.journal.find(seq).await?)
    }

    /// Appends a correction if `is_possible` says so of what the hours are now; returns its number. No other
    /// correction comes between the two.
    pub(crate) async fn correct(
        &self,
        correction: &Correction,
        is_possible: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<u64> {
        let order = self.order().await;
        is_possible().await?;
        self.sign_if_due(false).await?;
        let (at, _) = self.moment();
        let appended = self.0.journal.append_batch(&[correction.record(&at)]).await?;
        drop(order);
        match appended.first() {
            Some(Appended::New(seq)) => Ok(unsigned(*seq)),
            _ => Err(ServiceError::conflict("another correction was made at the same instant; try again")),
        }
    }
}

fn fault((seq, reading): (i64, ReadingRecord)) -> FaultView {
    FaultView {
        seq: unsigned(seq),
        kind: reading.kind.as_str().to_owned(),
        tenant: reading.series.tenant,
        container: reading.series.container,
        from: reading.t0_utc,
        to: reading.t1_utc,
    }
}

/// Numbers of records are never negative.
fn unsigned(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or(0)
}

/// Whether this start is the last one that the container's row knows.
async fn is_of_row(db: &Db, id: &ContainerId, incarnation: u64) -> Result<bool> {
    match containers::get(&mut db.one().await?, &Scope::All, id).await {
        Ok(row) => Ok(row.observed.generation == incarnation),
        Err(StoreError::NotFound(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn at(boot_s: u64, utc_s: i64) -> Moment {
        Moment { boot_id: "b".to_owned(), boot_ns: boot_s * 1_000_000_000, utc: Timestamp(utc_s * 1_000_000) }
    }

    #[test]
    fn a_checkpoint_is_due_at_each_full_hour_and_an_hour_after_the_last() {
        let last = Some(Signed { boot_ns: at(100, 0).boot_ns, hour: at(100, 7_200).utc });
        assert!(is_due(None, &at(0, 0)));
        for (now, due) in [
            (at(101, 7_201), false),
            (at(3_699, 10_799), false),
            (at(3_699, 10_800), true),
            (at(3_700, 7_201), true),
            (at(101, 3_599), true),
        ] {
            assert_eq!(is_due(last, &now), due, "{now:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_is_a_step_and_one_that_drifts_is_none() {
        let before = offset_us(&at(100, 1_000));
        assert_eq!(step_us(before, offset_us(&at(200, 1_101))), None);
        assert_eq!(step_us(before, offset_us(&at(200, 1_100 + 86_400))), Some(86_400_000_000));
        let back = step_us(before, offset_us(&at(200, 1_100 - 2 * 86_400))).expect("a step");
        let step = clock_step(&at(200, 1_100 - 2 * 86_400), back);
        assert_eq!((step.t0_utc, step.duration_ns()), (at(0, 1_100).utc, 0));
        assert_eq!(step.source[STEP], "-172800000000");
    }

    #[test]
    fn a_key_is_made_once_for_root_alone_and_never_in_place_of_one_that_signed() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = HostKey::load(dir.path(), false).expect("made").public();
        assert_eq!(HostKey::load(dir.path(), true).expect("there").public(), made);
        let path = dir.path().join(KEY_FILE);
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "torn").expect("written");
        assert!(matches!(HostKey::load(dir.path(), true), Err(KeyError::Malformed { .. })));
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(HostKey::load(dir.path(), true), Err(KeyError::Gone { .. })));
        assert!(!path.exists(), "a new one would hide that the old one is gone");
    }
}
