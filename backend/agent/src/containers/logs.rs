//! A container's log as lines: history first, then as it grows.
//!
//! Nothing is pushed: a reader pulls batches from the shim's files at its own pace, so a slow one
//! makes nobody wait and an agent that comes back goes on where the reader stopped. A resumed
//! reader starts at the segment before its cursor and skips what it already has ([`super::lines`]).

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::{self, Stream};
use wharf_shared::live::{LogLine, LogStream};
use wharf_shared::problem::ProblemKind;
use wharf_shared::time::Timestamp;
use wharf_shim::logfile::{Item, LogError, LogReader, Start, Stream as ChunkStream, segments};

use super::lines::{LINE_MAX_BYTES, LineAssembler};
use crate::error::ServiceError;

/// How often the end of a followed log is looked at.
const POLL: Duration = Duration::from_millis(40);
/// A batch has at most this many lines: a reader on a bad line gets on by whole batches.
const BATCH_LINES: usize = 512;
/// And is made of so much of the log, and a chunk: a slow reader that gets on is seen to get on.
const BATCH_BYTES: usize = 256 * 1024;
/// A line that is complete at a cursor began at most so far before it.
const LOOK_BACK_BYTES: u64 = 64 * LINE_MAX_BYTES as u64;

/// Which part of a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogQuery {
    /// Only lines with a greater cursor.
    pub(crate) after: Option<u64>,
    /// Without `after`: at most so many lines before the end.
    pub(crate) tail: Option<u32>,
    /// Only lines that began then or later.
    pub(crate) since: Option<Timestamp>,
    /// Only one stream.
    pub(crate) stream: Option<LogStream>,
    /// Go on as the log grows.
    pub(crate) follow: bool,
    /// Chunks as they were written instead of lines.
    pub(crate) raw: bool,
}

/// What a log reader is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogItem {
    Line(LogLine),
    /// Output as it was written; only if asked for.
    Chunk {
        stream: LogStream,
        bytes: Vec<u8>,
    },
    /// Part of the log that can no longer be read.
    Gap {
        missed_bytes: u64,
        cursor: u64,
    },
}

/// Reading of a log failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TailError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the container was removed before its log was read to the end")]
    Removed,
    #[error("a worker thread panicked")]
    Worker(#[from] tokio::task::JoinError),
}

impl From<TailError> for ServiceError {
    fn from(error: TailError) -> Self {
        match error {
            TailError::Removed => Self::new(ProblemKind::NotFound, error.to_string()),
            error => Self::internal("the log cannot be read", error),
        }
    }
}

/// One reader's place in a log.
#[derive(Debug)]
struct LogTail {
    reader: LogReader,
    assembler: LineAssembler,
    /// Lines up to here were given out before.
    after: u64,
    query: LogQuery,
    ready: VecDeque<LogItem>,
    lines: Vec<LogLine>,
}

impl LogTail {
    fn open(dir: &Path, query: &LogQuery) -> Result<Self, LogError> {
        let kept = segments(dir)?;
        let mut ready = VecDeque::new();
        let mut start = Start::Oldest;
        if let Some(after) = query.after {
            let oldest = kept.first().map_or(0, |segment| segment.start);
            if after < oldest {
                ready.push_back(LogItem::Gap { missed_bytes: oldest - after, cursor: oldest });
            }
            let look_from = after.saturating_sub(LOOK_BACK_BYTES);
            if let Some(segment) = kept.iter().rev().find(|segment| segment.start <= look_from) {
                start = Start::Cursor(segment.start);
            }
        }
        let after = query.after.unwrap_or(0);
        let new = |start| {
            Ok::<_, LogError>(Self {
                reader: LogReader::open(dir, start)?,
                assembler: LineAssembler::default(),
                after,
                query: query.clone(),
                ready: VecDeque::new(),
                lines: Vec::new(),
            })
        };
        let (None, Some(tail)) = (query.after, query.tail) else {
            let mut opened = new(start)?;
            opened.ready = ready;
            return Ok(opened);
        };
        // The newest segment may hold enough lines; go back one at a time until it does.
        let tail = usize::try_from(tail).unwrap_or(usize::MAX);
        for segment in kept.iter().rev() {
            let mut opened = new(Start::Cursor(segment.start))?;
            while opened.read(usize::MAX)? {}
            let is_oldest = kept.first().is_some_and(|oldest| oldest.start == segment.start);
            if opened.ready.len() > tail || is_oldest {
                let surplus = opened.ready.len().saturating_sub(tail);
                opened.ready.drain(..surplus);
                return Ok(opened);
            }
        }
        new(Start::Oldest)
    }

