//! The host's journal: meter readings, append-only, in a file of their own.
//!
//! A reading that [`Journal::append_batch`] has returned is on the disk (`synchronous = FULL`).
//! Readings are numbered without gaps; triggers refuse to change or remove one. The same reading
//! appended again (same series, kind and end) changes nothing, so that a final reading may be
//! recorded twice after a crash. A reading that does not continue its series exactly
//! (`cum - delta` is not `cum` of the one before) is refused: it would count something twice or
//! lose it.
//!
//! Each reading carries the hash of the chain ([`wharf_billing::ledger`]), computed where it is appended, and
//! checkpoints sign it. [`Journal::open`] refuses a journal whose last readings do not link; the whole is
//! walked by [`Journal::verify`], and away from the host by `wharf ledger verify`.
//!
//! The agent that holds the state directory is the only one that appends. So the last reading of each
//! series that goes on is kept in memory: a reading costs one statement, not three.
//!
//! Some room on the disk is kept free for the last readings of what runs: see [`Journal::has_room`].

mod seek;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sqlx::migrate::Migrator;
use wharf_billing::ledger::checkpoint::{Moment, Place, PublicKey};
use wharf_billing::ledger::record::Hash;
use wharf_billing::ledger::series;
use wharf_billing::ledger::verify::{Broken, Entry, Summary, Verifier};
use wharf_shared::id::{ContainerId, HostId};
use wharf_shared::reading::{ReadingKind, ReadingRecord, SeriesKey};

pub use self::seek::Seek;
use crate::db::{Durability, SqliteFile, Tx};
use crate::error::StoreError;
use crate::reserve::Reserve;
use crate::row::{Row, Value, args, json};
use crate::statement::statements;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/journal");

/// Readings that are in memory at a time, where all are walked.
const BATCH: u32 = 1_000;
/// The last readings whose hashes are looked at when a journal is opened.
const LINKED: u32 = 100;

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

/// What a journal says is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// Gaps, resets and settings of the clock: how many there are of each kind that there is.
    pub counts: BTreeMap<ReadingKind, u64>,
    /// The last of them with their numbers, the newest first.
    pub last: Vec<(i64, ReadingRecord)>,
}

/// A host's journal.
#[derive(Debug, Clone)]
pub struct Journal {
    file: SqliteFile,
    host: HostId,
    public_key: Arc<OnceLock<PublicKey>>,
    reserve: Reserve,
    /// Of the series that this handle appended to and that go on.
    latest: Arc<Mutex<HashMap<SeriesKey, ReadingRecord>>>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT seq, boot_id, tenant, container, incarnation, kind, t0_boot_ns, t1_boot_ns, t0_utc_us, ",
            "t1_utc_us, meters, limits, source, hash FROM readings ",
            $rest
        )
    };
}

pub(crate) use select;

