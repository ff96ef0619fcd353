//! Whoever alters a ledger is found.
//!
//! `WHARF_SOAK` runs 100,000 cases of each property.
#![expect(
    clippy::expect_used,
    clippy::tests_outside_test_module,
    clippy::arithmetic_side_effects,
    reason = "an integration test is a test module"
)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use ring::signature::{Ed25519KeyPair, KeyPair};
use wharf_billing::ledger::checkpoint::{Moment, Place, PublicKey};
use wharf_billing::ledger::correction::Correction;
use wharf_billing::ledger::lines::{LineError, Reader, Writer};
use wharf_billing::ledger::record::Hash;
use wharf_billing::ledger::verify::{Broken, Entry, Summary, UNSIGNED_NS, Verifier};
use wharf_shared::id::HostId;
use wharf_shared::reading::{MeterReading, ReadingKind, ReadingLimits, ReadingRecord, SeriesKey};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{Meter, Quality};

const SECOND_NS: u64 = 1_000_000_000;

fn host(number: u32) -> HostId {
    format!("hst_00000000-0000-7000-8000-{number:012}").parse().expect("an id")
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed")
}

fn public(pair: &Ed25519KeyPair) -> PublicKey {
    PublicKey::new(pair.public_key().as_ref().try_into().expect("32 bytes"))
}

fn sign(pair: &Ed25519KeyPair, message: &[u8]) -> [u8; 64] {
    pair.sign(message).as_ref().try_into().expect("64 bytes")
}

/// A host that writes its ledger.
struct Scribe {
    host: HostId,
    pair: Ed25519KeyPair,
    boot: u32,
    now_ns: u64,
    head: Hash,
    before: Option<u64>,
    entries: Vec<Entry>,
    last: BTreeMap<u32, ReadingRecord>,
    starts: u32,
}

impl Scribe {
    fn new() -> Self {
        let (host, pair) = (host(1), pair(7));
        let head = Hash::genesis(&host);
        let mut scribe = Self {
            host,
            pair,
            boot: 0,
            now_ns: 0,
            head,
            before: None,
            entries: Vec::new(),
            last: BTreeMap::new(),
            starts: 0,
        };
        scribe.boot();
        scribe
    }

    fn moment(&self) -> Moment {
        let us = i64::try_from(self.now_ns / 1_000).expect("early");
        let utc = Timestamp(1_795_435_200_000_000 + i64::from(self.boot) * 86_400_000_000 + us);
        Moment { boot_id: format!("boot-{}", self.boot), boot_ns: self.now_ns, utc }
    }

    fn push(&mut self, record: ReadingRecord) {
        let seq = u64::try_from(self.entries.len()).expect("few") + 1;
        self.head = self.head.next(seq, &record);
        self.entries.push(Entry { seq, hash: self.head, record });
    }

    fn checkpoint(&mut self) {
        let seq = u64::try_from(self.entries.len()).expect("few") + 1;
        let place = Place { before: self.before, seq, head: self.head };
        let record = place.checkpoint(&self.host, &self.moment(), |message| sign(&self.pair, message));
        self.push(record);
        self.before = Some(seq);
    }

    /// The machine starts anew: whatever was open has a gap.
    fn boot(&mut self) {
        self.boot += 1;
        self.now_ns = SECOND_NS;
        let at = self.moment();
        self.push(at.fact(ReadingKind::HostStart, BTreeMap::new()));
        self.checkpoint();
        for (_, last) in std::mem::take(&mut self.last) {
            let meters = last.meters.iter().map(|of| MeterReading { delta: 0, ..of.clone() }).collect();
            let t0 = last.t1_boot_ns;
            let kind = ReadingKind::Gap;
            self.push(ReadingRecord { kind, t0_boot_ns: t0, t1_utc: at.utc, meters, ..last });
        }
    }

    fn pass(&mut self, seconds: u64) {
        let hour = self.now_ns / (3_600 * SECOND_NS);
        self.now_ns += seconds * SECOND_NS;
        if self.now_ns / (3_600 * SECOND_NS) != hour {
            self.checkpoint();
        }
    }

