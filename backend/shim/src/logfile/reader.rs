//! Reads the log from a cursor while it grows and rotates.
//!
//! A file ends where the next one begins: bytes behind that are half a record that the writer could
//! not cut off. While there is no next file, an incomplete record may still be completed, so the
//! reader waits, and reads it anew from its start.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::LogError;
use super::record::{HEADER_BYTES, Header, MAX_RECORD_BYTES, Record};
use super::segment::{Segment, last_boundary, read_full, segments};

/// Holds the largest record and more than one of the common, small ones.
const BUFFER_BYTES: usize = 2 * (HEADER_BYTES + MAX_RECORD_BYTES);
/// A file that is listed may be rotated away before it is opened, but not forever.
const OPEN_ATTEMPTS: u32 = 16;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is kept.
    Oldest,
    /// Behind the newest record.
    End,
    /// Where an earlier reader stopped.
    Cursor(u64),
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record.
    Record(Record<'a>),
    /// A part of the log that cannot be read.
    Gap(Gap),
}

/// A part of the log that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Where it begins.
    pub from: u64,
    /// Where the next record begins.
    pub to: u64,
    /// Why it cannot be read.
    pub cause: GapCause,
}

/// Why a part of the log cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapCause {
    /// It was removed to keep the log within its size.
    Rotated,
    /// Its bytes are no records.
    Damaged,
}

/// One reader of a log.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    segment: Option<(Segment, File)>,
    cursor: u64,
    buffer: Vec<u8>,
    /// The part of `buffer` that holds the log's bytes from `cursor` on.
    unread: std::ops::Range<usize>,
}

/// What [`LogReader::advance`] found.
enum Step {
    Record { header: Header, cursor: u64, bytes: std::ops::Range<usize> },
    Gap(Gap),
    Nothing,
}

impl LogReader {
    /// Opens the log in `dir`.
    ///
    /// # Errors
    /// [`LogError::BadCursor`] when the cursor is no place in the log; one that was rotated away is
    /// fine and gives a [`Gap`].
    pub fn open(dir: &Path, start: Start) -> Result<Self, LogError> {
        let mut reader =
            Self { dir: dir.to_owned(), segment: None, cursor: 0, buffer: Vec::new(), unread: 0..0 };
        let files = segments(dir)?;
        let oldest = files.first().map_or(0, |segment| segment.start);
        reader.cursor = match start {
            Start::Oldest => oldest,
            Start::End => end_of(&files)?,
            Start::Cursor(cursor) => {
                if cursor >= oldest && !is_boundary(&files, cursor)? {
                    return Err(LogError::BadCursor { cursor, end: end_of(&files)? });
                }
                cursor
            }
        };
        Ok(reader)
    }

