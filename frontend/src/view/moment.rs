//! Moments as people read them, in the zone of the browser.

use wharf_shared::time::{DAY_US, HOUR_US, SECOND_US, Timestamp};

/// Minutes east of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zone(pub(crate) i64);

impl Zone {
    fn local(self, at: Timestamp) -> Timestamp {
        Timestamp(at.0 + self.0 * 60 * SECOND_US)
    }

    /// `14:03:07`.
    pub(crate) fn clock(self, at: Timestamp) -> String {
        let in_day = self.local(at).0.rem_euclid(DAY_US);
        let (hour, minute, second) =
            (in_day / HOUR_US, in_day / (60 * SECOND_US) % 60, in_day / SECOND_US % 60);
        format!("{hour:02}:{minute:02}:{second:02}")
    }

    /// `14:03:07.250`.
    pub(crate) fn clock_ms(self, at: Timestamp) -> String {
        format!("{}.{:03}", self.clock(at), at.0.rem_euclid(SECOND_US) / 1_000)
    }

    /// `2026-11-23 14:03:07`.
    pub(crate) fn date_time(self, at: Timestamp) -> String {
        let (year, month, day) = self.local(at).date();
        format!("{year:04}-{month:02}-{day:02} {}", self.clock(at))
    }
}

/// How long, in its two largest units: `4 d 2 h`, `3 m 7 s`.
pub(crate) fn duration(us: i64) -> String {
    let seconds = (us / SECOND_US).max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} m {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} m"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Relative below an hour, else the date and time.
pub(crate) fn ago(at: Timestamp, now: Timestamp, zone: Zone) -> String {
    let age = now.0 - at.0;
    if (0..HOUR_US).contains(&age) { format!("{} ago", duration(age)) } else { zone.date_time(at) }
}

/// First moment of the month `back` months before the one of `now`, in UTC as bills have it.
pub(crate) fn month_start(now: Timestamp, back: i64) -> Timestamp {
    let (year, month, _) = now.date();
    let months = year * 12 + month - 1 - back;
    Timestamp::from_date(months.div_euclid(12), months.rem_euclid(12) + 1, 1).unwrap_or(Timestamp(0))
}

/// `2026-11-23`, in UTC.
pub(crate) fn date(at: Timestamp) -> String {
    let (year, month, day) = at.date();
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn shows_the_zone_of_the_reader() {
        let moment = at("2026-11-23T23:30:05.250Z");
        assert_eq!(Zone(60).date_time(moment), "2026-11-24 00:30:05");
        assert_eq!(Zone(-330).clock_ms(moment), "18:00:05.250");
    }

    #[test]
    fn durations_have_two_units() {
        assert_eq!(duration(-5), "0 s");
        assert_eq!(duration(187 * SECOND_US), "3 m 7 s");
        assert_eq!(duration(98 * HOUR_US), "4 d 2 h");
    }

    #[test]
    fn relative_only_within_the_hour() {
        let now = at("2026-11-23T12:00:00Z");
        assert_eq!(ago(at("2026-11-23T11:59:18Z"), now, Zone(0)), "42 s ago");
        assert_eq!(ago(at("2026-11-23T10:00:00Z"), now, Zone(0)), "2026-11-23 10:00:00");
    }

    #[test]
    fn months_go_back_over_the_year() {
        assert_eq!(date(month_start(at("2026-01-31T13:00:00Z"), 0)), "2026-01-01");
        assert_eq!(date(month_start(at("2026-01-31T13:00:00Z"), 2)), "2025-11-01");
    }
}
