//! The official FOCUS validator reads the file of a real statement, as CSV and as Parquet.
//!
//! Its exit status says nothing, so its XML is what counts, and by default it skips what only applies to some
//! providers: it is told what applies to us, and has to have evaluated at least 300 rules. `cargo xtask test`
//! puts it into `target/focus`; without it the test is skipped, or fails if `WHARF_E2E_STRICT` is set.
#![expect(
    clippy::expect_used,
    clippy::tests_outside_test_module,
    reason = "an integration test is a test module"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use wharf_billing::contract::Contracts;
use wharf_billing::export::ExportWriter;
use wharf_billing::focus::metadata::Period;
use wharf_billing::focus::{FocusContext, OnBill};
use wharf_billing::price::PriceBooks;
use wharf_billing::rating::{RatedRow, Rater, period};
use wharf_billing::statement::{StatementBuilder, credits_left};
use wharf_shared::id::TenantId;
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::{ExportFormat, Meter, Quality, UsageHour};

const RULES_MIN: usize = 300;
/// What applies to us. Commitments and reservations of capacity, which we do not have, stay out: their rules
/// want values.
const CRITERIA: &str = "ACCOUNT_NAMING_SUPPORTED,AVAILABILITY_ZONE_SUPPORTED,MULTIPLE_PRICING_CATEGORIES_SUPPORTED,\
    MULTIPLE_SUB_ACCOUNT_TYPES_SUPPORTED,MULTIPLE_BILLING_ACCOUNT_TYPES_SUPPORTED,NEGOTIATED_PRICING_SUPPORTED,\
    PUBLIC_PRICE_LIST_SUPPORTED,USAGE_MEASUREMENT_SUPPORTED,UNIT_PRICING_SUPPORTED,SUB_ACCOUNT_SUPPORTED,\
    BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED,RESOURCE_TYPE_ASSIGNMENT_SUPPORTED,\
    PRICING_BILLING_CURRENCY_DIFFERENCES_SUPPORTED,REGION_SUPPORTED,TAGGING_SUPPORTED";
/// Two rules that the standard joins by "or" and the validator reports one by one: a file has numbers, or none.
const EITHER: [&str; 2] = ["InvoiceId-C-004-C", "InvoiceId-C-005-C"];

const TENANT: &str = "tnt_00000000-0000-7000-8000-000000000001";

/// Rows of a month with all that a statement can have: allowance, tiers, what is missing, what no container
/// explains, a credit, tax and a rounding.
fn statement() -> Vec<RatedRow> {
    let books = json!([{ "id": "prb_00000000-0000-7000-8000-000000000001", "created_at": "2026-01-01T00:00:00Z",
        "book": { "currency": "EUR", "effective_from": "2026-01-01T00:00:00Z", "prices": [
            { "meter": "cpu_used", "policy": "max", "unit": "Core-Hours", "unit_price": "0.0378" },
            { "meter": "memory_reserved", "unit": "GiB-Hours", "allowance": "3", "tiers": [
                { "from": "3", "to": "10", "unit_price": "0.004" }, { "from": "10", "unit_price": "0.0035" }] },
            { "meter": "network_internet_out", "unit_price": "0.081", "minimum_quantity": "1" },
            { "meter": "block_write", "unit_price": "0.08" }] } }]);
    let contracts = json!([{ "id": "ctr_00000000-0000-7000-8000-000000000001", "created_at": "2026-01-01T00:00:00Z",
        "contract": { "tenant": TENANT, "from": "2026-01-01T00:00:00Z", "discount_percent": "7.5",
            "credits": [{ "name": "start", "amount": "0.5" }], "taxes": { "standard": "19" } } }]);
    let books =
        PriceBooks::new(&serde_json::from_value::<Vec<_>>(books).expect("books")).expect("well-formed");
    let contracts = Contracts::new(&serde_json::from_value::<Vec<_>>(contracts).expect("contracts"))
        .expect("well-formed");
    let tenant: TenantId = TENANT.parse().expect("an id");
    let of = period("2026-11-01T00:00:00Z".parse().expect("a time"));
    let mut builder = StatementBuilder::new(&books, &contracts, tenant.clone(), "blue".to_owned(), of);
    let (mut rater, mut rows) = (Rater::new(&books, &contracts), Vec::new());
    for number in 0..30 {
        let rated = rater.rate_hour(hour(&tenant, Timestamp(of.0.0 + number * HOUR_US)));
        builder.add(&rated);
        rows.extend(rated);
    }
    let minimums = rater.minimums(&tenant);
    builder.add(&minimums);
    rows.extend(minimums);
    let credits = credits_left(&contracts, &tenant, of, &BTreeMap::new());
    let made = builder.finish("Example".to_owned(), credits).expect("short numbers");
    assert_eq!(made.rows.len(), 3, "a credit, a tax, a rounding: {:?}", made.rows);
    rows.extend(made.rows);
    rows
}

