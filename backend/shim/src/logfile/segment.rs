//! The files of a log, in order.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::LogError;
use super::record::{HEADER_BYTES, Header};

const EXTENSION: &str = "log";
/// As many digits as the largest offset has, so that names sort like offsets.
const DIGITS: usize = 20;
/// Headers are looked for in steps of this size.
const SCAN_BYTES: usize = 64 * 1024;

/// One file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Offset of its first byte in the whole log.
    pub start: u64,
    /// Where it lies.
    pub path: PathBuf,
}

impl Segment {
    pub(super) fn new(dir: &Path, start: u64) -> Self {
        Self { start, path: dir.join(format!("{start:0DIGITS$}.{EXTENSION}")) }
    }

    pub(super) fn io(&self, call: &'static str, source: std::io::Error) -> LogError {
        LogError::Io { call, path: self.path.clone(), source }
    }
}

/// Returns the files of the log in `dir`, oldest first; other files are not looked at.
///
/// # Errors
/// When the directory cannot be read.
pub fn segments(dir: &Path) -> Result<Vec<Segment>, LogError> {
    let failed = |source| LogError::Io { call: "list", path: dir.to_owned(), source };
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Some(start) = start_of(&path) {
            segments.push(Segment { start, path });
        }
    }
    segments.sort_unstable_by_key(|segment| segment.start);
    Ok(segments)
}

fn start_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let digits = name.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    let plain = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// Walks the records of a file from its start and returns the end of the last whole one that does
/// not end after `limit`. Both count from the start of the file.
pub(super) fn last_boundary(file: &File, limit: u64) -> std::io::Result<u64> {
    let mut buffer = vec![0; SCAN_BYTES.min(usize::try_from(limit).unwrap_or(SCAN_BYTES))];
    let mut buffer_at = 0;
    let mut filled = 0;
    let mut position = 0;
    loop {
        let within = usize::try_from(position - buffer_at).unwrap_or(usize::MAX);
        let header =
            buffer.get(..filled).and_then(|buffer| buffer.get(within..)?.first_chunk::<HEADER_BYTES>());
        let Some(header) = header else {
            // The next header is not in the buffer: fill it from there.
            buffer_at = position;
            filled = read_full(file, &mut buffer, position)?;
            if filled < HEADER_BYTES {
                return Ok(position);
            }
            continue;
        };
        let Some(header) = Header::decode(header) else { return Ok(position) };
        let end = position.saturating_add(header.record_bytes());
        if end > limit {
            return Ok(position);
        }
        position = end;
    }
}

/// Reads at an offset until the buffer is full or the file ends.
pub(super) fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..)
        && !rest.is_empty()
    {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_files_by_offset_and_ignores_others() {
        let dir = tempfile::tempdir().expect("temp dir");
        for name in
            ["00000000000000000100.log", "00000000000000000020.log", "20.log", "x.log", "README", ".log"]
        {
            std::fs::write(dir.path().join(name), b"").expect("write");
        }
        let starts: Vec<u64> =
            segments(dir.path()).expect("list").into_iter().map(|segment| segment.start).collect();
        assert_eq!(starts, [20, 100]);
    }

    #[test]
    fn the_largest_offset_has_a_name_and_comes_back() {
        let segment = Segment::new(Path::new("/x"), u64::MAX);
        assert_eq!(start_of(&segment.path), Some(u64::MAX));
    }
}
