//! What the rater must charge: worked examples, every policy and tier, and properties over random rows.

use proptest::prelude::*;
use serde_json::{Value, json};
use wharf_shared::billing::{PriceBookSpec, PriceBookView};
use wharf_shared::usage::Quality;

use super::*;
use crate::contract::tests::contract;

/// Books of one version with these prices, as JSON.
pub(crate) fn book(prices: Value, price_unattributed: bool) -> PriceBooks {
    let view = PriceBookView {
        id: "prb_00000000-0000-7000-8000-000000000001".parse().expect("an id"),
        book: PriceBookSpec {
            currency: "EUR".to_owned(),
            effective_from: Timestamp(0),
            prices: serde_json::from_value(prices).expect("prices"),
            price_unattributed,
            rounding: wharf_shared::billing::Rounding::HalfEven,
        },
        created_at: Timestamp(0),
    };
    PriceBooks::new(&[view]).expect("well-formed")
}

pub(crate) fn books(prices: &[(Meter, &str)], price_unattributed: bool) -> PriceBooks {
    let flat = prices.iter().map(|(meter, price)| json!({ "meter": meter, "unit_price": price }));
    book(flat.collect(), price_unattributed)
}

pub(crate) fn usage(container: Option<u32>, meter: Meter, quantity: u128) -> UsageHour {
    UsageHour {
        hour: Timestamp(500_000 * HOUR_US),
        tenant: crate::contract::tests::TENANT.parse().expect("an id"),
        container: container.map(|number| format!("{number:064x}").parse().expect("an id")),
        meter,
        tenant_name: "blue".to_owned(),
        container_name: container.map(|number| format!("web-{number}")).unwrap_or_default(),
        labels: BTreeMap::new(),
        quantity,
        quality: Quality::Measured,
    }
}

/// The only row of one row of usage.
pub(crate) fn rate(books: &PriceBooks, usage: UsageHour) -> RatedRow {
    let mut rated = Rater::new(books, &Contracts::default()).rate_hour(vec![usage]);
    assert_eq!(rated.len(), 1);
    rated.remove(0)
}

/// Tier, quantity, list price, contracted price and why it is free.
fn parts(rated: &[RatedRow]) -> Vec<(String, String, String, String, Option<Relief>)> {
    let part = |usage: &UsageCharge| {
        let [quantity, list, contracted] =
            [&usage.quantity, &usage.list_unit_price, &usage.contracted_unit_price].map(ToString::to_string);
        (usage.tier.to_string(), quantity, list, contracted, usage.relief)
    };
    rated.iter().filter_map(RatedRow::usage).map(part).collect()
}

fn row(
    tier: &str,
    quantity: &str,
    list: &str,
    contracted: &str,
    relief: Option<Relief>,
) -> (String, String, String, String, Option<Relief>) {
    let [tier, quantity, list, contracted] = [tier, quantity, list, contracted].map(str::to_owned);
    (tier, quantity, list, contracted, relief)
}

fn total(rated: &[RatedRow]) -> Amount {
    rated.iter().map(RatedRow::billed_cost).sum()
}

const GB: u128 = 1_000_000_000;

#[test]
fn amounts_are_those_of_the_worked_example() {
    // BILLING.md §4.21: 500 millicores and 256 MiB from 09:58:30 to 10:07:15.25.
    let books = book(
        json!([
            { "meter": "cpu_used", "policy": "max", "unit_price": "0.0000105" },
            { "meter": "memory_reserved", "unit_price": "0.0000011" },
            { "meter": "network_internet_out", "allowance": "1", "unit_price": "0.08" },
        ]),
        false,
    );
    let contracts = Contracts::default();
    let mut rater = Rater::new(&books, &contracts);
    let at = |hours: i64, meter, quantity| {
        let row = usage(Some(1), meter, quantity);
        UsageHour { hour: Timestamp(row.hour.0 + hours * HOUR_US), ..row }
    };
    let first = rater.rate_hour(vec![
        at(0, Meter::CpuUsed, 10_000_000_000),
        at(0, Meter::CpuReserved, 45_000_000_000_000),
        at(0, Meter::MemoryReserved, 24_159_191_040_000_000_000),
    ]);
    let second = rater.rate_hour(vec![
        at(1, Meter::CpuUsed, 230_123_456_000),
        at(1, Meter::CpuReserved, 217_625_000_000_000),
        at(1, Meter::MemoryReserved, 116_836_532_224_000_000_000),
        at(1, Meter::NetworkInternetOut, 1_610_612_736),
    ]);
    let charged: Vec<_> =
        first.iter().chain(&second).filter(|row| row.usage().is_some_and(|u| u.policy != "none")).collect();
    let costs: Vec<_> = charged.iter().map(|row| row.billed_cost().to_string()).collect();
    // 45 core-s reserved; 230.123456 core-s used, more than was reserved.
    let (reserved, used) = ("0.0004725", "0.002416296288");
    assert_eq!(costs, [reserved, "0.000026575110144", used, "0.0001285201854464", "0", "0.04884901888"]);
    let sum: Amount = charged.iter().map(|row| row.billed_cost()).sum();
    assert_eq!(sum.to_string(), "0.0518929104635904");
    assert_eq!(
        parts(&second)[3..],
        [row("t0", "1", "0", "0", None), row("t1", "0.610612736", "0.08", "0.08", None)]
    );
    assert_eq!(
        second.iter().filter_map(RatedRow::usage).map(|usage| usage.usage.quantity).sum::<u128>(),
        230_123_456_000 + 217_625_000_000_000 + 116_836_532_224_000_000_000 + 1_610_612_736
    );
}

