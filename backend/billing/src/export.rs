//! Files of rated rows: FOCUS as CSV or Parquet, or JSON lines, written row by row to whatever takes bytes.
//!
//! Of a CSV or JSON lines file one row is in memory, of a Parquet file one group of rows, however long it gets.
//! The same rows are the same bytes.

use std::io::{self, Write};

use wharf_shared::usage::ExportFormat;

use crate::focus::metadata::{Metadata, Period};
use crate::focus::{self, FocusContext, OnBill};
use crate::jsonl;
use crate::parquet::{self, BadParquet};
use crate::rating::{RatedRow, Totals};

/// A file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The bytes were not taken.
    #[error("the file could not be written")]
    Write(#[from] io::Error),
    /// A row, or the metadata, could not be made JSON of.
    #[error("a line of JSON could not be made")]
    Json(#[from] serde_json::Error),
    /// Parquet has no place for a value, or the bytes were not taken.
    #[error(transparent)]
    Parquet(#[from] BadParquet),
}

/// What a file is written with.
#[derive(Debug)]
enum Form<W: Write + Send> {
    Csv(W),
    Jsonl(W, Totals),
    Parquet(Box<parquet::Writer<W>>, Period),
}

/// A file in the making.
#[derive(Debug)]
pub struct ExportWriter<'a, W: Write + Send> {
    form: Form<W>,
    context: &'a FocusContext,
    /// The line in the making; one for all rows, because it always gets as long.
    line: String,
}

impl<'a, W: Write + Send> ExportWriter<'a, W> {
    /// Begins a file of these hours. `out` should gather small pieces, which lines are.
    ///
    /// # Errors
    ///
    /// The head could not be written.
    pub fn new(
        format: ExportFormat,
        mut out: W,
        period: Period,
        context: &'a FocusContext,
    ) -> Result<Self, ExportError> {
        let form = match format {
            ExportFormat::Csv => {
                out.write_all(focus::header().as_bytes())?;
                Form::Csv(out)
            }
            ExportFormat::Jsonl => Form::Jsonl(out, Totals::default()),
            ExportFormat::Parquet => {
                Form::Parquet(Box::new(parquet::Writer::new(out, &focus::columns())?), period)
            }
        };
        Ok(Self { form, context, line: String::new() })
    }

    /// Adds a row. JSON lines have rows of usage only; others are left out of them.
    ///
    /// # Errors
    ///
    /// It could not be written, or has a number that Parquet has no room for.
    pub fn row(&mut self, row: &RatedRow, bill: OnBill<'_>) -> Result<(), ExportError> {
        match &mut self.form {
            Form::Csv(out) => {
                self.line.clear();
                focus::write_line(&mut self.line, row, bill, self.context);
                out.write_all(self.line.as_bytes())?;
            }
            Form::Jsonl(out, totals) => {
                if row.usage().is_some() {
                    totals.add(row);
                    jsonl::write_line(out, row)?;
                }
            }
            Form::Parquet(file, _) => file.row(focus::values(row, bill, self.context))?,
        }
        Ok(())
    }

    /// Writes the end and returns what was written to.
    ///
    /// # Errors
    ///
    /// It could not be written.
    pub fn finish(self) -> Result<W, ExportError> {
        let mut out = match self.form {
            Form::Csv(out) => out,
            Form::Jsonl(mut out, totals) => {
                out.write_all(jsonl::totals(&totals)?.as_bytes())?;
                out
            }
            Form::Parquet(file, period) => file.finish(Some(Metadata::new(period).to_json()?))?,
        };
        out.flush()?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use wharf_shared::time::Timestamp;
    use wharf_shared::usage::Meter;

    use super::*;
    use crate::check;
    use crate::focus::tests::context;
    use crate::rating::tests::{books, rate, usage};
    use crate::rating::{Charge, period};

    const PERIOD: Period = Period { from: Timestamp(0), to: Timestamp(1), is_provisional: false };

    /// Rows of five containers, and what rounds them to a cent.
    fn rows() -> Vec<RatedRow> {
        let books = books(&[(Meter::CpuUsed, "0.0000105")], false);
        let mut rows: Vec<_> =
            (1..6).map(|of| rate(&books, usage(Some(of), Meter::CpuUsed, 230_123_456_000))).collect();
        let (from, to) = period(rows[0].from);
        let amount = "-0.00208148144".parse().expect("a number");
        rows.push(RatedRow { from, to, charge: Charge::Adjustment { amount }, ..rows[0].clone() });
        rows
    }

    fn written(format: ExportFormat, rows: &[RatedRow]) -> Vec<u8> {
        let context = context();
        let mut writer = ExportWriter::new(format, Vec::new(), PERIOD, &context).expect("begun");
        let bill = OnBill { invoice: Some("S-000001"), ..OnBill::default() };
        for row in rows {
            writer.row(row, bill).expect("a row");
        }
        writer.finish().expect("a file")
    }

    #[test]
    fn csv_and_parquet_have_the_same_rows_and_both_pass_the_checker() {
        let [csv, parquet] = [ExportFormat::Csv, ExportFormat::Parquet].map(|form| written(form, &rows()));
        let csv = check::csv(csv.as_slice(), 10).expect("readable");
        let rows_of_parquet = parquet::Rows::open(bytes::Bytes::from(parquet.clone())).expect("a file");
        assert_eq!(rows_of_parquet.metadata().map(str::to_owned), Metadata::new(PERIOD).to_json().ok());
        let parquet = check::parquet(bytes::Bytes::from(parquet), 10).expect("readable");
        assert!(csv.is_clean() && parquet.is_clean(), "{csv:?} {parquet:?}");
        assert_eq!((csv.rows, &csv.totals), (6, &parquet.totals));
        assert_eq!(csv.rows, parquet.rows);
    }

    #[test]
    fn the_same_rows_are_the_same_bytes_and_none_are_a_whole_file() {
        for format in [ExportFormat::Csv, ExportFormat::Jsonl, ExportFormat::Parquet] {
            assert_eq!(written(format, &rows()), written(format, &rows()), "{format:?}");
        }
        let [csv, parquet] = [ExportFormat::Csv, ExportFormat::Parquet].map(|form| written(form, &[]));
        assert!(check::csv(csv.as_slice(), 1).expect("readable").is_clean());
        assert!(check::parquet(bytes::Bytes::from(parquet), 1).expect("readable").is_clean());
    }

    #[test]
    fn json_lines_have_usage_and_its_totals_only() {
        let text = String::from_utf8(written(ExportFormat::Jsonl, &rows())).expect("text");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let types: Vec<_> = lines.iter().filter_map(|line| line["type"].as_str()).collect();
        assert_eq!(types, ["usage", "usage", "usage", "usage", "usage", "total"]);
        assert_eq!(lines[5]["rows"], 5);
    }

    #[test]
    fn a_disk_that_is_full_is_an_error_and_no_short_file() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (context, rows) = (context(), rows());
        for format in [ExportFormat::Csv, ExportFormat::Jsonl, ExportFormat::Parquet] {
            let whole = written(format, &rows).len();
            for room in [0, 3, whole / 2, whole - 1] {
                let file = || -> Result<(), ExportError> {
                    let mut writer = ExportWriter::new(format, Full(room), PERIOD, &context)?;
                    let bill = OnBill { invoice: Some("S-000001"), ..OnBill::default() };
                    rows.iter().try_for_each(|row| writer.row(row, bill))?;
                    writer.finish().map(drop)
                };
                assert!(file().is_err(), "{format:?} with room for {room} of {whole} bytes");
            }
        }
    }
}
