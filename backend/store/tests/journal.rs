//! The journal on a real file.
#![expect(
    clippy::expect_used,
    clippy::tests_outside_test_module,
    reason = "an integration test is a test module"
)]

use std::collections::BTreeMap;

use ring::signature::{Ed25519KeyPair, KeyPair};
use sqlx::Connection;
use wharf_billing::ledger::checkpoint::{Moment, PublicKey};
use wharf_billing::window::booked_hour;
use wharf_shared::id::{ContainerId, HostId};
use wharf_shared::reading::{MeterReading, ReadingKind, ReadingLimits, ReadingRecord, SeriesKey};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{Meter, Quality};
use wharf_store::StoreError;
use wharf_store::journal::{Appended, Journal};

fn host(number: u32) -> HostId {
    format!("hst_00000000-0000-7000-8000-{number:012}").parse().expect("an id")
}

fn container(number: u32) -> ContainerId {
    format!("{number:064x}").parse().expect("an id")
}

/// Reading number `at` of a container's start: 10 ns of CPU in each ns.
fn reading(of: u32, incarnation: u64, kind: ReadingKind, at: u64) -> ReadingRecord {
    let first = u64::from(kind != ReadingKind::Open);
    ReadingRecord {
        series: SeriesKey {
            boot_id: "boot".to_owned(),
            tenant: "tnt_00000000-0000-7000-8000-000000000001".parse().ok(),
            container: Some(container(of)),
            incarnation,
        },
        kind,
        t0_boot_ns: at - first,
        t1_boot_ns: at,
        t0_utc: Timestamp(0),
        t1_utc: Timestamp(1),
        meters: vec![MeterReading {
            meter: Meter::CpuUsed,
            raw: Some(10 * at),
            cum: u128::from(10 * at),
            delta: u128::from(10 * first),
            quality: Quality::Measured,
        }],
        limits: ReadingLimits { cpu_millis: Some(500), memory_bytes: None },
        source: BTreeMap::from([("cgroup_id".to_owned(), "75".to_owned())]),
    }
}

#[tokio::test]
async fn appends_once_in_order_and_survives_reopening() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("journal.db");
    let journal = Journal::open(&path, &host(1)).await.expect("a new journal");
    assert!(journal.check_statements().await.expect("all are valid") > 5);
    assert_eq!(journal.append_batch(&[]).await.expect("nothing"), []);
    let batch = [
        reading(1, 1, ReadingKind::Open, 5),
        reading(1, 1, ReadingKind::Periodic, 6),
        reading(2, 1, ReadingKind::Open, 6),
    ];
    let appended = journal.append_batch(&batch).await.expect("appended");
    assert_eq!(appended, [Appended::New(1), Appended::New(2), Appended::New(3)]);
    let again = [batch[1].clone(), reading(1, 1, ReadingKind::Final, 7), batch[2].clone()];
    let appended = journal.append_batch(&again).await.expect("appended");
    assert_eq!(appended, [Appended::Duplicate(2), Appended::New(4), Appended::Duplicate(3)]);
    journal.close().await;

    let journal = Journal::open(&path, &host(2)).await.expect("the same journal");
    assert_eq!(*journal.host(), host(1), "it stays with its host");
    assert_eq!(journal.last_seq().await.expect("reads"), 4);
    let last = journal.last_reading(&container(1), 1).await.expect("reads");
    assert_eq!(last, Some((4, again[1].clone())));
    assert_eq!(journal.last_reading(&container(1), 2).await.expect("reads"), None);
    assert_eq!(journal.last_of_series(&batch[2].series).await.expect("reads"), Some((3, batch[2].clone())));
    let rows = journal.read_from(1, 2).await.expect("reads");
    assert_eq!(rows, [(2, batch[1].clone()), (3, batch[2].clone())]);
    let unfinished = journal.unfinished(|_| true).await.expect("reads");
    assert_eq!(unfinished, [(3, batch[2].clone())]);
    assert_eq!(journal.unfinished(|series| series.boot_id != "boot").await.expect("reads"), []);
    let whole = journal.verify().await.expect("whole");
    assert_eq!((whole.records, whole.series), (4, 2));
    assert_eq!(journal.head().await.expect("reads"), (4, whole.head));
}