    /// Reads on until `enough` items are ready or a batch's bytes were read; `false` at the log's present end.
    fn read(&mut self, enough: usize) -> Result<bool, LogError> {
        let mut bytes = 0;
        while self.ready.len() < enough && bytes < BATCH_BYTES {
            match self.reader.next()? {
                None => return Ok(false),
                Some(Item::Gap(gap)) => {
                    if gap.to > self.after {
                        let from = gap.from.max(self.after);
                        self.ready.push_back(LogItem::Gap { missed_bytes: gap.to - from, cursor: gap.to });
                    }
                }
                Some(Item::Record(record)) => {
                    bytes += record.bytes.len();
                    let dropped = record.dropped_bytes();
                    let payload = record.next_cursor - record.bytes.len() as u64;
                    if let Some(bytes) = dropped {
                        let note =
                            format!("{bytes} bytes of output were dropped: the log could not be written");
                        self.assembler.push(
                            LogStream::Supervisor,
                            record.time_ns,
                            record.next_cursor.saturating_sub(note.len() as u64),
                            note.as_bytes(),
                            &mut self.lines,
                        );
                    } else {
                        let stream = match record.stream {
                            ChunkStream::Stdout => LogStream::Stdout,
                            ChunkStream::Stderr => LogStream::Stderr,
                        };
                        if self.query.raw {
                            self.ready.push_back(LogItem::Chunk { stream, bytes: record.bytes.to_vec() });
                        } else {
                            self.assembler.push(
                                stream,
                                record.time_ns,
                                payload,
                                record.bytes,
                                &mut self.lines,
                            );
                        }
                    }
                    self.take_lines();
                }
            }
        }
        Ok(true)
    }

    /// What is left without a newline, once nothing more can come.
    fn finish(&mut self) {
        self.assembler.finish(&mut self.lines);
        self.take_lines();
    }

    fn take_lines(&mut self) {
        let (after, query) = (self.after, &self.query);
        let wanted = self.lines.drain(..).filter(|line| {
            line.cursor > after
                && query.since.is_none_or(|since| line.at >= since)
                && query.stream.is_none_or(|stream| line.stream == stream)
        });
        self.ready.extend(wanted.map(LogItem::Line));
    }
}

enum State {
    Start(PathBuf, LogQuery),
    Reading(Box<LogTail>),
    Done,
}

