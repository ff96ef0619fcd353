//! Reads our own FOCUS file back and checks it, more strictly than the official validator.
//!
//! Rounded costs, costs that are not price × quantity, times with an offset or fractions, wrong periods,
//! repeated rows and columns that are not ours are all found; the official rules miss those
//! (BILLING.md §1.4). Findings name the line and the column.

use std::collections::{BTreeMap, BTreeSet};

use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, Quality};

use crate::amount::Amount;
use crate::csv::{self, BadRecord};
use crate::currency;
use crate::focus::{COLUMNS, service};
use crate::price::NO_CURRENCY;
use crate::rating::period;

/// Findings after which reading stops.
pub const FINDINGS_MAX: usize = 100;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The record's number; the header is 1.
    pub line: usize,
    /// The column, if it is one column's matter.
    pub column: &'static str,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}", self.line)?;
        if !self.column.is_empty() {
            write!(f, ", {}", self.column)?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows.
    pub rows: usize,
    /// Sum of `BilledCost` by `SubAccountId`.
    pub totals: BTreeMap<String, Amount>,
    /// What is wrong, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing is wrong.
    pub const fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, line: usize, column: &'static str, what: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { line, column, what: what.into() });
        }
    }
}

/// Checks a whole file.
pub fn check(text: &str) -> Report {
    let mut report = Report::default();
    let mut file = File::default();
    let (mut rest, mut line) = (text, 0_usize);
    while let Some(record) = csv::read_record(rest) {
        line = line.saturating_add(1);
        let (fields, after) = match record {
            Ok(read) => read,
            Err(bad) => {
                report.add(line, "", unreadable(bad));
                return report;
            }
        };
        rest = after;
        if line == 1 {
            if !fields.iter().map(String::as_str).eq(COLUMNS.iter().map(|(name, _)| *name)) {
                report.add(1, "", "these are not the columns of FOCUS 1.2 and our own, in order");
                return report;
            }
        } else if fields.len() == COLUMNS.len() {
            report.rows = report.rows.saturating_add(1);
            let names = COLUMNS.iter().map(|(name, _)| *name);
            let row = Row { line, fields: names.zip(fields.iter().map(String::as_str)).collect() };
            file.check(&row, &mut report);
        } else {
            report.add(line, "", format!("{} fields in place of {}", fields.len(), COLUMNS.len()));
        }
        if report.findings.len() >= FINDINGS_MAX {
            return report;
        }
    }
    if line == 0 {
        report.add(1, "", "the file is empty");
    }
    report
}

const fn unreadable(bad: BadRecord) -> &'static str {
    match bad {
        BadRecord::Quote => "a quote where none may be",
        BadRecord::Unended => "a quoted field without an end",
        BadRecord::LineEnd => "the line does not end with CR LF",
    }
}

/// What a field may be.
enum Rule {
    /// Always null.
    Null,
    /// This word only.
    Word(&'static str),
    /// A text.
    Text,
    /// A text or null.
    OptionalText,
    /// An object of texts, or null.
    Tags,
    /// A time: `YYYY-MM-DDTHH:MM:SSZ`.
    Time,
    /// A number that is not negative.
    Number,
    /// The same text in every row of the file.
    Constant,
}

fn rule(column: &str) -> Rule {
    match column {
        "ChargeCategory" => Rule::Word("Usage"),
        "ChargeFrequency" => Rule::Word("Usage-Based"),
        "PricingCategory" => Rule::Word("Standard"),
        "BillingAccountType" => Rule::Word("Account"),
        "SubAccountType" => Rule::Word("Tenant"),
        "BillingPeriodStart" | "BillingPeriodEnd" | "ChargePeriodStart" | "ChargePeriodEnd" => Rule::Time,
        "BilledCost"
        | "ListCost"
        | "ContractedCost"
        | "EffectiveCost"
        | "ListUnitPrice"
        | "ContractedUnitPrice"
        | "PricingQuantity"
        | "ConsumedQuantity"
        | "x_MeteredQuantity" => Rule::Number,
        "Tags" => Rule::Tags,
        "ResourceId" | "ResourceName" | "ResourceType" | "x_PriceBookVersion" => Rule::OptionalText,
        "AvailabilityZone" | "BillingAccountId" | "BillingAccountName" | "BillingCurrency"
        | "InvoiceIssuerName" | "ProviderName" | "PublisherName" | "RegionId" | "RegionName" | "x_HostId" => {
            Rule::Constant
        }
        "ChargeDescription" | "ConsumedUnit" | "PricingUnit" | "ServiceCategory" | "ServiceName"
        | "ServiceSubcategory" | "SkuId" | "SkuMeter" | "SkuPriceId" | "SubAccountId" | "SubAccountName"
        | "x_MeteredUnit" | "x_Quality" | "x_Unattributed" => Rule::Text,
        _ => Rule::Null,
    }
}

struct Row<'a> {
    line: usize,
    fields: BTreeMap<&'static str, &'a str>,
}

