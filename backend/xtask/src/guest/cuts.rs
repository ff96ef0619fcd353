//! Cuts the guest's power: boots it again and again, with its second disk as the boot before left it, and repeats
//! to each boot what the one before said of its cut: what only it can know, and must not write to the disk.
//!
//! The guest resets itself (sysrq `b`) at an instant of its own choice: what its kernel had not given to the
//! disk is gone, as with the plug pulled. Without `-no-reboot` it would come back in the same process.

use std::path::Path;

use anyhow::{Result, bail};

use super::kernel::Kernel;
use super::machine::{Console, LIMIT_SECONDS, machine};
use crate::test::Tally;
use crate::{process, say};

/// The test program that is one boot.
pub(super) const SUITE: &str = "power";
/// Its test.
const TEST: &str = "a_power_cut_loses_at_most_an_interval_and_is_a_gap_in_every_series";
/// How often the power is cut.
const CUTS: u32 = 2;
const SOAK_CUTS: u32 = 20;

/// Boots once more than the power is cut; the count of its test, once for all boots.
pub(super) fn run(dir: &Path, kernel: &Kernel, filter: Option<&str>, is_soak: bool) -> Result<Tally> {
    if filter.is_some_and(|filter| !TEST.contains(filter)) {
        return Ok(Tally::default());
    }
    let cuts = if is_soak { SOAK_CUTS } else { CUTS };
    let mut before = "none".to_owned();
    for boot in 0..=cuts {
        let last = if boot == cuts { " wharf.last" } else { "" };
        let append = format!("wharf.cut={before}{last}");
        let (mut console, mut cut) = (Console::default(), None);
        process::stream(&mut machine(dir, kernel, &append, LIMIT_SECONDS), |line| {
            say::line(line.trim_end());
            console.read_line(line);
            cut = said(line).map(str::to_owned).or(cut.take());
        })?;
        match (cut, boot == cuts) {
            (Some(said), false) if console.ended.is_empty() => before = said,
            (None, true) if !console.ended.is_empty() => return Ok(console.tally),
            _ => bail!("boot {boot} of {cuts} power cuts did not come to its end; {}", console.tail()),
        }
    }
    Ok(Tally::default())
}

/// Numbers with dots between them, for the next boot.
fn said(line: &str) -> Option<&str> {
    let said = line.trim_end().strip_prefix("power: cut ")?;
    said.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.').then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_cut_is_a_line_of_its_own() {
        assert_eq!(said("power: cut 123.4.56\r"), Some("123.4.56"));
        for line in ["cut 123", "power: cut at noon", "power: 3 series were cut"] {
            assert_eq!(said(line), None, "{line}");
        }
    }
}
