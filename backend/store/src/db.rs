//! Opening a database, transactions, and the only three functions that touch an engine.
//!
//! SQLite: WAL, `synchronous = FULL` (a commit is on the disk) unless a transaction was begun
//! unsynced, foreign keys on, one connection that writes and a few that only read. PostgreSQL: one pool. A
//! writing transaction takes SQLite's write lock at once, so it cannot fail half-way because another one
//! was faster.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, Postgres};
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Connection, Executor, Transaction};

use crate::error::StoreError;
use crate::row::{Row, Value};

static SQLITE: Migrator = sqlx::migrate!("../../migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("../../migrations/postgres");

/// How long a transaction waits for its turn before the store is called unavailable.
const WAIT: Duration = Duration::from_secs(15);
/// Readers of an SQLite file; each is a thread.
const SQLITE_READERS: u32 = 4;
/// Of each reader, in KiB (a negative number, `PRAGMA cache_size`) and not the usual 2 MB: behind it is the
/// kernel's page cache, of which there is one.
const READER_CACHE: &str = "-256";
/// Connections to PostgreSQL.
const POSTGRES_CONNECTIONS: u32 = 10;

/// What a commit has come through when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A power cut loses nothing of it.
    Synced,
    /// The death of this process loses nothing of it; a power cut may, until the next synced commit.
    Unsynced,
}

/// The control store.
#[derive(Debug, Clone)]
pub enum Db {
    /// A file.
    Sqlite(SqliteFile),
    /// A server.
    Postgres(PgPool),
}

/// An SQLite file: one writer, several readers.
#[derive(Debug, Clone)]
pub struct SqliteFile {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteFile {
    pub(crate) async fn open(path: &Path, migrator: &Migrator) -> Result<Self, StoreError> {
        let url = format!("sqlite:{}", path.display());
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            tokio::fs::create_dir_all(directory)
                .await
                .map_err(|source| StoreError::Directory { path: directory.to_owned(), source })?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(WAIT);
        let pool = |connections| {
            // A connection that lives as long as the agent keeps its prepared statements. It is no
            // network that could be gone: asking it first costs a turn of its thread each time.
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(WAIT)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .after_release(|connection, _| Box::pin(is_idle(connection)))
        };
        let open_error = |source| StoreError::Open { url: url.clone(), source };
        let writer = pool(1).connect_with(options.clone()).await.map_err(open_error)?;
        migrator.run(&writer).await.map_err(|source| StoreError::Migrate { url: url.clone(), source })?;
        let readers = pool(SQLITE_READERS)
            .connect_with(
                options
                    .create_if_missing(false)
                    .pragma("query_only", "ON")
                    .pragma("cache_size", READER_CACHE),
            )
            .await
            .map_err(open_error)?;
        Ok(Self { writer, readers })
    }

    /// Opens a file to be read. One that is alone, without a log beside it, is taken to be at rest: nothing is
    /// made beside it, so it may lie where nobody can write.
    pub(crate) async fn open_copy(path: &Path) -> Result<Self, StoreError> {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .immutable(!Path::new(&log).exists())
            .busy_timeout(WAIT);
        let opened = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
        let pool = opened
            .map_err(|source| StoreError::Open { url: format!("sqlite:{}", path.display()), source })?;
        Ok(Self { writer: pool.clone(), readers: pool })
    }

    pub(crate) async fn begin(&self, durability: Durability) -> Result<Tx, StoreError> {
        // The setting outlives the transaction, so every one begins with its own.
        let begun = self.writer.begin_with(match durability {
            Durability::Synced => "PRAGMA synchronous = FULL; BEGIN IMMEDIATE",
            Durability::Unsynced => "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE",
        });
        begun.await.map(Tx::Sqlite).map_err(|error| StoreError::from_statement("BEGIN", error))
    }

    pub(crate) async fn read(&self) -> Result<Tx, StoreError> {
        let begun = self.readers.begin().await;
        begun.map(Tx::Sqlite).map_err(|error| StoreError::from_statement("BEGIN", error))
    }

