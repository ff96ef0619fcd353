//! The one table of all benchmarks: made of the lines that they print, pure.
//!
//! A line that begins with one of these words, after spaces, is a row or the version of a peer; all
//! others are for who watches (`e2e/src/figures.rs` prints them).
//!
//! ```text
//! with: crun version 1.8.1
//! reached: what was measured: 2.345× (bar: at least 2×)
//! missed: what was measured: 1.945× (bar: at least 2×)
//! beside: what has no bar: 12.3 ms
//! ```

use std::collections::BTreeSet;

/// What the benchmarks of one run have said.
#[derive(Debug, Default)]
pub(super) struct Table {
    versions: BTreeSet<String>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    bench: &'static str,
    what: String,
    figure: String,
    bar: String,
    verdict: &'static str,
}

const REACHED: &str = "reached";
const MISSED: &str = "missed";
const FAILED: &str = "failed";

impl Table {
    /// Takes from a line of a benchmark what belongs here.
    pub(super) fn read(&mut self, bench: &'static str, line: &str) {
        let Some((word, rest)) = line.trim_start().split_once(": ") else { return };
        let verdict = match word {
            "with" => {
                self.versions.insert(rest.to_owned());
                return;
            }
            "beside" => "",
            REACHED => REACHED,
            MISSED => MISSED,
            _ => return,
        };
        let (rest, bar) = match rest.rsplit_once(" (bar: ") {
            Some((rest, bar)) => (rest, bar.trim_end_matches(')')),
            None => (rest, ""),
        };
        let (what, figure) = rest.rsplit_once(": ").unwrap_or((rest, ""));
        self.rows.push(Row {
            bench,
            what: what.to_owned(),
            figure: figure.to_owned(),
            bar: bar.to_owned(),
            verdict,
        });
    }

    /// A benchmark did not come to its end.
    pub(super) fn fail(&mut self, bench: &'static str, why: &str) {
        self.rows.push(Row {
            bench,
            what: why.to_owned(),
            figure: String::new(),
            bar: String::new(),
            verdict: FAILED,
        });
    }

    /// Whether all came to their ends.
    pub(super) fn is_whole(&self) -> bool {
        self.rows.iter().all(|row| row.verdict != FAILED)
    }

    /// The lines: versions, rows, and once more what was not reached.
    pub(super) fn lines(&self, machine: &str) -> Vec<String> {
        let head = ["", "measured", "figure", "bar", ""];
        let cells: Vec<[&str; 5]> = std::iter::once(head)
            .chain(self.rows.iter().map(|row| [row.bench, &row.what, &row.figure, &row.bar, row.verdict]))
            .collect();
        let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        let show = |row: &[&str; 5]| {
            let cell = |(text, width): (&&str, &usize)| format!("{text:<width$}");
            let line: Vec<String> = row.iter().zip(&widths).map(cell).collect();
            format!("  {}", line.join("  ").trim_end())
        };
        let mut lines = vec![format!("  {machine}")];
        lines.extend(self.versions.iter().map(|version| format!("  {version}")));
        lines.push(String::new());
        lines.extend(cells.iter().map(show));
        let count = |verdict| self.rows.iter().filter(|row| row.verdict == verdict).count();
        lines.push(String::new());
        lines.push(format!(
            "  bars: {} reached, {} missed; {} benchmarks failed",
            count(REACHED),
            count(MISSED),
            count(FAILED)
        ));
        for Row { bench, what, figure, bar, verdict } in &self.rows {
            match *verdict {
                MISSED => lines.push(format!("  missed: {bench}, {what}: {figure} (bar: {bar})")),
                FAILED => lines.push(format!("  failed: {bench}: {what}")),
                _ => {}
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_rows_and_what_is_missed_or_failed_is_named_again() {
        let mut table = Table::default();
        for line in [
            "  kernel 6.1, 2 processors",
            "  with: crun version 1.8.1",
            "  with: crun version 1.8.1",
            "  reached: hot: faster than crun: 2.345× (bar: at least 2×)",
            "  missed: idle, faster than crun: 2.900× (bar: at least 3×)",
            "  beside: crun run, hot: 13.0 ms",
            "  note: nothing",
        ] {
            table.read("oci", line);
        }
        assert!(table.is_whole());
        table.fail("exec", "it ended with exit status: 1");
        assert!(!table.is_whole());
        let expected = "  Linux 6.1
  crun version 1.8.1

        measured                      figure   bar
  oci   hot: faster than crun         2.345×   at least 2×  reached
  oci   idle, faster than crun        2.900×   at least 3×  missed
  oci   crun run, hot                 13.0 ms
  exec  it ended with exit status: 1                        failed

  bars: 1 reached, 1 missed; 1 benchmarks failed
  missed: oci, idle, faster than crun: 2.900× (bar: at least 3×)
  failed: exec: it ended with exit status: 1";
        assert_eq!(table.lines("Linux 6.1").join("\n"), expected);
    }
}