#[test]
fn a_quantity_that_does_not_end_is_cut_and_its_rest_is_the_next_rows() {
    // BILLING.md §4.21: 275.123456 core-seconds are 0.07642318222… core-hours.
    let books = book(json!([{ "meter": "cpu_used", "unit": "Core-Hours", "unit_price": "1" }]), false);
    let contracts = Contracts::default();
    let mut rater = Rater::new(&books, &contracts);
    let mut next =
        |quantity| parts(&rater.rate_hour(vec![usage(Some(1), Meter::CpuUsed, quantity)]))[0].1.clone();
    assert_eq!(next(275_123_456_000), "0.076423182222");
    // 10⁻¹² core-hours are 3.6 ns. 0.8 ns were cut, so the third more makes the last digit rise.
    assert_eq!([next(1), next(1), next(1)], ["0", "0", "0.000000000001"].map(str::to_owned));
    let sum: u128 = 275_123_456_003;
    assert_eq!(
        rounding::quotient(&Amount::from_units(sum, 9), &Amount::from_units(3_600, 0)).to_string(),
        "0.076423182223"
    );
}

#[test]
fn graduated_tiers_split_a_row_where_they_end() {
    let tiers = json!([
        { "from": "1", "to": "3", "unit_price": "0.5" },
        { "from": "3", "unit_price": "0.25" }
    ]);
    let books = book(json!([{ "meter": "network_internet_out", "allowance": "1", "tiers": tiers }]), false);
    let contracts = Contracts::default();
    let mut rater = Rater::new(&books, &contracts);
    let mut used = |quantity| rater.rate_hour(vec![usage(Some(1), Meter::NetworkInternetOut, quantity)]);
    assert_eq!(parts(&used(GB / 2)), [row("t0", "0.5", "0", "0", None)]);
    assert_eq!(
        parts(&used(3 * GB)),
        [
            row("t0", "0.5", "0", "0", None),
            row("t1", "2", "0.5", "0.5", None),
            row("t2", "0.5", "0.25", "0.25", None)
        ]
    );
    assert_eq!(parts(&used(0)), [row("t2", "0", "0.25", "0.25", None)], "nothing used is still a row");
    assert_eq!(parts(&used(4 * GB)), [row("t2", "4", "0.25", "0.25", None)]);
    let next_month =
        UsageHour { hour: Timestamp(501_000 * HOUR_US), ..usage(Some(1), Meter::NetworkInternetOut, GB) };
    assert_eq!(parts(&rater.rate_hour(vec![next_month])), [row("t0", "1", "0", "0", None)]);
}

#[test]
fn with_volume_tiers_every_unit_costs_what_the_last_one_does() {
    let tiers = json!([{ "from": "0", "to": "2", "unit_price": "1" }, { "from": "2", "unit_price": "0.5" }]);
    let books =
        book(json!([{ "meter": "network_internet_out", "tiers": tiers, "tiering": "volume" }]), false);
    assert!(books.has_volume_tiers());
    let contracts = Contracts::default();
    for (quantities, price) in [([GB, GB], "1"), ([GB, GB + 1], "0.5")] {
        let mut rater = Rater::new(&books, &contracts);
        let hours = quantities.map(|quantity| vec![usage(Some(1), Meter::NetworkInternetOut, quantity)]);
        for hour in &hours {
            rater.scan(hour.clone());
        }
        for hour in hours {
            assert_eq!(parts(&rater.rate_hour(hour))[0].3, price);
        }
    }
}