#[tokio::test]
async fn a_reading_over_a_clock_that_was_set_back_is_found_in_the_hour_that_it_is_booked_to() {
    const HOUR_US: i64 = 3_600_000_000;
    let directory = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(&directory.path().join("journal.db"), &host(1)).await.expect("a journal");
    let at = |kind, number, (t0_hours, t1_hours): (i64, i64)| ReadingRecord {
        t0_utc: Timestamp(t0_hours * HOUR_US + 600_000_000),
        t1_utc: Timestamp(t1_hours * HOUR_US + 610_000_000),
        ..reading(1, 1, kind, number)
    };
    let readings = [
        at(ReadingKind::Open, 5, (72, 72)),
        // Two days back, and a day ahead.
        at(ReadingKind::Periodic, 6, (72, 24)),
        at(ReadingKind::Periodic, 7, (24, 48)),
        at(ReadingKind::Final, 8, (48, 48)),
    ];
    journal.append_batch(&readings).await.expect("appended");
    let tenant = readings[0].series.tenant.clone().expect("a tenant");
    let mut seek = journal.seek().await.expect("reads");
    for reading in &readings {
        let hour = booked_hour(reading);
        let mut found = Vec::new();
        let span = (hour, Timestamp(hour.0 + HOUR_US));
        seek.readings(&tenant, Some(&container(1)), span, |_, of| found.push(of.clone()))
            .await
            .expect("reads");
        assert!(found.contains(reading), "{reading:?} is not among {found:?}");
    }
}

#[tokio::test]
async fn what_is_missing_is_counted_and_the_last_of_it_comes_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(&directory.path().join("journal.db"), &host(1)).await.expect("a new journal");
    let none = journal.faults(9).await.expect("reads");
    assert!(none.counts.is_empty() && none.last.is_empty(), "{none:?}");
    let batch = [
        reading(1, 1, ReadingKind::Open, 5),
        reading(1, 1, ReadingKind::Reset, 6),
        reading(1, 1, ReadingKind::Reset, 7),
        reading(1, 1, ReadingKind::Periodic, 8),
        reading(1, 1, ReadingKind::Gap, 9),
    ];
    journal.append_batch(&batch).await.expect("appended");
    let found = journal.faults(2).await.expect("reads");
    assert_eq!(found.counts, BTreeMap::from([(ReadingKind::Reset, 2), (ReadingKind::Gap, 1)]));
    assert_eq!(found.last, [(5, batch[4].clone()), (3, batch[2].clone())]);
}

/// A file system of its own, taken away again whatever happens.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let disk = Self(tempfile::tempdir().expect("a directory"));
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "wharf-journal-test"]);
        assert!(mount.arg(disk.0.path()).status().expect("mount").success(), "this test needs root");
        disk
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // If it fails, the directory below cannot be removed, and the test's end shows it.
        drop(std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status());
    }
}

#[tokio::test]
async fn on_a_full_disk_last_readings_are_still_taken_and_room_is_kept_again_later() {
    let disk = SmallDisk::new("16m");
    let journal = Journal::open(&disk.0.path().join("journal.db"), &host(1)).await.expect("a new journal");
    journal.append_batch(&[reading(1, 1, ReadingKind::Open, 5)]).await.expect("appended");
    assert!(journal.has_room().await);
    let filler = disk.0.path().join("filler");
    assert!(std::fs::write(&filler, vec![1; 16 << 20]).is_err(), "the disk is full now");
    let batch: Vec<_> = (6..500).map(|at| reading(1, 1, ReadingKind::Periodic, at)).collect();
    assert!(matches!(journal.append_batch(&batch).await, Err(StoreError::Full(_))));
    assert!(journal.has_room().await, "it is not for readings that another makes up for");
    journal.append_last(&batch).await.expect("stored where room was kept");
    assert!(!journal.has_room().await, "it was given up, and the disk has no more");
    journal.append_last(&[reading(1, 1, ReadingKind::Final, 500)]).await.expect("there is room for the end");
    std::fs::remove_file(&filler).expect("removed");
    assert!(journal.has_room().await);
    assert_eq!(journal.verify().await.expect("whole").records, 496);
    journal.close().await;
}

