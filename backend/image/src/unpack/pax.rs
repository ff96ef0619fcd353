//! Pax extended headers and sparse maps: the parts of a tar header that are text.
//!
//! Parsed here and not by the tar crate because it splits records at line ends, which breaks binary
//! attributes such as `security.capability` whose value holds the byte 10.
//!
//! Sources: [pax, POSIX.1-2017](https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html),
//! [GNU tar, sparse formats](https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html).

const XATTR: &[u8] = b"SCHILY.xattr.";
/// Most pieces of a sparse file; each is one small write.
pub(super) const SPARSE_MAX: usize = 1 << 17;

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// What a pax header changes of the member that follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Sparse,
}

/// The three ways in which GNU tar writes a sparse file into pax headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Format 1.0: the map is at the start of the data.
    pub(super) map_in_data: bool,
    /// Formats 0.0 and 0.1: offsets and lengths in turn.
    pub(super) map: Option<Vec<u64>>,
}

impl Pax {
    /// Reads the records of one header.
    pub(super) fn parse(mut records: &[u8]) -> Result<Self, &'static str> {
        let mut pax = Self::default();
        while !records.is_empty() {
            let space = records.iter().position(|byte| *byte == b' ').ok_or("pax record without a length")?;
            let digits = records.get(..space).ok_or("pax record without a length")?;
            let length =
                decimal(digits).and_then(|length| usize::try_from(length).ok()).ok_or("bad pax length")?;
            let body = records.get(space + 1..length).ok_or("pax record longer than its header")?;
            let body = body.strip_suffix(b"\n").ok_or("pax record without a line end")?;
            let equals = body.iter().position(|byte| *byte == b'=').ok_or("pax record without a value")?;
            let (key, value) = body.split_at(equals);
            pax.set(key, value.get(1..).unwrap_or_default())?;
            records = records.get(length..).unwrap_or_default();
        }
        Ok(pax)
    }

    /// True if nothing in it concerns this crate.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let number = || decimal(value).ok_or("pax number is not decimal");
        let text = || Some(value.to_vec()).filter(|value| !value.is_empty());
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.mtime = Some(time(value).ok_or("pax time is not a number")?),
            b"GNU.sparse.name" => self.sparse.name = text(),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.real_size = Some(number()?),
            b"GNU.sparse.major" => self.sparse.map_in_data = number()? == 1,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse.map.get_or_insert_default().push(number()?);
            }
            b"GNU.sparse.map" => {
                let numbers = value.split(|byte| *byte == b',').map(decimal).collect::<Option<Vec<u64>>>();
                self.sparse.map = Some(numbers.ok_or("sparse map is not a list of numbers")?);
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// Checks a map of offsets and lengths in turn: ascending, without overlap, inside the file, and of
/// just as many bytes as the archive holds.
pub(super) fn sparse_pieces(
    map: &[u64],
    real_size: u64,
    stored: u64,
) -> Result<Vec<(u64, u64)>, &'static str> {
    let (pairs, odd) = map.as_chunks::<2>();
    if !odd.is_empty() || pairs.len() > SPARSE_MAX {
        return Err("sparse map of odd or excessive length");
    }
    let (mut end, mut sum) = (0_u64, 0_u64);
    let mut pieces = Vec::with_capacity(pairs.len());
    for [offset, length] in pairs {
        if *offset < end {
            return Err("sparse map that goes backwards");
        }
        end = offset
            .checked_add(*length)
            .filter(|end| *end <= real_size)
            .ok_or("sparse map beyond the file")?;
        sum = sum.checked_add(*length).ok_or("sparse map beyond the file")?;
        pieces.push((*offset, *length));
    }
    if sum == stored { Ok(pieces) } else { Err("sparse map that differs from the data") }
}

/// A decimal number without sign or spaces.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Seconds with an optional sign and fraction.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    let mut nanoseconds = 0;
    for place in 0..9 {
        let digit = fraction.get(place).copied().unwrap_or(b'0');
        nanoseconds = nanoseconds * 10 + digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
    }
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        // The kernel counts nanoseconds upwards from the second below.
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length += 1;
        }
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn reads_records_with_any_bytes_in_them() {
        let bytes = [
            record("path", b"a\nb=c"),
            record("SCHILY.xattr.security.capability", b"\x01\0\0\x02\n\n=\0"),
            record("mtime", b"12.5"),
            record("size", b"8589934592"),
            record("comment", b"nothing"),
        ]
        .concat();
        let pax = Pax::parse(&bytes).expect("a header");
        assert_eq!(pax.path.as_deref(), Some(b"a\nb=c".as_slice()));
        assert_eq!(pax.xattrs, [(b"security.capability".to_vec(), b"\x01\0\0\x02\n\n=\0".to_vec())]);
        assert_eq!(pax.mtime, Some(Time { seconds: 12, nanoseconds: 500_000_000 }));
        assert_eq!(pax.size, Some(8_589_934_592));
    }

    #[test]
    fn broken_records_are_refused() {
        for wrong in
            ["x", "3 a", "99 path=x\n", "9 path=xx", "7 path\n", "0 a=b\n", "-1 a=b\n", "11 size=-1\n"]
        {
            assert!(Pax::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_before_1970_round_downwards() {
        assert_eq!(time(b"-1.25"), Some(Time { seconds: -2, nanoseconds: 750_000_000 }));
        assert_eq!(time(b"-3"), Some(Time { seconds: -3, nanoseconds: 0 }));
        assert_eq!(time(b"1.1234567899"), Some(Time { seconds: 1, nanoseconds: 123_456_789 }));
        for wrong in ["", "-", "1e9", "1.x", "99999999999999999999"] {
            assert_eq!(time(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_sparse_map_must_fit_file_and_data() {
        assert_eq!(sparse_pieces(&[0, 5, 10, 5], 20, 10), Ok(vec![(0, 5), (10, 5)]));
        for (map, real, stored) in [
            (vec![0, 5, 4, 5], 20, 10),
            (vec![0, 5], 4, 5),
            (vec![0, 5], 20, 6),
            (vec![0], 20, 0),
            (vec![u64::MAX, 2], u64::MAX, 2),
        ] {
            assert!(sparse_pieces(&map, real, stored).is_err(), "{map:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_crash_the_parser(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _parsed = Pax::parse(&bytes);
        }

        #[test]
        fn whatever_is_written_is_read(value in prop::collection::vec(any::<u8>(), 1..300)) {
            let pax = Pax::parse(&record("path", &value)).expect("a header");
            prop_assert_eq!(pax.path, Some(value));
        }
    }
}