    /// Returns where the next record begins: the cursor for a later reader.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Returns what comes next, or `None` at the end of what is written so far.
    ///
    /// # Errors
    /// When a file cannot be read, or when the log ends before the cursor (it was removed, or lost its
    /// end in a power failure).
    #[expect(clippy::should_implement_trait, reason = "an item borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, LogError> {
        Ok(match self.advance()? {
            Step::Nothing => None,
            Step::Gap(gap) => Some(Item::Gap(gap)),
            Step::Record { header, cursor, bytes } => Some(Item::Record(Record {
                cursor,
                next_cursor: self.cursor,
                stream: header.stream,
                flags: header.flags,
                time_ns: header.time_ns,
                bytes: self.buffer.get(bytes).unwrap_or_default(),
            })),
        })
    }

    fn advance(&mut self) -> Result<Step, LogError> {
        if let Some(record) = self.take_record() {
            return Ok(record);
        }
        loop {
            if self.segment.is_none()
                && let Some(step) = self.open_segment()?
            {
                return Ok(step);
            }
            self.fill()?;
            if let Some(record) = self.take_record() {
                return Ok(record);
            }
            let Some(next) = self.next_segment()? else { return Ok(Step::Nothing) };
            // The writer may have completed this file between the read and the listing.
            self.fill()?;
            if next.start > self.cursor
                && let Some(record) = self.take_record()
            {
                return Ok(record);
            }
            let cause = if self.unread.is_empty() { GapCause::Rotated } else { GapCause::Damaged };
            self.segment = None;
            self.unread = 0..0;
            if next.start < self.cursor {
                return Err(LogError::BadCursor { cursor: self.cursor, end: next.start });
            }
            if next.start > self.cursor {
                let gap = Gap { from: self.cursor, to: next.start, cause };
                self.cursor = next.start;
                return Ok(Step::Gap(gap));
            }
        }
    }

    /// Takes a whole record from the buffer.
    fn take_record(&mut self) -> Option<Step> {
        let header = Header::decode(self.buffer.get(self.unread.clone())?.first_chunk()?)?;
        let bytes_start = self.unread.start + HEADER_BYTES;
        let end = bytes_start + usize::try_from(header.length).ok()?;
        if end > self.unread.end {
            return None;
        }
        let cursor = self.cursor;
        self.cursor += header.record_bytes();
        self.unread.start = end;
        Some(Step::Record { header, cursor, bytes: bytes_start..end })
    }

    /// Reads anew from the cursor.
    fn fill(&mut self) -> Result<(), LogError> {
        let Some((segment, file)) = &self.segment else { return Ok(()) };
        self.buffer.resize(BUFFER_BYTES, 0);
        let offset = self.cursor.saturating_sub(segment.start);
        let filled =
            read_full(file, &mut self.buffer, offset).map_err(|source| segment.io("read", source))?;
        self.unread = 0..filled;
        Ok(())
    }

    /// Opens the file that holds the cursor; a step when there is none.
    fn open_segment(&mut self) -> Result<Option<Step>, LogError> {
        for attempt in 1.. {
            let mut files = segments(&self.dir)?;
            let following = files.partition_point(|segment| segment.start <= self.cursor);
            let Some(index) = following.checked_sub(1) else {
                let Some(oldest) = files.first() else { return Ok(Some(Step::Nothing)) };
                let gap = Gap { from: self.cursor, to: oldest.start, cause: GapCause::Rotated };
                self.cursor = oldest.start;
                return Ok(Some(Step::Gap(gap)));
            };
            let segment = files.swap_remove(index);
            match open_file(&segment) {
                Ok(file) => {
                    self.segment = Some((segment, file));
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < OPEN_ATTEMPTS => {}
                Err(source) => return Err(segment.io("open", source)),
            }
        }
        Ok(None)
    }

    fn next_segment(&self) -> Result<Option<Segment>, LogError> {
        let Some((current, _)) = &self.segment else { return Ok(None) };
        Ok(segments(&self.dir)?.into_iter().find(|segment| segment.start > current.start))
    }
}

fn open_file(segment: &Segment) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(&segment.path, flags, Mode::empty())?.into())
}

fn end_of(files: &[Segment]) -> Result<u64, LogError> {
    let Some(last) = files.last() else { return Ok(0) };
    boundary_in(last, u64::MAX)
}

/// Tells whether a record begins or the log ends at `cursor`.
fn is_boundary(files: &[Segment], cursor: u64) -> Result<bool, LogError> {
    match files.iter().rfind(|segment| segment.start <= cursor) {
        Some(segment) => Ok(boundary_in(segment, cursor)? == cursor),
        None => Ok(cursor == 0),
    }
}