impl<'a> Row<'a> {
    fn get(&self, column: &str) -> &'a str {
        self.fields.get(column).copied().unwrap_or_default()
    }

    /// A number; zero if it is none, which has been found already.
    fn number(&self, column: &str) -> Amount {
        self.get(column).parse().unwrap_or_else(|_| Amount::zero())
    }
}

/// What must hold across rows.
#[derive(Default)]
struct File {
    constants: BTreeMap<&'static str, String>,
    keys: BTreeSet<[String; 4]>,
    /// The price of a SKU in an hour, and whether it was of containers' use.
    prices: BTreeMap<(String, String, bool), String>,
    names: BTreeMap<String, String>,
}

impl File {
    fn check(&mut self, row: &Row<'_>, report: &mut Report) {
        for (column, _) in COLUMNS {
            if let Some(what) = self.field_problem(column, row.get(column)) {
                report.add(row.line, column, what);
            }
        }
        check_time(row, report);
        check_money(row, report);
        check_meter(row, report);
        check_resource(row, report);
        self.check_across(row, report);
        let total = report.totals.entry(row.get("SubAccountId").to_owned()).or_insert_with(Amount::zero);
        *total = total.plus(&row.number("BilledCost"));
    }

    fn field_problem(&mut self, column: &'static str, value: &str) -> Option<String> {
        let rule = rule(column);
        match (&rule, value.is_empty()) {
            (Rule::Null | Rule::OptionalText | Rule::Tags, true) => return None,
            (_, true) => return Some("may not be null".to_owned()),
            (Rule::Null, false) => return Some("must be null".to_owned()),
            (_, false) if value.trim() != value || value.chars().any(char::is_control) => {
                return Some("begins or ends with a space, or holds a control character".to_owned());
            }
            _ => {}
        }
        match rule {
            Rule::Word(word) => (value != word).then(|| format!("must be {word}")),
            Rule::Tags => (!is_tags(value)).then(|| "is no object of texts, or has none".to_owned()),
            Rule::Time => (!is_time(value)).then(|| "is no time like 2026-01-31T13:00:00Z".to_owned()),
            Rule::Number => match value.parse::<Amount>() {
                Err(_) => Some("is no plain decimal number".to_owned()),
                Ok(number) if number.is_negative() => Some("is negative".to_owned()),
                Ok(number) if number.to_string() != value => {
                    Some("is not written the shortest way".to_owned())
                }
                Ok(_) => None,
            },
            Rule::Constant => {
                let first = self.constants.entry(column).or_insert_with(|| value.to_owned());
                (first != value).then(|| format!("was {first:?} in another row"))
            }
            Rule::Null | Rule::Text | Rule::OptionalText => None,
        }
    }

