//! Appends to the log and rotates it; never fails its caller.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File};
use std::io::{self, IoSlice};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use wharf_runtime::spec::LogSpec;

use super::LogError;
use super::record::{Flags, HEADER_BYTES, Header, MAX_RECORD_BYTES, Stream};
use super::segment::{Segment, last_boundary, segments};

/// The one writer of a log.
#[derive(Debug)]
pub struct LogWriter {
    dir: PathBuf,
    max_file_bytes: u64,
    max_files: usize,
    /// All files, the current one last.
    files: VecDeque<Segment>,
    /// `None` when the next record needs a new file.
    current: Option<Current>,
    /// Where the next record begins in the whole log.
    end: u64,
    /// Not yet told in a record, by stream.
    dropped: [Dropped; 2],
    dropped_total_bytes: u64,
}

#[derive(Debug)]
struct Current {
    file: File,
    length: u64,
}

#[derive(Debug)]
struct Dropped {
    stream: Stream,
    bytes: u64,
}

impl LogWriter {
    /// Opens the log in `spec.dir` for appending, makes the directory when it is missing, and cuts
    /// off half a record that a killed writer or a power failure left.
    ///
    /// # Errors
    /// When the directory or the last file cannot be used.
    pub fn open(spec: &LogSpec) -> Result<Self, LogError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&spec.dir).map_err(|source| LogError::Io {
            call: "make the directory",
            path: spec.dir.clone(),
            source,
        })?;
        let files: VecDeque<Segment> = segments(&spec.dir)?.into();
        let mut writer = Self {
            dir: spec.dir.clone(),
            max_file_bytes: spec.max_file_bytes,
            max_files: usize::try_from(spec.max_files).unwrap_or(usize::MAX).max(1),
            files,
            current: None,
            end: 0,
            dropped: [Stream::Stdout, Stream::Stderr].map(|stream| Dropped { stream, bytes: 0 }),
            dropped_total_bytes: 0,
        };
        if let Some(last) = writer.files.back() {
            let (file, length) = repair(last)?;
            writer.end = last.start.saturating_add(length);
            writer.current = Some(Current { file, length });
        }
        Ok(writer)
    }

    /// Appends output that was read at `time_ns`. What cannot be written is dropped and counted; the
    /// count is written, at its place, before the next output that can be.
    pub fn append(&mut self, stream: Stream, time_ns: u64, output: &[u8]) {
        for chunk in output.chunks(MAX_RECORD_BYTES) {
            if self.try_append(stream, time_ns, chunk).is_err() {
                self.count_dropped(stream, chunk.len() as u64);
            }
        }
    }

    /// Tries once more to write the count of dropped output, at the end of a container.
    pub fn finish(&mut self, time_ns: u64) {
        if self.write_dropped(time_ns).is_err() {
            // The count stays in `dropped_total_bytes`, which the exit record carries.
        }
    }

    /// Returns how much output was dropped by this writer.
    pub fn dropped_total_bytes(&self) -> u64 {
        self.dropped_total_bytes
    }

    /// Returns where the next record begins.
    pub fn end(&self) -> u64 {
        self.end
    }

    fn count_dropped(&mut self, stream: Stream, bytes: u64) {
        for dropped in self.dropped.iter_mut().filter(|dropped| dropped.stream == stream) {
            dropped.bytes = dropped.bytes.saturating_add(bytes);
        }
        self.dropped_total_bytes = self.dropped_total_bytes.saturating_add(bytes);
    }

    fn try_append(&mut self, stream: Stream, time_ns: u64, chunk: &[u8]) -> io::Result<()> {
        self.write_dropped(time_ns)?;
        self.write_record(stream, Flags::NONE, time_ns, chunk)
    }

    fn write_dropped(&mut self, time_ns: u64) -> io::Result<()> {
        for index in 0..self.dropped.len() {
            let Some(&Dropped { stream, bytes }) = self.dropped.get(index) else { break };
            if bytes > 0 {
                self.write_record(stream, Flags::DROPPED, time_ns, &bytes.to_le_bytes())?;
                if let Some(dropped) = self.dropped.get_mut(index) {
                    dropped.bytes = 0;
                }
            }
        }
        Ok(())
    }

    /// Writes one whole record or nothing.
    fn write_record(&mut self, stream: Stream, flags: Flags, time_ns: u64, bytes: &[u8]) -> io::Result<()> {
        let Ok(length) = u32::try_from(bytes.len()) else { return Err(io::ErrorKind::InvalidInput.into()) };
        let header = Header { length, stream, flags, time_ns };
        let record_bytes = header.record_bytes();
        let full = |current: &Current| {
            current.length > 0 && current.length.saturating_add(record_bytes) > self.max_file_bytes
        };
        if self.current.as_ref().is_none_or(full) {
            self.rotate()?;
        }
        let Some(current) = &mut self.current else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(errno) = write_all(&current.file, &header.encode(), bytes) {
            // Half a record must not stay. If it cannot be cut off, the next record begins a new
            // file, whose name tells readers to pass over it.
            if current.file.set_len(current.length).is_err() {
                self.current = None;
            }
            return Err(errno.into());
        }
        current.length += record_bytes;
        self.end += record_bytes;
        Ok(())
    }

    /// Begins a new file and removes the oldest; on a full disk that is also what makes space.
    fn rotate(&mut self) -> io::Result<()> {
        while self.files.len() >= self.max_files {
            let Some(oldest) = self.files.front() else { break };
            match std::fs::remove_file(&oldest.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => drop(self.files.pop_front()),
            }
            if self.files.is_empty() {
                self.current = None;
            }
        }
        let segment = Segment::new(&self.dir, self.end);
        let file = open_segment(&segment, OFlags::CREATE | OFlags::TRUNC)?;
        // A file in which nothing could be written has the same name as the next.
        if self.files.back() != Some(&segment) {
            self.files.push_back(segment);
        }
        self.current = Some(Current { file, length: 0 });
        Ok(())
    }
}

fn open_segment(segment: &Segment, more: OFlags) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    Ok(rustix::fs::open(&segment.path, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Opens the last file and cuts it after its last whole record; returns what is left of it.
fn repair(segment: &Segment) -> Result<(File, u64), LogError> {
    let file = open_segment(segment, OFlags::empty()).map_err(|source| segment.io("open", source))?;
    let size = file.metadata().map_err(|source| segment.io("examine", source))?.len();
    let length = last_boundary(&file, size).map_err(|source| segment.io("read", source))?;
    if length < size {
        file.set_len(length).map_err(|source| segment.io("cut", source))?;
    }
    Ok((file, length))
}

fn write_all(file: &File, header: &[u8; HEADER_BYTES], bytes: &[u8]) -> Result<(), Errno> {
    let mut done = 0;
    loop {
        let header_rest = header.get(done..).unwrap_or_default();
        let bytes_rest = bytes.get(done.saturating_sub(HEADER_BYTES)..).unwrap_or_default();
        if header_rest.is_empty() && bytes_rest.is_empty() {
            return Ok(());
        }
        match rustix::io::writev(file, &[IoSlice::new(header_rest), IoSlice::new(bytes_rest)]) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