    fn open(&mut self) {
        self.starts += 1;
        let at = self.moment();
        let number = self.starts;
        let record = ReadingRecord {
            series: SeriesKey {
                boot_id: at.boot_id,
                tenant: "tnt_00000000-0000-7000-8000-000000000001".parse().ok(),
                container: format!("{number:064x}").parse().ok(),
                incarnation: 1,
            },
            kind: ReadingKind::Open,
            t0_boot_ns: at.boot_ns,
            t1_boot_ns: at.boot_ns,
            t0_utc: at.utc,
            t1_utc: at.utc,
            meters: [Meter::CpuUsed, Meter::BlockWrite]
                .map(|meter| MeterReading {
                    meter,
                    raw: Some(0),
                    cum: 0,
                    delta: 0,
                    quality: Quality::Measured,
                })
                .to_vec(),
            limits: ReadingLimits { cpu_millis: Some(500), memory_bytes: None },
            source: BTreeMap::from([("cgroup".to_owned(), format!("/wharf/{number}"))]),
        };
        self.last.insert(number, record.clone());
        self.push(record);
    }

    /// A reading of one that is open.
    fn read(&mut self, which: usize, kind: ReadingKind, by: u128) {
        let open: Vec<u32> = self.last.keys().copied().collect();
        if open.is_empty() {
            return self.open();
        }
        let number = open[which % open.len()];
        let at = self.moment();
        let before = &self.last[&number];
        let meters = before.meters.iter().map(|of| MeterReading {
            raw: of.raw.map(|raw| raw + u64::try_from(by).expect("small")),
            cum: of.cum + by,
            delta: by,
            ..of.clone()
        });
        let record = ReadingRecord {
            kind,
            t0_boot_ns: before.t1_boot_ns,
            t1_boot_ns: at.boot_ns,
            t0_utc: before.t1_utc,
            t1_utc: at.utc,
            meters: meters.collect(),
            ..before.clone()
        };
        self.push(record.clone());
        match kind {
            ReadingKind::Final => {
                let last = ReadingKind::FinalBlock;
                let meters = record.meters.iter().map(|of| MeterReading { delta: 0, ..of.clone() }).collect();
                let t0_boot_ns = record.t1_boot_ns;
                self.push(ReadingRecord { kind: last, t0_boot_ns, meters, ..record });
                self.last.remove(&number);
            }
            _ => drop(self.last.insert(number, record)),
        }
    }

    fn correct(&mut self, delta: i128) {
        let Some(entry) = self.entries.iter().find(|entry| entry.record.series.tenant.is_some()) else {
            return;
        };
        let record = Correction {
            refers_to: entry.seq,
            tenant: entry.record.series.tenant.clone().expect("it was looked for"),
            container: entry.record.series.container.clone(),
            hour: entry.record.t1_utc.hour_start(),
            meter: Meter::CpuUsed,
            delta,
            reason: "a test".to_owned(),
            author: "ann".to_owned(),
        };
        // Two at the same instant are one to the journal.
        self.pass(1);
        self.push(record.record(&self.moment()));
    }

    fn lines(&self) -> Vec<String> {
        let (mut writer, first) = Writer::begin(&self.host, Some(public(&self.pair))).expect("a line");
        let mut lines = vec![first];
        lines.extend(self.entries.iter().map(|entry| writer.record(entry.clone()).expect("a line")));
        lines.push(writer.end().expect("a line"));
        lines
    }
}

fn verify(bytes: &[u8], key: Option<PublicKey>) -> Result<Summary, LineError> {
    let mut reader = Reader::new(key, None);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        reader.line(line)?;
    }
    reader.finish()
}

fn walk(scribe: &Scribe, entries: &[Entry]) -> Result<Summary, Broken> {
    let mut verifier = Verifier::new(scribe.host.clone(), Some(public(&scribe.pair)));
    for entry in entries {
        verifier.record(entry)?;
    }
    verifier.finish()
}

/// The same records with numbers and hashes that fit, as somebody computes them who has no key.
fn rechained(host: &HostId, records: impl IntoIterator<Item = ReadingRecord>) -> Vec<Entry> {
    let mut head = Hash::genesis(host);
    let numbered = (1..).zip(records);
    numbered
        .map(|(seq, record)| {
            head = head.next(seq, &record);
            Entry { seq, hash: head, record }
        })
        .collect()
}