    pub(crate) async fn one(&self) -> Result<Tx, StoreError> {
        let acquired = self.readers.acquire().await;
        acquired.map(Tx::SqliteOne).map_err(|error| StoreError::from_statement("BEGIN", error))
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        // The last connection to close moves the write-ahead log into the file.
        self.writer.close().await;
    }
}

impl Db {
    /// Opens the store at `sqlite:<path>` or `postgres://…` and brings it to this version's schema.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.starts_with(':') {
                return Err(StoreError::UnknownUrl { url: without_password(url) });
            }
            return SqliteFile::open(Path::new(path), &SQLITE).await.map(Self::Sqlite);
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(StoreError::UnknownUrl { url: without_password(url) });
        }
        let url_shown = without_password(url);
        let open_error = |source| StoreError::Open { url: url_shown.clone(), source };
        let options = PgConnectOptions::from_str(url).map_err(open_error)?.application_name("wharfd");
        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS)
            .acquire_timeout(WAIT)
            .connect_with(options)
            .await
            .map_err(open_error)?;
        POSTGRES.run(&pool).await.map_err(|source| StoreError::Migrate { url: url_shown.clone(), source })?;
        Ok(Self::Postgres(pool))
    }

    /// Begins a transaction that may write. What it commits is on the disk.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        match self {
            Self::Sqlite(file) => file.begin(Durability::Synced).await,
            Self::Postgres(pool) => begin_postgres(pool, "BEGIN").await,
        }
    }

    /// Begins a transaction that may write and whose commit does not wait for the disk: killing the
    /// agent loses nothing of it, a power cut may undo it whole (never in part), until the next
    /// synced commit. For what can be found or computed again, or means nothing after a boot.
    pub async fn begin_unsynced(&self) -> Result<Tx, StoreError> {
        match self {
            Self::Sqlite(file) => file.begin(Durability::Unsynced).await,
            Self::Postgres(pool) => begin_postgres(pool, "BEGIN; SET LOCAL synchronous_commit = off").await,
        }
    }

    /// Begins a transaction that only reads; all its statements see the same moment.
    pub async fn read(&self) -> Result<Tx, StoreError> {
        match self {
            Self::Sqlite(file) => file.read().await,
            Self::Postgres(pool) => {
                begin_postgres(pool, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
            }
        }
    }

    /// As [`Db::read`] for a single statement, which sees one moment anyway: a transaction around it would cost
    /// two more turns of the engine. Statements after it see later moments.
    pub async fn one(&self) -> Result<Tx, StoreError> {
        match self {
            Self::Sqlite(file) => file.one().await,
            Self::Postgres(pool) => {
                let acquired = pool.acquire().await;
                acquired.map(Tx::PostgresOne).map_err(|error| StoreError::from_statement("BEGIN", error))
            }
        }
    }

    /// Waits for running transactions and closes every connection.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(file) => file.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }

    /// Prepares every statement of the store; an error names the first that this database refuses.
    pub async fn check_statements(&self) -> Result<usize, StoreError> {
        let modules = [
            crate::addresses::STATEMENTS,
            crate::audit::STATEMENTS,
            crate::budgets::STATEMENTS,
            crate::containers::STATEMENTS,
            crate::contracts::STATEMENTS,
            crate::events::STATEMENTS,
            crate::hosts::STATEMENTS,
            crate::images::STATEMENTS,
            crate::late::STATEMENTS,
            crate::outbox::STATEMENTS,
            crate::ports::STATEMENTS,
            crate::prices::STATEMENTS,
            crate::sessions::STATEMENTS,
            crate::setup::STATEMENTS,
            crate::statements::STATEMENTS,
            crate::tenants::STATEMENTS,
            crate::tokens::STATEMENTS,
            crate::usage::STATEMENTS,
            crate::users::STATEMENTS,
            crate::volumes::STATEMENTS,
        ];
        let mut tx = self.read().await?;
        let statements = modules.into_iter().flatten();
        for statement in statements.clone() {
            tx.prepare(statement).await?;
        }
        Ok(statements.count())
    }
}