    fn check_across(&mut self, row: &Row<'_>, report: &mut Report) {
        let [tenant, resource, sku, start] = ["SubAccountId", "ResourceId", "SkuId", "ChargePeriodStart"]
            .map(|column| row.get(column).to_owned());
        let price = row.get("ListUnitPrice").to_owned();
        let key = (sku.clone(), start.clone(), resource.is_empty());
        if *self.prices.entry(key).or_insert_with(|| price.clone()) != price {
            report.add(row.line, "ListUnitPrice", "the same SKU has another price in this hour");
        }
        let name = row.get("SubAccountName").to_owned();
        if *self.names.entry(format!("{start} {tenant}")).or_insert_with(|| name.clone()) != name {
            report.add(row.line, "SubAccountName", "the tenant has another name in this hour");
        }
        if !self.keys.insert([tenant, resource, sku, start]) {
            report.add(row.line, "", "the same tenant, resource, SKU and hour were there before");
        }
    }
}

fn is_tags(value: &str) -> bool {
    let tags = serde_json::from_str::<BTreeMap<String, String>>(value);
    tags.is_ok_and(|tags| !tags.is_empty())
}

fn is_time(value: &str) -> bool {
    value
        .parse::<Timestamp>()
        .is_ok_and(|time| time.0.rem_euclid(1_000_000) == 0 && time.to_string() == value)
}

fn check_time(row: &Row<'_>, report: &mut Report) {
    let time = |column: &str| row.get(column).parse::<Timestamp>().ok();
    let (Some(start), Some(end)) = (time("ChargePeriodStart"), time("ChargePeriodEnd")) else { return };
    if start != start.hour_start() {
        report.add(row.line, "ChargePeriodStart", "is no full hour");
    }
    if end.0 != start.0.saturating_add(HOUR_US) {
        report.add(row.line, "ChargePeriodEnd", "is not an hour after the start");
    }
    let (begin, next) = period(start);
    if time("BillingPeriodStart") != Some(begin) {
        report.add(row.line, "BillingPeriodStart", "is not the first of the charge's month");
    }
    if time("BillingPeriodEnd") != Some(next) {
        report.add(row.line, "BillingPeriodEnd", "is not the first of the month after the charge");
    }
}

fn check_money(row: &Row<'_>, report: &mut Report) {
    let quantity = row.number("PricingQuantity");
    for (cost, price) in [
        ("ListCost", "ListUnitPrice"),
        ("ContractedCost", "ContractedUnitPrice"),
        ("BilledCost", "ContractedUnitPrice"),
        ("EffectiveCost", "ContractedUnitPrice"),
    ] {
        let exact = quantity.times(&row.number(price));
        if row.number(cost) != exact {
            report.add(row.line, cost, format!("is not {price} x PricingQuantity, which is {exact}"));
        }
    }
    if row.number("ContractedUnitPrice") != row.number("ListUnitPrice") {
        report.add(row.line, "ContractedUnitPrice", "is not the list price, and there are no contracts");
    }
    let currency = row.get("BillingCurrency");
    // Before any price book there is none.
    if !currency::is_active(currency) && currency != NO_CURRENCY {
        report.add(row.line, "BillingCurrency", "is no ISO 4217 code");
    }
    if row.get("x_PriceBookVersion").is_empty() && !row.number("ListUnitPrice").is_zero() {
        report.add(row.line, "x_PriceBookVersion", "there is a price, but no price book");
    }
}

fn check_meter(row: &Row<'_>, report: &mut Report) {
    let Some(meter) = Meter::from_name(row.get("SkuId")) else {
        report.add(row.line, "SkuId", "is none of our meters");
        return;
    };
    let service = service(meter);
    for (column, expected) in [
        ("ServiceName", service.name),
        ("ServiceCategory", service.category),
        ("ServiceSubcategory", service.subcategory),
        ("SkuPriceId", &format!("{}.standard", meter.as_str())),
        ("PricingUnit", meter.pricing_unit()),
        ("ConsumedUnit", meter.pricing_unit()),
        ("ConsumedQuantity", row.get("PricingQuantity")),
        ("x_MeteredUnit", meter.unit()),
    ] {
        if row.get(column) != expected {
            report.add(row.line, column, format!("is not {expected}"));
        }
    }
    let metered = row.get("x_MeteredQuantity").parse::<u128>();
    match metered {
        Err(_) => report.add(row.line, "x_MeteredQuantity", "is no integer of at most 128 bits"),
        Ok(metered)
            if Amount::from_units(metered, meter.pricing_unit_exponent())
                != row.number("PricingQuantity") =>
        {
            report.add(row.line, "PricingQuantity", "is not the metered quantity in the pricing unit");
        }
        Ok(metered) => match Quality::from_name(row.get("x_Quality")) {
            None => report.add(row.line, "x_Quality", "is no quality"),
            Some(Quality::NotMeasurable) if metered != 0 => {
                report.add(row.line, "x_MeteredQuantity", "cannot be measured here, but is not 0");
            }
            Some(_) => {}
        },
    }
}

