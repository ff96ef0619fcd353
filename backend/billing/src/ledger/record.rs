//! A record's canonical bytes and its hash.
//!
//! The bytes are defined here and nowhere else. Numbers are little-endian; a *text* is its length in bytes
//! as `u32`, then its UTF-8; an *option* is a byte 0, or a byte 1 and the value. In this order:
//!
//! | field | form |
//! |---|---|
//! | number of the record | `u64` |
//! | kind, as its word | text |
//! | boot id | text |
//! | tenant; empty for the host's own facts | text |
//! | container; empty for a tenant's whole cgroup and for the host | text |
//! | incarnation | `u64` |
//! | begin and end on the boot clock, in ns | `u64`, `u64` |
//! | begin and end by the wall clock, in µs of UTC | `i64`, `i64` |
//! | count of meters, then each as it stands | `u32` |
//! | – its word, the raw value, the cumulative value, the difference, the quality's word | text, option of `u64`, `u128`, `u128`, text |
//! | limits: thousandths of a CPU, bytes of memory | option of `u32`, option of `u64` |
//! | count of sources, then each name and value, by name | `u32`, texts |
//!
//! The hash of a record is BLAKE3 over the hash before it and these bytes. Before the first record stands
//! the hash of [`GENESIS`] and the host's id, so that no record fits into another host's ledger.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use wharf_shared::id::HostId;
use wharf_shared::reading::ReadingRecord;

/// What the hash before the first record is of, followed by the host's id.
pub const GENESIS: &[u8] = b"wharfage ledger 1\n";

/// A hash of the chain; 64 hexadecimal digits in small letters as text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash before the first record of this host.
    pub fn genesis(host: &HostId) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(GENESIS);
        hasher.update(host.as_str().as_bytes());
        Self(hasher.finalize().into())
    }

    /// The hash of the record that comes next.
    #[must_use]
    pub fn next(&self, seq: u64, record: &ReadingRecord) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&canonical(seq, record));
        Self(hasher.finalize().into())
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 64 hexadecimal digits in small letters")]
pub struct InvalidHash;

impl FromStr for Hash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        digits(text).map(Self)
    }
}

/// Reads bytes that are written one way only.
pub(super) fn digits<const N: usize>(text: &str) -> Result<[u8; N], InvalidHash> {
    let mut bytes = [0; N];
    let read = hex::decode_to_slice(text, &mut bytes);
    if read.is_err() || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(InvalidHash);
    }
    Ok(bytes)
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A record's bytes, as the table above says.
pub fn canonical(seq: u64, record: &ReadingRecord) -> Vec<u8> {
    let mut bytes = Bytes(Vec::with_capacity(1_024));
    bytes.put(&seq.to_le_bytes());
    bytes.text(record.kind.as_str());
    bytes.text(&record.series.boot_id);
    bytes.text(record.series.tenant.as_ref().map_or("", |tenant| tenant.as_str()));
    bytes.text(record.series.container.as_ref().map_or("", |container| container.as_str()));
    bytes.put(&record.series.incarnation.to_le_bytes());
    bytes.put(&record.t0_boot_ns.to_le_bytes());
    bytes.put(&record.t1_boot_ns.to_le_bytes());
    bytes.put(&record.t0_utc.0.to_le_bytes());
    bytes.put(&record.t1_utc.0.to_le_bytes());
    bytes.count(record.meters.len());
    for meter in &record.meters {
        bytes.text(meter.meter.as_str());
        bytes.option(meter.raw.map(u64::to_le_bytes));
        bytes.put(&meter.cum.to_le_bytes());
        bytes.put(&meter.delta.to_le_bytes());
        bytes.text(meter.quality.as_str());
    }
    bytes.option(record.limits.cpu_millis.map(u32::to_le_bytes));
    bytes.option(record.limits.memory_bytes.map(u64::to_le_bytes));
    bytes.count(record.source.len());
    for (name, value) in &record.source {
        bytes.text(name);
        bytes.text(value);
    }
    bytes.0
}

struct Bytes(Vec<u8>);

