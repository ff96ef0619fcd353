//! Statements: what tenants owe for a month, and how each line came to be.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use wharf_shared::statement::{ExplainedRow, Explanation, IssueSpec, StatementLine, StatementView, VoidSpec};

use super::usage::{FileArguments, export};
use super::{Shell, save};
use crate::client::{Client, read};
use crate::output::{self, Table};

/// A big tenant's month is rated while the answer is waited for.
const TIMEOUT: Duration = Duration::from_mins(10);

/// `wharf statement`.
#[derive(Debug, Subcommand)]
pub(crate) enum StatementCommand {
    /// List the statements of a month, issued or not; without a month, all that were issued.
    #[command(visible_alias = "ls")]
    List {
        /// A month, such as 2026-01.
        #[arg(long, value_name = "MONTH")]
        period: Option<String>,
        /// Only this tenant's.
        #[arg(long, value_name = "NAME", env = "WHARF_TENANT")]
        tenant: Option<String>,
    },
    /// Show a statement with its lines.
    Show {
        /// Its number, or a tenant and a month: blue.2026-01.
        statement: String,
        /// Write it in this form instead.
        #[arg(long, value_enum)]
        format: Option<Format>,
        /// Write it here instead of standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Give the statement of a month that is over its number; it never changes again.
    Issue {
        /// A tenant and a month: blue.2026-01.
        statement: String,
        /// Issue it although its hours are not final, because of this; printed on it.
        #[arg(long = "override", value_name = "REASON")]
        override_reason: Option<String>,
    },
    /// Note that a statement was paid.
    Pay {
        /// Its number.
        statement: String,
    },
    /// Take a statement back by a credit note, whose number is printed.
    Void {
        /// Its number.
        statement: String,
        /// Why; printed on the credit note.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Write all rows that statements are made of, in FOCUS columns: they add up to what is owed.
    Export {
        /// A statement's number, a tenant and a month (blue.2026-01), or a month: all of its statements.
        statement: String,
        #[command(flatten)]
        file: FileArguments,
    },
    /// Explain a line: its formula, its hours, their readings, and where the kernel said so.
    Explain(ExplainArguments),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    Json,
    Csv,
    Html,
}

/// `wharf explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// The statement's number, or a tenant and a month: blue.2026-01.
    statement: String,
    /// The line's number.
    line: u32,
    /// Rows at most, an hour of a container each.
    #[arg(long, value_name = "NUMBER", default_value_t = 24)]
    rows: usize,
}

/// Does one of these.
pub(crate) async fn statement(shell: &Shell, command: StatementCommand) -> Result<()> {
    let client = shell.client()?;
    match command {
        StatementCommand::List { period, tenant } => {
            let mut query = Vec::new();
            query.extend(period.as_deref().map(|period| ("period", period)));
            query.extend(tenant.as_deref().map(|tenant| ("tenant", tenant)));
            let views: Vec<StatementView> = client.list(&["statements"], &query).await?;
            shell.output.list(&views, table)
        }
        StatementCommand::Show { statement, format, output } => {
            let id = id(&client, &statement).await?;
            let mut request = client.request(Method::GET, &["statements", &id]).timeout(TIMEOUT);
            if let Some(name) = format.and_then(|format| format.to_possible_value()) {
                request = request.query(&[("format", name.get_name())]);
            }
            let answer = client.send(request).await?;
            if format.is_some() || output.is_some() {
                return save(answer, output.as_deref()).await;
            }
            let view: StatementView = read(answer).await?;
            if shell.output.json {
                return output::document(&view);
            }
            output::write_out(page(&view).as_bytes())
        }
        StatementCommand::Issue { statement, override_reason } => {
            let id = id(&client, &statement).await?;
            let request = client.request(Method::POST, &["statements", &id, "issue"]).timeout(TIMEOUT);
            let view: StatementView =
                read(client.send(request.json(&IssueSpec { override_reason })).await?).await?;
            shell.output.outcome(&view, &view.id)
        }
        StatementCommand::Pay { statement } => {
            let request = client.request(Method::POST, &["statements", &statement, "pay"]);
            let view: StatementView = read(client.send(request).await?).await?;
            shell.output.outcome(&view, &view.id)
        }
        StatementCommand::Void { statement, reason } => {
            let note: StatementView =
                client.post(&["statements", &statement, "void"], &[], &VoidSpec { reason }).await?;
            shell.output.outcome(&note, &note.id)
        }
        StatementCommand::Export { statement, file } => {
            let id = id(&client, &statement).await?;
            let is_month = id.starts_with(|first: char| first.is_ascii_digit()) && !id.contains('.');
            export(&client, vec![(if is_month { "period" } else { "statement" }, id)], &file).await
        }
        StatementCommand::Explain(arguments) => explain(shell, arguments).await,
    }
}

/// Explains a line.
pub(crate) async fn explain(shell: &Shell, arguments: ExplainArguments) -> Result<()> {
    let client = shell.client()?;
    let id = id(&client, &arguments.statement).await?;
    let line = arguments.line.to_string();
    let mut whole: Option<Explanation> = None;
    loop {
        let have = whole.as_ref().map_or(0, |whole| whole.rows.len());
        let left = arguments.rows.saturating_sub(have).clamp(1, 100).to_string();
        let mut query = vec![("limit", left)];
        query.extend(whole.as_ref().and_then(|whole| whole.next_cursor.clone()).map(|next| ("cursor", next)));
        let request = client.request(Method::GET, &["statements", &id, "lines", &line, "explain"]);
        let page: Explanation = read(client.send(request.query(&query).timeout(TIMEOUT)).await?).await?;
        let so_far = match whole.take() {
            None => page,
            Some(mut known) => {
                known.rows.extend(page.rows);
                Explanation { next_cursor: page.next_cursor, ..known }
            }
        };
        let is_enough = so_far.next_cursor.is_none() || so_far.rows.len() >= arguments.rows;
        if is_enough {
            if shell.output.json {
                return output::document(&so_far);
            }
            return output::write_out(explained(&so_far).as_bytes());
        }
        whole = Some(so_far);
    }
}

/// A statement's id: a tenant may be given by its name.
async fn id(client: &Client, given: &str) -> Result<String> {
    let Some((tenant, month)) = given.rsplit_once('.') else { return Ok(given.to_owned()) };
    let found = client.tenant_id(Some(tenant)).await?;
    Ok(found.map_or_else(|| given.to_owned(), |tenant| format!("{tenant}.{month}")))
}

fn table(views: &[StatementView]) -> Table {
    let mut table = Table::new(&["STATEMENT", "TENANT", "PERIOD", "STATUS", "TOTAL", "CURRENCY", "DUE"]);
    for view in views {
        let period = view.from.to_string();
        table.row([
            view.id.clone(),
            view.tenant_name.clone(),
            period.get(..7).unwrap_or(&period).to_owned(),
            view.status.as_str().to_owned(),
            view.total.to_string(),
            view.currency.clone(),
            view.due_at.map(|due| due.to_string()).unwrap_or_default(),
        ]);
    }
    table
}

fn lines(lines: &[StatementLine]) -> Table {
    let mut table = Table::new(&["LINE", "WHAT", "QUANTITY", "UNIT", "UNIT PRICE", "AMOUNT", "QUALITY"]);
    for line in lines {
        let number = |decimal: &Option<wharf_shared::decimal::Decimal>| {
            decimal.as_ref().map(ToString::to_string).unwrap_or_default()
        };
        table.row([
            line.line.to_string(),
            line.description.clone(),
            number(&line.quantity),
            line.unit.clone().unwrap_or_default(),
            number(&line.unit_price),
            line.amount.to_string(),
            line.quality.as_str().to_owned(),
        ]);
    }
    table
}

fn page(view: &StatementView) -> String {
    let mut text = format!(
        "{} {} ({})\n{} -> {} ({})\n{} to {}\n\n",
        view.kind.as_str().replace('_', " "),
        output::visible(&view.id),
        view.status.as_str(),
        output::visible(&view.provider),
        output::visible(&view.tenant_name),
        view.tenant,
        view.from,
        view.to,
    );
    text.push_str(&lines(&view.lines).render());
    let sums = [("net", &view.net), ("tax", &view.tax), ("total", &view.total)];
    text.extend(sums.map(|(name, amount)| format!("\n{name:<6} {amount} {}", view.currency)));
    let notes = [
        ("due", view.due_at.map(|due| due.to_string())),
        ("refers to", view.refers_to.clone()),
        ("because", view.void_reason.clone()),
        ("issued before its hours were final", view.override_reason.clone()),
        ("content", view.content_hash.clone()),
    ];
    for (name, value) in notes {
        text.extend(value.map(|value| format!("\n{name}: {}", output::visible(&value))));
    }
    text.extend(view.late.iter().map(|late| {
        format!(
            "\ncame late after {}: {} {} of {}",
            late.statement,
            late.quantity,
            late.unit,
            late.meter.as_str()
        )
    }));
    text.extend(view.ended_hosts.iter().map(|ended| {
        let reason = output::visible(&ended.reason);
        format!("\ngap: host {} ended after {}: {reason}", ended.host, ended.reported_at)
    }));
    text.push('\n');
    text
}

fn explained(explanation: &Explanation) -> String {
    let mut text = format!("{}\n", output::visible(&explanation.formula));
    if !explanation.is_unchanged {
        text.push_str("usage has changed since; the hours below are those of now\n");
    }
    for row in &explanation.rows {
        text.push_str(&hour(row));
    }
    if explanation.next_cursor.is_some() {
        text.push_str("there is more: give --rows\n");
    }
    text
}

fn hour(row: &ExplainedRow) -> String {
    let of = match &row.container {
        Some(id) => format!("{} ({})", output::visible(&row.container_name), id.short()),
        None => "outside containers".to_owned(),
    };
    let mut text = format!(
        "\n{} {of} {}: {} {} -> {} units, amount {} ({})\n",
        row.hour,
        row.meter.as_str(),
        row.metered_quantity,
        row.metered_unit,
        row.quantity,
        row.amount,
        row.quality.as_str(),
    );
    text.extend(row.readings.iter().map(|reading| {
        let raw = reading.raw.map_or_else(|| "-".to_owned(), |raw| raw.to_string());
        let source: Vec<_> = reading.source.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let source = output::visible(&source.join(" "));
        format!(
            "  reading {} {} {} - {}: +{} from {} = {raw} {source}\n",
            reading.seq, reading.kind, reading.t0, reading.t1, reading.delta, reading.origin,
        )
    }));
    let (shown, all) = (row.readings.len(), row.readings_total);
    let is_cut = u64::try_from(shown).is_ok_and(|shown| shown < all);
    text.extend(
        is_cut.then(|| {
            format!("  these are the first {shown} of {all} readings; wharf ledger export has all\n")
        }),
    );
    text.extend(row.corrections.iter().map(|of| {
        let why = output::visible(&format!("{} ({})", of.reason, of.author));
        format!("  record {} corrects {} by {}: {why}\n", of.seq, of.refers_to, of.delta)
    }));
    text.extend(row.late.iter().map(|of| {
        let [first, last] = of.seqs;
        format!(
            "  {} of {}, which {} had billed when it came: records {first} to {last} of {}\n",
            of.delta, of.hour, of.statement, of.host
        )
    }));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_goes_from_the_formula_to_the_kernel_and_drives_no_terminal() {
        let row = serde_json::json!({
            "hour": "2026-11-01T10:00:00Z", "container": "a".repeat(64), "container_name": "web\u{1b}[31m",
            "meter": "cpu_used", "metered_quantity": "5000", "metered_unit": "cpu-nanoseconds",
            "quantity": "0.000005", "amount": "0.1", "quality": "measured",
            "readings": [{ "seq": 7, "kind": "periodic", "t0": "2026-11-01T10:00:00Z",
                "t1": "2026-11-01T10:00:10Z", "boot_ns": [1, 2], "cum": "9000", "delta": "5000",
                "raw": 9000, "origin": "cpu.stat usage_usec x 1000", "source": { "cgroup": "/wharf/x" } }],
            "readings_total": 101,
            "corrections": [{ "seq": 9, "refers_to": 7, "delta": "-5", "reason": "a \u{1b} test", "author": "ann" }],
            "late": [{ "hour": "2026-10-31T23:00:00Z", "statement": "S-000001", "delta": "2", "seqs": [3, 4],
                "host": "hst_00000000-0000-7000-8000-000000000001" }],
        });
        let row: ExplainedRow = serde_json::from_value(row).expect("a row");
        let text = hour(&row);
        for part in [
            "reading 7 periodic",
            "+5000 from cpu.stat usage_usec x 1000 = 9000 cgroup=/wharf/x",
            "the first 1 of 101 readings",
            "record 9 corrects 7 by -5",
            "2 of 2026-10-31T23:00:00Z, which S-000001 had billed when it came: records 3 to 4",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }
}
