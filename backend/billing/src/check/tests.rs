//! Files with one thing wrong each, as CSV and as Parquet.

use std::borrow::Cow;
use std::collections::BTreeSet;

use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::Meter;

use super::*;
use crate::csv::write_line;
use crate::focus::tests::context;
use crate::focus::{self, OnBill};
use crate::rating::tests::{books, rate, usage};
use crate::rating::{Charge, RatedRow, period};

type Table = Vec<Vec<Option<String>>>;

const MANY: usize = 1_000;

fn rated() -> Vec<RatedRow> {
    let books = books(&[(Meter::CpuUsed, "0.0000105"), (Meter::MemoryUsed, "0.0000011")], false);
    [
        (Some(1), Meter::CpuUsed, 230_123_456_789),
        (Some(1), Meter::MemoryUsed, 140_995_723_264_000_000_001),
        (Some(1), Meter::BlockRead, 0),
        (Some(2), Meter::CpuUsed, 17),
        (None, Meter::CpuUsed, 17),
    ]
    .into_iter()
    .map(|(container, meter, quantity)| {
        let mut usage = usage(container, meter, quantity);
        usage.labels.insert("app".to_owned(), "shop".to_owned());
        if container.is_none() {
            usage.labels.clear();
        }
        rate(&books, usage)
    })
    .collect()
}

/// Rows 1 to 5 are use, then come a credit, a tax, an adjustment and the correction of an earlier month.
fn good() -> Table {
    let (rated, context) = (rated(), context());
    let mut text = focus::header();
    let amount = |text: &str| text.parse::<Amount>().expect("a number");
    let others = [
        Charge::Credit { name: "start".to_owned(), amount: amount("-1") },
        Charge::Tax { class: "standard".to_owned(), rate_percent: amount("19"), amount: amount("0.19") },
        Charge::Adjustment { amount: amount("0.001") },
    ];
    let (from, to) = period(rated[0].from);
    let others = others.map(|charge| RatedRow { from, to, charge, ..rated[0].clone() });
    for row in rated.iter().chain(&others) {
        focus::write_line(&mut text, row, OnBill::default(), &context);
    }
    let mut earlier = rated[0].clone();
    let days = 40 * 24 * HOUR_US;
    (earlier.from, earlier.to) = (Timestamp(earlier.from.0 - days), Timestamp(earlier.to.0 - days));
    let bill = OnBill { is_correction: true, period: Some((from, to)), invoice: None };
    focus::write_line(&mut text, &earlier, bill, &context);
    let (mut reader, mut table) = (Reader::new(text.as_bytes()), Table::new());
    while let Some(record) = reader.next().expect("well-formed") {
        table.push(record);
    }
    table
}

fn line(fields: &[Option<String>]) -> String {
    write_line(fields.iter().map(Option::as_deref))
}

fn found(table: &Table) -> Report {
    let text: String = table.iter().map(|fields| line(fields)).collect();
    csv(text.as_bytes(), MANY).expect("readable")
}

fn at(table: &Table, column: &str) -> usize {
    table[0].iter().position(|name| name.as_deref() == Some(column)).expect(column)
}

const CREDIT: usize = 6;
const TAX: usize = 7;
const CORRECTION: usize = 9;

/// What is done to a good file.
enum Do {
    /// In a row, a column gets this value; `None` for a null.
    Set(usize, &'static str, Option<&'static str>),
    /// In every row.
    SetAll(&'static str, Option<&'static str>),
    /// Something that is no change of a field.
    Other(fn(&mut Table)),
}

fn apply(change: &Do, table: &mut Table) {
    let owned = |value: Option<&str>| value.map(str::to_owned);
    match change {
        Do::Set(row, column, to) => {
            let at = at(table, column);
            table[*row][at] = owned(*to);
        }
        Do::SetAll(column, to) => {
            let at = at(table, column);
            for row in table.iter_mut().skip(1) {
                row[at] = owned(*to);
            }
        }
        Do::Other(change) => change(table),
    }
}

fn rename(table: &mut Table, column: &str, to: &str) {
    let at = at(table, column);
    table[0][at] = Some(to.to_owned());
}

