//! Corrections: how a person puts right what a reading counted.
//!
//! A correction is a record of its own, of the host's series, made when it is made; the reading stays as it is.
//! It says what it corrects and belongs to the hour that reading was booked to. It may take away, but the
//! agent refuses what would take an hour below nothing. In its source stand:
//!
//! | name | value |
//! |---|---|
//! | `refers_to` | number of the reading |
//! | `tenant` | whose |
//! | `container` | whose; absent for the tenant's whole cgroup |
//! | `hour` | begin of the hour, RFC 3339 |
//! | `meter` | what, as its word |
//! | `delta` | a whole number in the meter's unit, with `-` if it takes away |
//! | `reason`, `author` | why, and who said so |

use std::collections::BTreeMap;
use std::str::FromStr;

use wharf_shared::id::{ContainerId, TenantId};
use wharf_shared::reading::{ReadingKind, ReadingRecord};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::Meter;

use super::checkpoint::Moment;

const REFERS_TO: &str = "refers_to";
const TENANT: &str = "tenant";
const CONTAINER: &str = "container";
const HOUR: &str = "hour";
const METER: &str = "meter";
const DELTA: &str = "delta";
const REASON: &str = "reason";
const AUTHOR: &str = "author";

/// What a correction says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// Number of the reading that it corrects.
    pub refers_to: u64,
    /// Whose.
    pub tenant: TenantId,
    /// The container; `None` for the tenant's whole cgroup.
    pub container: Option<ContainerId>,
    /// Begin of the hour that the reading was booked to.
    pub hour: Timestamp,
    /// What.
    pub meter: Meter,
    /// How much more it was, in the meter's unit; negative if it was less.
    pub delta: i128,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub author: String,
}

impl Correction {
    /// The record.
    pub fn record(&self, at: &Moment) -> ReadingRecord {
        let mut source = BTreeMap::from(
            [
                (REFERS_TO, self.refers_to.to_string()),
                (TENANT, self.tenant.to_string()),
                (HOUR, self.hour.to_string()),
                (METER, self.meter.as_str().to_owned()),
                (DELTA, self.delta.to_string()),
                (REASON, self.reason.clone()),
                (AUTHOR, self.author.clone()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        source.extend(self.container.iter().map(|id| (CONTAINER.to_owned(), id.to_string())));
        at.fact(ReadingKind::Correction, source)
    }

    /// What a record of that kind says; `None` if it is of another kind or does not say it in this form.
    pub fn of(record: &ReadingRecord) -> Option<Self> {
        if record.kind != ReadingKind::Correction {
            return None;
        }
        let source = &record.source;
        let said = Self {
            refers_to: parsed(source, REFERS_TO)?,
            tenant: parsed(source, TENANT)?,
            container: match source.get(CONTAINER) {
                Some(id) => Some(id.parse().ok()?),
                None => None,
            },
            hour: parsed(source, HOUR)?,
            meter: Meter::from_name(source.get(METER)?)?,
            delta: parsed(source, DELTA)?,
            reason: source.get(REASON)?.clone(),
            author: source.get(AUTHOR)?.clone(),
        };
        (said.hour == said.hour.hour_start()).then_some(said)
    }
}

fn parsed<T: FromStr>(source: &BTreeMap<String, String>, name: &str) -> Option<T> {
    source.get(name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use wharf_shared::time::HOUR_US;

    use super::*;

    #[test]
    fn a_correction_says_the_same_when_it_is_read() {
        let at = Moment { boot_id: "b".to_owned(), boot_ns: 1, utc: Timestamp(2) };
        let mut correction = Correction {
            refers_to: 7,
            tenant: "tnt_00000000-0000-7000-8000-000000000001".parse().expect("an id"),
            container: "c".repeat(64).parse().ok(),
            hour: Timestamp(3 * HOUR_US),
            meter: Meter::MemoryUsed,
            delta: i128::MIN,
            reason: "ran on the wrong host".to_owned(),
            author: "ann".to_owned(),
        };
        assert_eq!(Correction::of(&correction.record(&at)), Some(correction.clone()));
        correction.container = None;
        let mut record = correction.record(&at);
        assert_eq!(Correction::of(&record), Some(correction));
        for (name, bad) in [(HOUR, "1970-01-01T00:30:00Z"), (DELTA, "1.5"), (METER, "love")] {
            let good = record.source.insert(name.to_owned(), bad.to_owned()).expect("it was there");
            assert_eq!(Correction::of(&record), None, "{name} {bad}");
            record.source.insert(name.to_owned(), good);
        }
    }
}