fn check_resource(row: &Row<'_>, report: &mut Report) {
    let id = row.get("ResourceId");
    let unattributed = id.is_empty();
    if unattributed && !row.get("Tags").is_empty() {
        report.add(row.line, "Tags", "must be null where there is no resource");
    }
    for (column, null) in [("ResourceName", unattributed), ("ResourceType", unattributed)] {
        if row.get(column).is_empty() != null {
            report.add(row.line, column, "must be null exactly when ResourceId is");
        }
    }
    if row.get("x_Unattributed") != unattributed.to_string() {
        report.add(row.line, "x_Unattributed", "must be true exactly when ResourceId is null");
    }
    if unattributed {
        return;
    }
    let beginning = format!("wharfage://{}/{}/containers/", row.get("RegionId"), row.get("SubAccountId"));
    let container = id.strip_prefix(&beginning);
    if container.is_none_or(|text| text.parse::<wharf_shared::id::ContainerId>().is_err()) {
        report.add(row.line, "ResourceId", "is no container of this tenant and region");
    }
    if row.get("ResourceType") != "Container" {
        report.add(row.line, "ResourceType", "must be Container");
    }
    if row.get("ResourceName") == id {
        report.add(row.line, "ResourceName", "repeats ResourceId");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::focus::tests::context;
    use crate::focus::{header, line};
    use crate::rating::Totals;
    use crate::rating::tests::{books, rate, usage};

    fn file() -> (Vec<Vec<String>>, Totals) {
        let books = books(&[(Meter::CpuUsed, "0.0000105"), (Meter::MemoryUsed, "0.0000011")], false);
        let (mut text, mut totals) = (header(), Totals::default());
        for (container, meter, quantity) in [
            (Some(1), Meter::CpuUsed, 230_123_456_789),
            (Some(1), Meter::MemoryUsed, 140_995_723_264_000_000_001),
            (Some(1), Meter::BlockRead, 0),
            (None, Meter::CpuUsed, 17),
        ] {
            let rated = rate(&books, usage(container, meter, quantity));
            totals.add(&rated);
            text.push_str(&line(&rated, &context()));
        }
        let (mut records, mut rest) = (Vec::new(), text.as_str());
        while let Some(record) = csv::read_record(rest) {
            let (fields, after) = record.expect("well-formed");
            records.push(fields);
            rest = after;
        }
        (records, totals)
    }

    fn text(records: &[Vec<String>]) -> String {
        records.iter().map(csv::write_line).collect()
    }

    fn findings(records: &[Vec<String>]) -> Vec<String> {
        check(&text(records)).findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn our_own_file_is_clean_and_sums_up() {
        let (records, totals) = file();
        let report = check(&text(&records));
        assert_eq!(report.findings, []);
        assert_eq!(report.rows, 4);
        let sums = totals.0.into_iter().map(|(tenant, total)| (tenant.to_string(), total.amount));
        assert_eq!(report.totals, sums.collect());
    }

    #[test]
    fn every_change_of_a_field_is_found() {
        let (good, _) = file();
        for (column, bad) in [
            ("BilledCost", "0.0024162963"),
            ("BilledCost", "-1"),
            ("BilledCost", "2.4e-3"),
            ("ContractedCost", "0.0024162962962846"),
            ("ContractedCost", "0"),
            ("ListCost", "0.0024162963062845"),
            ("EffectiveCost", "0.00"),
            ("ListUnitPrice", "0.0000106"),
            ("ContractedUnitPrice", "0.00001"),
            ("PricingQuantity", "230"),
            ("ConsumedQuantity", "230.12"),
            ("ConsumedUnit", "GB"),
            ("PricingUnit", ""),
            ("BillingCurrency", "eur"),
            ("BillingCurrency", "USD"),
            ("ChargePeriodStart", "2027-01-15T08:00:00"),
            ("ChargePeriodStart", "2027-01-15T10:00:00+02:00"),
            ("ChargePeriodStart", "2027-01-15T08:00:00.000Z"),
            ("ChargePeriodStart", "2027-01-15T08:30:00Z"),
            ("ChargePeriodEnd", "2027-01-15T08:00:00Z"),
            ("ChargePeriodEnd", "2027-01-15T10:00:00Z"),
            ("BillingPeriodStart", "2027-02-01T00:00:00Z"),
            ("BillingPeriodEnd", "2027-01-31T00:00:00Z"),
            ("ChargeCategory", "Purchase"),
            ("ChargeClass", "Correction"),
            ("ChargeFrequency", "Monthly"),
            ("InvoiceId", "1"),
            ("ServiceCategory", "Storage"),
            ("SkuId", "gpu"),
            ("SkuPriceId", "cpu_used.2026"),
            ("SubAccountId", ""),
            ("SubAccountName", "red"),
            ("ResourceId", ""),
            ("ResourceId", "container-1"),
            ("ResourceName", ""),
            ("ResourceType", "Volume"),
            ("ProviderName", "Somebody else"),
            ("Tags", "{\"a\":{\"b\":1}}"),
            ("Tags", "{\"a\":1}"),
            ("Tags", "{}"),
            ("Tags", "a=b"),
            ("SkuPriceDetails", "N/A"),
            ("x_MeteredQuantity", "230123456788"),
            ("x_MeteredQuantity", "1.5"),
            ("x_Quality", "good"),
            ("x_Quality", "not_measurable"),
            ("x_PriceBookVersion", ""),
            ("x_Unattributed", "true"),
        ] {
            let at = COLUMNS.iter().position(|(name, _)| *name == column).expect(column);
            let mut records = good.clone();
            bad.clone_into(&mut records[1][at]);
            assert!(!findings(&records).is_empty(), "{column} = {bad:?}");
        }
    }

    #[test]
    fn rows_that_are_repeated_or_torn_and_foreign_columns_are_found() {
        let (good, _) = file();
        let mut repeated = good.clone();
        repeated.push(good[1].clone());
        assert!(findings(&repeated)[0].contains("were there before"));
        let mut foreign = good.clone();
        foreign[0].push("Note".to_owned());
        assert!(!findings(&foreign).is_empty());
        let mut short = good.clone();
        short[2].pop();
        assert!(!findings(&short).is_empty());
        let whole = text(&good);
        assert!(!check("").is_clean());
        for torn in [whole.strip_suffix("\r\n"), whole.strip_suffix("\n"), whole.strip_suffix(",true\r\n")] {
            assert!(!check(torn.expect("the file's end")).is_clean());
        }
        assert!(!check(&whole.replace("\r\n", "\n")).is_clean());
    }

    #[test]
    fn every_digit_of_every_number_counts() {
        let (good, _) = file();
        let (mut mutants, columns) = (0, COLUMNS.iter().enumerate());
        for (at, (column, _)) in columns.filter(|(_, (column, _))| matches!(rule(column), Rule::Number)) {
            for digit in 0..good[1][at].len() {
                let mut records = good.clone();
                let mut bytes = records[1][at].clone().into_bytes();
                if bytes[digit].is_ascii_digit() {
                    bytes[digit] = if bytes[digit] == b'9' { b'8' } else { bytes[digit] + 1 };
                    records[1][at] = String::from_utf8(bytes).expect("digits");
                    assert!(!findings(&records).is_empty(), "{column}: {}", records[1][at]);
                    mutants += 1;
                }
            }
        }
        assert!(mutants > 80);
    }
}
