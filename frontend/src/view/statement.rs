//! Statements as they are shown: names, months, what a line says, where it leads.

use wharf_shared::decimal::Decimal;
use wharf_shared::statement::{
    ExplainedRow, LineCategory, StatementKind, StatementLine, StatementStatus, StatementView,
};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::Quality;

use super::moment;
use super::money::{self, Sum};
use super::state::Tone;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// `2026-11`, as the API names a period.
pub(crate) fn month(at: Timestamp) -> String {
    let (year, month, _) = at.date();
    format!("{year:04}-{month:02}")
}

/// `November 2026`.
pub(crate) fn month_name(at: Timestamp) -> String {
    let (year, month, _) = at.date();
    let name = usize::try_from(month - 1).ok().and_then(|at| MONTHS.get(at));
    format!("{} {year:04}", name.copied().unwrap_or_default())
}

/// The last months, this one first: what the API calls them and what people do.
pub(crate) fn months(now: Timestamp, count: i64) -> Vec<(String, String)> {
    (0..count)
        .map(|back| moment::month_start(now, back))
        .map(|start| (month(start), month_name(start)))
        .collect()
}

/// Shape and tone of a status.
pub(crate) const fn look(status: StatementStatus) -> (&'static str, Tone) {
    match status {
        StatementStatus::Open => ("◐", Tone::Info),
        StatementStatus::Draft => ("○", Tone::Muted),
        StatementStatus::Issued => ("●", Tone::Info),
        StatementStatus::Paid => ("●", Tone::Ok),
        StatementStatus::Overdue | StatementStatus::Damaged => ("▲", Tone::Bad),
        StatementStatus::Voided => ("✖", Tone::Muted),
    }
}

/// `Statement S-000001`, `Credit note C-000001`, `Statement of acme` while it has no number.
pub(crate) fn title(view: &StatementView) -> String {
    let what = match view.kind {
        StatementKind::Statement => "Statement",
        StatementKind::CreditNote => "Credit note",
    };
    if view.issued_at.is_some() || view.status == StatementStatus::Damaged {
        format!("{what} {}", view.id)
    } else {
        format!("{what} of {}", view.tenant_name)
    }
}

/// What is owed, by whom, for when, and what comes next.
pub(crate) fn sentence(view: &StatementView) -> String {
    let total = money::exact(&view.total, &view.currency);
    let (who, when) = (&view.tenant_name, month_name(view.from));
    let at = |at: Option<Timestamp>| at.map(moment::date).unwrap_or_default();
    if view.status == StatementStatus::Damaged {
        return format!("What is stored of {} is not what was issued; take it from a backup", view.id);
    }
    if view.kind == StatementKind::CreditNote {
        return format!("{who} is credited {total} for {when}");
    }
    match view.status {
        StatementStatus::Open => format!("{who} owes {total} for {when} so far; the month goes on"),
        StatementStatus::Draft => format!("{who} owes {total} for {when}; it has not been issued"),
        StatementStatus::Issued => format!("{who} owes {total} for {when}, due on {}", at(view.due_at)),
        StatementStatus::Paid => format!("{who} has paid {total} for {when} on {}", at(view.paid_at)),
        StatementStatus::Overdue => {
            format!("{who} owes {total} for {when} and should have paid by {}", at(view.due_at))
        }
        StatementStatus::Voided => format!("{total} for {when} was taken back; {who} does not owe it"),
        StatementStatus::Damaged => String::new(),
    }
}

/// Sums of what is owed, by currency. A voided statement is not, and a credit note only takes such a one back.
pub(crate) fn owed(views: &[StatementView]) -> Vec<String> {
    let mut sums: Vec<(&str, Sum)> = Vec::new();
    let counts = |view: &&StatementView| {
        view.kind == StatementKind::Statement
            && !matches!(view.status, StatementStatus::Voided | StatementStatus::Damaged)
    };
    for view in views.iter().filter(counts) {
        match sums.iter_mut().find(|(currency, _)| *currency == view.currency) {
            Some((_, sum)) => sum.add(&view.total),
            None => sums.push((&view.currency, Sum::of([&view.total]))),
        }
    }
    sums.iter().map(|(currency, sum)| money::total(sum, currency)).collect()
}

