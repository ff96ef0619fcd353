//! An independent program computes generated exports again and must agree to the last digit.
#![expect(
    clippy::expect_used,
    clippy::tests_outside_test_module,
    reason = "an integration test is a test module"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use wharf_billing::contract::Contracts;
use wharf_billing::price::PriceBooks;
use wharf_billing::rating::{Rater, Totals};
use wharf_billing::{check, focus, jsonl};
use wharf_shared::billing::{PriceBookSpec, PriceBookView, PriceSpec, Rounding};
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, Quality, UsageHour};

const FIRST_HOUR: i64 = 500_000;

/// Of each meter its price, before and after the point.
type Prices = BTreeMap<usize, (u64, u64)>;

fn price_book(number: i64, prices: Prices, price_unattributed: bool) -> PriceBookView {
    let price = |(meter, (whole, fraction)): (usize, (u64, u64))| {
        PriceSpec::flat(Meter::ALL[meter], format!("{whole}.{fraction:018}").parse().expect("a decimal"))
    };
    PriceBookView {
        id: format!("prb_00000000-0000-7000-8000-{number:012}").parse().expect("an id"),
        book: PriceBookSpec {
            currency: "EUR".to_owned(),
            // The first version begins after the first hours of usage.
            effective_from: Timestamp((FIRST_HOUR + 1 + 2 * number) * HOUR_US),
            prices: prices.into_iter().map(price).collect(),
            price_unattributed,
            rounding: Rounding::HalfEven,
        },
        created_at: Timestamp(0),
    }
}

fn price_books() -> impl Strategy<Value = Vec<PriceBookView>> {
    let price = (0_u64..10_000_000_000, 0_u64..10_u64.pow(18));
    let prices = proptest::collection::btree_map(0..Meter::ALL.len(), price, 0..=Meter::ALL.len());
    proptest::collection::vec((prices, any::<bool>()), 0..4).prop_map(|versions| {
        let numbered = (0..).zip(versions);
        numbered.map(|(number, (prices, unattributed))| price_book(number, prices, unattributed)).collect()
    })
}

fn usage() -> impl Strategy<Value = Vec<UsageHour>> {
    let quantity = prop_oneof![Just(0_u128), 0..1_u128 << 64, 0..1_u128 << 100, Just(u128::MAX)];
    let row = (0..8_i64, 0..3_u32, 0..4_u32, 0..Meter::ALL.len(), quantity, 0..3_u32);
    proptest::collection::vec(row, 0..400).prop_map(|rows| {
        let mut hours = BTreeMap::new();
        for (hour, tenant, container, meter, quantity, quality) in rows {
            let quality = [Quality::Measured, Quality::Partial, Quality::NotMeasurable][quality as usize];
            let row = UsageHour {
                hour: Timestamp((FIRST_HOUR + hour) * HOUR_US),
                tenant: format!("tnt_00000000-0000-7000-8000-{tenant:012}").parse().expect("an id"),
                container: (container > 0).then(|| format!("{container:064x}").parse().expect("an id")),
                meter: Meter::ALL[meter],
                tenant_name: format!("tenant-{tenant}"),
                container_name: if container > 0 { format!("c{container}") } else { String::new() },
                labels: (container > 1)
                    .then(|| ("app".to_owned(), format!("a\"{container},\n")))
                    .into_iter()
                    .collect(),
                quantity: if quality == Quality::NotMeasurable { 0 } else { quantity },
                quality,
            };
            hours.insert((hour, tenant, container, meter), row);
        }
        hours.into_values().collect()
    })
}