/// Whether a connection that was given back is in no transaction; one that is will be replaced.
///
/// A full disk makes SQLite itself roll back (`sqlite3_get_autocommit`). sqlx does not see that, its own
/// ROLLBACK then fails, and from then on it would refuse every BEGIN on this connection.
async fn is_idle(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if !connection.is_in_transaction() {
        return Ok(true);
    }
    // A dropped transaction's ROLLBACK waits in the connection's queue; the answer comes after it.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

async fn begin_postgres(pool: &PgPool, begin: &'static str) -> Result<Tx, StoreError> {
    let begun = pool.begin_with(begin).await;
    begun.map(Tx::Postgres).map_err(|error| StoreError::from_statement("BEGIN", error))
}

/// A transaction. Dropped without [`Tx::commit`], it leaves no trace.
#[derive(Debug)]
pub enum Tx {
    /// On SQLite.
    Sqlite(Transaction<'static, Sqlite>),
    /// On PostgreSQL.
    Postgres(Transaction<'static, Postgres>),
    /// A single statement on SQLite.
    SqliteOne(PoolConnection<Sqlite>),
    /// A single statement on PostgreSQL.
    PostgresOne(PoolConnection<Postgres>),
}

/// Binds the values and runs the query by `$run` on whichever engine it is.
macro_rules! on_engine {
    ($tx:expr, $sql:expr, $values:expr, $run:ident) => {
        match $tx {
            Tx::Sqlite(tx) => {
                bind!(sqlx::query::<Sqlite>($sql), $values).$run(&mut **tx).await.map(Either::Sqlite)
            }
            Tx::Postgres(tx) => {
                bind!(sqlx::query::<Postgres>($sql), $values).$run(&mut **tx).await.map(Either::Postgres)
            }
            Tx::SqliteOne(one) => {
                bind!(sqlx::query::<Sqlite>($sql), $values).$run(&mut **one).await.map(Either::Sqlite)
            }
            Tx::PostgresOne(one) => {
                bind!(sqlx::query::<Postgres>($sql), $values).$run(&mut **one).await.map(Either::Postgres)
            }
        }
        .map_err(|error| StoreError::from_statement($sql, error))
    };
}

macro_rules! bind {
    ($query:expr, $values:expr) => {
        $values.into_iter().fold($query, |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Integer(number) => query.bind(number),
        })
    };
}

/// What an engine gave.
enum Either<S, P> {
    Sqlite(S),
    Postgres(P),
}

impl Tx {
    /// Makes everything done in it lasting, as it was begun: see [`Db::begin`] and [`Db::begin_unsynced`].
    pub async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
            Self::SqliteOne(_) | Self::PostgresOne(_) => Ok(()),
        }
        .map_err(|error| StoreError::from_statement("COMMIT", error))
    }

    /// Undoes everything done in it, and says so if that fails.
    pub async fn rollback(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.rollback().await,
            Self::Postgres(tx) => tx.rollback().await,
            Self::SqliteOne(_) | Self::PostgresOne(_) => Ok(()),
        }
        .map_err(|error| StoreError::from_statement("ROLLBACK", error))
    }

    /// Runs a statement and returns how many rows it changed.
    pub(crate) async fn execute(&mut self, sql: &'static str, values: Vec<Value>) -> Result<u64, StoreError> {
        Ok(match on_engine!(self, sql, values, execute)? {
            Either::Sqlite(result) => result.rows_affected(),
            Either::Postgres(result) => result.rows_affected(),
        })
    }

    /// All rows of a query.
    pub(crate) async fn rows(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        Ok(match on_engine!(self, sql, values, fetch_all)? {
            Either::Sqlite(rows) => rows.into_iter().map(Row::Sqlite).collect(),
            Either::Postgres(rows) => rows.into_iter().map(Row::Postgres).collect(),
        })
    }

    /// The row of a query, if there is one.
    pub(crate) async fn row(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(match on_engine!(self, sql, values, fetch_optional)? {
            Either::Sqlite(row) => row.map(Row::Sqlite),
            Either::Postgres(row) => row.map(Row::Postgres),
        })
    }

    pub(crate) async fn prepare(&mut self, sql: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => (&mut **tx).prepare(sqlx::SqlSafeStr::into_sql_str(sql)).await.map(drop),
            Self::Postgres(tx) => (&mut **tx).prepare(sqlx::SqlSafeStr::into_sql_str(sql)).await.map(drop),
            Self::SqliteOne(one) => (&mut **one).prepare(sqlx::SqlSafeStr::into_sql_str(sql)).await.map(drop),
            Self::PostgresOne(one) => {
                (&mut **one).prepare(sqlx::SqlSafeStr::into_sql_str(sql)).await.map(drop)
            }
        }
        .map_err(|error| StoreError::from_statement(sql, error))
    }

    /// Counts a row of `counters` up by `by` and returns its new value. The row stays locked until
    /// the transaction ends, so numbers are committed in their order and without gaps.
    pub(crate) async fn count_up(&mut self, name: &'static str, by: i64) -> Result<i64, StoreError> {
        let row = self.row(COUNT_UP, crate::row::args![name, by]).await?;
        row.ok_or(StoreError::corrupt("counters.name"))?.integer("value")
    }
}

