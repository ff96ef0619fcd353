//! A statement on paper and in a spreadsheet.
//!
//! The page is one file without scripts or anything from elsewhere; every text in it is escaped.

use std::fmt::Write as _;

use wharf_shared::statement::{LineCategory, StatementKind, StatementLine, StatementStatus, StatementView};
use wharf_shared::time::{DAY_US, Timestamp};
use wharf_shared::usage::Quality;

use crate::csv;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
    color:#111;background:#fff}h1{font-size:1.5rem;margin:0 0 1rem}dl{display:grid;\
    grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:0 0 1.5rem}dt{color:#555}dd{margin:0}\
    table{border-collapse:collapse;width:100%}th,td{padding:.35rem .5rem;border-bottom:1px solid #ccc;\
    text-align:left;vertical-align:top}th.n,td.n{text-align:right;font-variant-numeric:tabular-nums}\
    thead{display:table-header-group}tr{break-inside:avoid}tfoot td{border:0}tfoot tr.t td{font-weight:700;\
    border-top:2px solid #111}small{color:#555;overflow-wrap:anywhere}.mark{font-weight:600}\
    @media print{body{margin:0;max-width:none;font-size:10pt}}";

/// Text in a page: what would be markup is not.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn day(time: Timestamp) -> String {
    let (year, month, day) = time.date();
    format!("{year:04}-{month:02}-{day:02}")
}

/// An amount of money with the digits of its currency.
fn money(amount: &str, currency: &str) -> String {
    let digits = usize::try_from(crate::currency::digits(currency)).unwrap_or(2);
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    if digits == 0 && fraction.is_empty() {
        return whole.to_owned();
    }
    format!("{whole}.{fraction:0<digits$}")
}

fn name(view: &StatementView) -> String {
    match (view.kind, view.status) {
        (StatementKind::CreditNote, _) => format!("Credit note {}", view.id),
        (_, StatementStatus::Open) => "Statement so far".to_owned(),
        (_, StatementStatus::Draft) => "Draft of a statement".to_owned(),
        _ => format!("Statement {}", view.id),
    }
}

/// What a reader has to know about a line's numbers.
fn mark(line: &StatementLine) -> String {
    match line.quality {
        Quality::Measured => String::new(),
        Quality::NotMeasurable => "not measurable here".to_owned(),
        Quality::Partial => format!("readings missing in {} of {} hours", line.partial_rows, line.rows),
    }
}

/// The statement as a page that prints well.
pub fn html(view: &StatementView) -> String {
    let title = escaped(&name(view));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1><dl>"
    );
    let last_day = Timestamp(view.to.0.saturating_sub(DAY_US));
    let mut facts = vec![
        ("From", view.provider.clone()),
        ("To", format!("{} ({})", view.tenant_name, view.tenant)),
        ("Period", format!("{} to {} (UTC)", day(view.from), day(last_day))),
        ("Status", view.status.as_str().to_owned()),
        ("Currency", view.currency.clone()),
    ];
    let optional = [
        ("Issued", view.issued_at.map(day)),
        ("Due", view.due_at.map(day)),
        ("Paid", view.paid_at.map(day)),
        (
            if view.kind == StatementKind::CreditNote { "Takes back" } else { "Taken back by" },
            view.refers_to.clone(),
        ),
        ("Reason", view.void_reason.clone()),
        ("Issued before its hours were final", view.override_reason.clone()),
    ];
    let late = view.late.iter().map(|late| {
        let what = format!(
            "{} {} {} of the period of {}",
            late.meter.title(),
            late.quantity,
            late.unit,
            late.statement
        );
        ("Came late, billed here", what)
    });
    facts.extend(late);
    let ended = view.ended_hosts.iter().map(|ended| {
        ("Gap", format!("host {} ended after {}: {}", ended.host, ended.reported_at, ended.reason))
    });
    facts.extend(ended);
    facts.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    for (name, value) in facts {
        push(&mut page, format_args!("<dt>{name}</dt><dd>{}</dd>", escaped(&value)));
    }
    page.push_str(
        "</dl><table><thead><tr><th class=\"n\">#</th><th>What</th><th class=\"n\">Quantity</th><th>Unit</th>\
         <th class=\"n\">Unit price</th><th class=\"n\">Amount</th></tr></thead><tbody>",
    );
    for line in &view.lines {
        let text = |value: Option<String>| escaped(&value.unwrap_or_default());
        let price = line.unit_price.as_ref().map(ToString::to_string);
        let mark = mark(line);
        let mark = if mark.is_empty() {
            mark
        } else {
            format!("<br><small class=\"mark\">{}</small>", escaped(&mark))
        };
        push(
            &mut page,
            format_args!(
                "<tr><td class=\"n\">{}</td><td>{}{mark}</td><td class=\"n\">{}</td><td>{}</td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                line.line,
                escaped(&line.description),
                text(line.quantity.as_ref().map(ToString::to_string)),
                text(line.unit.clone()),
                text(price),
                escaped(&money(line.amount.as_str(), &view.currency)),
            ),
        );
    }
    page.push_str("</tbody><tfoot>");
    for (class, name, amount) in [("", "Net", &view.net), ("", "Tax", &view.tax), ("t", "Total", &view.total)]
    {
        push(
            &mut page,
            format_args!(
                "<tr class=\"{class}\"><td colspan=\"5\" class=\"n\">{name}</td><td class=\"n\">{} {}</td></tr>",
                escaped(&money(amount.as_str(), &view.currency)),
                escaped(&view.currency),
            ),
        );
    }
    page.push_str("</tfoot></table><p><small>");
    push(
        &mut page,
        format_args!(
            "Each line is quantity × unit price, rounded. The lines add up to the total; rounding them added {}. \
             Evidence (SHA-256): {}.",
            escaped(view.adjustment.as_str()),
            escaped(&view.evidence_hash),
        ),
    );
    if let Some(hash) = &view.content_hash {
        push(&mut page, format_args!(" Content (SHA-256): {}.", escaped(hash)));
    }
    if let Some(head) = &view.ledger_head {
        push(
            &mut page,
            format_args!(
                " Ledger of {} (BLAKE3): {}:{}.",
                escaped(head.host.as_str()),
                head.seq,
                escaped(&head.hash)
            ),
        );
    }
    page.push_str("</small></p></body></html>\n");
    page
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a text does not fail.
    let _written = page.write_fmt(text);
}