/// The export of these rows, as JSON lines and as FOCUS.
fn export(views: &[PriceBookView], rows: &[UsageHour]) -> (String, String) {
    let books = PriceBooks::new(views).expect("well-formed");
    let context = focus::FocusContext {
        provider_name: "Example".to_owned(),
        billing_account_id: "account-1".to_owned(),
        billing_account_name: "Example".to_owned(),
        region: "eu-1".to_owned(),
        host: "host-1".to_owned(),
    };
    let (mut lines, mut csv, mut totals) = (Vec::new(), focus::header(), Totals::default());
    let contracts = Contracts::default();
    let mut rater = Rater::new(&books, &contracts);
    for hour in rows.chunk_by(|a, b| (a.hour, &a.tenant) == (b.hour, &b.tenant)) {
        for row in rater.rate_hour(hour.to_vec()) {
            totals.add(&row);
            jsonl::write_line(&mut lines, &row).expect("serializes");
            csv.push_str(&focus::line(&row, &context));
        }
    }
    lines.extend(jsonl::totals(&totals).expect("serializes").bytes());
    (String::from_utf8(lines).expect("text"), csv)
}

fn oracle(directory: &Path, lines: &str, views: &[PriceBookView]) -> Output {
    let [usage, books] = ["usage.jsonl", "price-books.json"].map(|name| directory.join(name));
    std::fs::write(&usage, lines).expect("writes");
    std::fs::write(&books, serde_json::to_string(views).expect("serializes")).expect("writes");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/oracle.py");
    Command::new("python3").arg(script).args([usage, books]).output().expect("python3 is there")
}

fn agrees(output: &Output) -> bool {
    assert!(output.stdout.ends_with(b" wrong\n"), "{}", String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

#[test]
fn the_oracle_agrees_with_every_generated_export() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut runner = TestRunner::deterministic();
    for _ in 0..12 {
        let views = price_books().new_tree(&mut runner).expect("generates").current();
        let rows = usage().new_tree(&mut runner).expect("generates").current();
        let (lines, csv) = export(&views, &rows);
        let output = oracle(directory.path(), &lines, &views);
        assert!(agrees(&output), "{}", String::from_utf8_lossy(&output.stderr));
        let report = check::csv(csv.as_bytes(), 10).expect("readable");
        assert!(report.is_clean(), "{:?}", report.findings);
        let rows = lines.lines().filter(|line| line.contains("\"type\":\"usage\"")).count();
        assert_eq!(report.rows, rows as u64);
    }
}

#[test]
fn the_oracle_finds_every_changed_digit_and_every_missing_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut runner = TestRunner::deterministic();
    let (views, lines) = std::iter::repeat_with(|| {
        let views = price_books().new_tree(&mut runner).expect("generates").current();
        let rows = usage().new_tree(&mut runner).expect("generates").current();
        let lines = export(&views, &rows).0;
        (views, lines)
    })
    .find(|(views, lines)| views.len() == 3 && lines.lines().count() > 20)
    .expect("generates for ever");
    assert!(agrees(&oracle(directory.path(), &lines, &views)));

    let (mut mutants, lines) = (0, lines.split_inclusive('\n').collect::<Vec<_>>());
    for (at, line) in lines.iter().enumerate() {
        let mut missing = lines.clone();
        missing.remove(at);
        assert!(!agrees(&oracle(directory.path(), &missing.concat(), &views)), "without {line}");
        for field in ["quantity", "pricing_quantity", "unit_price", "amount", "total_amount", "rows"] {
            let Some(begin) = line.find(&format!("\"{field}\":")).map(|begin| begin + field.len() + 3) else {
                continue;
            };
            let (begin, value) =
                (begin, line.get(begin..).expect("a value").split([',', '}']).next().expect("a value"));
            let Some(digit) = value.rfind(|byte: char| byte.is_ascii_digit()) else { continue };
            let mut bytes = line.as_bytes().to_vec();
            let byte = &mut bytes[begin + digit];
            *byte = if *byte == b'9' { b'8' } else { *byte + 1 };
            let mut changed = lines.clone();
            let mutant = String::from_utf8(bytes).expect("digits");
            changed[at] = &mutant;
            assert!(!agrees(&oracle(directory.path(), &changed.concat(), &views)), "{field} of {mutant}");
            mutants += 1;
        }
        if mutants > 40 {
            break;
        }
    }
    assert!(mutants > 20);
}
