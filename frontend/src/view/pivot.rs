//! Usage as a table of two axes: who or what down, time across, exact sums in between.

use std::collections::{BTreeMap, BTreeSet};

use wharf_shared::time::{DAY_US, HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, Quality, UsageRow};

use super::moment;
use super::money::{self, Sum};
use super::usage;

/// Columns that a table has at most: a month of days, or two days of hours.
pub(crate) const COLUMNS_MAX: usize = 62;

/// What a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// A tenant.
    Tenant,
    /// A container; what is outside of containers is a row of its own.
    Container,
    /// A meter.
    Meter,
}

/// What a column stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Across {
    /// A day of UTC.
    Day,
    /// An hour.
    Hour,
}

/// What stands in the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Money. Currencies are never added to each other.
    Amount,
    /// Quantities. Meters are never added to each other: each is a row.
    Quantity,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Whose: tenant, container, meter.
    pub(crate) name: String,
    /// What more tells it apart: the short id, the meter, the currency.
    pub(crate) more: String,
    /// A cell for each column; `None` where nothing was measured.
    pub(crate) cells: Vec<Option<Cell>>,
    /// All of it.
    pub(crate) total: Cell,
}

/// One number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    /// As it is shown, with its unit in totals only.
    pub(crate) text: String,
    /// Readings are missing in it.
    pub(crate) is_partial: bool,
}

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pivot {
    /// What stands above the columns.
    pub(crate) columns: Vec<String>,
    /// The rows.
    pub(crate) lines: Vec<Line>,
    /// The sum of each column, a row for each currency; none for quantities of several meters.
    pub(crate) totals: Vec<Line>,
}

/// A unit that is never added to another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Money(String),
    Of(Meter),
}

impl Unit {
    fn of(row: &UsageRow, show: Show) -> Self {
        match show {
            Show::Amount => Self::Money(row.currency.clone()),
            Show::Quantity => Self::Of(row.meter),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Money(currency) => currency.clone(),
            Self::Of(meter) => usage::unit(*meter).to_owned(),
        }
    }

    fn show(&self, sum: &Sum, with_unit: bool) -> String {
        match (self, with_unit) {
            (Self::Money(currency), true) => money::price(sum, currency),
            (Self::Money(_), false) => sum.show_apart(money::RATE_PLACES),
            (Self::Of(meter), with_unit) => {
                let number = usage::number(*meter, sum);
                if with_unit { format!("{number} {}", self.name()) } else { number }
            }
        }
    }
}

/// Sums of one row while they are added up.
#[derive(Default)]
struct Sums {
    cells: BTreeMap<Timestamp, (Sum, bool)>,
    total: (Sum, bool),
}

impl Sums {
    fn add(&mut self, at: Timestamp, row: &UsageRow, show: Show) {
        let number = match show {
            Show::Amount => &row.amount,
            Show::Quantity => &row.quantity,
        };
        for (sum, is_partial) in [self.cells.entry(at).or_default(), &mut self.total] {
            sum.add(number);
            *is_partial |= row.quality == Quality::Partial;
        }
    }

    fn line(&self, (name, more): (String, String), unit: &Unit, columns: &[Timestamp]) -> Line {
        let cell = |(sum, is_partial): &(Sum, bool), with_unit| Cell {
            text: unit.show(sum, with_unit),
            is_partial: *is_partial,
        };
        Line {
            name,
            more,
            cells: columns.iter().map(|at| self.cells.get(at).map(|found| cell(found, false))).collect(),
            total: cell(&self.total, true),
        }
    }
}

/// Begin of the column that an hour falls into.
const fn column(hour: Timestamp, across: Across) -> Timestamp {
    let length_us = match across {
        Across::Day => DAY_US,
        Across::Hour => HOUR_US,
    };
    Timestamp(hour.0 - hour.0.rem_euclid(length_us))
}

/// What tells a row apart, and how it is called.
fn key(row: &UsageRow, by: By) -> (String, String, String) {
    match by {
        By::Tenant => (row.tenant_name.clone(), row.tenant.to_string(), String::new()),
        By::Container => match &row.container {
            Some(id) => (row.container_name.clone(), id.to_string(), id.short().to_owned()),
            None => {
                (format!("{} outside of containers", row.tenant_name), row.tenant.to_string(), String::new())
            }
        },
        // In the order of exports, not of the alphabet.
        By::Meter => {
            let at = Meter::ALL.iter().position(|meter| *meter == row.meter).unwrap_or_default();
            (format!("{at:02}"), row.meter.title().to_owned(), String::new())
        }
    }
}

