//! `wharf usage`: what was used, what it costs, and the export that a bill is made from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::{Quality, UsageRow};

use super::{Shell, save};
use crate::client::Client;
use crate::output::Table;
use crate::{clock, quantity};

/// A year of a busy tenant takes a while.
const EXPORT_TIMEOUT: Duration = Duration::from_hours(1);

/// `wharf usage`.
#[derive(Debug, Args)]
pub(crate) struct UsageArguments {
    #[command(flatten)]
    period: PeriodArguments,
    /// Only this container's.
    #[arg(long, value_name = "CONTAINER")]
    container: Option<String>,
    #[command(subcommand)]
    command: Option<UsageCommand>,
}

#[derive(Debug, Subcommand)]
enum UsageCommand {
    /// Write every hour's usage with its price, in FOCUS columns; what is billed is exported by
    /// `wharf statement export`.
    Export {
        #[command(flatten)]
        period: PeriodArguments,
        #[command(flatten)]
        file: FileArguments,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Csv,
    Jsonl,
    Parquet,
}

/// How an export is written, and where to.
#[derive(Debug, Args)]
pub(crate) struct FileArguments {
    /// Form of the file.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Export also what may still change: hours that are not over, statements that are not issued.
    #[arg(long)]
    provisional: bool,
    /// Write it here instead of standard output, and what FOCUS wants to be said about it to FILE.metadata.json.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Fetches an export of what the query names.
pub(crate) async fn export(
    client: &Client,
    mut query: Vec<(&'static str, String)>,
    file: &FileArguments,
) -> Result<()> {
    let format =
        file.format.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    query.push(("format", format));
    query.push(("provisional", file.provisional.to_string()));
    let fetch = async |path: &[&str]| {
        client.send(client.request(Method::GET, path).query(&query).timeout(EXPORT_TIMEOUT)).await
    };
    if let Some(output) = file.output.as_deref().filter(|_| file.format != Format::Jsonl) {
        // First, so that no file is called final that was not when it was made.
        let mut beside = output.as_os_str().to_owned();
        beside.push(".metadata.json");
        save(fetch(&["usage", "export", "metadata"]).await?, Some(Path::new(&beside))).await?;
    }
    save(fetch(&["usage", "export"]).await?, file.output.as_deref()).await
}

/// Whose usage and when.
#[derive(Debug, Args)]
struct PeriodArguments {
    /// Only this tenant's.
    #[arg(long, value_name = "NAME", env = "WHARF_TENANT")]
    tenant: Option<String>,
    /// A month, such as 2026-01; the present one when nothing is given.
    #[arg(long, value_name = "MONTH", conflicts_with_all = ["from", "to"])]
    month: Option<String>,
    /// From this hour on; a date, a time or a span such as 2d.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before this hour; now when absent.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

impl PeriodArguments {
    /// Of the present hour only what is over, if only that is wanted.
    fn query(&self, now: Timestamp, whole: bool) -> Result<Vec<(&'static str, String)>, String> {
        let (from, to) = self.interval(if whole { now.hour_start() } else { now })?;
        let mut query = vec![("from", from.to_string()), ("to", to.to_string())];
        query.extend(self.tenant.iter().map(|tenant| ("tenant", tenant.clone())));
        Ok(query)
    }

    /// The half-open interval that is meant.
    fn interval(&self, now: Timestamp) -> Result<(Timestamp, Timestamp), String> {
        let (year, month, _) = now.date();
        if let Some(text) = &self.month {
            return whole_month(text).ok_or_else(|| format!("{text:?} is no month; write it like 2026-01"));
        }
        let from = match &self.from {
            Some(text) => quantity::moment(text, now)?.hour_start(),
            None => Timestamp::from_date(year, month, 1).ok_or("this machine's clock is wrong")?,
        };
        let to = match &self.to {
            Some(text) => quantity::moment(text, now)?,
            None => now,
        };
        // The present hour counts too.
        let to =
            if to == to.hour_start() { to } else { Timestamp(to.hour_start().0.saturating_add(HOUR_US)) };
        if from < to { Ok((from, to)) } else { Err(format!("the period from {from} to {to} is empty")) }
    }
}

fn whole_month(text: &str) -> Option<(Timestamp, Timestamp)> {
    let (year, month) = text.split_once('-')?;
    if year.len() != 4 || month.len() != 2 {
        return None;
    }
    let (year, month) = (year.parse().ok()?, month.parse().ok()?);
    let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    Some((Timestamp::from_date(year, month, 1)?, Timestamp::from_date(next.0, next.1, 1)?))
}

/// Shows or exports usage.
pub(crate) async fn usage(shell: &Shell, arguments: UsageArguments) -> Result<()> {
    let client = shell.client()?;
    let now = clock::now();
    if let Some(UsageCommand::Export { period, file }) = arguments.command {
        let mut query = period.query(now, !file.provisional).map_err(|why| anyhow!(why))?;
        // Options may stand before `export` too.
        query
            .extend(arguments.period.tenant.filter(|_| period.tenant.is_none()).map(|name| ("tenant", name)));
        return export(&client, query, &file).await;
    }
    let mut query = arguments.period.query(now, false).map_err(|why| anyhow!(why))?;
    query.extend(arguments.container.map(|container| ("container", container)));
    let query: Vec<_> = query.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let rows: Vec<UsageRow> = client.list(&["usage"], &query).await?;
    shell.output.list(&rows, table)
}

fn table(rows: &[UsageRow]) -> Table {
    let mut table = Table::new(&[
        "HOUR",
        "TENANT",
        "CONTAINER",
        "METER",
        "QUANTITY",
        "UNIT",
        "AMOUNT",
        "CURRENCY",
        "QUALITY",
    ]);
    for row in rows {
        let (quantity, amount) = match row.quality {
            Quality::NotMeasurable => ("not measurable here".to_owned(), row.amount.to_string()),
            Quality::Measured | Quality::Partial => (row.quantity.to_string(), row.amount.to_string()),
        };
        table.row([
            row.hour.to_string(),
            row.tenant_name.clone(),
            if row.container.is_some() { row.container_name.clone() } else { "(outside)".to_owned() },
            row.meter.as_str().to_owned(),
            quantity,
            row.unit.clone(),
            amount,
            row.currency.clone(),
            row.quality.as_str().to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(month: Option<&str>, from: Option<&str>, to: Option<&str>) -> Result<(String, String), String> {
        let text = |given: Option<&str>| given.map(str::to_owned);
        let period = PeriodArguments { tenant: None, month: text(month), from: text(from), to: text(to) };
        let now = "2026-11-23T10:20:30Z".parse().expect("a time");
        period.interval(now).map(|(from, to)| (from.to_string(), to.to_string()))
    }

    #[test]
    fn the_present_month_to_the_present_hour_s_end_is_the_default() {
        let expected = ("2026-11-01T00:00:00Z".to_owned(), "2026-11-23T11:00:00Z".to_owned());
        assert_eq!(period(None, None, None), Ok(expected));
    }

    #[test]
    fn a_month_is_half_open_also_at_a_year_s_end() {
        let expected = ("2025-12-01T00:00:00Z".to_owned(), "2026-01-01T00:00:00Z".to_owned());
        assert_eq!(period(Some("2025-12"), None, None), Ok(expected));
        for bad in ["2025", "2025-13", "2025-1", "x-y"] {
            assert!(period(Some(bad), None, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_period_covers_whole_hours_and_is_never_empty() {
        let expected = ("2026-11-23T08:00:00Z".to_owned(), "2026-11-23T10:00:00Z".to_owned());
        assert_eq!(period(None, Some("2h"), Some("2026-11-23T10:00:00Z")), Ok(expected));
        assert!(period(None, Some("2026-11-24"), None).is_err());
    }
}
