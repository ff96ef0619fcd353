//! From the shim's chunks to lines: pure.
//!
//! A line belongs to one stream, its time is that of the chunk it began in, and its cursor is the
//! log offset behind its last byte. Lines that are longer than [`LINE_MAX_BYTES`] are cut into
//! partial items. Only whole lines are given out, so a cursor says everything about what a reader
//! already has: whoever resumes reads the log again from a segment's start, and is given exactly
//! the lines whose cursor is greater.

use wharf_shared::live::{LogLine, LogStream};
use wharf_shared::time::Timestamp;

/// A longer line is cut; Docker cuts at 16 KiB.
pub(crate) const LINE_MAX_BYTES: usize = 16 * 1024;

/// Output of one stream that is no whole line yet.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    began_ns: u64,
    /// Behind the last byte.
    end: u64,
}

/// Makes lines of chunks; one for each log that is read.
#[derive(Debug, Default)]
pub(crate) struct LineAssembler {
    stdout: Pending,
    stderr: Pending,
}

impl LineAssembler {
    /// Takes a chunk whose first byte lies at `offset` of the log, and gives out the lines it completes.
    pub(crate) fn push(
        &mut self,
        stream: LogStream,
        time_ns: u64,
        offset: u64,
        bytes: &[u8],
        out: &mut Vec<LogLine>,
    ) {
        let pending = match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
            LogStream::Supervisor => {
                let end = offset + bytes.len() as u64;
                out.push(line(stream, time_ns, end, bytes, false));
                return;
            }
        };
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            if pending.bytes.is_empty() {
                pending.began_ns = time_ns;
            }
            let room = LINE_MAX_BYTES - pending.bytes.len();
            let newline = rest.iter().take(room + 1).position(|&byte| byte == b'\n');
            let (taken, ended) = match newline {
                Some(position) => (position, true),
                None => (rest.len().min(room), false),
            };
            let (piece, tail) = rest.split_at(taken);
            pending.bytes.extend_from_slice(piece);
            let consumed = taken + usize::from(ended);
            at += consumed as u64;
            pending.end = at;
            rest = if ended { tail.get(1..).unwrap_or_default() } else { tail };
            if ended {
                out.push(line(stream, pending.began_ns, at, &pending.bytes, false));
                pending.bytes.clear();
            } else if pending.bytes.len() == LINE_MAX_BYTES {
                out.push(line(stream, pending.began_ns, at, &pending.bytes, true));
                pending.bytes.clear();
            }
        }
    }

    /// Gives out what never got its newline, after the log's end.
    pub(crate) fn finish(&mut self, out: &mut Vec<LogLine>) {
        let mut last: Vec<LogLine> =
            [(LogStream::Stdout, &mut self.stdout), (LogStream::Stderr, &mut self.stderr)]
                .into_iter()
                .filter(|(_, pending)| !pending.bytes.is_empty())
                .map(|(stream, pending)| {
                    let line = line(stream, pending.began_ns, pending.end, &pending.bytes, false);
                    pending.bytes.clear();
                    line
                })
                .collect();
        last.sort_by_key(|line| line.cursor);
        out.append(&mut last);
    }
}

fn line(stream: LogStream, time_ns: u64, cursor: u64, bytes: &[u8], partial: bool) -> LogLine {
    // A terminal ends its lines with CR LF.
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    LogLine {
        cursor,
        stream,
        at: Timestamp(i64::try_from(time_ns / 1_000).unwrap_or(i64::MAX)),
        text: String::from_utf8_lossy(bytes).into_owned(),
        partial,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn a_line_over_two_chunks_has_the_time_of_the_first_and_the_cursor_of_the_last() {
        let (mut assembler, mut out) = (LineAssembler::default(), Vec::new());
        assembler.push(LogStream::Stdout, 1_000, 16, b"he", &mut out);
        assert!(out.is_empty());
        assembler.push(LogStream::Stdout, 9_000, 34, b"llo\nnext", &mut out);
        assert_eq!((texts(&out), out[0].at, out[0].cursor), (vec!["hello"], Timestamp(1), 38));
        assembler.finish(&mut out);
        assert_eq!((texts(&out), out[1].cursor), (vec!["hello", "next"], 42));
    }

    #[test]
    fn streams_do_not_mix() {
        let (mut assembler, mut out) = (LineAssembler::default(), Vec::new());
        assembler.push(LogStream::Stdout, 0, 16, b"out ", &mut out);
        assembler.push(LogStream::Stderr, 0, 36, b"err\n", &mut out);
        assembler.push(LogStream::Stdout, 0, 56, b"more\n", &mut out);
        assert_eq!(texts(&out), ["err", "out more"]);
    }

    #[test]
    fn a_long_line_is_cut_and_loses_no_byte() {
        let (mut assembler, mut out) = (LineAssembler::default(), Vec::new());
        let long = vec![b'x'; LINE_MAX_BYTES * 2 + 5];
        assembler.push(LogStream::Stdout, 0, 16, &long, &mut out);
        assembler.push(LogStream::Stdout, 0, 100_000, b"\n", &mut out);
        let partial: Vec<bool> = out.iter().map(|line| line.partial).collect();
        assert_eq!(partial, [true, true, false]);
        assert_eq!(out.iter().map(|line| line.text.len()).sum::<usize>(), long.len());
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_whole() {
        let (mut assembler, mut out) = (LineAssembler::default(), Vec::new());
        let mut exact = vec![b'x'; LINE_MAX_BYTES];
        exact.push(b'\n');
        assembler.push(LogStream::Stdout, 0, 16, &exact, &mut out);
        assert_eq!(out.len(), 1);
        assert!(!out[0].partial);
    }

    #[test]
    fn however_the_output_is_chunked_the_lines_are_the_same() {
        let output = b"one\ntwo\r\n\nfour\nlast";
        for size in 1..output.len() {
            let (mut assembler, mut out) = (LineAssembler::default(), Vec::new());
            let mut offset = 0;
            for chunk in output.chunks(size) {
                offset += 16;
                assembler.push(LogStream::Stdout, 0, offset, chunk, &mut out);
                offset += chunk.len() as u64;
            }
            assembler.finish(&mut out);
            assert_eq!(texts(&out), ["one", "two", "", "four", "last"], "chunks of {size}");
        }
    }
}