#[test]
fn the_greater_of_used_and_reserved_is_charged_and_the_other_is_shown_for_nothing() {
    let books = book(json!([{ "meter": "cpu_used", "policy": "max", "unit_price": "1" }]), true);
    let contracts = Contracts::default();
    for (used, reserved, charged) in [(3, 2, [true, false]), (2, 3, [false, true]), (2, 2, [true, false])] {
        let rated = Rater::new(&books, &contracts).rate_hour(vec![
            usage(None, Meter::CpuUsed, 10 * GB),
            usage(Some(1), Meter::CpuUsed, used * GB),
            usage(Some(1), Meter::CpuReserved, reserved * 1_000 * GB),
        ]);
        let seen: Vec<_> = rated.iter().filter_map(RatedRow::usage).map(|row| row.sku == "cpu").collect();
        assert_eq!(seen, [charged[0], charged[1], true]);
        assert_eq!(total(&rated).to_string(), (used.max(reserved) + 10 - used).to_string());
    }
}

#[test]
fn a_blend_charges_parts_of_both_through_the_same_tiers() {
    let policy = json!({ "blend": { "used": "0.25", "reserved": "0.5" } });
    let prices = json!([{ "meter": "cpu_used", "policy": policy, "allowance": "1", "unit_price": "2" }]);
    let books = book(prices, false);
    let rated = Rater::new(&books, &Contracts::default()).rate_hour(vec![
        usage(Some(1), Meter::CpuUsed, 2 * GB),
        usage(Some(1), Meter::CpuReserved, 4_000 * GB),
    ]);
    assert_eq!(
        parts(&rated),
        [
            row("t0", "0.5", "0", "0", None),
            row("t0", "0.5", "0", "0", None),
            row("t1", "1.5", "2", "2", None)
        ]
    );
}

#[test]
fn a_contract_changes_the_price_and_never_what_it_would_have_been() {
    let books =
        book(json!([{ "meter": "network_internet_out", "allowance": "1", "unit_price": "0.5" }]), false);
    let said = json!({ "discount_percent": "10", "terms": [{ "sku": "network_internet_out", "free_quantity": "2" }] });
    let contracts = Contracts::new(&[contract(1, said)]).expect("well-formed");
    let rated =
        Rater::new(&books, &contracts).rate_hour(vec![usage(Some(1), Meter::NetworkInternetOut, 5 * GB)]);
    assert_eq!(
        parts(&rated),
        [
            row("t0", "1", "0", "0", None),
            row("t1", "2", "0.5", "0", Some(Relief::FreeQuantity)),
            row("t1", "2", "0.5", "0.45", None)
        ]
    );
    assert_eq!(rated.iter().map(|row| row.list_cost().to_string()).collect::<Vec<_>>(), ["0", "1", "1"]);
    assert!(rated.iter().all(|row| row.contract.is_some()));
}

#[test]
fn a_container_never_costs_more_than_its_cap() {
    let books =
        book(json!([{ "meter": "network_internet_out", "unit_price": "0.3", "monthly_cap": "1" }]), false);
    let contracts = Contracts::default();
    let mut rater = Rater::new(&books, &contracts);
    let first = rater.rate_hour(vec![
        usage(Some(1), Meter::NetworkInternetOut, 5 * GB),
        usage(Some(2), Meter::NetworkInternetOut, GB),
    ]);
    assert_eq!(
        parts(&first),
        [
            row("standard", "3.333333333333", "0.3", "0.3", None),
            row("standard", "1.666666666667", "0.3", "0", Some(Relief::Cap)),
            row("standard", "1", "0.3", "0.3", None)
        ]
    );
    let second = rater.rate_hour(vec![usage(Some(1), Meter::NetworkInternetOut, GB)]);
    assert_eq!(parts(&second), [row("standard", "1", "0.3", "0", Some(Relief::Cap))]);
}

#[test]
fn what_is_missing_to_the_minimum_is_a_row_of_its_own() {
    let books =
        book(json!([{ "meter": "network_internet_out", "unit_price": "2", "minimum_quantity": "3" }]), false);
    let contracts = Contracts::default();
    let mut rater = Rater::new(&books, &contracts);
    let tenant = usage(None, Meter::CpuUsed, 0).tenant;
    rater.rate_hour(vec![usage(Some(1), Meter::NetworkInternetOut, 0)]);
    assert!(rater.minimums(&tenant).is_empty(), "who uses nothing pays nothing");
    rater.rate_hour(vec![usage(Some(1), Meter::NetworkInternetOut, GB)]);
    assert_eq!(parts(&rater.minimums(&tenant)), [row("minimum", "2", "2", "2", None)]);
    assert_eq!(to_wire(&rater.minimums(&tenant)).expect("short").len(), 1);
    rater.rate_hour(vec![usage(Some(1), Meter::NetworkInternetOut, 2 * GB)]);
    assert!(rater.minimums(&tenant).is_empty());
}