impl Bytes {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Nothing that is counted here comes near 2³².
    fn count(&mut self, count: usize) {
        self.put(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.put(text.as_bytes());
    }

    fn option<const N: usize>(&mut self, value: Option<[u8; N]>) {
        match value {
            None => self.put(&[0]),
            Some(value) => {
                self.put(&[1]);
                self.put(&value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wharf_shared::reading::{MeterReading, ReadingKind, ReadingLimits, SeriesKey};
    use wharf_shared::time::Timestamp;
    use wharf_shared::usage::{Meter, Quality};

    use super::*;

    fn host() -> HostId {
        "hst_00000000-0000-7000-8000-000000000001".parse().expect("an id")
    }

    fn small() -> ReadingRecord {
        ReadingRecord {
            series: SeriesKey {
                boot_id: "b".to_owned(),
                tenant: "tnt_00000000-0000-7000-8000-000000000001".parse().ok(),
                container: None,
                incarnation: 2,
            },
            kind: ReadingKind::Open,
            t0_boot_ns: 3,
            t1_boot_ns: 4,
            t0_utc: Timestamp(-5),
            t1_utc: Timestamp(6),
            meters: vec![MeterReading {
                meter: Meter::CpuUsed,
                raw: Some(7),
                cum: 8,
                delta: 8,
                quality: Quality::Measured,
            }],
            limits: ReadingLimits { cpu_millis: Some(500), memory_bytes: None },
            source: BTreeMap::from([("cgroup".to_owned(), "/w".to_owned())]),
        }
    }

    /// Written out by hand from the table, so that neither the table nor the code changes alone.
    #[test]
    fn the_bytes_are_those_of_the_table() {
        let text = |text: &str| {
            let length = u8::try_from(text.len()).expect("short");
            [&[length, 0, 0, 0], text.as_bytes()].concat()
        };
        let number = |number: u8, width: usize| {
            let mut bytes = vec![0; width];
            bytes[0] = number;
            bytes
        };
        let expected = [
            number(1, 8),
            text("open"),
            text("b"),
            text("tnt_00000000-0000-7000-8000-000000000001"),
            text(""),
            number(2, 8),
            number(3, 8),
            number(4, 8),
            vec![0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            number(6, 8),
            number(1, 4),
            text("cpu_used"),
            vec![1],
            number(7, 8),
            number(8, 16),
            number(8, 16),
            text("measured"),
            vec![1, 0xf4, 1, 0, 0],
            vec![0],
            number(1, 4),
            text("cgroup"),
            text("/w"),
        ];
        assert_eq!(canonical(1, &small()), expected.concat());
    }

    /// Computed by another program, BLAKE3 of the Python package index, from the table.
    #[test]
    fn hashes_stay_what_they_are() {
        let genesis = Hash::genesis(&host());
        assert_eq!(genesis.to_string(), "f81974debdbec89268fcc763200eb8f9cddb94a5349e34ef10727ab47e357838");
        assert_eq!(
            genesis.next(1, &small()).to_string(),
            "7c52ba7cac1355689565d2e43d528c82c92a76a125b0b407be747727b3e69395"
        );
    }

    #[test]
    fn every_field_is_in_the_bytes() {
        let changes: [fn(&mut ReadingRecord); 19] = [
            |record| record.kind = ReadingKind::Final,
            |record| record.series.boot_id.push('x'),
            |record| record.series.tenant = None,
            |record| record.series.container = "c".repeat(64).parse().ok(),
            |record| record.series.incarnation = 9,
            |record| record.t0_boot_ns = 9,
            |record| record.t1_boot_ns = 9,
            |record| record.t0_utc = Timestamp(9),
            |record| record.t1_utc = Timestamp(9),
            |record| record.meters.clear(),
            |record| record.meters[0].meter = Meter::BlockRead,
            |record| record.meters[0].raw = None,
            |record| record.meters[0].cum = 9,
            |record| record.meters[0].delta = 9,
            |record| record.meters[0].quality = Quality::Partial,
            |record| record.limits.cpu_millis = None,
            |record| record.limits.memory_bytes = Some(9),
            |record| drop(record.source.insert("cgroup".to_owned(), "/x".to_owned())),
            |record| drop(record.source.insert("x".to_owned(), String::new())),
        ];
        let mut seen = vec![canonical(1, &small()), canonical(2, &small())];
        for change in changes {
            let mut changed = small();
            change(&mut changed);
            seen.push(canonical(1, &changed));
        }
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn a_hash_is_written_in_one_way() {
        let hash = Hash::genesis(&host());
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for bad in [hash.to_string().to_uppercase(), String::new(), "00".repeat(31), "00".repeat(33)] {
            assert_eq!(bad.parse::<Hash>(), Err(InvalidHash), "{bad}");
        }
    }
}
