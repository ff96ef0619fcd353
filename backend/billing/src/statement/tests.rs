//! What a statement must say: the worked example, credits, taxes, what cannot be measured, and its page.

use proptest::prelude::*;
use serde_json::json;
use wharf_shared::time::HOUR_US;
use wharf_shared::usage::Meter;

use super::*;
use crate::contract::tests::{TENANT, contract};
use crate::rating::Rater;
use crate::rating::tests::{book, usage};

const GB: u128 = 1_000_000_000;

fn period() -> (Timestamp, Timestamp) {
    crate::rating::period(usage(None, Meter::CpuUsed, 0).hour)
}

fn made(
    books: &PriceBooks,
    contracts: &Contracts,
    hours: Vec<Vec<wharf_shared::usage::UsageHour>>,
    used: &BTreeMap<CreditKey, Amount>,
) -> (Made, Vec<RatedRow>) {
    let tenant: TenantId = TENANT.parse().expect("an id");
    let mut rater = Rater::new(books, contracts);
    let mut builder = StatementBuilder::new(books, contracts, tenant.clone(), "blue".to_owned(), period());
    let mut rows = Vec::new();
    for hour in hours {
        let rated = rater.rate_hour(hour);
        builder.add(&rated);
        rows.extend(rated);
    }
    builder.add(&rater.minimums(&tenant));
    rows.extend(rater.minimums(&tenant));
    let credits = credits_left(contracts, &tenant, period(), used);
    let made = builder.finish("Example".to_owned(), credits).expect("short numbers");
    rows.extend(made.rows.clone());
    (made, rows)
}

fn amounts(view: &StatementView) -> Vec<(&str, &str)> {
    view.lines.iter().map(|line| (line.description.as_str(), line.amount.as_str())).collect()
}

#[test]
fn the_worked_example_comes_to_five_cents_and_one_row_closes_the_sum() {
    // BILLING.md §4.21.
    let books = book(
        json!([
            { "meter": "cpu_used", "policy": "max", "unit_price": "0.0000105" },
            { "meter": "memory_reserved", "unit_price": "0.0000011" },
            { "meter": "network_internet_out", "allowance": "1", "unit_price": "0.08" },
        ]),
        false,
    );
    let later = |row: wharf_shared::usage::UsageHour| wharf_shared::usage::UsageHour {
        hour: Timestamp(row.hour.0 + HOUR_US),
        ..row
    };
    let hours = vec![
        vec![
            usage(Some(1), Meter::CpuUsed, 10_000_000_000),
            usage(Some(1), Meter::CpuReserved, 45_000_000_000_000),
            usage(Some(1), Meter::MemoryReserved, 24_159_191_040_000_000_000),
        ],
        vec![
            later(usage(Some(1), Meter::CpuUsed, 230_123_456_000)),
            later(usage(Some(1), Meter::CpuReserved, 217_625_000_000_000)),
            later(usage(Some(1), Meter::MemoryReserved, 116_836_532_224_000_000_000)),
            later(usage(Some(1), Meter::NetworkInternetOut, 1_610_612_736)),
        ],
    ];
    let (made, rows) = made(&books, &Contracts::default(), hours, &BTreeMap::new());
    let view = &made.view;
    assert_eq!(
        amounts(view),
        [
            ("CPU, the greater of used and reserved", "0"),
            ("Memory reserved", "0"),
            ("Network out, internet, allowance", "0"),
            ("Network out, internet, tier 1", "0.05"),
        ]
    );
    let quantities: Vec<_> =
        view.lines.iter().filter_map(|line| line.quantity.as_ref()).map(ToString::to_string).collect();
    assert_eq!(quantities, ["275.123456", "140.995723264", "1", "0.610612736"]);
    assert_eq!((view.total.as_str(), view.adjustment.as_str()), ("0.05", "-0.0018929104635904"));
    assert_eq!(rows.iter().map(RatedRow::billed_cost).sum::<Amount>().to_string(), "0.05");
}