#[test]
fn before_any_price_book_everything_is_free() {
    let rated = rate(&PriceBooks::default(), usage(Some(1), Meter::CpuUsed, 5));
    assert!(rated.billed_cost().is_zero() && rated.price_book.is_none());
    assert_eq!(to_wire(&[rated]).expect("short")[0].quantity.as_str(), "5");
}

#[test]
fn use_outside_containers_is_charged_only_if_the_book_says_so() {
    let rows =
        vec![usage(None, Meter::CpuUsed, 10_000_000_000), usage(Some(1), Meter::CpuUsed, 4_000_000_000)];
    for (charged, amounts) in [(false, ["4", "0"]), (true, ["4", "6"])] {
        let books = books(&[(Meter::CpuUsed, "1")], charged);
        let rated = Rater::new(&books, &Contracts::default()).rate_hour(rows.clone());
        assert_eq!(rated.iter().map(|row| row.billed_cost().to_string()).collect::<Vec<_>>(), amounts);
        let last = rated.last().and_then(RatedRow::usage).expect("a row");
        assert_eq!(last.usage.quantity, 6_000_000_000);
    }
}

#[test]
fn on_the_wire_the_parts_of_an_hour_are_one_row() {
    let books =
        book(json!([{ "meter": "network_internet_out", "allowance": "1", "unit_price": "0.5" }]), false);
    let rated = Rater::new(&books, &Contracts::default()).rate_hour(vec![
        usage(Some(1), Meter::NetworkInternetOut, 2 * GB + 1),
        usage(Some(2), Meter::NetworkInternetOut, 1),
    ]);
    let wire = to_wire(&rated).expect("short");
    let seen: Vec<_> = wire.iter().map(|row| (row.quantity.as_str(), row.amount.as_str())).collect();
    assert_eq!(seen, [("2000000001", "0.5000000005"), ("1", "0.0000000005")]);
}

#[test]
fn the_live_rate_sums_what_each_flow_costs_in_an_hour() {
    let books = books(&[(Meter::CpuUsed, "0.01"), (Meter::MemoryReserved, "0.001")], false);
    let in_force = books.at(Timestamp(0)).expect("in force");
    let flows = [
        Flow { meter: Meter::CpuUsed, quantity: 500_000_000, duration_ns: 1_000_000_000 },
        Flow {
            meter: Meter::MemoryReserved,
            quantity: 2_000_000_000 * 10_000_000_000,
            duration_ns: 10_000_000_000,
        },
        Flow { meter: Meter::CpuUsed, quantity: 5, duration_ns: 0 },
    ];
    assert_eq!(rate_per_hour(in_force, &flows).to_string(), "25.2");
    let hourly = book(
        json!([{ "meter": "cpu_reserved", "unit": "Core-Hours", "unit_price": "1", "policy": "max" }]),
        false,
    );
    let flow = |meter, quantity| Flow { meter, quantity, duration_ns: 1_000_000_000 };
    let flows = [flow(Meter::CpuUsed, 1_000_000_000), flow(Meter::CpuReserved, 2_000_000_000_000)];
    let rate = rate_per_hour(hourly.at(Timestamp(0)).expect("in force"), &flows).to_string();
    assert_eq!(rate, "2", "two cores");
}

#[test]
fn the_highest_rate_is_that_of_the_dearest_tier_or_of_the_contract() {
    let tiers = json!([{ "from": "0", "to": "10", "unit_price": "2" }, { "from": "10", "unit_price": "5" }]);
    let books = book(json!([{ "meter": "cpu_used", "tiers": tiers }]), false);
    let in_force = books.at(Timestamp(0)).expect("in force");
    let flows = [Flow { meter: Meter::CpuUsed, quantity: 1_000_000_000, duration_ns: 1_000_000_000 }];
    let rates = |contract: Option<&Contract>| {
        let first = contracted_rate_per_hour(in_force, contract, &flows);
        [first, highest_rate_per_hour(in_force, contract, &flows)].map(|rate| rate.to_string())
    };
    assert_eq!(rates(None), ["7200", "18000"]);
    let said = json!({ "from": Timestamp(0), "terms": [{ "sku": "cpu_used", "unit_price": "7" }] });
    let contracts = Contracts::new(&[contract(1, said)]).expect("well-formed");
    let tenant = crate::contract::tests::TENANT.parse().expect("an id");
    assert_eq!(rates(contracts.at(&tenant, Timestamp(0))), ["25200", "25200"]);
}