#[tokio::test]
async fn a_batch_with_a_reading_that_does_not_fit_is_refused_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(&directory.path().join("journal.db"), &host(1)).await.expect("a new journal");
    journal.append_batch(&[reading(1, 1, ReadingKind::Open, 5)]).await.expect("appended");
    let skips_one = reading(1, 1, ReadingKind::Periodic, 7);
    let refused = journal.append_batch(&[reading(2, 1, ReadingKind::Open, 6), skips_one]).await;
    assert!(matches!(refused, Err(StoreError::Broken { seq: 3, .. })), "{refused:?}");
    assert_eq!(journal.last_seq().await.expect("reads"), 1);
    let opened_twice = reading(1, 1, ReadingKind::Open, 9);
    assert!(journal.append_batch(&[opened_twice]).await.is_err());
    journal
        .append_batch(&[reading(1, 2, ReadingKind::Open, 9)])
        .await
        .expect("the next start is another series");
}

#[tokio::test]
async fn what_is_written_can_be_neither_changed_nor_removed_unnoticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("journal.db");
    let journal = Journal::open(&path, &host(1)).await.expect("a new journal");
    let mut batch = vec![reading(1, 1, ReadingKind::Open, 5)];
    batch.extend((6..20).map(|at| reading(1, 1, ReadingKind::Periodic, at)));
    journal.append_batch(&batch).await.expect("appended");

    let mut connection =
        sqlx::SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.expect("the file");
    let mut run = async |sql: &'static str| sqlx::raw_sql(sql).execute(&mut connection).await;
    for forbidden in [
        "UPDATE readings SET meters = '[]' WHERE seq = 3",
        "DELETE FROM readings WHERE seq = 3",
        "UPDATE host SET id = 'x'",
        "DELETE FROM host",
    ] {
        let error = run(forbidden).await.expect_err(forbidden);
        assert!(error.to_string().contains("reading") || error.to_string().contains("journal"), "{error}");
    }
    // Whoever can write the file can drop the triggers, but the hashes give it away.
    run("DROP TRIGGER readings_refuse_update; DROP TRIGGER readings_refuse_delete").await.expect("dropped");
    journal.verify().await.expect("still whole");
    run("UPDATE readings SET meters = REPLACE(meters, '\"delta\":\"10\"', '\"delta\":\"11\"') WHERE seq = 9")
        .await
        .expect("changed");
    assert!(matches!(journal.verify().await, Err(StoreError::Broken { seq: 9, .. })));
    run("UPDATE readings SET meters = REPLACE(meters, '\"delta\":\"11\"', '\"delta\":\"10\"') WHERE seq = 9")
        .await
        .expect("changed back");
    run("DELETE FROM readings WHERE seq = 4").await.expect("removed");
    assert!(matches!(journal.verify().await, Err(StoreError::Broken { seq: 5, .. })));
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed")
}

fn public(pair: &Ed25519KeyPair) -> PublicKey {
    PublicKey::new(pair.public_key().as_ref().try_into().expect("32 bytes"))
}

fn sign(pair: &Ed25519KeyPair) -> impl Fn(&[u8]) -> [u8; 64] {
    |message| pair.sign(message).as_ref().try_into().expect("64 bytes")
}

fn moment(second: u64) -> Moment {
    Moment { boot_id: "boot".to_owned(), boot_ns: second * 1_000_000_000, utc: Timestamp(0) }
}