fn small() -> Scribe {
    let mut scribe = Scribe::new();
    scribe.open();
    scribe.pass(10);
    scribe.correct(-5);
    scribe.checkpoint();
    scribe
}

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Open,
    Read(usize, ReadingKind, u128),
    Boot,
    Correct(i128),
    Checkpoint,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        6 => Just(ReadingKind::Periodic),
        1 => Just(ReadingKind::Config),
        1 => Just(ReadingKind::Adopt),
        2 => Just(ReadingKind::Final),
    ];
    prop_oneof![
        4 => (1_u64..900).prop_map(Step::Pass),
        3 => Just(Step::Open),
        6 => (any::<usize>(), kind, 0_u128..1 << 40).prop_map(|(which, kind, by)| Step::Read(which, kind, by)),
        1 => Just(Step::Boot),
        1 => (-9_i128..9).prop_map(Step::Correct),
        1 => Just(Step::Checkpoint),
    ]
}

fn ledger() -> impl Strategy<Value = Scribe> {
    proptest::collection::vec(step(), 0..24).prop_map(|steps| {
        let mut scribe = Scribe::new();
        for step in steps {
            match step {
                Step::Pass(seconds) => scribe.pass(seconds),
                Step::Open => scribe.open(),
                Step::Read(which, kind, by) => {
                    // No two readings of a series at the same instant.
                    scribe.pass(1);
                    scribe.read(which, kind, by);
                }
                Step::Boot => scribe.boot(),
                Step::Correct(delta) => scribe.correct(delta),
                Step::Checkpoint => scribe.checkpoint(),
            }
        }
        scribe.checkpoint();
        scribe
    })
}

impl std::fmt::Debug for Scribe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.lines().concat())
    }
}

fn cases() -> ProptestConfig {
    let cases = if std::env::var_os("WHARF_SOAK").is_some() { 100_000 } else { 400 };
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() }
}

#[test]
fn every_bit_of_a_small_ledger_is_needed_as_it_is() {
    let bytes = small().lines().concat().into_bytes();
    let whole = verify(&bytes, None).expect("it is whole");
    assert_eq!((whole.records, whole.checkpoints, whole.signed_to, whole.corrections), (5, 2, 5, 1));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut altered = bytes.clone();
            altered[at] ^= 1 << bit;
            let found = verify(&altered, None);
            assert!(found.is_err(), "bit {bit} of byte {at} was flipped: {found:?}");
        }
    }
    for length in 0..bytes.len() {
        assert!(verify(&bytes[..length], None).is_err(), "only {length} bytes are left");
    }
}

#[test]
fn the_first_bad_record_is_named_with_what_was_expected() {
    let scribe = small();
    let text = scribe.lines().concat().replace("\"cpu_millis\":500", "\"cpu_millis\":501");
    let Err(LineError::Broken(broken)) = verify(text.as_bytes(), None) else { panic!("it was altered") };
    assert_eq!(broken.seq, 3);
    assert_eq!(broken.found, scribe.entries[2].hash.to_string());
    assert!(broken.to_string().starts_with("record 3: its hash is not that of its content"), "{broken}");
}

#[test]
fn another_host_s_ledger_is_refused() {
    let scribe = small();
    let bytes = scribe.lines().concat().into_bytes();
    assert!(verify(&bytes, Some(public(&scribe.pair))).is_ok());
    let other = public(&pair(8));
    assert!(matches!(verify(&bytes, Some(other)), Err(LineError::OtherKey { .. })));
    // All signed again by somebody else, who also says so.
    let mut forged = Scribe { pair: pair(8), ..small() };
    forged.entries.truncate(1);
    (forged.head, forged.before) = (forged.entries[0].hash, None);
    forged.checkpoint();
    let bytes = forged.lines().concat().into_bytes();
    assert!(verify(&bytes, None).is_ok(), "alone it cannot be told");
    assert!(matches!(verify(&bytes, Some(public(&scribe.pair))), Err(LineError::OtherKey { .. })));
    // Another host's records do not fit, whoever's key it is.
    let text = scribe.lines().concat().replace(host(1).as_str(), host(2).as_str());
    let Err(LineError::Broken(broken)) = verify(text.as_bytes(), None) else { panic!("another host's") };
    assert_eq!(broken.seq, 1);
}

#[test]
fn an_end_that_was_cut_off_is_found_by_who_saw_it() {
    let scribe = small();
    let last = scribe.entries.last().expect("a record").clone();
    let mut verifier = Verifier::new(scribe.host.clone(), Some(public(&scribe.pair)));
    verifier.expect(last.seq, last.hash);
    for entry in &scribe.entries[..2] {
        verifier.record(entry).expect("whole so far");
    }
    let broken = verifier.finish().expect_err("three records are gone");
    assert_eq!((broken.seq, broken.what), (5, "the ledger ends before it"));
}