/// Which price of the SKU a line has, and why a unit with a price may cost nothing.
pub(crate) fn tier(line: &StatementLine) -> String {
    let tier = match line.tier.as_deref() {
        None => return String::new(),
        Some("standard") => "one price".to_owned(),
        Some("t0") => "allowance".to_owned(),
        Some("minimum") => "minimum".to_owned(),
        Some(tier) => {
            tier.strip_prefix('t').map_or_else(|| tier.to_owned(), |number| format!("tier {number}"))
        }
    };
    match line.relief.as_deref() {
        Some("free_quantity") => format!("{tier}, free by contract"),
        Some("cap") => format!("{tier}, above the cap"),
        Some(other) => format!("{tier}, {other}"),
        None => tier,
    }
}

/// What a line costs by the price book, if the tenant pays something else.
pub(crate) fn list_price(line: &StatementLine) -> Option<&Decimal> {
    line.list_unit_price.as_ref().filter(|list| Some(*list) != line.unit_price.as_ref())
}

/// Whether all was read, and in how many hours it was not; credits and tax were not read at all.
pub(crate) fn quality(line: &StatementLine) -> Option<(String, Tone)> {
    if line.category != LineCategory::Usage {
        return None;
    }
    Some(match line.quality {
        Quality::Measured => ("measured".to_owned(), Tone::Ok),
        Quality::Partial => (format!("gaps in {} of {} rows", line.partial_rows, line.rows), Tone::Warn),
        Quality::NotMeasurable => ("not measurable here".to_owned(), Tone::Muted),
    })
}

/// What the readings of a row say together, beside what the row has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// They add up to exactly the row's quantity.
    Whole(String),
    /// They add up to this much, of which the row is a part: a border of a price lies within the hour, a
    /// correction was made, or some of the readings are elsewhere.
    Differs(String),
    /// There are none in this host's journal.
    Nothing,
}