statements! {
    HOST = "SELECT id, public_key FROM host";
    SET_HOST = "INSERT INTO host (only, id) VALUES (1, $1)";
    SET_KEY = "UPDATE host SET public_key = $1 WHERE public_key IS NULL";
    HEAD = "SELECT seq, hash FROM readings ORDER BY seq DESC LIMIT 1";
    WITHOUT_HASH = "SELECT COUNT(*) AS readings FROM readings WHERE hash IS NULL";
    SET_HASH = "UPDATE readings SET hash = $2 WHERE seq = $1";
    APPEND = "INSERT INTO readings (seq, boot_id, tenant, container, incarnation, kind, t0_boot_ns, \
        t1_boot_ns, t0_utc_us, t1_utc_us, meters, limits, source, hash) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    SAME = select!("WHERE boot_id = $1 AND tenant = $2 AND container = $3 AND incarnation = $4 \
        AND t1_boot_ns = $5 AND kind = $6");
    LAST_OF_SERIES = select!("WHERE boot_id = $1 AND tenant = $2 AND container = $3 AND incarnation = $4 \
        ORDER BY seq DESC LIMIT 1");
    LAST_OF_CONTAINER = select!("WHERE container = $1 AND incarnation = $2 ORDER BY seq DESC LIMIT 1");
    LAST_CHECKPOINT = select!("WHERE kind = 'checkpoint' ORDER BY seq DESC LIMIT 1");
    COUNT_FAULTS = "SELECT kind, COUNT(*) AS readings FROM readings \
        WHERE kind IN ('gap', 'reset', 'clock_step') GROUP BY kind";
    LAST_FAULTS = select!("WHERE kind IN ('gap', 'reset', 'clock_step') ORDER BY seq DESC LIMIT $1");
    OPENED = select!("WHERE kind = 'open' AND seq > $1 ORDER BY seq LIMIT $2");
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

fn entry(row: &Row) -> Result<Entry, StoreError> {
    let (seq, record) = record(row)?;
    Ok(Entry { seq: number(seq)?, hash: row.parsed("hash")?, record })
}

/// Numbers of readings begin with 1.
fn number(seq: i64) -> Result<u64, StoreError> {
    u64::try_from(seq).map_err(|error| StoreError::Corrupt { column: "seq", source: Some(Box::new(error)) })
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
    /// keeps its host: see [`Journal::host`]. Readings of an earlier version, which knew no chain, are
    /// hashed in their order first.
    ///
    /// # Errors
    /// [`StoreError::Broken`] when its last readings do not link: nothing may be appended to them.
    pub async fn open(path: &Path, new_host: &HostId) -> Result<Self, StoreError> {
        let file = SqliteFile::open(path, &MIGRATIONS).await?;
        let mut tx = file.begin(Durability::Synced).await?;
        if tx.row(HOST, args![]).await?.is_none() {
            tx.execute(SET_HOST, args![new_host]).await?;
        }
        tx.commit().await?;
        let journal = Self::with_file(file, path).await?;
        journal.take_over().await?;
        journal.check_links().await?;
        // Without it nothing starts; that is found when something shall.
        journal.reserve.ensure().await;
        Ok(journal)
    }

    /// Opens a copy of a journal to be read. Nothing is changed in it or beside it, if no agent has it open.
    ///
    /// # Errors
    /// When the file is no journal, is torn, or is of a version that had no chain.
    pub async fn open_copy(path: &Path) -> Result<Self, StoreError> {
        let file = SqliteFile::open_copy(path).await?;
        let journal = Self::with_file(file, path).await?;
        if journal.without_hash().await? > 0 {
            return Err(StoreError::Refused(
                "the journal has readings from before the chain; the agent takes them over when it starts",
            ));
        }
        Ok(journal)
    }

    async fn with_file(file: SqliteFile, path: &Path) -> Result<Self, StoreError> {
        let row = file.one().await?.row(HOST, args![]).await?.ok_or(StoreError::NotFound("host"))?;
        let public_key = OnceLock::new();
        if let Some(key) = row.optional_parsed("public_key")? {
            public_key.get_or_init(|| key);
        }
        Ok(Self {
            host: row.parsed("id")?,
            public_key: Arc::new(public_key),
            reserve: Reserve::beside(path),
            file,
            latest: Arc::default(),
        })
    }

    async fn without_hash(&self) -> Result<i64, StoreError> {
        let row = self.file.one().await?.row(WITHOUT_HASH, args![]).await?;
        row.ok_or(StoreError::corrupt("readings"))?.integer("readings")
    }

    /// Hashes what an earlier version left, once and for all.
    async fn take_over(&self) -> Result<(), StoreError> {
        if self.without_hash().await? == 0 {
            return Ok(());
        }
        let (mut seq, mut head) = (0, Hash::genesis(&self.host));
        loop {
            let mut tx = self.file.begin(Durability::Synced).await?;
            let rows = tx.rows(READ_FROM, args![seq, BATCH]).await?;
            if rows.is_empty() {
                return Ok(());
            }
            for row in &rows {
                let (next, reading) = record(row)?;
                if next != seq + 1 {
                    return Err(StoreError::Broken { seq: next, what: "the number before it is missing" });
                }
                seq = next;
                head = head.next(number(seq)?, &reading);
                // An earlier attempt was cut short.
                if row.optional_text("hash")?.is_none() {
                    tx.execute(SET_HASH, args![seq, head.to_string()]).await?;
                }
            }
            tx.commit().await?;
        }
    }

    /// Whether the last readings follow each other: a journal that was torn or patched is not gone on with.
    async fn check_links(&self) -> Result<(), StoreError> {
        let (last, _) = self.head().await?;
        let from = last.saturating_sub(i64::from(LINKED));
        let mut tx = self.file.one().await?;
        let mut before: Option<Entry> = None;
        for row in tx.rows(READ_FROM, args![from, LINKED]).await? {
            let next = entry(&row)?;
            let head = match &before {
                Some(before) if before.seq + 1 != next.seq => None,
                Some(before) => Some(before.hash.next(next.seq, &next.record)),
                None if next.seq == 1 => Some(Hash::genesis(&self.host).next(1, &next.record)),
                None => Some(next.hash),
            };
            if head != Some(next.hash) {
                let seq = row.integer("seq")?;
                return Err(StoreError::Broken {
                    seq,
                    what: "it does not follow from the reading before it",
                });
            }
            before = Some(next);
        }
        Ok(())
    }

    /// The key whose signatures are in it, once there is one.
    pub fn public_key(&self) -> Option<PublicKey> {
        self.public_key.get().copied()
    }

    /// Says which key signs it, once and for all.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] when it was begun with another key.
    pub async fn set_public_key(&self, key: PublicKey) -> Result<(), StoreError> {
        if self.public_key.get().is_none() {
            let mut tx = self.file.begin(Durability::Synced).await?;
            tx.execute(SET_KEY, args![key.to_string()]).await?;
            tx.commit().await?;
        }
        match *self.public_key.get_or_init(|| key) {
            known if known == key => Ok(()),
            known => Err(StoreError::Foreign { expected: known.to_string(), found: key.to_string() }),
        }
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
        let mut head = head(&mut tx, &self.host).await?;
        // Taken out until the commit: if that fails, or nobody learns of it, the file is asked.
        let mut latest: HashMap<&SeriesKey, ReadingRecord> = HashMap::new();
        for reading in readings {
            latest.extend(self.latest().remove(&reading.series).map(|known| (&reading.series, known)));
        }
        let appended = put(&mut tx, &mut head, &mut latest, readings).await?;
        tx.commit().await?;
        let going_on =
            latest.into_iter().filter(|(_, reading)| !reading.kind.is_end() && !reading.kind.is_of_host());
        self.latest().extend(going_on.map(|(series, reading)| (series.clone(), reading)));
        Ok(appended)
    }

    /// As [`Journal::append_checkpoint`], for facts that cannot be told again: on a full disk it is tried once
    /// more in the room that was kept.
    pub async fn append_last_checkpoint(
        &self,
        facts: &[ReadingRecord],
        at: &Moment,
        sign: impl Fn(&[u8]) -> [u8; 64],
    ) -> Result<(i64, Hash), StoreError> {
        match self.append_checkpoint(facts, at, &sign).await {
            Err(StoreError::Full(_)) if self.reserve.give_up().await => {
                self.append_checkpoint(facts, at, &sign).await
            }
            appended => appended,
        }
    }

    /// Appends facts of the host and, in the same transaction, a checkpoint of everything up to them, signed by
    /// `sign`; returns its number and hash.
    pub async fn append_checkpoint(
        &self,
        facts: &[ReadingRecord],
        at: &Moment,
        sign: impl Fn(&[u8]) -> [u8; 64],
    ) -> Result<(i64, Hash), StoreError> {
        let mut tx = self.file.begin(Durability::Synced).await?;
        let mut head = head(&mut tx, &self.host).await?;
        let mut latest = HashMap::new();
        put(&mut tx, &mut head, &mut latest, facts).await?;
        drop(latest);
        let before = tx.row(LAST_CHECKPOINT, args![]).await?;
        let before = before.map(|row| number(row.integer("seq")?)).transpose()?;
        let (last, hash) = head;
        let place = Place { before, seq: number(last + 1)?, head: hash };
        let checkpoint = [place.checkpoint(&self.host, at, sign)];
        put(&mut tx, &mut head, &mut HashMap::new(), &checkpoint).await?;
        tx.commit().await?;
        Ok(head)
    }

    fn latest(&self) -> MutexGuard<'_, HashMap<SeriesKey, ReadingRecord>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of the last reading, 0 before the first.
    pub async fn last_seq(&self) -> Result<i64, StoreError> {
        Ok(self.head().await?.0)
    }

    /// Number and hash of the last reading; 0 and what stands before the first when there is none.
    pub async fn head(&self) -> Result<(i64, Hash), StoreError> {
        head(&mut self.file.one().await?, &self.host).await
    }

    /// The last checkpoint.
    pub async fn last_checkpoint(&self) -> Result<Option<(i64, ReadingRecord)>, StoreError> {
        self.file.one().await?.row(LAST_CHECKPOINT, args![]).await?.as_ref().map(record).transpose()
    }

    /// How many records of each kind say that something is missing, went down or was set, and the last of them,
    /// the newest first.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn faults(&self, limit: u32) -> Result<Faults, StoreError> {
        let mut tx = self.file.read().await?;
        let count = |row: &Row| Ok((row.word("kind", ReadingKind::from_name)?, row.number("readings")?));
        let counts =
            tx.rows(COUNT_FAULTS, args![]).await?.iter().map(count).collect::<Result<_, StoreError>>()?;
        let last = tx.rows(LAST_FAULTS, args![limit]).await?.iter().map(record).collect::<Result<_, _>>()?;
        Ok(Faults { counts, last })
    }

    /// The reading of this number.
    pub async fn find(&self, seq: i64) -> Result<Option<ReadingRecord>, StoreError> {
        let found = self.read_from(seq.saturating_sub(1), 1).await?.pop();
        Ok(found.filter(|(at, _)| *at == seq).map(|(_, reading)| reading))
    }

    /// Whether the room for last readings is there now; makes nothing.
    pub async fn is_reserve_whole(&self) -> bool {
        self.reserve.is_whole().await
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

    /// The last reading of every series that has neither a final reading nor a gap, if `wanted` says so of
    /// the series: what is to be closed after a crash. Walks all starts there ever were, a few at a time.
    pub async fn unfinished(
        &self,
        wanted: impl Fn(&SeriesKey) -> bool,
    ) -> Result<Vec<(i64, ReadingRecord)>, StoreError> {
        let mut found = Vec::new();
        let mut after = 0;
        loop {
            let mut tx = self.file.read().await?;
            let rows = tx.rows(OPENED, args![after, BATCH]).await?;
            if rows.is_empty() {
                return Ok(found);
            }
            for row in &rows {
                let (seq, opened) = record(row)?;
                after = seq;
                if !wanted(&opened.series) {
                    continue;
                }
                let last = last_of_series(&mut tx, &opened.series).await?;
                found.extend(last.filter(|(_, last)| !last.kind.is_end()));
            }
        }
    }

    /// Readings after this number, in order.
    pub async fn read_from(&self, after: i64, limit: u32) -> Result<Vec<(i64, ReadingRecord)>, StoreError> {
        let mut tx = self.file.one().await?;
        tx.rows(READ_FROM, args![after, limit]).await?.iter().map(record).collect()
    }

    /// Readings after this number with their hashes.
    pub async fn entries_from(&self, after: u64, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let mut tx = self.file.one().await?;
        tx.rows(READ_FROM, args![after, limit]).await?.iter().map(entry).collect()
    }

    /// Reads everything and proves what [`wharf_billing::ledger::verify`] says: numbers, chain, signatures,
    /// and that in each series the sum of differences is what the cumulative values rose by.
    pub async fn verify(&self) -> Result<Summary, StoreError> {
        let broken = |Broken { seq, what, .. }| StoreError::Broken {
            seq: i64::try_from(seq).unwrap_or(i64::MAX),
            what,
        };
        let mut verifier = Verifier::new(self.host.clone(), self.public_key());
        loop {
            let entries = self.entries_from(verifier.seen().records, BATCH).await?;
            if entries.is_empty() {
                return verifier.finish().map_err(broken);
            }
            for entry in &entries {
                verifier.record(entry).map_err(broken)?;
            }
        }
    }

    /// Closes the file.
    pub async fn close(&self) {
        self.file.close().await;
    }

    /// Prepares every statement; an error names the first that is refused.
    pub async fn check_statements(&self) -> Result<usize, StoreError> {
        let mut tx = self.file.read().await?;
        let statements = STATEMENTS.iter().chain(seek::STATEMENTS);
        for statement in statements.clone() {
            tx.prepare(statement).await?;
        }
        Ok(statements.count())
    }
}

/// Number and hash of the last reading.
async fn head(tx: &mut Tx, host: &HostId) -> Result<(i64, Hash), StoreError> {
    match tx.row(HEAD, args![]).await? {
        Some(row) => Ok((row.integer("seq")?, row.parsed("hash")?)),
        None => Ok((0, Hash::genesis(host))),
    }
}

/// Writes readings behind `head`, which moves on. `latest` has the last reading of series that are known to go
/// on, and gets these.
async fn put<'a>(
    tx: &mut Tx,
    head: &mut (i64, Hash),
    latest: &mut HashMap<&'a SeriesKey, ReadingRecord>,
    readings: &'a [ReadingRecord],
) -> Result<Vec<Appended>, StoreError> {
    let mut appended = Vec::with_capacity(readings.len());
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
                last_of_series(tx, &reading.series).await?.map(|(_, reading)| reading)
            }
        };
        let seq = head.0 + 1;
        series::check(before.as_ref(), reading)
            .map_err(|fault| StoreError::Broken { seq, what: fault.what })?;
        let hash = head.1.next(number(seq)?, reading);
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
            hash.to_string(),
        ]);
        tx.execute(APPEND, values).await?;
        *head = (seq, hash);
        appended.push(Appended::New(seq));
        latest.insert(&reading.series, reading.clone());
    }
    Ok(appended)
}

async fn last_of_series(tx: &mut Tx, series: &SeriesKey) -> Result<Option<(i64, ReadingRecord)>, StoreError> {
    tx.row(LAST_OF_SERIES, series_values(series)).await?.as_ref().map(record).transpose()
}
