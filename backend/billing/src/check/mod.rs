//! Checks files of FOCUS 1.2, ours and others', more strictly than the official validator.
//!
//! That one exempts every row whose `ChargeClass` is null from the rules about costs, reads times in any
//! form and looks at no row beside another; rounded costs, costs off by 10⁻⁸, offsets, fractions of seconds,
//! nested tags, periods that end before they begin, foreign columns and repeated rows pass it
//! (BILLING.md §1.4). Here a file is read once, row by row, and each finding names the row, the column, the
//! rule, what was found and what is expected. In files with our own columns ([`own`]) more is known, so more
//! is checked.

mod across;
mod fields;
mod own;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::BufRead;

use crate::amount::Amount;
use crate::csv::{BadCsv, Reader};
use crate::focus::schema::{self, Presence};
use crate::parquet::{self, BadParquet};

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The row, counted from 1; 0 for the file and its columns.
    pub row: u64,
    /// The column, if it is one column's matter.
    pub column: String,
    /// Which rule.
    pub rule: &'static str,
    /// What is there; at most [`FOUND_MAX`] letters of it.
    pub found: String,
    /// What would be right.
    pub expected: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.row {
            0 => f.write_str("columns")?,
            row => write!(f, "row {row}")?,
        }
        if !self.column.is_empty() {
            write!(f, ", {}", self.column)?;
        }
        write!(f, ": {}: found {}; expected {}", self.rule, self.found, self.expected)
    }
}

/// Letters of a value that a finding repeats.
pub const FOUND_MAX: usize = 200;

/// What was read and what is wrong in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Rows.
    pub rows: u64,
    /// Sum of `BilledCost` by `SubAccountId`; empty for charges of none.
    #[serde(serialize_with = "as_texts")]
    pub totals: BTreeMap<String, Amount>,
    /// The first findings, as many as were asked for.
    pub findings: Vec<Finding>,
    /// All findings, by rule.
    pub counts: BTreeMap<&'static str, u64>,
    #[serde(skip)]
    findings_max: usize,
}

fn as_texts<S: serde::Serializer>(totals: &BTreeMap<String, Amount>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(totals.iter().map(|(of, amount)| (of, amount.to_string())))
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    fn add(&mut self, row: u64, column: &str, rule: &'static str, found: &str, expected: impl Into<String>) {
        let count = self.counts.entry(rule).or_default();
        *count = count.saturating_add(1);
        if self.findings.len() < self.findings_max {
            let found = if found.is_empty() { "\"\"" } else { found }.chars().take(FOUND_MAX).collect();
            let column = column.to_owned();
            self.findings.push(Finding { row, column, rule, found, expected: expected.into() });
        }
    }
}

/// Checks a CSV file and keeps so many findings.
pub fn csv(input: impl BufRead, findings_max: usize) -> Result<Report, BadCsv> {
    let mut reader = Reader::new(input);
    let heads = reader.next()?.unwrap_or_default();
    let heads = heads.into_iter().map(|head| (head.unwrap_or_default(), None)).collect();
    let mut checker = Checker::new(heads, findings_max);
    while let Some(fields) = reader.next()? {
        checker.row(&fields);
    }
    Ok(checker.finish())
}

/// Checks a Parquet file and keeps so many findings.
pub fn parquet<R: parquet::Input>(input: R, findings_max: usize) -> Result<Report, BadParquet> {
    let rows = parquet::Rows::open(input)?;
    let mut checker = Checker::new(rows.columns().to_vec(), findings_max);
    for row in rows {
        checker.row(&row?);
    }
    Ok(checker.finish())
}

/// A row with its columns' names.
struct Row<'a> {
    at: u64,
    columns: &'a BTreeMap<String, usize>,
    fields: &'a [Option<String>],
}

impl<'a> Row<'a> {
    /// The value of a column; `None` where it is null or there is no such column.
    fn get(&self, column: &str) -> Option<&'a str> {
        self.fields.get(*self.columns.get(column)?)?.as_deref()
    }

    /// A number; `None` if it is none, which has been found already.
    fn number(&self, column: &str) -> Option<Amount> {
        self.get(column).and_then(fields::number)
    }

    /// Whether the column holds this.
    fn is(&self, column: &str, value: &str) -> bool {
        self.get(column) == Some(value)
    }

    fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }
}

/// Checks rows as they come.
struct Checker {
    names: Vec<String>,
    columns: BTreeMap<String, usize>,
    is_own: bool,
    across: across::Across,
    report: Report,
}

impl Checker {
    /// Begins with the names of the columns, and for typed files with what is wrong about a column's type.
    fn new(heads: Vec<(String, Option<String>)>, findings_max: usize) -> Self {
        let mut report = Report { findings_max, ..Report::default() };
        let mut columns = BTreeMap::new();
        let mut custom = false;
        for (at, (name, bad_type)) in heads.iter().enumerate() {
            let known = schema::COLUMNS.iter().any(|column| column.name == name);
            if columns.insert(name.clone(), at).is_some() {
                report.add(0, name, "column-once", name, "each column once");
            }
            if !known && !is_custom(name) {
                let expected = "a column of FOCUS 1.2, or a name like x_PascalCase";
                report.add(0, name, "column-name", name, expected);
            }
            if known && custom {
                report.add(0, name, "column-order", name, "columns of FOCUS before all others");
            }
            custom |= !known;
            if let Some(found) = bad_type {
                report.add(0, name, "column-type", found, "a type that holds the value exactly");
            }
        }
        for column in schema::COLUMNS {
            if column.presence == Presence::Mandatory && !columns.contains_key(column.name) {
                report.add(
                    0,
                    column.name,
                    "column-missing",
                    "no such column",
                    "a mandatory column of FOCUS 1.2",
                );
            }
        }
        let is_own = own::COLUMNS.iter().all(|name| columns.contains_key(*name));
        let names = heads.into_iter().map(|(name, _)| name).collect();
        Self { names, columns, is_own, across: across::Across::default(), report }
    }

    fn row(&mut self, fields: &[Option<String>]) {
        let report = &mut self.report;
        report.rows = report.rows.saturating_add(1);
        let at = report.rows;
        if fields.len() != self.names.len() {
            let (found, expected) = (format!("{} fields", fields.len()), format!("{}", self.names.len()));
            report.add(at, "", "field-count", &found, expected);
            return;
        }
        let row = Row { at, columns: &self.columns, fields };
        for column in &schema::COLUMNS {
            if let Some(at) = self.columns.get(column.name) {
                let value = fields.get(*at).and_then(Option::as_deref);
                fields::check(&row, column, value, report);
            }
        }
        rows::check(&row, report);
        if self.is_own {
            own::check(&row, report);
        }
        self.across.check(&row, self.is_own, report);
        let total = row.get("SubAccountId").unwrap_or_default().to_owned();
        let total = report.totals.entry(total).or_insert_with(Amount::zero);
        *total = total.plus(&row.number("BilledCost").unwrap_or_else(Amount::zero));
    }

    fn finish(mut self) -> Report {
        self.across.finish(&mut self.report);
        self.report
    }
}

/// `x_` and then a word in `PascalCase`.
fn is_custom(name: &str) -> bool {
    name.strip_prefix("x_").is_some_and(|rest| {
        rest.starts_with(|first: char| first.is_ascii_uppercase())
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}