fn hour(tenant: &TenantId, hour: Timestamp) -> Vec<UsageHour> {
    let row = |container: Option<u8>, meter, quantity, quality| UsageHour {
        hour,
        tenant: tenant.clone(),
        container: container.map(|last| format!("{last:064x}").parse().expect("an id")),
        meter,
        tenant_name: "blue".to_owned(),
        container_name: container.map_or_else(String::new, |last| format!("web-{last}")),
        labels: container.map(|_| ("app".to_owned(), "a \"shop\", 2".to_owned())).into_iter().collect(),
        quantity,
        quality,
    };
    vec![
        row(None, Meter::CpuUsed, 1_900_000_000_777, Quality::Measured),
        row(Some(1), Meter::CpuUsed, 900_000_000_123, Quality::Measured),
        row(Some(1), Meter::CpuReserved, 1_800_000_000_000_000, Quality::Measured),
        row(Some(1), Meter::MemoryUsed, 700_000_000_000_000_000_123, Quality::Measured),
        row(Some(1), Meter::MemoryReserved, 1_966_367_641_600_000_000_000, Quality::Partial),
        row(Some(1), Meter::NetworkInternetOut, 1_234_567, Quality::Measured),
        row(Some(2), Meter::CpuUsed, 900_000_000_123, Quality::Measured),
        row(Some(2), Meter::BlockWrite, 0, Quality::NotMeasurable),
    ]
}

fn written(path: &Path, format: ExportFormat, rows: &[RatedRow]) {
    let context = FocusContext {
        provider_name: "Example".to_owned(),
        billing_account_id: "account-1".to_owned(),
        billing_account_name: "Example account".to_owned(),
        region: "eu-1".to_owned(),
        host: "hst_00000000-0000-7000-8000-000000000001".to_owned(),
    };
    let (from, to) = period(rows[0].from);
    let file = BufWriter::new(File::create(path).expect("a file"));
    let period = Period { from, to, is_provisional: false };
    let mut writer = ExportWriter::new(format, file, period, &context).expect("begun");
    let bill = OnBill { invoice: Some("S-000001"), ..OnBill::default() };
    for row in rows {
        writer.row(row, bill).expect("a row");
    }
    writer.finish().expect("a file");
}

/// The validator's directory, if it is there.
fn validator() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/focus");
    let is_there = dir.join("bin/focus-validator").is_file();
    assert!(is_there || std::env::var_os("WHARF_E2E_STRICT").is_none(), "{} is not there", dir.display());
    is_there.then(|| dir.canonicalize().expect("a directory"))
}

/// What it says of a file: rules that were evaluated, and those of them that failed.
fn judged(validator: &Path, file: &Path) -> (usize, Vec<String>) {
    let xml = file.with_extension("xml");
    let mut command = Command::new(validator.join("bin/python"));
    command.arg(validator.join("bin/focus-validator")).arg("--data-file").arg(file);
    command.args(["--validate-version", "1.2", "--block-download", "--applicability-criteria", CRITERIA]);
    command.args(["--output-type", "unittest", "--output-destination"]).arg(&xml);
    // It reads a table of its own by a path relative to where it runs.
    let output = command.current_dir(validator.join("run")).output().expect("it starts");
    let text = std::fs::read_to_string(&xml).unwrap_or_default();
    assert!(!text.is_empty(), "no report in {}: {}", xml.display(), String::from_utf8_lossy(&output.stderr));
    read_report(&text)
}

/// Reads its `JUnit` XML, in which a rule is a test case.
fn read_report(text: &str) -> (usize, Vec<String>) {
    let (mut evaluated, mut failed, mut either) = (0, Vec::new(), 0);
    for case in text.split("<testcase name=\"").skip(1) {
        if case.contains("<skipped") {
            continue;
        }
        evaluated += 1;
        if case.contains("<failure") || case.contains("<error") {
            let rule = case.split(" :: ").next().unwrap_or_default().to_owned();
            either += usize::from(EITHER.contains(&rule.as_str()));
            if !EITHER.contains(&rule.as_str()) || either > 1 {
                failed.push(rule);
            }
        }
    }
    (evaluated, failed)
}

#[test]
fn of_the_validator_s_report_only_what_was_evaluated_counts() {
    let case = |rule: &str, inside: &str| {
        format!("<testcase name=\"{rule} :: Type\" time=\"0\">{inside}</testcase>\n")
    };
    let report = [
        case("A", ""),
        case("B", "<skipped message=\"x\" />"),
        case("C", "<failure message=\"x\">Failed</failure>"),
        case("D", "<error message=\"x\" />"),
        case(EITHER[0], "<failure>Failed</failure>"),
    ];
    assert_eq!(read_report(&report.concat()), (4, vec!["C".to_owned(), "D".to_owned()]));
    let both = EITHER.map(|rule| case(rule, "<failure>Failed</failure>")).concat();
    assert_eq!(read_report(&both), (2, vec![EITHER[1].to_owned()]), "neither null nor not");
}

#[test]
fn the_official_validator_passes_the_file_of_a_statement() {
    let Some(validator) = validator() else {
        writeln!(std::io::stderr(), "skipped: the official validator is not in target/focus").expect("told");
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let rows = statement();
    for (name, format) in [("focus.csv", ExportFormat::Csv), ("focus.parquet", ExportFormat::Parquet)] {
        let file = dir.path().join(name);
        written(&file, format, &rows);
        let (evaluated, failed) = judged(&validator, &file);
        writeln!(std::io::stdout(), "{name}: {evaluated} rules evaluated, failed: {failed:?}").expect("told");
        assert!(evaluated >= RULES_MIN, "{name}: only {evaluated} rules were evaluated");
        assert!(failed.is_empty(), "{name}: {failed:?}");
    }
    // Something is found by it at all.
    let file = dir.path().join("wrong.csv");
    let text = std::fs::read_to_string(dir.path().join("focus.csv")).expect("text");
    std::fs::write(&file, text.replace(",EUR,", ",EURO,")).expect("written");
    let (_, failed) = judged(&validator, &file);
    assert!(failed.iter().any(|rule| rule.starts_with("BillingCurrency")), "{failed:?}");
}
