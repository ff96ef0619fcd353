//! What a benchmark measured, as text: medians beside each other, and whether a bar was reached.
//!
//! A bar is a ratio, or an amount that does not depend on the machine. None of them is asserted: a
//! machine has other work to do, and a figure that was missed is to be read, not to be retried.
//!
//! `cargo xtask bench` makes its table of the lines that begin with `with:`, `beside:`, `reached:` and
//! `missed:` (`xtask/src/bench/table.rs`); the dashboard's benchmark prints the same ones.

use std::fmt::Display;
use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::registry::run;

/// One thing's durations, measured again and again.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one.
    pub fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// Half of them are below.
    pub fn median(&self) -> Duration {
        self.below(50)
    }

    /// Where the median lies with a confidence of 95 %: the ranks half a spread below and above it, which
    /// needs no assumption about the distribution.
    pub fn median_interval(&self) -> (Duration, Duration) {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        // 1.96 standard deviations of a binomial with p = 1/2 are its root, nearly.
        let (middle, spread) = (sorted.len() / 2, sorted.len().isqrt());
        let at = |rank: usize| sorted.get(rank).or(sorted.last()).copied().unwrap_or_default();
        (at(middle.saturating_sub(spread)), at(middle + spread))
    }

    /// Nine of ten are below.
    pub fn p90(&self) -> Duration {
        self.below(90)
    }

    /// So many percent of them are at most this.
    pub fn below(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted
            .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    /// Adds those of another.
    pub fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Prints the line of a table.
    pub fn print(&self, name: &str) -> Result<()> {
        let (median, p90) = (milliseconds(self.median()), milliseconds(self.p90()));
        line(&format!("  {name:<44} {median:>10} {p90:>10}"))
    }

    /// Prints the line of a table that shows the slowest too.
    pub fn print_tail(&self, name: &str) -> Result<()> {
        let [median, p90, p99] = [50, 90, 99].map(|percent| milliseconds(self.below(percent)));
        line(&format!("  {name:<44} {median:>10} {p90:>10} {p99:>10} {:>7}", self.count()))
    }
}

/// Prints the head of a table of [`Samples::print_tail`].
pub fn tail_head(what: &str) -> Result<()> {
    line(&format!("  {what:<44} {:>10} {:>10} {:>10} {:>7}", "median", "p90", "p99", "count"))
}

/// Prints the head of a table of [`Samples`].
pub fn head(what: &str) -> Result<()> {
    line(&format!("  {what:<44} {:>10} {:>10}", "median", "p90"))
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

/// A limit that the figures of a run are held against.
#[derive(Debug, Clone, Copy)]
pub enum Bar {
    /// Reached at this or less.
    AtMost(f64),
    /// Reached at this or more.
    AtLeast(f64),
}

impl Bar {
    /// Prints whether the figure reaches the bar.
    pub fn judge(self, what: &str, figure: f64, unit: &str) -> Result<()> {
        let (words, limit, reached) = match self {
            Self::AtMost(limit) => ("at most", limit, figure <= limit),
            Self::AtLeast(limit) => ("at least", limit, figure >= limit),
        };
        let verdict = if reached { "reached" } else { "missed" };
        line(&format!("  {verdict}: {what}: {figure:.3}{unit} (bar: {words} {limit}{unit})"))
    }
}

/// Prints a figure that has no bar and is to be read beside those that have.
pub fn beside(what: &str, figure: f64, unit: &str) -> Result<()> {
    line(&format!("  beside: {what}: {figure:.3}{unit}"))
}

/// Prints the median of samples so.
pub fn median_beside(what: &str, samples: &Samples) -> Result<()> {
    beside(what, samples.median().as_secs_f64() * 1000.0, " ms")
}

/// Prints the version of something that is measured against.
pub fn with(version: &str) -> Result<()> {
    line(&format!("  with: {version}"))
}

/// How many times as long the one takes as the other.
pub fn ratio(ours: Duration, peer: Duration) -> f64 {
    ours.as_secs_f64() / peer.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// The median of values with the interval that has it with 95 %: low, median, high.
///
/// The interval lies between two of the sorted values, 0.98 √n places from the middle (sign test).
pub fn interval(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let (count, middle) = (values.len(), values.len() / 2);
    // As many whole places as 0.98 √n has, and one more.
    let mut places = 1;
    while places * places * 10_000 < count * 9_604 {
        places += 1;
    }
    let at = |place: usize| values.get(place.min(count.saturating_sub(1))).copied().unwrap_or_default();
    (at(middle.saturating_sub(places)), at(middle), at(middle + places))
}

/// Prints one line.
pub fn line(text: &(impl Display + ?Sized)) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("print a figure")
}

/// Prints what the figures depend on: kernel, processors and what else runs.
pub fn machine() -> Result<()> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's version")?;
    let load = fs::read_to_string("/proc/loadavg").context("read the load")?;
    let processors = std::thread::available_parallelism().context("count the processors")?;
    let load: Vec<_> = load.split(' ').take(3).collect();
    line(&format!(
        "  kernel {}, {processors} processors, load {} at the start",
        kernel.trim(),
        load.join(" ")
    ))
}

/// The first line that a program says about its version.
pub fn version(program: &str) -> Result<String> {
    let said = run(Command::new(program).arg("--version"))?;
    let first = said.lines().next().unwrap_or_default().to_owned();
    ensure!(!first.is_empty(), "{program} does not tell its version");
    Ok(first)
}

/// Whether this program is run as a benchmark; `cargo test` builds and starts benchmarks too.
pub fn wanted() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// How often to measure: `usual`, or what `WHARF_BENCH_ROUNDS` says.
pub fn rounds(usual: usize) -> usize {
    std::env::var("WHARF_BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle_and_of_nothing_is_nothing() {
        let mut samples = Samples::default();
        assert_eq!(samples.median(), Duration::ZERO);
        for ms in [5, 1, 4, 2, 3, 6, 7, 8, 9, 10] {
            samples.push(Duration::from_millis(ms));
        }
        assert_eq!(samples.median(), Duration::from_millis(6));
        assert_eq!(samples.p90(), Duration::from_millis(10));
        assert_eq!(samples.count(), 10);
        assert_eq!(samples.median_interval(), (Duration::from_millis(3), Duration::from_millis(9)));
    }

    #[test]
    fn an_interval_lies_around_its_median() {
        let mut values: Vec<f64> = (1..=31_u32).rev().map(f64::from).collect();
        // 0.98 √31 is 5.5.
        assert_eq!(interval(&mut values), (10.0, 16.0, 22.0));
        assert_eq!(interval(&mut [7.0]), (7.0, 7.0, 7.0));
        assert_eq!(interval(&mut []), (0.0, 0.0, 0.0));
    }

    #[test]
    fn a_ratio_says_how_much_longer_ours_takes() {
        assert!((ratio(Duration::from_millis(30), Duration::from_millis(300)) - 0.1).abs() < 1e-9);
    }
}
