//! Usage × the price in force = amount, exact and explained.
//!
//! An amount is `quantity / 10^n × price`: both factors end, so the product does, and nothing is
//! rounded. Amounts are per container and hour; whatever a tenant used outside its containers is a row
//! of its own that is charged only if the price book says so.

use std::collections::BTreeMap;

use wharf_shared::id::{PriceBookId, TenantId};
use wharf_shared::usage::{Meter, UsageHour, UsageRow};

use crate::amount::{Amount, TooLong};
use crate::price::{PriceBook, PriceBooks};
use crate::{rounding, window};

/// A row of usage with what it costs and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RatedRow {
    /// What was used.
    pub usage: UsageHour,
    /// The quantity in the unit that is priced.
    pub pricing_quantity: Amount,
    /// Price of that unit.
    pub unit_price: Amount,
    /// Their product.
    pub amount: Amount,
    /// ISO 4217 code.
    pub currency: String,
    /// The version of the price book, if one was in force.
    pub price_book: Option<PriceBookId>,
}

impl RatedRow {
    /// As it is sent.
    pub fn to_wire(&self) -> Result<UsageRow, TooLong> {
        let usage = &self.usage;
        Ok(UsageRow {
            tenant: usage.tenant.clone(),
            tenant_name: usage.tenant_name.clone(),
            container: usage.container.clone(),
            container_name: usage.container_name.clone(),
            hour: usage.hour,
            meter: usage.meter,
            quantity: Amount::from_units(usage.quantity, 0).to_decimal()?,
            unit: usage.meter.unit().to_owned(),
            quality: usage.quality,
            amount: self.amount.to_decimal()?,
            currency: self.currency.clone(),
        })
    }
}

/// Rates one row. A row of the tenant's whole cgroup must have gone through [`window::attribute`].
pub fn rate(books: &PriceBooks, usage: UsageHour) -> RatedRow {
    let book = books.at(usage.hour);
    let charged = |book: &&PriceBook| usage.container.is_some() || book.price_unattributed;
    let unit_price = book.filter(charged).map_or_else(Amount::zero, |book| book.price(usage.meter));
    let pricing_quantity = pricing_quantity(usage.meter, usage.quantity);
    RatedRow {
        amount: pricing_quantity.times(&unit_price),
        pricing_quantity,
        unit_price,
        currency: books.currency().to_owned(),
        price_book: book.map(|book| book.id.clone()),
        usage,
    }
}

/// Rates all rows of one tenant's hour, as they are kept: what no container explains becomes its row.
pub fn rate_hour(books: &PriceBooks, rows: Vec<UsageHour>) -> Vec<RatedRow> {
    window::attribute(rows).into_iter().map(|row| rate(books, row)).collect()
}

/// A meter's quantity in the unit that is priced.
pub fn pricing_quantity(meter: Meter, quantity: u128) -> Amount {
    Amount::from_units(quantity, meter.pricing_unit_exponent())
}

/// What was counted in some time, such as since the reading before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// What.
    pub meter: Meter,
    /// How much.
    pub quantity: u128,
    /// In how long.
    pub duration_ns: u64,
}

/// What these flows cost in an hour if they go on like this, rounded for showing.
pub fn rate_per_hour(book: &PriceBook, flows: &[Flow]) -> Amount {
    let cost = |flow: &Flow| {
        let amount = pricing_quantity(flow.meter, flow.quantity).times(&book.price(flow.meter));
        rounding::per_hour(&amount, flow.duration_ns)
    };
    flows.iter().filter_map(cost).sum()
}

/// What a tenant owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// Sum of the amounts, exact.
    pub amount: Amount,
    /// ISO 4217 code.
    pub currency: String,
    /// Rows that were added.
    pub rows: u64,
}

/// Sums per tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals(pub BTreeMap<TenantId, Total>);

