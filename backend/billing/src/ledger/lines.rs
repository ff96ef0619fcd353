//! The form in which a ledger leaves its host: JSON lines, as `wharf ledger export` writes them.
//!
//! The first line says whose ledger it is and the host's public key, then comes a line for each record, and
//! the last one says how many there were, so that a download that broke off is known. A line is accepted
//! only as it is written here, byte by byte: what could be put in unseen between the fields, or written in
//! another way, is a fault too.

use serde::{Deserialize, Serialize};
use wharf_shared::id::HostId;
use wharf_shared::reading::ReadingRecord;

use super::checkpoint::PublicKey;
use super::record::Hash;
use super::verify::{Broken, Entry, Summary, Verifier};

/// Version of the lines' shape.
pub const SCHEMA: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Ledger { schema: u32, host: HostId, public_key: Option<PublicKey> },
    Record { seq: u64, hash: Hash, record: Box<ReadingRecord> },
    End { records: u64, head: Hash },
}

/// Writes a ledger line by line.
#[derive(Debug)]
pub struct Writer {
    records: u64,
    head: Hash,
}

impl Writer {
    /// Begins; returns the first line too.
    ///
    /// # Errors
    /// Never, by what is in a line.
    pub fn begin(host: &HostId, public_key: Option<PublicKey>) -> Result<(Self, String), serde_json::Error> {
        let line = write(&Line::Ledger { schema: SCHEMA, host: host.clone(), public_key })?;
        Ok((Self { records: 0, head: Hash::genesis(host) }, line))
    }

    /// The line of the next record.
    ///
    /// # Errors
    /// Never, by what is in a line.
    pub fn record(&mut self, entry: Entry) -> Result<String, serde_json::Error> {
        let Entry { seq, hash, record } = entry;
        (self.records, self.head) = (self.records.saturating_add(1), hash);
        write(&Line::Record { seq, hash, record: Box::new(record) })
    }

    /// The last line.
    ///
    /// # Errors
    /// Never, by what is in a line.
    pub fn end(self) -> Result<String, serde_json::Error> {
        write(&Line::End { records: self.records, head: self.head })
    }
}

fn write(line: &Line) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    Ok(text)
}

/// Why lines are not a ledger without a fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It does not begin as a ledger.
    #[error("the first line is not that of a ledger ({0}); is it a file of `wharf ledger export`?")]
    Head(String),
    /// It names no key, and none was given.
    #[error("the ledger names no key of its host, so nothing in it is signed")]
    NoKey,
    /// Its key is another one.
    #[error("the ledger is not of the host that is meant: expected the key {expected}, found {found}")]
    OtherKey {
        /// The key that was given.
        expected: PublicKey,
        /// The ledger's own.
        found: PublicKey,
    },
    /// A record does not belong where it stands.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// Verifies a ledger line by line.
#[derive(Debug)]
pub struct Reader {
    key: Option<PublicKey>,
    wanted: Option<(u64, Hash)>,
    verifier: Option<Verifier>,
    ended: bool,
}

impl Reader {
    /// Begins. The key is the host's, from somewhere else than the file: without it the file proves itself
    /// only. `wanted` is a record that the ledger has to have.
    pub const fn new(key: Option<PublicKey>, wanted: Option<(u64, Hash)>) -> Self {
        Self { key, wanted, verifier: None, ended: false }
    }

    /// Takes the next line, with its line end; returns the record that it holds.
    ///
    /// # Errors
    /// When it does not belong there.
    pub fn line(&mut self, text: &[u8]) -> Result<Option<ReadingRecord>, LineError> {
        let parsed = parse(text);
        let Some(verifier) = &mut self.verifier else {
            self.begin(parsed.map_err(LineError::Head)?)?;
            return Ok(None);
        };
        let next = verifier.seen().records.saturating_add(1);
        if self.ended {
            return Err(Broken::new(next, "it stands behind the end", "nothing", "a line").into());
        }
        match parsed {
            Ok(Line::Record { seq, hash, record }) => {
                let entry = Entry { seq, hash, record: *record };
                verifier.record(&entry)?;
                return Ok(Some(entry.record));
            }
            Ok(Line::End { records, head }) => {
                let seen = verifier.seen();
                if (records, head) != (seen.records, seen.head) {
                    let expected = format!("{records} records up to {head}");
                    let found = format!("{} up to {}", seen.records, seen.head);
                    return Err(Broken::new(next, "the ledger was cut off before it", expected, found).into());
                }
                self.ended = true;
            }
            Ok(Line::Ledger { .. }) => {
                return Err(Broken::new(next, "it is no record", "a record", "the begin of a ledger").into());
            }
            Err(why) => {
                return Err(
                    Broken::new(next, "its line cannot be read", "a line as it was written", why).into()
                );
            }
        }
        Ok(None)
    }

    /// Ends behind the last line; returns what the ledger holds, and its key.
    ///
    /// # Errors
    /// When something is missing.
    pub fn finish(self) -> Result<Summary, LineError> {
        let verifier = self.verifier.ok_or_else(|| LineError::Head("there is none".to_owned()))?;
        if !self.ended {
            let next = verifier.seen().records.saturating_add(1);
            return Err(Broken::new(next, "the file breaks off before it", "a line", "nothing").into());
        }
        Ok(verifier.finish()?)
    }

    /// The key that signatures are held against, once the first line was read.
    pub const fn key(&self) -> Option<PublicKey> {
        self.key
    }

    fn begin(&mut self, line: Line) -> Result<(), LineError> {
        let Line::Ledger { schema: SCHEMA, host, public_key } = line else {
            return Err(LineError::Head("it is of another kind or version".to_owned()));
        };
        let found = public_key.ok_or(LineError::NoKey)?;
        if let Some(expected) = self.key.filter(|expected| *expected != found) {
            return Err(LineError::OtherKey { expected, found });
        }
        self.key = Some(found);
        let mut verifier = Verifier::new(host, Some(found));
        if let Some((seq, hash)) = self.wanted {
            verifier.expect(seq, hash);
        }
        self.verifier = Some(verifier);
        Ok(())
    }
}

/// Reads a line that is written exactly as [`write`] writes it.
fn parse(text: &[u8]) -> Result<Line, String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let written = write(&line).map_err(|error| error.to_string())?;
    if written == text { Ok(line) } else { Err("it is written in another way".to_owned()) }
}