/// Adds up the readings of a row, exactly.
pub(crate) fn proof(row: &ExplainedRow) -> Proof {
    let readings = row.readings.iter().map(|reading| &reading.delta);
    let corrections = row.corrections.iter().map(|correction| &correction.delta);
    let sum = readings.chain(corrections).chain(row.late.iter().map(|late| &late.delta)).collect::<Vec<_>>();
    if sum.is_empty() {
        return Proof::Nothing;
    }
    let sum = Sum::of(sum);
    let shown = sum.exact();
    if sum.compare(&Sum::of([&row.metered_quantity])).is_eq() {
        Proof::Whole(shown)
    } else {
        Proof::Differs(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_shared::usage::Meter;

    fn decimal(text: &str) -> Decimal {
        text.parse().expect("a decimal")
    }

    fn line() -> StatementLine {
        StatementLine {
            line: 1,
            category: LineCategory::Usage,
            description: "CPU used".to_owned(),
            sku: Some("cpu_used".to_owned()),
            tier: Some("t1".to_owned()),
            policy: Some("used".to_owned()),
            relief: None,
            is_unattributed: false,
            quantity: Some(decimal("2")),
            unit: Some("Core-Hours".to_owned()),
            list_unit_price: Some(decimal("2")),
            unit_price: Some(decimal("1.5")),
            tax_class: None,
            exact_amount: decimal("3.0"),
            amount: decimal("3.00"),
            quality: Quality::Partial,
            partial_rows: 2,
            rows: 9,
        }
    }

    fn statement(status: StatementStatus) -> StatementView {
        StatementView {
            id: "S-000001".to_owned(),
            kind: StatementKind::Statement,
            status,
            provider: "Wharf".to_owned(),
            tenant: "tnt_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b".parse().expect("an id"),
            tenant_name: "acme".to_owned(),
            from: "2026-11-01".parse().expect("a time"),
            to: "2026-12-01".parse().expect("a time"),
            currency: "EUR".to_owned(),
            price_books: Vec::new(),
            contracts: Vec::new(),
            lines: vec![line()],
            net: decimal("3.00"),
            tax: decimal("0.00"),
            total: decimal("3.00"),
            adjustment: decimal("0"),
            late: Vec::new(),
            ended_hosts: Vec::new(),
            evidence_hash: String::new(),
            ledger_head: None,
            override_reason: None,
            refers_to: None,
            void_reason: None,
            issued_at: Some("2026-12-04".parse().expect("a time")),
            issued_by: None,
            due_at: Some("2026-12-18".parse().expect("a time")),
            paid_at: None,
            content_hash: None,
        }
    }

    #[test]
    fn a_statement_says_what_is_owed_and_what_comes_next() {
        let issued = statement(StatementStatus::Issued);
        assert_eq!(title(&issued), "Statement S-000001");
        assert_eq!(sentence(&issued), "acme owes 3.00\u{202f}EUR for November 2026, due on 2026-12-18");
        let open = StatementView { issued_at: None, ..statement(StatementStatus::Open) };
        assert_eq!(title(&open), "Statement of acme");
        assert!(sentence(&open).ends_with("so far; the month goes on"));
    }

    #[test]
    fn what_was_taken_back_is_not_owed_twice_over() {
        let voided = statement(StatementStatus::Voided);
        let note = StatementView {
            kind: StatementKind::CreditNote,
            total: decimal("-3.00"),
            ..statement(StatementStatus::Issued)
        };
        let again = statement(StatementStatus::Issued);
        assert_eq!(owed(&[voided, note, again]), ["3.00\u{202f}EUR"]);
        assert_eq!(owed(&[]), Vec::<String>::new());
    }

    #[test]
    fn a_line_says_its_price_and_what_is_missing() {
        let line = line();
        assert_eq!(tier(&line), "tier 1");
        assert_eq!(list_price(&line), Some(&decimal("2")));
        assert_eq!(quality(&line), Some(("gaps in 2 of 9 rows".to_owned(), Tone::Warn)));
        let tax = StatementLine { category: LineCategory::Tax, tier: None, ..line };
        assert_eq!((tier(&tax), quality(&tax)), (String::new(), None));
    }

    #[test]
    fn months_go_back_over_the_year() {
        let now = "2026-01-31T13:00:00Z".parse().expect("a time");
        let names: Vec<_> = months(now, 2).into_iter().map(|(key, name)| format!("{key} {name}")).collect();
        assert_eq!(names, ["2026-01 January 2026", "2025-12 December 2025"]);
    }

    #[test]
    fn readings_are_added_up_exactly() {
        use wharf_shared::statement::ReadingEvidence;
        let reading = |delta| ReadingEvidence {
            seq: 1,
            kind: "periodic".to_owned(),
            t0: Timestamp(0),
            t1: Timestamp(1),
            boot_ns: [0, 1],
            cum: None,
            delta: decimal(delta),
            raw: None,
            origin: String::new(),
            source: std::collections::BTreeMap::new(),
        };
        let row = |readings| ExplainedRow {
            hour: Timestamp(0),
            container: None,
            container_name: String::new(),
            meter: Meter::CpuUsed,
            metered_quantity: decimal("90071992547409930"),
            metered_unit: "cpu-nanoseconds".to_owned(),
            quantity: decimal("1"),
            amount: decimal("1"),
            quality: Quality::Measured,
            readings,
            readings_total: 0,
            corrections: Vec::new(),
            late: Vec::new(),
        };
        let shown = "90\u{202f}071\u{202f}992\u{202f}547\u{202f}409\u{202f}930".to_owned();
        assert_eq!(proof(&row(vec![reading("90071992547409929"), reading("1")])), Proof::Whole(shown));
        assert_eq!(proof(&row(vec![reading("5")])), Proof::Differs("5".to_owned()));
        assert_eq!(proof(&row(Vec::new())), Proof::Nothing);
        let mut corrected = row(vec![reading("90071992547409931")]);
        corrected.corrections.push(wharf_shared::statement::CorrectionEvidence {
            seq: 2,
            refers_to: 1,
            delta: decimal("-1"),
            reason: "a test".to_owned(),
            author: "ann".to_owned(),
        });
        assert_eq!(
            proof(&corrected),
            Proof::Whole("90\u{202f}071\u{202f}992\u{202f}547\u{202f}409\u{202f}930".to_owned())
        );
    }
}
