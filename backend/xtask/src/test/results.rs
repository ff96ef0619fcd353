//! Reads how many tests passed and failed from what the test runners print.
//!
//! A stage that ends badly without a failed test (it did not compile, it was killed) counts as one
//! failure, and a test runner that ran nothing counts as one too: silence is no success.

/// What one stage found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// Tests that were not run.
    pub(crate) skipped: u64,
}

impl Tally {
    /// Adds what a line of output tells, if it is a runner's closing line.
    pub(crate) fn read_line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(rest) = line.strip_prefix("test result: ") {
            // cargo test: `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; …`; a harness of
            // our own leaves out the verdict.
            self.add(rest.split_once(". ").map_or(rest, |(_, counts)| counts).split("; "));
        } else if let Some(rest) = line.strip_prefix("  ")
            && !rest.starts_with("  ")
        {
            // Playwright: `  12 passed (3.4s)`, `  1 failed`, `  2 did not run`, each on its own line.
            self.add(std::iter::once(rest.split(" (").next().unwrap_or_default()));
        }
    }

    /// The same, with one failure if the stage failed and no test says why, or if nothing ran.
    pub(crate) fn settled(mut self, succeeded: bool, runs_tests: bool) -> Self {
        if (!succeeded && self.failed == 0) || (runs_tests && self.passed + self.failed == 0) {
            self.failed += 1;
        }
        self
    }

    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }

    fn add<'a>(&mut self, counts: impl Iterator<Item = &'a str>) {
        for (number, word) in counts.filter_map(|count| count.trim().split_once(' ')) {
            let Ok(number) = number.parse::<u64>() else { continue };
            match word {
                "passed" => self.passed += number,
                // A test that needed a second try is a test that fails.
                "failed" | "flaky" | "interrupted" => self.failed += number,
                "ignored" | "skipped" | "did not run" => self.skipped += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read_line(line));
        tally
    }

    #[test]
    fn reads_cargo_s_closing_lines_and_adds_them_up() {
        let output = "running 2 tests\ntest a ... ok\n\
            test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s\n\
            test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.2s\n";
        assert_eq!(tally(output), Tally { passed: 13, failed: 2, skipped: 1 });
    }

    #[test]
    fn reads_a_closing_line_without_a_verdict() {
        assert_eq!(tally("test result: 44 passed; 1 failed"), Tally { passed: 44, failed: 1, skipped: 0 });
    }

    #[test]
    fn reads_playwright_s_closing_lines() {
        let output = "Running 5 tests using 1 worker\n  1 failed\n    [chromium] › a.spec.ts:3:1 › signs in \n  \
             1 flaky\n  1 skipped\n  1 did not run\n  7 passed (12.3s)\n";
        assert_eq!(tally(output), Tally { passed: 7, failed: 2, skipped: 2 });
    }

    #[test]
    fn what_a_test_prints_is_not_counted() {
        assert_eq!(tally("the agent said: 3 passed\n    4 passed (x)\n5 passed\n"), Tally::default());
    }

    #[test]
    fn a_failed_stage_without_a_failed_test_is_one_failure() {
        assert_eq!(Tally::default().settled(false, false).failed, 1);
        assert_eq!(
            tally("test result: FAILED. 0 passed; 2 failed; 0 ignored").settled(false, true).failed,
            2
        );
    }

    #[test]
    fn a_runner_that_ran_nothing_is_one_failure() {
        assert_eq!(Tally::default().settled(true, true).failed, 1);
        assert_eq!(Tally::default().settled(true, false), Tally::default());
    }
}