/// Streams batches of items. `is_live` tells whether the container may still write: a followed log
/// ends when it may not and everything was read.
pub(crate) fn follow(
    dir: PathBuf,
    query: LogQuery,
    is_live: impl Fn() -> bool + Send + 'static,
) -> impl Stream<Item = Result<Vec<LogItem>, TailError>> + Send {
    let follow = query.follow;
    stream::try_unfold((State::Start(dir, query), is_live), move |(mut state, is_live)| async move {
        loop {
            // Asked before reading: what was written before the end is then read after it.
            let live = is_live();
            let mut tail = match state {
                State::Done => return Ok(None),
                State::Start(dir, query) => {
                    let opening = (dir.clone(), query.clone());
                    match tokio::task::spawn_blocking(move || LogTail::open(&dir, &query)).await? {
                        Ok(tail) => Box::new(tail),
                        // Its first start makes the log.
                        Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                            if !(follow && live) {
                                return Ok(None);
                            }
                            tokio::time::sleep(POLL).await;
                            state = State::Start(opening.0, opening.1);
                            continue;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                State::Reading(tail) => tail,
            };
            let read = tokio::task::spawn_blocking(move || {
                let more = tail.read(BATCH_LINES)?;
                Ok::<_, LogError>((tail, more))
            });
            let (mut tail, more) = match read.await? {
                // It was there when the tail was opened.
                Err(LogError::Io { call: "list", source, .. }) if source.kind() == ErrorKind::NotFound => {
                    return Err(TailError::Removed);
                }
                read => read?,
            };
            let at_end = !(more || follow && live);
            if at_end && !live {
                tail.finish();
            }
            let count = tail.ready.len().min(BATCH_LINES);
            let batch: Vec<LogItem> = tail.ready.drain(..count).collect();
            let ended = at_end && tail.ready.is_empty();
            state = if ended { State::Done } else { State::Reading(tail) };
            if !batch.is_empty() {
                return Ok(Some((batch, (state, is_live))));
            }
            if !ended && !more {
                tokio::time::sleep(POLL).await;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, pin_mut};
    use wharf_shim::logfile::LogWriter;

    use super::*;

    fn written(dir: &Path, chunks: &[&str], max_file_bytes: u64) {
        let spec = wharf_runtime::spec::LogSpec { dir: dir.to_owned(), max_file_bytes, max_files: 3 };
        let mut writer = LogWriter::open(&spec).expect("the log opens");
        for chunk in chunks {
            writer.append(ChunkStream::Stdout, 1_000_000, chunk.as_bytes());
        }
    }

    async fn lines(dir: &Path, query: LogQuery) -> Vec<LogLine> {
        let stream = follow(dir.to_owned(), query, || false);
        pin_mut!(stream);
        let mut found = Vec::new();
        while let Some(batch) = stream.next().await {
            for item in batch.expect("the log reads") {
                if let LogItem::Line(line) = item {
                    found.push(line);
                }
            }
        }
        found
    }

    #[tokio::test]
    async fn resuming_after_any_line_gives_exactly_the_lines_behind_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let chunks: Vec<String> = (0..200).map(|number| format!("line {number}\npart of ")).collect();
        written(dir.path(), &chunks.iter().map(String::as_str).collect::<Vec<_>>(), 1 << 20);
        let all = lines(dir.path(), LogQuery::default()).await;
        assert_eq!(all.len(), 201);
        for (index, line) in all.iter().enumerate().step_by(17) {
            let rest = lines(dir.path(), LogQuery { after: Some(line.cursor), ..LogQuery::default() }).await;
            assert_eq!(rest, all[index + 1..], "after line {index}");
        }
    }

    #[tokio::test]
    async fn many_lines_written_at_once_come_in_several_batches() {
        let dir = tempfile::tempdir().expect("a directory");
        let text = "line\n".repeat(2 * BATCH_LINES + 7);
        written(dir.path(), &[&text], 1 << 20);
        let stream = follow(dir.path().to_owned(), LogQuery::default(), || false);
        pin_mut!(stream);
        let mut sizes = Vec::new();
        while let Some(batch) = stream.next().await {
            sizes.push(batch.expect("the log reads").len());
        }
        assert_eq!(sizes, [BATCH_LINES, BATCH_LINES, 7]);
    }

    #[tokio::test]
    async fn a_log_that_is_removed_under_its_reader_says_so() {
        let dir = tempfile::tempdir().expect("a directory");
        written(dir.path(), &["line\n"], 1 << 20);
        let query = LogQuery { follow: true, ..LogQuery::default() };
        let stream = follow(dir.path().to_owned(), query, || true);
        pin_mut!(stream);
        assert_eq!(stream.next().await.expect("a batch").expect("the log reads").len(), 1);
        std::fs::remove_dir_all(dir.path()).expect("removed");
        let error = stream.next().await.expect("an answer").expect_err("the log is gone");
        assert!(matches!(error, TailError::Removed), "{error:?}");
    }

    #[tokio::test]
    async fn a_log_that_was_never_begun_is_empty() {
        let dir = tempfile::tempdir().expect("a directory");
        let query = LogQuery { follow: true, ..LogQuery::default() };
        assert!(lines(&dir.path().join("log"), query).await.is_empty());
    }

    #[tokio::test]
    async fn the_tail_is_the_last_lines() {
        let dir = tempfile::tempdir().expect("a directory");
        written(dir.path(), &["a\nb\n", "c\nd\n"], 1 << 20);
        let tail = lines(dir.path(), LogQuery { tail: Some(2), ..LogQuery::default() }).await;
        assert_eq!(tail.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["c", "d"]);
        assert!(lines(dir.path(), LogQuery { tail: Some(0), ..LogQuery::default() }).await.is_empty());
    }
}
