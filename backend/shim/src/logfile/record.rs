//! One record: a chunk of output with its stream and time.

/// Length of a record's header.
pub const HEADER_BYTES: usize = 16;
/// No record carries more than one read's worth of output.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;

/// Where output came from. A terminal's output counts as standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What is special about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Output is missing here; the record's bytes are the count of missing bytes ([`Record::dropped_bytes`]).
    pub const DROPPED: Self = Self(1);
}

/// A record as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it begins.
    pub cursor: u64,
    /// Where the next one begins.
    pub next_cursor: u64,
    /// Where its bytes came from.
    pub stream: Stream,
    /// What is special about it.
    pub flags: Flags,
    /// When its bytes were read: `CLOCK_REALTIME` in nanoseconds since 1970.
    pub time_ns: u64,
    /// What was written.
    pub bytes: &'a [u8],
}

impl Record<'_> {
    /// Returns how many bytes of output are missing at this place, if this record says that some are.
    pub fn dropped_bytes(&self) -> Option<u64> {
        if self.flags != Flags::DROPPED {
            return None;
        }
        Some(u64::from_le_bytes(self.bytes.try_into().ok()?))
    }
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) length: u32,
    pub(super) stream: Stream,
    pub(super) flags: Flags,
    pub(super) time_ns: u64,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let (length, rest) = bytes.split_at_mut(4);
        length.copy_from_slice(&self.length.to_le_bytes());
        let (kind, time) = rest.split_at_mut(4);
        // No stream has the number 0, so that a zero-filled tail is no record.
        let stream = match self.stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        kind.copy_from_slice(&[stream, self.flags.0, 0, 0]);
        time.copy_from_slice(&self.time_ns.to_le_bytes());
        bytes
    }

    /// `None` when these bytes are no header that [`Header::encode`] writes.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (time, _) = rest.split_first_chunk()?;
        let length = u32::from_le_bytes(*length);
        let (stream, flags) = match *kind {
            [1, flags @ 0..=1, 0, 0] => (Stream::Stdout, Flags(flags)),
            [2, flags @ 0..=1, 0, 0] => (Stream::Stderr, Flags(flags)),
            _ => return None,
        };
        let length_fits =
            usize::try_from(length).is_ok_and(|length| (1..=MAX_RECORD_BYTES).contains(&length));
        if !length_fits || (flags == Flags::DROPPED && length != 8) {
            return None;
        }
        Some(Self { length, stream, flags, time_ns: u64::from_le_bytes(*time) })
    }

    /// Length of the record in the file.
    pub(super) fn record_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_header_reads_back(length in 1..=65_536_u32, stderr: bool, time_ns: u64) {
            let stream = if stderr { Stream::Stderr } else { Stream::Stdout };
            let header = Header { length, stream, flags: Flags::NONE, time_ns };
            prop_assert_eq!(Header::decode(&header.encode()), Some(header));
        }

        #[test]
        fn what_decodes_encodes_to_the_same(bytes: [u8; HEADER_BYTES]) {
            if let Some(header) = Header::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }
    }

    #[test]
    fn zeros_and_impossible_lengths_are_no_headers() {
        assert_eq!(Header::decode(&[0; HEADER_BYTES]), None);
        for length in [0, 65_537, u32::MAX] {
            let header = Header { length, stream: Stream::Stdout, flags: Flags::NONE, time_ns: 1 };
            assert_eq!(Header::decode(&header.encode()), None, "{length}");
        }
    }
}
