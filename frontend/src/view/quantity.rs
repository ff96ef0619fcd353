//! Bytes, CPUs and counts as people write and read them. Integers only.

use wharf_shared::usage::Measured;

/// What is shown where this kernel has no such counter.
pub(crate) const NOT_MEASURABLE: &str = "not measurable here";

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// `312 MiB`, `1.9 GiB`: three figures at most, IEC units.
pub(crate) fn bytes(value: u64) -> String {
    let mut unit = 0;
    let mut divisor = 1_u64;
    while unit + 1 < UNITS.len() && value / divisor >= 1_024 {
        divisor *= 1_024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    let whole = value / divisor;
    if unit == 0 || whole >= 100 {
        return format!("{whole}\u{202f}{name}");
    }
    let tenths = u128::from(value % divisor) * 10 / u128::from(divisor);
    format!("{whole}.{tenths}\u{202f}{name}")
}

/// `1.2 MiB/s`.
pub(crate) fn rate(value: u64) -> String {
    format!("{}/s", bytes(value))
}

/// Thousandths of a CPU as CPUs: `1.42`, and `0.042` where two places would say little.
pub(crate) fn cpus(millis: u64) -> String {
    if millis < 100 {
        return format!("0.{millis:03}");
    }
    format!("{}.{:02}", millis / 1_000, millis % 1_000 / 10)
}

/// A share in whole per cent; `None` without a whole.
pub(crate) fn per_cent(part: u64, whole: u64) -> Option<u64> {
    let share = (u128::from(part) * 100).checked_div(u128::from(whole))?;
    u64::try_from(share).ok()
}

/// Shows a reading with `show`, or says why there is none.
pub(crate) fn measured(value: Measured, show: impl Fn(u64) -> String) -> String {
    match value {
        Measured::Value(value) => show(value),
        Measured::NotMeasurable => "—".to_owned(),
        Measured::Unreadable(errno) => format!("unreadable (errno {errno})"),
    }
}

/// Reads `512`, `1.5g`, `64 MiB`: IEC units, a bare number is bytes.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("{:?} is no size; write a number with a unit, such as 512m or 1.5g", text.trim());
    let lower = text.trim().to_ascii_lowercase();
    let split = lower.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at_checked(split).ok_or_else(bad)?;
    let power = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(bad()),
    };
    scaled(number.trim(), 1_024_u64.pow(power)).ok_or_else(bad)
}

/// Reads `2`, `0.5`, `250m`, `2 cores` as thousandths of a CPU.
pub(crate) fn parse_cpus(text: &str) -> Result<u32, String> {
    let bad = || format!("{:?} is no number of CPUs; write 0.5, 2 or 250m", text.trim());
    let lower = text.trim().to_ascii_lowercase();
    if let Some(millis) = lower.strip_suffix('m') {
        return millis.trim().parse().ok().ok_or_else(bad);
    }
    let number = ["cores", "core", "cpus", "cpu"]
        .iter()
        .find_map(|unit| lower.strip_suffix(unit))
        .unwrap_or(&lower)
        .trim();
    scaled(number, 1_000).and_then(|millis| u32::try_from(millis).ok()).ok_or_else(bad)
}

/// A plain decimal times `factor`, cut to an integer.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = fraction.parse::<u128>().ok()?.checked_mul(u128::from(factor))? / scale;
    whole.checked_add(u64::try_from(part).ok()?)
}

/// `1 container`, `3 containers`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_figures_at_most() {
        let shown: Vec<_> = [0, 1_023, 1_024, 1_536, 104_857_600, u64::MAX].map(bytes).into();
        assert_eq!(
            shown,
            [
                "0\u{202f}B",
                "1023\u{202f}B",
                "1.0\u{202f}KiB",
                "1.5\u{202f}KiB",
                "100\u{202f}MiB",
                "16383\u{202f}PiB"
            ]
        );
    }

    #[test]
    fn little_cpu_is_not_shown_as_none() {
        assert_eq!([2, 99, 100, 1_429].map(cpus), ["0.002", "0.099", "0.10", "1.42"]);
    }

    #[test]
    fn people_may_write_sizes_in_many_ways() {
        assert_eq!(parse_bytes("512"), Ok(512));
        assert_eq!(parse_bytes("1.5g"), Ok(1_610_612_736));
        assert_eq!(parse_bytes(" 64 MiB "), Ok(67_108_864));
        for bad in ["", "g", "-1", "1.2.3g", "1e9", "99999999999t", "1.g", "5 parsecs"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn people_may_write_cpus_in_many_ways() {
        for (text, millis) in [("2", 2_000), ("0.5", 500), ("250m", 250), ("2 cores", 2_000)] {
            assert_eq!(parse_cpus(text), Ok(millis), "{text}");
        }
        for bad in ["", "m", "two", "-1", "9999999999"] {
            assert!(parse_cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_measured_is_never_zero() {
        assert_eq!(measured(Measured::NotMeasurable, bytes), "—");
        assert_eq!(measured(Measured::Unreadable(5), bytes), "unreadable (errno 5)");
        assert_eq!(per_cent(5, 0), None);
    }
}
