//! Usage as tests compare it with what the kernel says itself.

use anyhow::{Context as _, Result, ensure};
use wharf_shared::container::ContainerView;
use wharf_shared::page::Page;
use wharf_shared::usage::{Meter, Quality, UsageRow};

use crate::world::World;

impl World {
    /// The rows of a container.
    pub fn usage(&self, view: &ContainerView) -> Result<Vec<UsageRow>> {
        Ok(self.api().get::<Page<UsageRow>>(&format!("/usage?container={}", view.id))?.items)
    }

    /// Waits until a meter of an ended container is on the bill, and returns the sum over its hours.
    pub fn quantity(&self, view: &ContainerView, meter: Meter) -> Result<u128> {
        let mut sum = 0;
        self.until(&format!("{} is on the bill", meter.as_str()), || {
            sum = 0;
            for row in self.usage(view)?.iter().filter(|row| row.meter == meter) {
                ensure!(row.quality == Quality::Measured, "{row:?}");
                sum += row.quantity.as_str().parse::<u128>()?;
            }
            Ok(sum > 0)
        })?;
        Ok(sum)
    }

    /// What a shell's `times` printed last: user and system time of the shell, then of its children.
    pub fn cpu_time_ns(log: &str) -> Result<u128> {
        let lines: Vec<_> = log.lines().filter(|line| line.contains('m') && line.ends_with('s')).collect();
        let tail = lines.get(lines.len().saturating_sub(2)..).unwrap_or_default();
        ensure!(tail.len() == 2, "no times in {log}");
        let mut sum = 0;
        for word in tail.iter().flat_map(|line| line.split_whitespace()) {
            let (minutes, seconds) =
                word.trim_end_matches('s').split_once('m').with_context(|| format!("read {word}"))?;
            let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
            let nanoseconds: u128 = format!("{fraction:0<9}").parse()?;
            sum += (minutes.parse::<u128>()? * 60 + whole.parse::<u128>()?) * 1_000_000_000 + nanoseconds;
        }
        Ok(sum)
    }
}
