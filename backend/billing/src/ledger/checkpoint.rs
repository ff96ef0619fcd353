//! Checkpoints: the host key's signature of everything before them.
//!
//! A checkpoint is a record of the chain, so that it cannot be taken out of it, and is signed together with
//! the hash before it, so that nothing before it can be altered by who has not the key. The signature
//! (Ed25519, RFC 8032) is over [`SIGNED`], the host's id as a text, the hash before the checkpoint, and the
//! checkpoint's own canonical bytes without the signature. In its source stand:
//!
//! | name | value |
//! |---|---|
//! | `first_seq` | the checkpoint before it, or 1: the first record that this one speaks for |
//! | `last_seq` | the record before it: the last |
//! | `head_hash` | that one's hash |
//! | `signature` | 128 hexadecimal digits |

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use wharf_shared::id::HostId;
use wharf_shared::reading::{ReadingKind, ReadingLimits, ReadingRecord, SeriesKey};
use wharf_shared::time::Timestamp;

use super::record::{Hash, InvalidHash, canonical, digits};

/// What every signed message begins with.
pub const SIGNED: &[u8] = b"wharfage checkpoint 1\n";

const FIRST_SEQ: &str = "first_seq";
const LAST_SEQ: &str = "last_seq";
const HEAD_HASH: &str = "head_hash";
const SIGNATURE: &str = "signature";

/// A host's public key; 64 hexadecimal digits in small letters as text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Of these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        digits(text).map(Self)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// When something of the host itself is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The kernel's boot id.
    pub boot_id: String,
    /// `CLOCK_BOOTTIME`, in ns.
    pub boot_ns: u64,
    /// By the wall clock.
    pub utc: Timestamp,
}

impl Moment {
    /// A fact of the host at this moment: no interval, no meters.
    pub fn fact(&self, kind: ReadingKind, source: BTreeMap<String, String>) -> ReadingRecord {
        let series =
            SeriesKey { boot_id: self.boot_id.clone(), tenant: None, container: None, incarnation: 0 };
        ReadingRecord {
            series,
            kind,
            t0_boot_ns: self.boot_ns,
            t1_boot_ns: self.boot_ns,
            t0_utc: self.utc,
            t1_utc: self.utc,
            meters: Vec::new(),
            limits: ReadingLimits::default(),
            source,
        }
    }
}

/// Where a checkpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the checkpoint before it, if there is one.
    pub before: Option<u64>,
    /// Its own number.
    pub seq: u64,
    /// Hash of the record before it.
    pub head: Hash,
}

impl Place {
    fn source(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (FIRST_SEQ.to_owned(), self.before.unwrap_or(1).to_string()),
            (LAST_SEQ.to_owned(), self.seq.saturating_sub(1).to_string()),
            (HEAD_HASH.to_owned(), self.head.to_string()),
        ])
    }

    /// The checkpoint at this place, signed by `sign`.
    pub fn checkpoint(
        &self,
        host: &HostId,
        at: &Moment,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> ReadingRecord {
        let mut record = at.fact(ReadingKind::Checkpoint, self.source());
        let signature = sign(&self.message(host, &record));
        record.source.insert(SIGNATURE.to_owned(), hex::encode(signature));
        record
    }

    /// Whether this record is the checkpoint of this place, signed by the owner of this key.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check(&self, host: &HostId, key: &PublicKey, record: &ReadingRecord) -> Result<(), NoCheckpoint> {
        let mut unsigned = record.clone();
        let signature = unsigned.source.remove(SIGNATURE).unwrap_or_default();
        let expected = self.source();
        if unsigned.source != expected {
            return Err(NoCheckpoint::Misplaced {
                expected: shown(&expected),
                found: shown(&unsigned.source),
            });
        }
        let refused = || NoCheckpoint::Signature { key: *key, signature: signature.clone() };
        let bytes = digits::<64>(&signature).map_err(|InvalidHash| refused())?;
        let message = self.message(host, &unsigned);
        let key = UnparsedPublicKey::new(&ED25519, key.0);
        key.verify(&message, &bytes).map_err(|ring::error::Unspecified| refused())
    }

    fn message(&self, host: &HostId, unsigned: &ReadingRecord) -> Vec<u8> {
        let host = host.as_str().as_bytes();
        let length = u32::try_from(host.len()).unwrap_or(u32::MAX).to_le_bytes();
        [SIGNED, &length, host, self.head.as_bytes(), &canonical(self.seq, unsigned)].concat()
    }
}

fn shown(source: &BTreeMap<String, String>) -> String {
    let parts: Vec<_> = source.iter().map(|(name, value)| format!("{name} {value}")).collect();
    parts.join(", ")
}

/// Why a record is no checkpoint of its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoCheckpoint {
    /// It speaks for other records.
    Misplaced {
        /// What it should say.
        expected: String,
        /// What it says.
        found: String,
    },
    /// The signature is not that of this key.
    Signature {
        /// The key.
        key: PublicKey,
        /// The signature as it stands there.
        signature: String,
    },
}