#[test]
fn credits_that_expire_first_are_used_first_and_never_more_than_is_owed() {
    let books = book(json!([{ "meter": "network_internet_out", "unit_price": "10" }]), false);
    let said = json!({ "credits": [
        { "name": "for ever", "amount": "100" },
        { "name": "over", "amount": "50", "expires_at": "2027-01-01T00:00:00Z" },
        { "name": "soon", "amount": "7.005", "expires_at": "2027-02-01T00:00:00Z" },
    ], "taxes": { "standard": "19" } });
    let contracts = Contracts::new(&[contract(1, said)]).expect("well-formed");
    let hours = vec![vec![usage(Some(1), Meter::NetworkInternetOut, GB)]];
    let (first, rows) = made(&books, &contracts, hours.clone(), &BTreeMap::new());
    assert_eq!(
        amounts(&first.view),
        [("Network out, internet", "10"), ("Credit soon", "-7"), ("Credit for ever", "-3")]
    );
    assert_eq!(
        (first.view.net.as_str(), first.view.tax.as_str(), first.view.total.as_str()),
        ("0", "0", "0")
    );
    assert!(rows.iter().map(RatedRow::billed_cost).sum::<Amount>().is_zero());
    let used = first.credits.into_iter().collect();
    let (second, _) = made(&books, &contracts, hours, &used);
    assert_eq!(amounts(&second.view), [("Network out, internet", "10"), ("Credit for ever", "-10")]);
}

#[test]
fn tax_is_that_of_what_is_on_the_paper_by_class() {
    let books = book(
        json!([
            { "meter": "network_internet_out", "unit_price": "10.004" },
            { "meter": "network_internet_in", "unit_price": "1", "tax_class": "reduced" },
            { "meter": "block_read", "unit_price": "1", "tax_class": "none" },
        ]),
        false,
    );
    let said = json!({ "taxes": { "standard": "19", "reduced": "7" }, "credits": [{ "name": "gift", "amount": "1.5" }] });
    let contracts = Contracts::new(&[contract(1, said)]).expect("well-formed");
    let rows = [Meter::NetworkInternetOut, Meter::NetworkInternetIn, Meter::BlockRead]
        .map(|meter| usage(Some(1), meter, GB));
    let (made, rows) = made(&books, &contracts, vec![rows.to_vec()], &BTreeMap::new());
    assert_eq!(
        amounts(&made.view)[3..],
        [("Credit gift", "-1.5"), ("Tax reduced, 7 % of 0.5", "0.04"), ("Tax standard, 19 % of 10", "1.9")]
    );
    // 12 - 1.5 + 1.94; the exact rows are 12.004 - 1.5 + 1.935.
    assert_eq!((made.view.total.as_str(), made.view.adjustment.as_str()), ("12.44", "0.001"));
    assert_eq!(rows.iter().map(RatedRow::billed_cost).sum::<Amount>().to_string(), "12.44");
}

#[test]
fn what_cannot_be_measured_and_what_is_outside_containers_is_to_be_seen() {
    let books = book(json!([{ "meter": "block_read", "unit_price": "1" }]), false);
    let mut unmeasured = usage(Some(1), Meter::BlockRead, 0);
    unmeasured.quality = Quality::NotMeasurable;
    let mut partial = usage(Some(2), Meter::BlockRead, GB);
    partial.quality = Quality::Partial;
    let hours =
        vec![vec![usage(None, Meter::CpuUsed, 5), unmeasured, partial, usage(Some(1), Meter::CpuUsed, 3)]];
    let (made, _) = made(&books, &Contracts::default(), hours, &BTreeMap::new());
    let lines: Vec<_> =
        made.view.lines.iter().map(|line| (line.description.as_str(), line.quality)).collect();
    assert_eq!(
        lines,
        [
            ("Block read", Quality::Partial),
            ("CPU used outside containers", Quality::Measured),
            ("Block read (not measurable here)", Quality::NotMeasurable),
        ]
    );
    let page = html(&made.view);
    assert!(page.contains("readings missing in 1 of 1 hours") && page.contains("not measurable here"));
}

#[test]
fn nothing_in_a_page_is_markup_and_nothing_in_a_table_is_a_formula() {
    let books = book(json!([{ "meter": "block_read", "unit_price": "0.5" }]), false);
    let hours = vec![vec![usage(Some(1), Meter::BlockRead, GB)]];
    let (mut made, _) = made(&books, &Contracts::default(), hours, &BTreeMap::new());
    made.view.tenant_name = "<script>alert(1)</script>\"'&".to_owned();
    made.view.void_reason = Some("</style><b>".to_owned());
    let page = html(&made.view);
    assert!(!page.contains("<script") && !page.contains("<b>") && page.contains("&lt;script&gt;"));
    assert!(!page.contains("http") && page.contains("0.50 EUR"));
    let file = csv(&made.view);
    for line in file.lines() {
        assert!(line.split(',').all(|field| !field.starts_with(['=', '+', '@'])), "{line}");
    }
    assert_eq!(file.lines().map(|line| line.split(',').count()).collect::<Vec<_>>(), [17; 4]);
}

