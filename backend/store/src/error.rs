//! What can go wrong in the store.

use std::path::PathBuf;

/// A failure of the store. After one, drop the transaction: PostgreSQL has aborted it already.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The URL names no database that we know.
    #[error("{url:?} is no database; write sqlite:/path/to/file or postgres://user@host/name")]
    UnknownUrl {
        /// The URL, without its password.
        url: String,
    },
    /// The directory of a database file could not be made.
    #[error("cannot make the directory {path:?}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database could not be opened.
    #[error("cannot open the database {url}")]
    Open {
        /// The URL, without its password.
        url: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The database could not be brought to this version's schema.
    #[error("cannot migrate the database {url}")]
    Migrate {
        /// The URL, without its password.
        url: String,
        /// Why.
        source: sqlx::migrate::MigrateError,
    },
    /// There is no such thing in this scope.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The text fits more than one.
    #[error("more than one {0} fits")]
    Ambiguous(&'static str),
    /// Somebody else has it.
    #[error("the {0} is taken")]
    Taken(&'static str),
    /// Something still refers to it.
    #[error("the {0} is still in use")]
    InUse(&'static str),
    /// It changed since it was read.
    #[error("the {0} has changed in the meantime")]
    Stale(&'static str),
    /// No free one is left.
    #[error("no free {0} is left")]
    Exhausted(&'static str),
    /// The input contradicts what is stored.
    #[error("{0}")]
    Refused(&'static str),
    /// A readings' chain is broken.
    #[error("reading {seq} of the journal: {what}")]
    Broken {
        /// Which reading.
        seq: i64,
        /// What does not hold.
        what: &'static str,
    },
    /// A journal is signed with another key than this host's.
    #[error(
        "the journal was begun with the host key {expected}, and this host's is {found}: put the key that \
         belongs to it back, or move the journal away to begin a new one"
    )]
    Foreign {
        /// The key in the journal.
        expected: String,
        /// The key of this host.
        found: String,
    },
    /// A stored value cannot be what it should.
    #[error("column {column} holds a value that it may not hold")]
    Corrupt {
        /// The column.
        column: &'static str,
        /// Why, if a parser said so.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The disk or the database has no room.
    #[error("the database is full")]
    Full(#[source] sqlx::Error),
    /// The database cannot be reached or is too busy.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// A statement failed.
    #[error("cannot run the statement {statement}")]
    Statement {
        /// The first words of it.
        statement: &'static str,
        /// Why.
        source: sqlx::Error,
    },
}

impl StoreError {
    pub(crate) fn from_statement(statement: &'static str, source: sqlx::Error) -> Self {
        match &source {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(source),
            sqlx::Error::Database(error) => match error.code().as_deref() {
                // SQLITE_FULL; PostgreSQL's disk_full.
                Some("13" | "53100") => Self::Full(source),
                // SQLITE_BUSY and its extended codes; too many connections, shutdown.
                // SQLITE_IOERR while reading, writing or syncing.
                Some(
                    "5" | "261" | "517" | "10" | "266" | "778" | "1034" | "1290" | "1802" | "53300" | "57P01"
                    | "57P03",
                ) => Self::Unavailable(source),
                _ => Self::Statement { statement, source },
            },
            _ => Self::Statement { statement, source },
        }
    }

    pub(crate) const fn corrupt(column: &'static str) -> Self {
        Self::Corrupt { column, source: None }
    }
}