/// Runs statements on the file as somebody does who can write it; triggers are no hindrance to them.
async fn patch(path: &std::path::Path, sql: String) {
    let mut connection =
        sqlx::SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.expect("the file");
    let sql = format!("DROP TRIGGER IF EXISTS readings_refuse_update; {sql}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.expect("patched");
    connection.close().await.expect("closed");
}

#[tokio::test]
async fn a_journal_is_signed_with_one_key_and_another_one_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("journal.db");
    let journal = Journal::open(&path, &host(1)).await.expect("a new journal");
    let key = pair(1);
    assert_eq!(journal.public_key(), None);
    journal.set_public_key(public(&key)).await.expect("the first one");
    let start = moment(1).fact(ReadingKind::HostStart, BTreeMap::new());
    journal.append_checkpoint(&[start], &moment(1), sign(&key)).await.expect("signed");
    journal.append_batch(&[reading(1, 1, ReadingKind::Open, 5)]).await.expect("appended");
    let (seq, hash) = journal.append_checkpoint(&[], &moment(2), sign(&key)).await.expect("signed");
    assert_eq!((seq, hash), (4, journal.head().await.expect("reads").1));
    let last = journal.last_checkpoint().await.expect("reads").expect("there is one");
    assert_eq!((last.0, last.1.source["first_seq"].as_str()), (4, "2"));
    let whole = journal.verify().await.expect("whole");
    assert_eq!((whole.records, whole.checkpoints, whole.signed_to), (4, 2, 4));
    journal.close().await;

    let journal = Journal::open(&path, &host(1)).await.expect("opened again");
    assert_eq!(journal.public_key(), Some(public(&key)));
    let refused = journal.set_public_key(public(&pair(2))).await;
    assert!(matches!(refused, Err(StoreError::Foreign { .. })), "{refused:?}");
    // Signed by who has another key, it does not stand.
    journal.append_checkpoint(&[], &moment(3), sign(&pair(2))).await.expect("appended");
    assert!(matches!(journal.verify().await, Err(StoreError::Broken { seq: 5, .. })));
    journal.close().await;
}

#[tokio::test]
async fn an_hour_s_readings_are_found_wherever_they_were_written() {
    const HOUR: i64 = 100;
    let directory = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(&directory.path().join("journal.db"), &host(1)).await.expect("a new journal");
    let key = pair(1);
    let read = |of: u32, incarnation, kind, from: i64, to: i64| {
        let [begin, end] = [from, to].map(|at| u64::try_from(at).expect("positive"));
        ReadingRecord {
            t0_boot_ns: begin,
            t1_boot_ns: end,
            t0_utc: Timestamp(from),
            t1_utc: Timestamp(to),
            meters: Vec::new(),
            ..reading(of, incarnation, kind, end)
        }
    };
    let mut late = Vec::new();
    for at in (0..10 * HOUR).step_by(10) {
        if at % HOUR == 0 {
            let boot_ns = u64::try_from(at).expect("positive") + 1;
            let moment = Moment { boot_id: "boot".to_owned(), boot_ns, utc: Timestamp(at) };
            journal.append_checkpoint(&[], &moment, sign(&key)).await.expect("signed");
        }
        // The first is started anew every 250, the second goes on, and nobody looks at the third for long.
        let (start, since) = (u64::try_from(at / 250).expect("positive"), at % 250);
        let mut batch = vec![match since {
            0 => read(1, start, ReadingKind::Open, at, at),
            240 => read(1, start, ReadingKind::Final, at - 10, at),
            _ => read(1, start, ReadingKind::Periodic, at - 10, at),
        }];
        batch.push(match at {
            0 => read(2, 1, ReadingKind::Open, at, at),
            _ => read(2, 1, ReadingKind::Periodic, at - 10, at),
        });
        match at {
            210 => batch.push(read(3, 1, ReadingKind::Open, at, at)),
            220 => late.push(read(3, 1, ReadingKind::Periodic, 210, at)),
            230 => late.push(read(3, 1, ReadingKind::Final, 220, at)),
            // That of the fourth was told as a whole, long after it was over.
            700 => {
                batch.append(&mut late);
                batch.push(read(4, 1, ReadingKind::Open, 110, 110));
                batch.push(read(4, 1, ReadingKind::Final, 110, 220));
            }
            _ => {}
        }
        journal.append_batch(&batch).await.expect("appended");
    }
    let all = journal.read_from(0, 1_000).await.expect("reads");
    let tenant = all.iter().find_map(|(_, reading)| reading.series.tenant.clone()).expect("a tenant");
    let mut seek = journal.seek().await.expect("begins");
    for (of, hour) in (1..=5).flat_map(|of| (0..12).map(move |hour| (of, hour * HOUR))) {
        let (from, to) = (Timestamp(hour), Timestamp(hour + HOUR + 5));
        let mut found = Vec::new();
        let wanted = container(of);
        seek.readings(&tenant, Some(&wanted), (from, to), |seq, _| found.push(seq)).await.expect("reads");
        let is_of = |reading: &ReadingRecord| {
            reading.series.container.as_ref() == Some(&wanted)
                && reading.t0_utc < to
                && reading.t1_utc >= from
        };
        let expected: Vec<_> =
            all.iter().filter(|(_, reading)| is_of(reading)).map(|(seq, _)| *seq).collect();
        assert_eq!(found, expected, "container {of}, hour {hour}");
    }
}

