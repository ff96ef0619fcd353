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
use super::record::{Flags, Header, MAX_RECORD_BYTES, Stream};
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
        let told = self.drop_records(time_ns);
        if !told.is_empty() && self.write(&told, &[], &[]).is_ok() {
            self.forget_dropped();
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

    /// Writes one record, and before it those of what was dropped: all or nothing, so that a disk
    /// with a little space left is not filled with counts.
    fn try_append(&mut self, stream: Stream, time_ns: u64, chunk: &[u8]) -> io::Result<()> {
        let Ok(length) = u32::try_from(chunk.len()) else { return Err(io::ErrorKind::InvalidInput.into()) };
        let header = Header { length, stream, flags: Flags::NONE, time_ns };
        let told = self.drop_records(time_ns);
        self.write(&told, &header.encode(), chunk)?;
        self.forget_dropped();
        Ok(())
    }

    /// The records that tell what was dropped since the last one.
    fn drop_records(&self, time_ns: u64) -> Vec<u8> {
        let mut records = Vec::new();
        for &Dropped { stream, bytes } in self.dropped.iter().filter(|dropped| dropped.bytes > 0) {
            let header = Header { length: 8, stream, flags: Flags::DROPPED, time_ns };
            records.extend_from_slice(&header.encode());
            records.extend_from_slice(&bytes.to_le_bytes());
        }
        records
    }

    fn forget_dropped(&mut self) {
        for dropped in &mut self.dropped {
            dropped.bytes = 0;
        }
    }

    /// Writes whole records, in three parts, or nothing.
    fn write(&mut self, told: &[u8], header: &[u8], bytes: &[u8]) -> io::Result<()> {
        let parts = [told, header, bytes];
        let length = parts.iter().map(|part| part.len() as u64).sum();
        let full = |current: &Current| {
            current.length > 0 && current.length.saturating_add(length) > self.max_file_bytes
        };
        if self.current.as_ref().is_none_or(full) {
            self.rotate()?;
        }
        let Some(current) = &mut self.current else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(errno) = write_all(&current.file, parts) {
            // Half a record must not stay. If it cannot be cut off, the next record begins a new
            // file, whose name tells readers to pass over it.
            if current.file.set_len(current.length).is_err() {
                self.current = None;
            }
            return Err(errno.into());
        }
        current.length += length;
        self.end += length;
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

fn write_all(file: &File, parts: [&[u8]; 3]) -> Result<(), Errno> {
    let mut parts = parts.map(IoSlice::new);
    let mut left = parts.as_mut_slice();
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match rustix::io::writev(file, left) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(count) => IoSlice::advance_slices(&mut left, count),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
