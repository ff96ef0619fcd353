//! Whether a reading continues its series: nothing counted twice, nothing lost.
//!
//! `cum - delta` of a reading is `cum` of the one before it. So in each series the sum of differences is what
//! the cumulative values rose by (the telescoping law), and whoever holds two readings can tell what is
//! missing between them.

use wharf_shared::reading::{ReadingKind, ReadingRecord};

/// What does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it is.
    pub what: &'static str,
    /// What had to be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Fault {
    #[expect(clippy::needless_pass_by_value, reason = "numbers, words and texts are given as they come")]
    pub(super) fn new(what: &'static str, expected: impl ToString, found: impl ToString) -> Self {
        Self { what, expected: expected.to_string(), found: found.to_string() }
    }
}

/// Checks a reading against the one before it in its series, if it is not the first.
///
/// # Errors
/// What does not hold.
pub fn check(before: Option<&ReadingRecord>, reading: &ReadingRecord) -> Result<(), Fault> {
    if reading.t1_boot_ns < reading.t0_boot_ns {
        let least = format!("an end at {} or later", reading.t0_boot_ns);
        return Err(Fault::new("it ends before it begins", least, reading.t1_boot_ns));
    }
    for (at, meter) in reading.meters.iter().enumerate() {
        let name = meter.meter.as_str();
        if reading.meters.iter().take(at).any(|other| other.meter == meter.meter) {
            return Err(Fault::new("it has a meter twice", format!("{name} once"), "two"));
        }
        let Some(start) = meter.cum.checked_sub(meter.delta) else {
            let most = format!("{name} of at most {}", meter.cum);
            return Err(Fault::new("a difference is greater than its cumulative value", most, meter.delta));
        };
        if let Some(earlier) = before.and_then(|before| before.meter(meter.meter))
            && earlier.cum != start
        {
            let what = "it does not continue from the cumulative value before it";
            return Err(Fault::new(what, format!("{name} from {}", earlier.cum), start));
        }
    }
    let Some(before) = before else { return Ok(()) };
    if reading.kind == ReadingKind::Open {
        return Err(Fault::new("its series was opened before", "another kind", reading.kind.as_str()));
    }
    if reading.t0_boot_ns < before.t1_boot_ns {
        let least = format!("a begin at {} or later", before.t1_boot_ns);
        return Err(Fault::new("it begins before the one before it ended", least, reading.t0_boot_ns));
    }
    let missing = before.meters.iter().find(|earlier| reading.meter(earlier.meter).is_none());
    missing.map_or(Ok(()), |meter| {
        Err(Fault::new("a meter of the one before it is missing", meter.meter.as_str(), "nothing"))
    })
}