/// The last boundary in a file that is not behind `limit`.
fn boundary_in(segment: &Segment, limit: u64) -> Result<u64, LogError> {
    let failed = |call| move |source| segment.io(call, source);
    let file = open_file(segment).map_err(failed("open"))?;
    let size = file.metadata().map_err(failed("examine"))?.len();
    let limit = size.min(limit.saturating_sub(segment.start));
    Ok(segment.start.saturating_add(last_boundary(&file, limit).map_err(failed("read"))?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;
    use wharf_runtime::spec::LogSpec;

    use super::super::{LogWriter, Stream};
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Entry {
        cursor: u64,
        stream: Stream,
        time_ns: u64,
        bytes: Vec<u8>,
    }

    fn spec(dir: &Path, max_file_bytes: u64, max_files: u32) -> LogSpec {
        LogSpec { dir: dir.to_owned(), max_file_bytes, max_files }
    }

    /// Reads to the end; records, and gaps as `(from, to)`.
    fn read_all(reader: &mut LogReader) -> (Vec<Entry>, Vec<(u64, u64)>) {
        let (mut entries, mut gaps) = (Vec::new(), Vec::new());
        while let Some(item) = reader.next().expect("readable log") {
            match item {
                Item::Record(Record { cursor, stream, time_ns, bytes, .. }) => {
                    entries.push(Entry { cursor, stream, time_ns, bytes: bytes.to_vec() });
                }
                Item::Gap(gap) => gaps.push((gap.from, gap.to)),
            }
        }
        (entries, gaps)
    }

    #[derive(Debug, Clone)]
    enum Action {
        Append { stderr: bool, length: usize },
        Read,
        ReopenWriter,
        ReopenReader,
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            8 => (any::<bool>(), 0..900_usize).prop_map(|(stderr, length)| Action::Append { stderr, length }),
            1 => Just(Action::Append { stderr: false, length: 2 * MAX_RECORD_BYTES + 1 }),
            3 => Just(Action::Read),
            1 => Just(Action::ReopenWriter),
            1 => Just(Action::ReopenReader),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        /// The oracle is the list of what was appended, each with its cursor.
        #[test]
        fn a_follower_gets_everything_but_its_gaps_whatever_is_rotated_or_reopened(
            actions in prop::collection::vec(action(), 1..80), max_file_bytes in 1..4_000_u64, max_files in 1..5_u32,
        ) {
            let dir = tempfile::tempdir().expect("temp dir");
            let spec = spec(dir.path(), max_file_bytes, max_files);
            let mut writer = LogWriter::open(&spec).expect("open");
            let mut reader = LogReader::open(dir.path(), Start::Oldest).expect("open");
            let (mut written, mut entries, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
            for (index, action) in actions.iter().chain([&Action::Read]).enumerate() {
                match *action {
                    Action::Append { stderr, length } => {
                        let stream = if stderr { Stream::Stderr } else { Stream::Stdout };
                        let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + index).to_le_bytes()[0]).collect();
                        let mut cursor = writer.end();
                        let time_ns = index as u64;
                        writer.append(stream, time_ns, &bytes);
                        for chunk in bytes.chunks(MAX_RECORD_BYTES) {
                            written.push(Entry { cursor, stream, time_ns, bytes: chunk.to_vec() });
                            cursor += (HEADER_BYTES + chunk.len()) as u64;
                        }
                        prop_assert_eq!(writer.end(), cursor);
                    }
                    Action::Read => {
                        let (new_entries, new_gaps) = read_all(&mut reader);
                        entries.extend(new_entries);
                        gaps.extend(new_gaps);
                    }
                    Action::ReopenWriter => writer = LogWriter::open(&spec).expect("open"),
                    Action::ReopenReader => {
                        reader = LogReader::open(dir.path(), Start::Cursor(reader.cursor())).expect("open");
                    }
                }
                let files = segments(dir.path()).expect("list").len();
                prop_assert!(files <= usize::try_from(max_files).expect("small"));
            }
            prop_assert_eq!(reader.cursor(), writer.end());
            let in_gap = |cursor: u64| gaps.iter().any(|(from, to)| (*from..*to).contains(&cursor));
            written.retain(|entry| !in_gap(entry.cursor));
            prop_assert_eq!(entries, written);
            prop_assert_eq!(writer.dropped_total_bytes(), 0);
        }

        #[test]
        fn a_file_cut_anywhere_is_repaired_to_its_last_whole_record(
            lengths in prop::collection::vec(1..300_usize, 1..10), at in any::<prop::sample::Index>(),
        ) {
            let dir = tempfile::tempdir().expect("temp dir");
            let spec = spec(dir.path(), 1_000_000, 3);
            let mut writer = LogWriter::open(&spec).expect("open");
            let mut ends = vec![0];
            for length in &lengths {
                writer.append(Stream::Stdout, 1, &vec![b'x'; *length]);
                ends.push(writer.end());
            }
            drop(writer);
            let segment = segments(dir.path()).expect("list").remove(0);
            let cut = at.index(usize::try_from(*ends.last().expect("some")).expect("small") + 1) as u64;
            File::options().write(true).open(&segment.path).expect("open").set_len(cut).expect("cut");

            // A reader waits at the last whole record, before and after the repair.
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            let mut reader = LogReader::open(dir.path(), Start::Oldest).expect("open");
            prop_assert_eq!(read_all(&mut reader).0.len(), whole);
            let mut writer = LogWriter::open(&spec).expect("repair");
            prop_assert_eq!(writer.end(), ends[whole]);
            writer.append(Stream::Stderr, 2, b"after");
            let (entries, gaps) = read_all(&mut reader);
            prop_assert_eq!(entries.into_iter().map(|entry| entry.bytes).collect::<Vec<_>>(), [b"after"]);
            prop_assert!(gaps.is_empty());
        }

        #[test]
        fn random_files_never_panic_and_always_end(
            files in prop::collection::vec((0..500_u64, prop::collection::vec(any::<u8>(), 0..300)), 0..4), cursor in 0..600_u64,
        ) {
            let dir = tempfile::tempdir().expect("temp dir");
            for (start, bytes) in &files {
                std::fs::write(Segment::new(dir.path(), *start).path, bytes).expect("write");
            }
            for start in [Start::Oldest, Start::End, Start::Cursor(cursor)] {
                if let Ok(mut reader) = LogReader::open(dir.path(), start) {
                    for _ in 0..1000 {
                        if !matches!(reader.next(), Ok(Some(_))) {
                            break;
                        }
                    }
                    let at_the_end = !matches!(reader.next(), Ok(Some(_)));
                    prop_assert!(at_the_end);
                }
            }
            LogWriter::open(&spec(dir.path(), 100, 2)).expect("repair").append(Stream::Stdout, 1, b"x");
        }
    }

    #[test]
    fn a_cursor_within_a_record_or_behind_the_end_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut writer = LogWriter::open(&spec(dir.path(), 1000, 2)).expect("open");
        writer.append(Stream::Stdout, 1, b"hello");
        for cursor in (1..21).chain([22, u64::MAX]) {
            let error = LogReader::open(dir.path(), Start::Cursor(cursor)).expect_err("refused");
            assert!(matches!(error, LogError::BadCursor { end: 21, .. }), "{cursor}: {error}");
        }
        assert_eq!(LogReader::open(dir.path(), Start::End).expect("open").cursor(), 21);
    }

    #[test]
    fn a_reader_that_was_overtaken_is_told_what_it_missed() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut writer = LogWriter::open(&spec(dir.path(), 60, 2)).expect("open");
        for _ in 0..6 {
            writer.append(Stream::Stdout, 1, &[b'x'; 44]);
        }
        let mut reader = LogReader::open(dir.path(), Start::Cursor(0)).expect("open");
        let gap = Gap { from: 0, to: 240, cause: GapCause::Rotated };
        assert_eq!(reader.next().expect("readable"), Some(Item::Gap(gap)));
        assert_eq!(read_all(&mut reader).0.len(), 2);
    }

    #[test]
    fn an_overtaken_reader_first_finishes_the_file_that_it_holds() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut writer = LogWriter::open(&spec(dir.path(), 120, 1)).expect("open");
        let mut reader = LogReader::open(dir.path(), Start::Oldest).expect("open");
        writer.append(Stream::Stdout, 1, &[b'a'; 44]);
        assert_eq!(read_all(&mut reader).0.len(), 1);
        writer.append(Stream::Stdout, 1, &[b'b'; 44]);
        for _ in 0..4 {
            writer.append(Stream::Stdout, 1, &[b'c'; 100]);
        }
        let (entries, gaps) = read_all(&mut reader);
        assert_eq!(entries[0].bytes, [b'b'; 44]);
        assert_eq!(gaps, [(120, writer.end() - 116)]);
        assert_eq!(entries.len(), 2);
    }

    #[test]
    fn damage_in_the_middle_costs_the_rest_of_its_file_only() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut writer = LogWriter::open(&spec(dir.path(), 120, 9)).expect("open");
        for _ in 0..4 {
            writer.append(Stream::Stdout, 1, &[b'x'; 44]);
        }
        let first = segments(dir.path()).expect("list").remove(0);
        let file = File::options().write(true).open(first.path).expect("open");
        file.write_all_at(&[0xff; 16], 60).expect("damage");
        let mut reader = LogReader::open(dir.path(), Start::Oldest).expect("open");
        let (entries, gaps) = read_all(&mut reader);
        assert_eq!(entries.iter().map(|entry| entry.cursor).collect::<Vec<_>>(), [0, 120, 180]);
        assert_eq!(gaps, [(60, 120)]);
    }

    #[test]
    fn zeros_that_a_power_failure_leaves_are_no_records() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut writer = LogWriter::open(&spec(dir.path(), 1000, 2)).expect("open");
        writer.append(Stream::Stdout, 1, b"hello");
        let segment = segments(dir.path()).expect("list").remove(0);
        File::options().write(true).open(&segment.path).expect("open").set_len(500).expect("zeros");
        assert_eq!(LogWriter::open(&spec(dir.path(), 1000, 2)).expect("repair").end(), 21);
    }
}