#[tokio::test]
async fn a_journal_of_before_the_chain_is_taken_over_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("journal.db");
    let journal = Journal::open(&path, &host(1)).await.expect("a new journal");
    let batch: Vec<_> = (5..25)
        .map(|at| reading(1, 1, if at == 5 { ReadingKind::Open } else { ReadingKind::Periodic }, at))
        .collect();
    journal.append_batch(&batch).await.expect("appended");
    let head = journal.head().await.expect("reads");
    journal.close().await;
    // As the first version left it: the column had another name and was never written to.
    patch(
        &path,
        "UPDATE readings SET hash = NULL; DROP INDEX readings_without_hash; DROP INDEX readings_checkpoints; \
         DROP INDEX readings_opens; ALTER TABLE readings RENAME COLUMN hash TO prev_hash; \
         DROP TRIGGER host_refuse_update; ALTER TABLE host DROP COLUMN public_key; \
         CREATE TRIGGER readings_refuse_update BEFORE UPDATE ON readings \
         BEGIN SELECT RAISE(ABORT, 'readings are never changed'); END; \
         CREATE TRIGGER host_refuse_update BEFORE UPDATE ON host \
         BEGIN SELECT RAISE(ABORT, 'a journal stays with its host'); END; \
         DELETE FROM _sqlx_migrations WHERE version = 2"
            .to_owned(),
    )
    .await;
    assert!(Journal::open_copy(&path).await.is_err(), "a copy is not changed");
    let journal = Journal::open(&path, &host(1)).await.expect("taken over");
    assert_eq!(journal.head().await.expect("reads"), head);
    assert_eq!(journal.verify().await.expect("whole").records, 20);
    journal.append_batch(&[reading(1, 1, ReadingKind::Final, 25)]).await.expect("it goes on");
    journal.verify().await.expect("whole");
    journal.close().await;
}

#[tokio::test]
async fn a_journal_that_was_patched_near_its_end_is_not_gone_on_with() {
    for sql in [
        "UPDATE readings SET incarnation = 7 WHERE seq = 20",
        "DROP TRIGGER readings_refuse_delete; DELETE FROM readings WHERE seq = 19",
        "UPDATE readings SET hash = (SELECT hash FROM readings WHERE seq = 3) WHERE seq = 20",
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal.db");
        let journal = Journal::open(&path, &host(1)).await.expect("a new journal");
        let mut batch = vec![reading(1, 1, ReadingKind::Open, 5)];
        batch.extend((6..25).map(|at| reading(1, 1, ReadingKind::Periodic, at)));
        journal.append_batch(&batch).await.expect("appended");
        journal.close().await;
        patch(&path, sql.to_owned()).await;
        let refused = Journal::open(&path, &host(1)).await;
        assert!(matches!(refused, Err(StoreError::Broken { seq: 20, .. })), "{sql}: {refused:?}");
    }
}

#[tokio::test]
async fn a_copy_is_read_where_nobody_can_write_and_a_torn_one_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("journal.db");
    let journal = Journal::open(&path, &host(1)).await.expect("a new journal");
    let mut batch = vec![reading(1, 1, ReadingKind::Open, 5)];
    batch.extend((6..500).map(|at| reading(1, 1, ReadingKind::Periodic, at)));
    journal.append_batch(&batch).await.expect("appended");
    journal.close().await;
    let before = std::fs::read(&path).expect("the file");
    let copy = Journal::open_copy(&path).await.expect("a copy");
    assert_eq!(copy.verify().await.expect("whole").records, 495);
    copy.close().await;
    assert_eq!(std::fs::read(&path).expect("the file"), before, "nothing was changed");
    assert!(!directory.path().join("journal.db-shm").exists(), "nothing was made beside it");
    // The half of it that a cut-off transfer leaves.
    std::fs::write(&path, &before[..before.len() / 2]).expect("torn");
    let torn = match Journal::open_copy(&path).await {
        Ok(copy) => copy.verify().await.map(drop),
        Err(error) => Err(error),
    };
    assert!(torn.is_err(), "half of it is not whole");
    std::fs::write(&path, "no database at all").expect("written");
    assert!(Journal::open_copy(&path).await.is_err());
}
