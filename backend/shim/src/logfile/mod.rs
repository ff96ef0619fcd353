//! The container's output on disk: chunks as they were read, in bounded files, with one cursor.
//!
//! ```text
//! <dir>/00000000000000000000.log     named by the log's first byte in it: a gapless, growing offset
//! <dir>/00000000000010485712.log
//!
//! record   length u32 | stream u8 | flags u8 | zero u16 | time ns u64, little-endian, then the bytes
//! ```
//! A cursor is an offset in that one sequence of bytes; it stays valid whatever is rotated, and a
//! reader whose place was rotated away is told exactly what it missed. A record never spans two
//! files. Lines are the reader's business: the writer stores what one read(2) returned, which also
//! means that output cannot forge a record, a stream or a time. Nothing is synced; after a power
//! failure the last bytes may be missing, and [`LogWriter::open`] cuts off half a record.
//!
//! [`LogWriter`] never fails its caller: output that cannot be written is counted, and a record with
//! [`Flags::DROPPED`] says how much, in its place, as soon as there is space.

mod reader;
mod record;
mod segment;
mod writer;

use std::io;
use std::path::PathBuf;

pub use reader::{Gap, GapCause, Item, LogReader, Start};
pub use record::{Flags, HEADER_BYTES, MAX_RECORD_BYTES, Record, Stream};
pub use segment::{Segment, segments};
pub use writer::LogWriter;

/// A log that cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A system call failed.
    #[error("could not {call} {path}", path = path.display())]
    Io {
        /// The step that failed.
        call: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A cursor points into the middle of a record or behind the end.
    #[error("{cursor} is no place in this log, which ends at {end}")]
    BadCursor {
        /// What was given.
        cursor: u64,
        /// The log's end now.
        end: u64,
    },
}