pub(crate) const COUNT_UP: &str = "UPDATE counters SET value = value + $2 WHERE name = $1 RETURNING value";

/// The URL as it may be shown and logged.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((credentials, host)) => {
            let user = credentials.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{host}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_disk_spoils_the_transaction_that_met_it_and_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = SqliteFile::open(&dir.path().join("small.db"), &SQLITE).await.expect("it opens");
        let mut tx = file.begin(Durability::Synced).await.expect("a transaction");
        // No larger than it is: to SQLite the same as a disk without a free block.
        tx.rows("PRAGMA max_page_count = 1", Vec::new()).await.expect("a limit");
        tx.commit().await.expect("a commit");
        let mut tx = file.begin(Durability::Synced).await.expect("a transaction");
        let filling = "INSERT INTO counters (name, value) VALUES (hex(zeroblob(9000000)), 0)";
        let error = tx.execute(filling, Vec::new()).await.expect_err("it does not fit");
        assert!(matches!(error, StoreError::Full(_)), "{error}");
        drop(tx);
        for _ in 0..3 {
            let mut tx = file.begin(Durability::Synced).await.expect("the next one begins");
            tx.count_up("events", 1).await.expect("and writes");
            tx.commit().await.expect("for good");
        }
    }

    #[tokio::test]
    async fn each_transaction_begins_with_its_own_durability() {
        let directory = tempfile::tempdir().expect("a directory");
        let db =
            Db::connect(&format!("sqlite:{}/store.db", directory.path().display())).await.expect("opens");
        let mut seen = Vec::new();
        for durability in [Durability::Synced, Durability::Unsynced, Durability::Synced] {
            let begun = match durability {
                Durability::Synced => db.begin().await,
                Durability::Unsynced => db.begin_unsynced().await,
            };
            let mut tx = begun.expect("begins");
            let row = tx.row("PRAGMA synchronous", Vec::new()).await.expect("answers").expect("a row");
            seen.push(row.integer("synchronous").expect("a number"));
            tx.commit().await.expect("commits");
        }
        // 2 is FULL, 1 is NORMAL.
        assert_eq!(seen, [2, 1, 2]);
    }

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(without_password("postgres://wharf:se@cret@db/wharf"), "postgres://wharf@db/wharf");
        assert_eq!(without_password("postgres://db/wharf"), "postgres://db/wharf");
        assert_eq!(without_password("sqlite:/var/lib/x.db"), "sqlite:/var/lib/x.db");
    }
}