fn drop_column(table: &mut Table, column: &str) {
    let at = at(table, column);
    for row in table {
        row.remove(at);
    }
}

fn add_column(table: &mut Table, name: &str) {
    for (row, fields) in table.iter_mut().enumerate() {
        fields.push(Some(if row == 0 { name.to_owned() } else { "1".to_owned() }));
    }
}

/// What is wrong, how it comes about, and the rule that finds it. The first eleven pass the official validator.
#[rustfmt::skip]
fn violations() -> Vec<(&'static str, Do, &'static str)> {
    use Do::{Other, Set, SetAll};
    vec![
        ("a rounded contracted cost", Set(1, "ContractedCost", Some("0.0024162963")), "cost-is-product"),
        ("a cost that is off by 1e-8", Set(1, "ContractedCost", Some("0.0024163062962845")), "cost-is-product"),
        ("a wrong list cost", Set(1, "ListCost", Some("0.0025")), "cost-is-product"),
        ("a time without Z", Set(1, "ChargePeriodStart", Some("2027-01-15T08:00:00")), "time-form"),
        ("a time with an offset", Set(1, "ChargePeriodStart", Some("2027-01-15T10:00:00+02:00")), "time-form"),
        ("a time with milliseconds", Set(1, "ChargePeriodStart", Some("2027-01-15T08:00:00.000Z")), "time-form"),
        ("nested tags", Set(1, "Tags", Some(r#"{"a":{"b":1}}"#)), "key-value-form"),
        ("a period that ends when it begins", Set(1, "ChargePeriodEnd", Some("2027-01-15T08:00:00Z")), "period-order"),
        ("a charge of another month", Set(1, "ChargePeriodStart", Some("2026-12-31T23:00:00Z")), "charge-outside-billing-period"),
        ("a foreign column", Other(|table| add_column(table, "Note")), "column-name"),
        ("a row twice", Other(|table| table.push(table[1].clone())), "row-once"),

        ("a column of ours in no PascalCase", Other(|table| add_column(table, "x_note")), "column-name"),
        ("a column of FOCUS after others", Other(|table| { drop_column(table, "RegionName"); add_column(table, "RegionName"); }), "column-order"),
        ("a column twice", Other(|table| rename(table, "SkuMeter", "SkuId")), "column-once"),
        ("a misspelt mandatory column", Other(|table| rename(table, "BilledCost", "x_BilledCosts")), "column-missing"),
        ("a field too few", Other(|table| drop(table[2].pop())), "field-count"),
        ("no billed cost", Set(1, "BilledCost", None), "null"),
        ("no charge category", Set(1, "ChargeCategory", None), "null"),
        ("no currency", Set(1, "BillingCurrency", None), "null"),
        ("N/A for a null", Set(1, "CapacityReservationId", Some("N/A")), "null-stand-in"),
        ("an empty text for a null", Set(1, "InvoiceId", Some("")), "null-stand-in"),
        ("a name with a line break", Set(1, "ResourceName", Some("web\n1")), "text-form"),
        ("a number with a plus", Set(1, "BilledCost", Some("+0.0024162962962845")), "number-form"),
        ("a number with commas", Set(1, "PricingQuantity", Some("1,230.5")), "number-form"),
        ("a number with a currency", Set(1, "BilledCost", Some("0.1 EUR")), "number-form"),
        ("a number with e", Set(1, "BilledCost", Some("2.4e-3")), "number-form"),
        ("an exponent with a plus", Set(1, "BilledCost", Some("2.4E+3")), "number-form"),
        ("a negative list price", Set(1, "ListUnitPrice", Some("-0.0000105")), "negative-price"),
        ("a negative contracted price", Set(1, "ContractedUnitPrice", Some("-0.0000105")), "negative-price"),
        ("tags that are no JSON", Set(1, "Tags", Some("a=b")), "key-value-form"),
        ("tags that are a list", Set(1, "Tags", Some("[1]")), "key-value-form"),
        ("tags with a key twice", Set(1, "Tags", Some(r#"{"a":1,"a":2}"#)), "key-value-form"),
        ("tags without any", Set(1, "Tags", Some("{}")), "key-value-form"),
        ("details with a key of nobody", Set(1, "SkuPriceDetails", Some(r#"{"Tier":"1"}"#)), "key-value-form"),
        ("an unknown category", Set(1, "ChargeCategory", Some("Fee")), "allowed-value"),
        ("an unknown class", Set(CORRECTION, "ChargeClass", Some("Fixed")), "allowed-value"),
        ("an unknown frequency", Set(1, "ChargeFrequency", Some("Monthly")), "allowed-value"),
        ("an unknown pricing category", Set(1, "PricingCategory", Some("Flat")), "allowed-value"),
        ("an unknown service category", Set(1, "ServiceCategory", Some("Hosting")), "allowed-value"),
        ("a currency in small letters", Set(1, "BillingCurrency", Some("eur")), "currency"),
        ("a currency of no nation", SetAll("BillingCurrency", Some("XAU")), "currency"),
        ("no currency where something is charged", SetAll("BillingCurrency", Some("XXX")), "currency"),
        ("a unit in the singular", Set(1, "PricingUnit", Some("Core-Second")), "unit-form"),
        ("a unit in small letters", Set(1, "ConsumedUnit", Some("core-seconds")), "unit-form"),
        ("a billing period that ends before it begins", SetAll("BillingPeriodEnd", Some("2026-12-01T00:00:00Z")), "period-order"),
        ("a billing period that another overlaps", Set(1, "BillingPeriodEnd", Some("2027-01-31T00:00:00Z")), "billing-period"),
        ("a correction of the open period", Set(1, "ChargeClass", Some("Correction")), "correction-of-open-period"),
        ("a quantity without its unit", Set(1, "PricingUnit", None), "null-together"),
        ("a unit without its quantity", Set(CREDIT, "ConsumedUnit", Some("GB")), "null-together"),
        ("a sub account without its name", Set(1, "SubAccountName", None), "null-together"),
        ("a region without its name", Set(1, "RegionName", None), "null-together"),
        ("a resource without its type", Set(1, "ResourceType", None), "null-together"),
        ("a name of no resource", Set(5, "ResourceName", Some("web")), "null-beside-null"),
        ("the status of no commitment", Set(1, "CommitmentDiscountStatus", Some("Used")), "null-beside-null"),
        ("the status of no reservation", Set(1, "CapacityReservationStatus", Some("Used")), "null-beside-null"),
        ("use without a price", Set(1, "ListUnitPrice", None), "price-missing"),
        ("use without a SKU", Set(1, "SkuId", None), "price-missing"),
        ("use without a pricing category", Set(1, "PricingCategory", None), "price-missing"),
        ("a tax with a quantity", Set(TAX, "PricingQuantity", Some("1")), "tax-with-price"),
        ("a tax with a SKU", Set(TAX, "SkuId", Some("tax")), "tax-with-price"),
        ("a credit that used something", Set(CREDIT, "ConsumedQuantity", Some("1")), "consumed-without-usage"),
        ("a reservation of which nobody knows whether it is used", Set(1, "CapacityReservationId", Some("r-1")), "status-missing"),
        ("a credit with two amounts", Set(CREDIT, "EffectiveCost", Some("0")), "lone-costs-equal"),
        ("somebody else's bill", Set(1, "InvoiceIssuerName", Some("Reseller")), "billed-by-third-party"),
        ("a purchase with an effective cost", Set(CREDIT, "ChargeCategory", Some("Purchase")), "purchase-effective-cost"),
        ("a purchase that is usage-based", Set(1, "ChargeCategory", Some("Purchase")), "purchase-frequency"),
        ("a name that repeats the id", Other(|table| { let (name, id) = (at(table, "ResourceName"), at(table, "ResourceId")); table[1][name] = table[1][id].clone(); }), "name-repeats-id"),
        ("a subcategory of another category", Set(1, "ServiceSubcategory", Some("Block Storage")), "service-pair"),
        ("a service with two categories", Other(|table| { let name = at(table, "ServiceName"); table[3][name] = table[1][name].clone(); }), "service-category"),
        ("committed prices without a commitment", Set(1, "PricingCategory", Some("Committed")), "committed-pricing"),
        ("an id of a price with a date", Set(1, "SkuPriceId", Some("cpu_used.2026")), "price-id-encodes"),
        ("an id of a price with a currency", Set(1, "SkuPriceId", Some("cpu_used.EUR")), "price-id-encodes"),
        ("a price of two SKUs", Set(4, "SkuId", Some("gpu_used")), "price-id-parent"),
        ("a SKU of two services", Set(4, "ServiceName", Some("Container Network")), "sku-service"),
        ("two list prices at a time", Other(|table| { for (column, value) in [("ListUnitPrice", "0.5"), ("ListCost", "0.0000000085")] { let at = at(table, column); table[4][at] = Some(value.to_owned()); } }), "one-list-price"),
        ("a tenant with two names", Set(1, "SubAccountName", Some("red")), "one-name"),
        ("one row on an invoice, the others on none", Set(1, "InvoiceId", Some("1")), "invoiced-apart"),
        ("an invoice that nobody can pay", SetAll("InvoiceId", Some("1")), "invoice-sum"),
        ("an invoice in two currencies", Other(|table| { for row in 1..table.len() { let (id, currency) = (at(table, "InvoiceId"), at(table, "BillingCurrency")); table[row][id] = Some("1".to_owned()); if row > 3 { table[row][currency] = Some("USD".to_owned()); } } }), "invoice-currency"),

        ("ours: billed is not what it costs", Set(1, "BilledCost", Some("0.0024162963")), "own-cost"),
        ("ours: effective is not what it costs", Set(1, "EffectiveCost", Some("0")), "own-cost"),
        ("ours: a price of no book", Set(1, "x_PriceBookVersion", None), "own-price-book"),
        ("ours: an unknown quality", Set(1, "x_Quality", Some("good")), "own-quality"),
        ("ours: measured what cannot be", Set(1, "x_Quality", Some("not_measurable")), "own-quantity"),
        ("ours: half a nanosecond", Set(1, "x_MeteredQuantity", Some("1.5")), "own-quantity"),
        ("ours: a nanosecond less", Set(1, "x_MeteredQuantity", Some("230123456788")), "own-quantity"),
        ("ours: a unit of no meter", Set(1, "x_MeteredUnit", Some("bytes")), "own-unit"),
        ("ours: a container's hour twice", Other(|table| { let mut again = table[1].clone(); let tags = at(table, "Tags"); again[tags] = None; table.push(again); }), "charge-once"),
    ]
}

#[test]
fn our_own_file_is_clean_and_sums_up() {
    let report = found(&good());
    assert_eq!(report.findings, []);
    assert!(report.is_clean());
    assert_eq!(report.rows, 9);
    let amounts = rated().into_iter().map(|row| row.billed_cost());
    // The correction is row 1's once more; credit, tax and adjustment sum up to -0.809.
    let sum: Amount = amounts.chain([rated()[0].billed_cost(), "-0.809".parse().expect("a number")]).sum();
    assert_eq!(report.totals.into_values().collect::<Vec<_>>(), [sum]);
}

#[test]
fn every_violation_is_found_by_its_rule() {
    let (good, mut rules) = (good(), BTreeSet::new());
    for (what, change, rule) in violations() {
        let mut table = good.clone();
        apply(&change, &mut table);
        let report = found(&table);
        assert!(report.counts.contains_key(rule), "{what}: {rule} not among {:?}", report.counts);
        let finding = report.findings.iter().find(|finding| finding.rule == rule).expect("it is shown");
        assert!(!finding.expected.is_empty() && !finding.found.is_empty(), "{what}: {finding}");
        rules.insert(rule);
    }
    assert!(violations().len() >= 34 && rules.len() >= 34, "{} rules", rules.len());
}

#[test]
fn the_same_is_found_in_parquet() {
    let columns = focus::columns();
    let good = good();
    let mut tried = 0;
    for (what, change, rule) in violations() {
        let Do::Set(..) = change else { continue };
        let mut table = good.clone();
        apply(&change, &mut table);
        let Some(file) = as_parquet(&table, &columns) else { continue };
        let report = parquet(bytes::Bytes::from(file), MANY).expect("readable");
        assert!(report.counts.contains_key(rule), "{what}: {rule} not among {:?}", report.counts);
        tried += 1;
    }
    assert!(tried >= 40, "{tried}");
    let clean =
        parquet(bytes::Bytes::from(as_parquet(&good, &columns).expect("typed")), MANY).expect("readable");
    assert_eq!(clean.findings, []);
}

/// The table as Parquet; `None` if a value is not of its column's type.
fn as_parquet(table: &Table, columns: &[(&str, schema::Kind)]) -> Option<Vec<u8>> {
    use crate::focus::schema::Kind;
    use crate::focus::value::Value;
    let mut writer = parquet::Writer::new(Vec::new(), columns).expect("a writer");
    for row in table.iter().skip(1) {
        let mut values = Vec::new();
        for ((_, kind), field) in columns.iter().zip(row) {
            values.push(match (kind, field) {
                (_, None) => Value::Null,
                (Kind::Text | Kind::Json, Some(text)) if text.is_empty() => return None,
                (Kind::Text | Kind::Json, Some(text)) => Value::text(text.as_str()),
                (Kind::Time, Some(text)) => Value::Time(fields::time(text)?),
                (Kind::Number | Kind::Cost, Some(text)) => Value::Number(Cow::Owned(fields::number(text)?)),
            });
        }
        writer.row(values).ok()?;
    }
    writer.finish(None).ok()
}

#[test]
fn every_digit_of_every_number_counts() {
    let good = good();
    let mut mutants = 0;
    for (name, kind) in focus::columns() {
        let at = at(&good, name);
        let is_number =
            matches!(kind, schema::Kind::Number | schema::Kind::Cost) || name == "x_MeteredQuantity";
        let Some(value) = good[1][at].clone().filter(|_| is_number) else { continue };
        for (digit, _) in value.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_digit()) {
            let mut bytes = value.clone().into_bytes();
            bytes[digit] = if bytes[digit] == b'9' { b'8' } else { bytes[digit] + 1 };
            let mut table = good.clone();
            table[1][at] = Some(String::from_utf8(bytes).expect("digits"));
            assert!(!found(&table).is_clean(), "{name}: {:?}", table[1][at]);
            mutants += 1;
        }
    }
    assert!(mutants > 80, "{mutants}");
}

#[test]
fn findings_are_counted_beyond_those_that_are_shown() {
    let mut table = good();
    apply(&Do::SetAll("ProviderName", None), &mut table);
    let text: String = table.iter().map(|fields| line(fields)).collect();
    let report = csv(text.as_bytes(), 2).expect("readable");
    assert_eq!((report.findings.len(), report.counts["null"]), (2, 9));
    let shown = report.findings[0].to_string();
    assert!(shown.starts_with("row 1, ProviderName: null: found null; expected "), "{shown}");
}

#[test]
fn files_of_others_are_checked_without_our_own_rules() {
    let mut table = good();
    for (name, _) in focus::OWN_COLUMNS {
        drop_column(&mut table, name);
    }
    assert_eq!(found(&table).findings, []);
    apply(&Do::Set(1, "BilledCost", Some("0.002")), &mut table);
    assert!(found(&table).is_clean(), "what others bill is theirs to say");
    apply(&Do::Set(1, "ContractedCost", Some("0.002")), &mut table);
    assert!(!found(&table).is_clean());
}

#[test]
fn what_is_no_file_of_rows_is_an_error_and_no_finding() {
    let whole: String = good().iter().map(|fields| line(fields)).collect();
    for torn in [whole.strip_suffix("\r\n"), whole.strip_suffix("\"}\",\r\n"), whole.get(..whole.len() / 2)] {
        let Some(torn) = torn else { continue };
        assert!(csv(torn.as_bytes(), MANY).is_err());
    }
    assert!(parquet(bytes::Bytes::from(whole.clone()), MANY).is_err());
    assert!(!csv(&b""[..], MANY).expect("readable, but empty").is_clean());
    assert!(csv(whole.replace("\r\n", "\n").as_bytes(), MANY).expect("readable").is_clean());
}