/// A book of every kind of price, from small numbers, so that borders are crossed.
fn any_book() -> impl Strategy<Value = PriceBooks> {
    let number = |most: u32| (0..most).prop_map(|tenths| format!("{}.{}", tenths / 10, tenths % 10));
    let policy = prop_oneof![
        Just(json!("max")),
        Just(json!("reserved")),
        Just(json!({ "blend": { "used": "0.3", "reserved": "0.7" } }))
    ];
    let unit = prop_oneof![Just("Core-Seconds"), Just("Core-Hours")];
    let tiering = prop_oneof![Just("graduated"), Just("volume")];
    (policy, unit, tiering, number(40), number(20), number(20), proptest::option::of(number(30))).prop_map(
        |(policy, unit, tiering, allowance, first, second, cap)| {
            let allowance_end: Amount = allowance.parse().expect("a number");
            let end = allowance_end.plus(&Amount::from_units(15, 1)).to_string();
            let mut price = json!({ "meter": "cpu_reserved", "policy": policy, "unit": unit,
                "tiering": tiering, "allowance": allowance, "tiers": [
                    { "from": allowance, "to": end, "unit_price": first },
                    { "from": end, "unit_price": second }] });
            if let Some(cap) = cap {
                price["monthly_cap"] = json!(cap);
            }
            book(json!([price, { "meter": "memory_used", "unit_price": first }]), true)
        },
    )
}

fn any_hours() -> impl Strategy<Value = Vec<Vec<UsageHour>>> {
    let meter = prop_oneof![Just(Meter::CpuUsed), Just(Meter::CpuReserved), Just(Meter::MemoryUsed)];
    let row = (0_i64..6, 0_u32..3, meter, 0_u128..5_000);
    proptest::collection::vec(row, 1..40).prop_map(|rows| {
        let mut hours: BTreeMap<i64, BTreeMap<(u32, Meter), UsageHour>> = BTreeMap::new();
        for (hour, container, meter, thousandths) in rows {
            // Thousandths of a core-hour, so that Core-Seconds and Core-Hours both cross borders.
            let scale = if meter == Meter::CpuReserved { 3_600 * GB } else { 3_600 * GB / 1_000 };
            let row = usage((container > 0).then_some(container), meter, thousandths * scale + thousandths);
            let row = UsageHour { hour: Timestamp(row.hour.0 + hour * HOUR_US), ..row };
            hours.entry(hour).or_default().insert((container, meter), row);
        }
        hours.into_values().map(|rows| rows.into_values().collect()).collect()
    })
}

fn rated(books: &PriceBooks, hours: &[Vec<UsageHour>]) -> Vec<RatedRow> {
    let contracts = Contracts::default();
    let mut rater = Rater::new(books, &contracts);
    for hour in hours {
        rater.scan(hour.clone());
    }
    hours.iter().flat_map(|hour| rater.rate_hour(hour.clone())).collect()
}