/// The lines as CSV: one record a line, then the total. No field is taken for a formula by a spreadsheet
/// but numbers below zero, which are numbers.
pub fn csv(view: &StatementView) -> String {
    let mut file = csv::write_line(
        [
            "statement",
            "tenant",
            "from",
            "to",
            "line",
            "category",
            "description",
            "sku",
            "tier",
            "quantity",
            "unit",
            "list_unit_price",
            "unit_price",
            "exact_amount",
            "amount",
            "currency",
            "quality",
        ]
        .map(Some),
    );
    let written = |field: &String| (!field.is_empty()).then(|| field.clone());
    let head = [view.id.clone(), view.tenant_name.clone(), view.from.to_string(), view.to.to_string()];
    for line in &view.lines {
        let number = |decimal: &Option<wharf_shared::decimal::Decimal>| {
            decimal.as_ref().map(ToString::to_string).unwrap_or_default()
        };
        let category = match line.category {
            LineCategory::Usage => "usage",
            LineCategory::Credit => "credit",
            LineCategory::Tax => "tax",
        };
        let fields = [
            line.line.to_string(),
            category.to_owned(),
            line.description.clone(),
            line.sku.clone().unwrap_or_default(),
            line.tier.clone().unwrap_or_default(),
            number(&line.quantity),
            line.unit.clone().unwrap_or_default(),
            number(&line.list_unit_price),
            number(&line.unit_price),
            line.exact_amount.to_string(),
            line.amount.to_string(),
            view.currency.clone(),
            line.quality.as_str().to_owned(),
        ];
        file.push_str(&csv::write_line(head.iter().chain(&fields).map(written)));
    }
    for (category, amount) in [("adjustment", &view.adjustment), ("total", &view.total)] {
        let mut fields = vec![String::new(); 13];
        let values = [(1, category.to_owned()), (10, amount.to_string()), (11, view.currency.clone())];
        for (at, value) in values {
            if let Some(field) = fields.get_mut(at) {
                *field = value;
            }
        }
        file.push_str(&csv::write_line(head.iter().chain(&fields).map(written)));
    }
    file
}