impl Totals {
    /// Adds a row.
    pub fn add(&mut self, row: &RatedRow) {
        let total = self.0.entry(row.usage.tenant.clone()).or_insert_with(|| Total {
            amount: Amount::zero(),
            currency: row.currency.clone(),
            rows: 0,
        });
        total.amount = total.amount.plus(&row.amount);
        total.rows = total.rows.saturating_add(1);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use wharf_shared::billing::{PriceBookSpec, PriceBookView, PriceSpec};
    use wharf_shared::time::{HOUR_US, Timestamp};
    use wharf_shared::usage::Quality;

    use super::*;

    pub(crate) fn books(prices: &[(Meter, &str)], price_unattributed: bool) -> PriceBooks {
        let prices = prices
            .iter()
            .map(|(meter, price)| PriceSpec { meter: *meter, unit_price: price.parse().expect("a decimal") });
        let view = PriceBookView {
            id: "prb_00000000-0000-7000-8000-000000000001".parse().expect("an id"),
            book: PriceBookSpec {
                currency: "EUR".to_owned(),
                effective_from: Timestamp(0),
                prices: prices.collect(),
                price_unattributed,
            },
            created_at: Timestamp(0),
        };
        PriceBooks::new(&[view]).expect("well-formed")
    }

    pub(crate) fn usage(container: Option<u32>, meter: Meter, quantity: u128) -> UsageHour {
        UsageHour {
            hour: Timestamp(500_000 * HOUR_US),
            tenant: "tnt_00000000-0000-7000-8000-000000000001".parse().expect("an id"),
            container: container.map(|number| format!("{number:064x}").parse().expect("an id")),
            meter,
            tenant_name: "blue".to_owned(),
            container_name: container.map(|number| format!("web-{number}")).unwrap_or_default(),
            labels: BTreeMap::new(),
            quantity,
            quality: Quality::Measured,
        }
    }

    #[test]
    fn amounts_are_those_of_the_worked_example() {
        let books = books(
            &[
                (Meter::CpuUsed, "0.0000105"),
                (Meter::CpuReserved, "0.0000105"),
                (Meter::MemoryReserved, "0.0000011"),
                (Meter::NetworkInternetOut, "0.08"),
            ],
            false,
        );
        for (meter, quantity, amount) in [
            (Meter::CpuReserved, 45_000_000_000_000, "0.0004725"),
            (Meter::CpuUsed, 230_123_456_000, "0.002416296288"),
            (Meter::MemoryReserved, 24_159_191_040_000_000_000, "0.000026575110144"),
            (Meter::MemoryReserved, 116_836_532_224_000_000_000, "0.0001285201854464"),
            (Meter::NetworkInternetOut, 610_612_736, "0.04884901888"),
            (Meter::NetworkInternetIn, u128::MAX, "0"),
        ] {
            let rated = rate(&books, usage(Some(1), meter, quantity));
            assert_eq!(rated.amount.to_string(), amount, "{meter:?}");
        }
    }

    #[test]
    fn before_any_price_book_everything_is_free() {
        let rated = rate(&PriceBooks::default(), usage(Some(1), Meter::CpuUsed, 5));
        assert!(rated.amount.is_zero() && rated.price_book.is_none());
        assert_eq!(rated.to_wire().expect("short").quantity.as_str(), "5");
    }

    #[test]
    fn use_outside_containers_is_charged_only_if_the_book_says_so() {
        let rows =
            vec![usage(None, Meter::CpuUsed, 10_000_000_000), usage(Some(1), Meter::CpuUsed, 4_000_000_000)];
        for (charged, amounts) in [(false, ["4", "0"]), (true, ["4", "6"])] {
            let rated = rate_hour(&books(&[(Meter::CpuUsed, "1")], charged), rows.clone());
            assert_eq!(rated.iter().map(|row| row.amount.to_string()).collect::<Vec<_>>(), amounts);
            assert_eq!(rated.last().map(|row| row.usage.quantity), Some(6_000_000_000));
        }
    }

    #[test]
    fn the_live_rate_sums_what_each_flow_costs_in_an_hour() {
        let books = books(&[(Meter::CpuUsed, "0.01"), (Meter::MemoryReserved, "0.001")], false);
        let book = books.at(Timestamp(0)).expect("in force");
        let flows = [
            Flow { meter: Meter::CpuUsed, quantity: 500_000_000, duration_ns: 1_000_000_000 },
            Flow {
                meter: Meter::MemoryReserved,
                quantity: 2_000_000_000 * 10_000_000_000,
                duration_ns: 10_000_000_000,
            },
            Flow { meter: Meter::CpuUsed, quantity: 5, duration_ns: 0 },
        ];
        assert_eq!(rate_per_hour(book, &flows).to_string(), "25.2");
    }

    proptest! {
        #[test]
        fn the_parts_cost_what_the_whole_costs(parts in proptest::collection::vec(0_u128..1 << 100, 1..20), price in 0_u64..1_000_000_000_000_000_000) {
            let books = books(&[(Meter::MemoryUsed, &format!("0.{price:018}"))], false);
            let whole = rate(&books, usage(Some(1), Meter::MemoryUsed, parts.iter().sum()));
            let sum: Amount = parts.iter().map(|part| rate(&books, usage(Some(1), Meter::MemoryUsed, *part)).amount).sum();
            prop_assert_eq!(&sum, &whole.amount);
            let mut totals = Totals::default();
            for part in parts.iter().rev() {
                totals.add(&rate(&books, usage(Some(1), Meter::MemoryUsed, *part)));
            }
            let total = totals.0.values().next().expect("one tenant");
            prop_assert_eq!((&total.amount, total.rows), (&sum, parts.len() as u64));
        }
    }
}