proptest! {
    #[test]
    fn the_parts_cost_what_the_whole_costs(parts in proptest::collection::vec(0_u128..1 << 100, 1..20), price in 0_u64..1_000_000_000_000_000_000) {
        let books = books(&[(Meter::MemoryUsed, &format!("0.{price:018}"))], false);
        let whole = rate(&books, usage(Some(1), Meter::MemoryUsed, parts.iter().sum()));
        let sum: Amount = parts.iter().map(|part| rate(&books, usage(Some(1), Meter::MemoryUsed, *part)).billed_cost()).sum();
        prop_assert_eq!(&sum, &whole.billed_cost());
        let mut totals = Totals::default();
        for part in parts.iter().rev() {
            totals.add(&rate(&books, usage(Some(1), Meter::MemoryUsed, *part)));
        }
        let total = totals.0.values().next().expect("one tenant");
        prop_assert_eq!((&total.amount, total.rows), (&sum, parts.len() as u64));
    }

    /// What a budget keeps of the hours that are over.
    #[test]
    fn going_on_from_a_state_is_the_same_as_never_having_stopped(
        books in any_book(), hours in any_hours(), at in 0_usize..20
    ) {
        let contracts = Contracts::default();
        let interrupted = |mut rater: Rater<'_>| -> Vec<RatedRow> {
            for hour in &hours {
                rater.scan(hour.clone());
            }
            let (before, after) = hours.split_at(at.min(hours.len()));
            let mut rows: Vec<_> = before.iter().flat_map(|hour| rater.rate_hour(hour.clone())).collect();
            let mut again = Rater::resume(&books, &contracts, rater.state());
            for hour in &hours {
                again.scan(hour.clone());
            }
            rows.extend(after.iter().flat_map(|hour| again.rate_hour(hour.clone())));
            rows
        };
        prop_assert_eq!(interrupted(Rater::new(&books, &contracts)), rated(&books, &hours));
    }

    #[test]
    fn splitting_an_hour_keeps_its_quantity_and_every_cost_is_price_times_quantity(
        books in any_book(), hours in any_hours()
    ) {
        let rows = rated(&books, &hours);
        let mut metered: BTreeMap<_, u128> = BTreeMap::new();
        for row in rows.iter().filter_map(RatedRow::usage) {
            prop_assert!(!row.quantity.is_negative());
            let key = (row.usage.hour, row.usage.container.clone(), row.usage.meter);
            *metered.entry(key).or_default() += row.usage.quantity;
        }
        for row in hours.iter().flat_map(|hour| window::attribute(hour.clone())) {
            prop_assert_eq!(metered.remove(&(row.hour, row.container, row.meter)), Some(row.quantity));
        }
        prop_assert!(metered.is_empty());
        for row in &rows {
            let usage = row.usage().expect("usage only");
            prop_assert_eq!(row.billed_cost(), usage.quantity.times(&usage.contracted_unit_price));
        }
    }

    #[test]
    fn rating_again_gives_the_same_rows_in_whatever_order_an_hours_rows_come(
        books in any_book(), hours in any_hours()
    ) {
        let first = rated(&books, &hours);
        prop_assert_eq!(&rated(&books, &hours), &first);
        let turned: Vec<_> = hours.iter().map(|hour| hour.iter().rev().cloned().collect()).collect();
        prop_assert_eq!(&rated(&books, &turned), &first);
    }

    #[test]
    fn a_tenant_that_uses_more_never_has_more_for_nothing(
        first in 0_u128..5_000, more in 0_u128..5_000, allowance in 0_u32..5, price in 1_u32..9
    ) {
        let tiers = json!([{ "from": allowance.to_string(), "to": (allowance + 2).to_string(), "unit_price": format!("0.{price}") },
            { "from": (allowance + 2).to_string(), "unit_price": "0.05" }]);
        let books = book(json!([{ "meter": "network_internet_out", "allowance": allowance.to_string(), "tiers": tiers }]), false);
        let cost = |quantity: u128| total(&rated(&books, &[vec![usage(Some(1), Meter::NetworkInternetOut, quantity * 1_000_000)]]));
        prop_assert!(cost(first + more) >= cost(first), "graduated costs are monotone");
        let two = rated(&books, &[vec![usage(Some(1), Meter::NetworkInternetOut, first * 1_000_000)],
            vec![UsageHour { hour: Timestamp(500_001 * HOUR_US), ..usage(Some(1), Meter::NetworkInternetOut, more * 1_000_000) }]]);
        prop_assert_eq!(total(&two), cost(first + more), "and do not depend on how it is spread");
    }

    #[test]
    fn the_greater_costs_at_least_what_either_alone_would(hours in any_hours(), price in 1_u32..99) {
        let cost = |policy: &str, meter: &str| {
            let prices = json!([{ "meter": meter, "policy": policy, "unit_price": format!("0.{price:02}") }]);
            total(&rated(&book(prices, true), &hours))
        };
        let max = cost("max", "cpu_used");
        prop_assert!(max >= cost("used", "cpu_used") && max >= cost("reserved", "cpu_reserved"));
    }

    #[test]
    fn cutting_quantities_loses_less_than_the_last_digit_in_a_whole_period(hours in any_hours()) {
        let cost = |unit: &str, price: &str| {
            let prices = json!([{ "meter": "cpu_used", "unit": unit, "unit_price": price }]);
            total(&rated(&book(prices, true), &hours))
        };
        let lost = cost("Core-Seconds", "1").minus(&cost("Core-Hours", "3600"));
        prop_assert!(!lost.is_negative() && lost < Amount::from_units(3_600, 12), "{}", lost);
    }
}