#[test]
fn nobody_without_the_key_goes_on_for_more_than_an_hour() {
    let mut scribe = small();
    let one_hour = scribe.now_ns + UNSIGNED_NS;
    let fact = |scribe: &Scribe| scribe.moment().fact(ReadingKind::HostStop, BTreeMap::new());
    scribe.now_ns = one_hour;
    scribe.push(fact(&scribe));
    assert!(walk(&scribe, &scribe.entries).is_ok());
    scribe.now_ns = one_hour + 1;
    scribe.push(fact(&scribe));
    let broken = walk(&scribe, &scribe.entries).expect_err("nothing signs it");
    assert_eq!((broken.seq, broken.what), (7, "nothing was signed for more than an hour"));
    // Nor by a new boot or a new start.
    scribe.entries.truncate(5);
    scribe.head = scribe.entries[4].hash;
    scribe.boot = 9;
    scribe.push(fact(&scribe));
    assert_eq!(walk(&scribe, &scribe.entries).expect_err("no start").what, "nothing of its boot is signed");
    scribe.entries.truncate(5);
    scribe.head = scribe.entries[4].hash;
    scribe.push(scribe.moment().fact(ReadingKind::HostStart, BTreeMap::new()));
    let broken = walk(&scribe, &scribe.entries).expect_err("no checkpoint");
    assert_eq!((broken.seq, broken.what), (7, "the start of the agent is not signed"));
}

#[test]
fn nothing_follows_the_end_of_a_series() {
    let mut scribe = small();
    scribe.pass(5);
    scribe.read(0, ReadingKind::Final, 3);
    let end = scribe.entries.last().expect("its end").record.clone();
    let mut again = end.clone();
    (again.kind, again.t0_boot_ns, again.t1_boot_ns) =
        (ReadingKind::Periodic, end.t1_boot_ns, end.t1_boot_ns + 1);
    scribe.push(again);
    let broken = walk(&scribe, &scribe.entries).expect_err("it had ended");
    assert_eq!(broken.what, "its kind does not follow");
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_ledger_as_it_was_written_is_whole_and_each_power_cut_is_listed(scribe in ledger()) {
        let whole = verify(scribe.lines().concat().as_bytes(), Some(public(&scribe.pair)));
        let whole = match whole {
            Ok(whole) => whole,
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        prop_assert_eq!(whole.records, u64::try_from(scribe.entries.len()).expect("few"));
        let gaps = scribe.entries.iter().filter(|entry| entry.record.kind == ReadingKind::Gap).count();
        prop_assert_eq!(whole.gaps.len(), gaps);
        prop_assert_eq!(whole.series, u64::from(scribe.starts));
    }

    #[test]
    fn a_byte_that_is_another_one_is_found(scribe in ledger(), at in any::<Index>(), by in 1_u8..=255) {
        let mut bytes = scribe.lines().concat().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        prop_assert!(verify(&bytes, None).is_err(), "byte {}", at);
    }

    #[test]
    fn a_line_that_is_gone_there_twice_or_elsewhere_is_found(
        scribe in ledger(), what in 0_u8..3, from in any::<Index>(), to in any::<Index>()
    ) {
        let mut lines = scribe.lines();
        let from = from.index(lines.len());
        let line = lines[from].clone();
        match what {
            0 => drop(lines.remove(from)),
            1 => lines.insert(to.index(lines.len() + 1), line),
            _ => {
                // Any line but the same.
                let to = (from + 1 + to.index(lines.len() - 1)) % lines.len();
                lines.swap(from, to);
            }
        }
        prop_assert!(verify(lines.concat().as_bytes(), None).is_err());
    }

    /// Who can write the file but has not the key: alters a record, leaves one out or puts one in twice, and
    /// computes numbers and hashes anew, with the checkpoints as they are or without them.
    #[test]
    fn a_chain_that_was_computed_again_is_found(
        scribe in ledger(), what in 0_u8..3, at in any::<Index>(), keep in any::<bool>()
    ) {
        let mut records: Vec<_> = scribe.entries.iter().map(|entry| entry.record.clone()).collect();
        // The last is a checkpoint, which signs all of them.
        let at = at.index(records.len() - 1);
        match what {
            0 => records[at].t1_utc.0 += 1,
            1 => drop(records.remove(at)),
            _ => records.insert(at, records[at].clone()),
        }
        if !keep {
            records.retain(|record| record.kind != ReadingKind::Checkpoint);
        }
        prop_assert!(walk(&scribe, &rechained(&scribe.host, records)).is_err());
    }
}