/// Makes the table; `Err` says why it would be none.
pub(crate) fn pivot(rows: &[UsageRow], by: By, across: Across, show: Show) -> Result<Pivot, String> {
    // What cannot be measured is no number, and no zero either.
    let counted: Vec<&UsageRow> = rows.iter().filter(|row| row.quality != Quality::NotMeasurable).collect();
    let columns: BTreeSet<Timestamp> = counted.iter().map(|row| column(row.hour, across)).collect();
    let columns: Vec<Timestamp> = columns.into_iter().collect();
    if columns.len() > COLUMNS_MAX {
        return Err(format!(
            "{} columns are more than the {COLUMNS_MAX} that can be read; choose days, or a shorter period",
            columns.len()
        ));
    }
    let mut lines: BTreeMap<(String, String, String, Unit), Sums> = BTreeMap::new();
    let mut totals: BTreeMap<Unit, Sums> = BTreeMap::new();
    for row in counted {
        let (at, unit) = (column(row.hour, across), Unit::of(row, show));
        let (name, id, short) = key(row, by);
        lines.entry((name, id, short, unit.clone())).or_default().add(at, row, show);
        totals.entry(unit).or_default().add(at, row, show);
    }
    let is_meter = by == By::Meter;
    let called = |name: &str, id: &str, short: &str, unit: &Unit| {
        let name = if is_meter { id } else { name };
        let more = match unit {
            Unit::Of(meter) if !is_meter => format!("{short} {}", meter.title()),
            _ => short.to_owned(),
        };
        (name.to_owned(), more.trim().to_owned())
    };
    Ok(Pivot {
        columns: columns.iter().map(|at| column_name(*at, across)).collect(),
        lines: lines
            .iter()
            .map(|((name, id, short, unit), sums)| sums.line(called(name, id, short, unit), unit, &columns))
            .collect(),
        totals: totals
            .iter()
            .map(|(unit, sums)| {
                let name = match unit {
                    Unit::Money(_) => String::new(),
                    Unit::Of(meter) => meter.title().to_owned(),
                };
                sums.line(("All".to_owned(), name), unit, &columns)
            })
            .collect(),
    })
}

/// `11-29` or `29 14:00`, in UTC.
fn column_name(at: Timestamp, across: Across) -> String {
    let date = moment::date(at);
    let (_, month_day) = date.split_once('-').unwrap_or_default();
    match across {
        Across::Day => month_day.to_owned(),
        Across::Hour => {
            let (_, day) = month_day.split_once('-').unwrap_or_default();
            format!("{day} {:02}:00", at.0.rem_euclid(DAY_US) / HOUR_US)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::usage::tests::row;
    use super::*;

    fn texts(line: &Line) -> Vec<&str> {
        line.cells.iter().map(|cell| cell.as_ref().map_or("", |cell| cell.text.as_str())).collect()
    }

    #[test]
    fn days_are_summed_exactly_and_a_gap_stays_a_gap() {
        let rows = [
            row(0, Meter::CpuUsed, "1", "0.1", Quality::Measured),
            row(1, Meter::CpuUsed, "1", "0.2", Quality::Partial),
            row(49, Meter::BlockRead, "1", "0.3", Quality::Measured),
            row(24, Meter::BlockWrite, "0", "0", Quality::NotMeasurable),
        ];
        let pivot = pivot(&rows, By::Meter, Across::Day, Show::Amount).expect("a table");
        assert_eq!(pivot.columns, ["01-01", "01-03"]);
        assert_eq!(
            pivot.lines.iter().map(|line| line.name.as_str()).collect::<Vec<_>>(),
            ["CPU used", "Block read"]
        );
        assert_eq!(texts(&pivot.lines[0]), ["0.300000", ""]);
        assert!(pivot.lines[0].total.is_partial && !pivot.lines[1].total.is_partial);
        assert_eq!(pivot.totals[0].total.text, "0.60\u{202f}EUR");
    }

    #[test]
    fn meters_and_currencies_are_never_added_to_each_other() {
        let mut dollars = row(0, Meter::MemoryUsed, "2000000000000000000", "2", Quality::Measured);
        dollars.currency = "USD".to_owned();
        let rows = [row(0, Meter::CpuUsed, "1000000000", "1", Quality::Measured), dollars];
        let amounts = pivot(&rows, By::Tenant, Across::Hour, Show::Amount).expect("a table");
        let totals: Vec<_> = amounts.totals.iter().map(|line| line.total.text.as_str()).collect();
        assert_eq!(totals, ["1.00\u{202f}EUR", "2.00\u{202f}USD"]);
        let quantities = pivot(&rows, By::Container, Across::Hour, Show::Quantity).expect("a table");
        let shown: Vec<_> = quantities
            .lines
            .iter()
            .map(|line| format!("{} {}: {}", line.name, line.more, line.total.text))
            .collect();
        assert_eq!(
            shown,
            ["web abababababab CPU used: 1.000000 core-s", "web abababababab Memory used: 2.000000 GB-s"]
        );
    }

    #[test]
    fn a_table_that_nobody_can_read_is_refused_with_a_way_out() {
        let rows: Vec<_> =
            (0..63).map(|hour| row(hour, Meter::CpuUsed, "1", "1", Quality::Measured)).collect();
        assert!(
            pivot(&rows, By::Tenant, Across::Hour, Show::Amount)
                .is_err_and(|said| said.contains("choose days"))
        );
        assert!(pivot(&rows, By::Tenant, Across::Day, Show::Amount).is_ok());
        assert_eq!(pivot(&[], By::Tenant, Across::Day, Show::Amount), Ok(Pivot::default()));
    }
}
