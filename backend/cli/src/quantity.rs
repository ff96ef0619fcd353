//! Sizes, CPUs and spans of time, read and shown exactly: integers all the way, no float.

use wharf_shared::time::{DAY_US, HOUR_US, SECOND_US, Timestamp};

/// Reads a size in Docker's way: `512m`, `1.5g`, `4096`; units are powers of 1,024.
pub(crate) fn size_bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no size; write a number and one of b, k, m, g, t, such as 512m");
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor: u64 = match lower.get(number.len()..).ok_or_else(bad)? {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(bad()),
    };
    scaled(number, factor).ok_or_else(bad)
}

/// Reads CPUs as thousandths: `0.5` is 500.
pub(crate) fn cpu_millis(text: &str) -> Result<u32, String> {
    scaled(text.trim(), 1_000).and_then(|millis| u32::try_from(millis).ok()).ok_or_else(|| {
        format!("{text:?} is no number of CPUs; write it like 2 or 0.5, to the thousandth at most")
    })
}

/// A plain decimal times a factor, if that is a whole number.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let fraction = fraction.trim_end_matches('0');
    if !digits(whole) || !(fraction.is_empty() || digits(fraction)) {
        return None;
    }
    let unit = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let parts = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    let value =
        whole.parse::<u128>().ok()?.checked_mul(unit)?.checked_add(parts)?.checked_mul(u128::from(factor))?;
    // 1.5g is whole in bytes, 0.3g is not: rounded down, as a limit may be.
    (factor > 1_000 || value % unit == 0).then(|| u64::try_from(value / unit).ok()).flatten()
}

/// Shows a size with at most one decimal: `17.2 MiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut scale = 1_u64;
    while unit + 1 < UNITS.len() && bytes / scale >= 1_024 {
        scale <<= 10;
        unit += 1;
    }
    let tenths = u128::from(bytes) * 10 / u128::from(scale);
    let name = UNITS.get(unit).copied().unwrap_or("B");
    if unit == 0 { format!("{bytes} {name}") } else { format!("{}.{} {name}", tenths / 10, tenths % 10) }
}

/// Shows thousandths of a CPU in percent: 1,234 is `123.4%`.
pub(crate) fn show_cpu(millis: u64) -> String {
    format!("{}.{}%", millis / 10, millis % 10)
}

/// Reads a length of time as Docker does: `30s`, `1m30s`, `500ms`.
pub(crate) fn span_ms(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no length of time; write it like 30s, 1m30s or 500ms");
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(bad)?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(letters).ok_or_else(bad)?;
        let unit: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            // A plain 0 needs no unit.
            "" if number == "0" && tail.is_empty() => 1,
            _ => return Err(bad()),
        };
        let number: u64 = number.parse().map_err(|_not_a_number| bad())?;
        total = number.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
        rest = tail;
    }
    if text.is_empty() { Err(bad()) } else { Ok(total) }
}

/// Shows how long ago something was, coarsely, as people say it.
pub(crate) fn show_span(from: Timestamp, to: Timestamp) -> String {
    let span = (to.0 - from.0).max(0);
    let (count, unit) = match span {
        ..SECOND_US => return "less than a second".to_owned(),
        span if span < 2 * 60 * SECOND_US => (span / SECOND_US, "second"),
        span if span < 2 * HOUR_US => (span / (60 * SECOND_US), "minute"),
        span if span < 2 * DAY_US => (span / HOUR_US, "hour"),
        span => (span / DAY_US, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// Reads a moment: RFC 3339, a date, or a span before now such as `10m`, `2h30m`, `90s`, `1d`.
pub(crate) fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    let bad = || format!("{text:?} is no time; write 2026-01-31, 2026-01-31T13:00:00Z or a span like 10m");
    let mut span = 0_i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(bad)?;
        let (unit, tail) = tail.split_at_checked(1).ok_or_else(bad)?;
        let unit = match unit {
            "s" => SECOND_US,
            "m" => 60 * SECOND_US,
            "h" => HOUR_US,
            "d" => DAY_US,
            _ => return Err(bad()),
        };
        let part = number.parse::<i64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(bad)?;
        span = span.checked_add(part).ok_or_else(bad)?;
        rest = tail;
    }
    now.0.checked_sub(span).filter(|_| !text.is_empty()).map(Timestamp).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_as_docker_does() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4_096),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("64KiB", 65_536),
            ("2T", 2 << 40),
        ] {
            assert_eq!(size_bytes(text), Ok(bytes), "{text}");
        }
        for bad in ["", "m", "1,5g", "-1", "1e9", "5x", "1..5g", ".5g", "999999999999999999999t"] {
            assert!(size_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_cpus_to_the_thousandth_and_no_further() {
        for (text, millis) in [("1", 1_000), ("0.5", 500), ("0.001", 1), ("2.250", 2_250), ("1.5000", 1_500)]
        {
            assert_eq!(cpu_millis(text), Ok(millis), "{text}");
        }
        for bad in ["", "0.0005", "x", "-1", "1e3", "5000000", "0,5"] {
            assert!(cpu_millis(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shows_sizes_with_one_decimal() {
        for (bytes, text) in
            [(0, "0 B"), (1_023, "1023 B"), (1_024, "1.0 KiB"), (1_536, "1.5 KiB"), (u64::MAX, "16383.9 PiB")]
        {
            assert_eq!(show_bytes(bytes), text);
        }
        assert_eq!(show_cpu(1_234), "123.4%");
    }

    #[test]
    fn reads_lengths_of_time_as_docker_does() {
        assert_eq!(span_ms("1m30s"), Ok(90_000));
        assert_eq!(span_ms("500ms"), Ok(500));
        assert_eq!(span_ms("0"), Ok(0));
        for bad in ["", "5", "s", "1x", "-1s", "99999999999999999999h"] {
            assert!(span_ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shows_spans_as_people_say_them() {
        let span = |seconds: i64| show_span(Timestamp(0), Timestamp(seconds * SECOND_US));
        assert_eq!(span(0), "less than a second");
        assert_eq!(span(1), "1 second");
        assert_eq!(span(119), "119 seconds");
        assert_eq!(span(120), "2 minutes");
        assert_eq!(span(7_200), "2 hours");
        assert_eq!(span(400_000), "4 days");
        assert_eq!(span(-5), "less than a second");
    }

    #[test]
    fn reads_moments_and_spans_before_now() {
        let now = Timestamp(DAY_US);
        assert_eq!(moment("10m", now), Ok(Timestamp(DAY_US - 600 * SECOND_US)));
        assert_eq!(moment("1h30m", now), Ok(Timestamp(DAY_US - 5_400 * SECOND_US)));
        assert_eq!(moment("1970-01-03", now), Ok(Timestamp(2 * DAY_US)));
        for bad in ["", "m", "10", "10x", "ten minutes", "9999999999999999999d"] {
            assert!(moment(bad, now).is_err(), "{bad}");
        }
    }
}
