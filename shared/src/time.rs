//! A moment: microseconds of UTC since 1970, RFC 3339 in JSON and an integer in postcard.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
pub struct Timestamp(pub i64);

/// Microseconds in a second.
pub const SECOND_US: i64 = 1_000_000;
/// Microseconds in an hour.
pub const HOUR_US: i64 = 3_600 * SECOND_US;
/// Microseconds in a day.
pub const DAY_US: i64 = 24 * HOUR_US;

/// A text is not an RFC 3339 time in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidTimestamp;

impl fmt::Display for InvalidTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a time in RFC 3339 UTC, like 2026-01-31T13:00:00Z, or a date like 2026-01-31")
    }
}

impl std::error::Error for InvalidTimestamp {}

impl Timestamp {
    /// Start of the hour this moment lies in.
    #[must_use]
    pub fn hour_start(self) -> Self {
        Self(self.0 - self.0.rem_euclid(HOUR_US))
    }

    /// Year, month, day of this moment in UTC.
    pub fn date(self) -> (i64, i64, i64) {
        civil_from_days(self.0.div_euclid(DAY_US))
    }

    /// Midnight UTC of a date of the proleptic Gregorian calendar; `None` if there is no such date.
    pub fn from_date(year: i64, month: i64, day: i64) -> Option<Self> {
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let days = days_from_civil(year, month, day);
        (civil_from_days(days) == (year, month, day)).then_some(Self(days * DAY_US))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        let in_day = self.0.rem_euclid(DAY_US);
        let (hour, minute) = (in_day / HOUR_US, in_day / (60 * SECOND_US) % 60);
        let (second, micros) = (in_day / SECOND_US % 60, in_day % SECOND_US);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if micros != 0 {
            write!(f, ".{micros:06}")?;
        }
        f.write_str("Z")
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let number = |text: &str, digits: usize| {
            (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse::<i64>().ok())
                .flatten()
                .ok_or(InvalidTimestamp)
        };
        let (date, time) = text.split_once(['T', ' ']).map_or((text, None), |(d, t)| (d, Some(t)));
        let mut parts = date.splitn(3, '-');
        let mut part = |digits| number(parts.next().unwrap_or_default(), digits);
        let midnight = Self::from_date(part(4)?, part(2)?, part(2)?).ok_or(InvalidTimestamp)?;
        let Some(time) = time else { return Ok(midnight) };
        let time = time.strip_suffix(['Z', 'z']).or_else(|| time.strip_suffix("+00:00"));
        let (clock, fraction) =
            time.map(|time| time.split_once('.').unwrap_or((time, "0"))).ok_or(InvalidTimestamp)?;
        let mut parts = clock.splitn(3, ':');
        let mut part = |limit| match number(parts.next().unwrap_or_default(), 2) {
            Ok(value) if value < limit => Ok(value),
            _ => Err(InvalidTimestamp),
        };
        let (hour, minute, second) = (part(24)?, part(60)?, part(60)?);
        if fraction.is_empty() || fraction.len() > 9 {
            return Err(InvalidTimestamp);
        }
        let nanos = number(&format!("{fraction:0<9}"), 9)?;
        Ok(Self(midnight.0 + (hour * 3_600 + minute * 60 + second) * SECOND_US + nanos / 1_000))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prints_and_reads_rfc_3339() {
        for text in ["1970-01-01T00:00:00Z", "2026-11-23T19:58:38.000001Z", "2024-02-29T23:59:59Z"] {
            assert_eq!(text.parse::<Timestamp>().expect("valid").to_string(), text);
        }
        assert_eq!("2026-01-31".parse::<Timestamp>().expect("a date").to_string(), "2026-01-31T00:00:00Z");
    }

    #[test]
    fn refuses_what_is_not_a_utc_time() {
        for bad in
            ["", "2026", "2025-02-29", "2026-13-01", "2026-01-01T25:00:00Z", "2026-01-01T10:00:00+02:00"]
        {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_survives_the_round_trip(us in 0_i64..253_402_300_799_000_000) {
            let text = Timestamp(us).to_string();
            prop_assert_eq!(text.parse::<Timestamp>(), Ok(Timestamp(us)));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            prop_assert!(text.parse::<Timestamp>().is_ok() || text.parse::<Timestamp>().is_err());
        }
    }
}