#[test]
fn a_credit_note_takes_back_to_the_last_digit_and_a_changed_statement_has_another_hash() {
    let books = book(json!([{ "meter": "block_read", "unit_price": "0.3333" }]), false);
    let hours = vec![vec![usage(Some(1), Meter::BlockRead, GB)]];
    let (made, _) = made(&books, &Contracts::default(), hours, &BTreeMap::new());
    let note = reversal(&made.view, "wrong tenant".to_owned()).expect("short numbers");
    for (one, other) in [(&made.view.total, &note.total), (&made.view.adjustment, &note.adjustment)] {
        assert!(Amount::from(one).plus(&Amount::from(other)).is_zero());
    }
    let hash = content_hash(&made.view).expect("serializes");
    let paid =
        StatementView { status: StatementStatus::Paid, paid_at: Some(Timestamp(5)), ..made.view.clone() };
    assert_eq!(content_hash(&paid).expect("serializes"), hash, "what comes later is not in it");
    let mut other = made.view;
    other.lines[0].amount = "0.34".parse().expect("a decimal");
    assert_ne!(content_hash(&other).expect("serializes"), hash);
}

#[test]
fn another_reading_or_price_is_another_evidence() {
    let hash = |quantity, price: &str| {
        let books = book(json!([{ "meter": "block_read", "unit_price": price }]), false);
        let hours = vec![vec![usage(Some(1), Meter::BlockRead, quantity)]];
        made(&books, &Contracts::default(), hours, &BTreeMap::new()).0.view.evidence_hash
    };
    assert_eq!(hash(5, "0"), hash(5, "0"));
    assert_ne!(hash(5, "0"), hash(6, "0"));
    assert_ne!(hash(5, "0"), hash(5, "0.1"));
}

proptest! {
    #[test]
    fn all_rows_add_up_to_what_is_owed_and_each_line_to_its_rows(
        rows in proptest::collection::vec((0_i64..5, 1_u32..4, 0_u128..10_000_000_000), 1..30),
        price in 0_u64..1_000_000, discount in 0_u32..100, tax in 0_u32..30, credit in 0_u32..20, half_up: bool
    ) {
        let mut spec = json!([{ "meter": "network_internet_out", "unit_price": format!("0.{price:06}"),
            "monthly_cap": "1.5" }]);
        if half_up {
            spec[0]["unit"] = json!("GiB");
            spec[0]["allowance"] = json!("3");
        } else {
            spec[0]["minimum_quantity"] = json!("2.5");
        }
        let books = book(spec, false);
        let said = json!({ "discount_percent": discount.to_string(), "taxes": { "standard": tax.to_string() },
            "credits": [{ "name": "gift", "amount": format!("0.{credit:02}") }],
            "terms": [{ "sku": "network_internet_out", "free_quantity": "0.7", "discount_percent": discount.to_string() }] });
        let contracts = Contracts::new(&[contract(1, said)]).expect("well-formed");
        let mut hours: BTreeMap<i64, BTreeMap<u32, wharf_shared::usage::UsageHour>> = BTreeMap::new();
        for (hour, container, quantity) in rows {
            let row = usage(Some(container), Meter::NetworkInternetOut, quantity);
            let row = wharf_shared::usage::UsageHour { hour: Timestamp(row.hour.0 + hour * HOUR_US), ..row };
            hours.entry(hour).or_default().insert(container, row);
        }
        let hours = hours.into_values().map(|rows| rows.into_values().collect()).collect();
        let (made, rows) = made(&books, &contracts, hours, &BTreeMap::new());
        let total = Amount::from(&made.view.total);
        prop_assert_eq!(rows.iter().map(RatedRow::billed_cost).sum::<Amount>(), total.clone());
        prop_assert_eq!(made.view.lines.iter().map(|line| Amount::from(&line.amount)).sum::<Amount>(), total.clone());
        prop_assert!(!total.is_negative());
        for line in made.view.lines.iter().filter(|line| line.category == LineCategory::Usage) {
            let of_line: Vec<_> = rows.iter().filter(|row| is_row_of(line, row, &books)).collect();
            prop_assert_eq!(of_line.len() as u64, line.rows);
            let sum: Amount = of_line.iter().map(|row| row.billed_cost()).sum();
            prop_assert_eq!(sum, Amount::from(&line.exact_amount));
        }
    }
}
