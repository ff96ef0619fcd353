//! Price books: which price is in force in an hour.

use std::collections::BTreeMap;

use wharf_shared::billing::{PriceBookSpec, PriceBookView};
use wharf_shared::id::PriceBookId;
use wharf_shared::problem::FieldProblem;
use wharf_shared::time::Timestamp;
use wharf_shared::usage::Meter;

use crate::amount::Amount;

/// Digits of a price after the point.
pub const PRICE_FRACTION_DIGITS: u64 = 18;
/// Digits of a price before the point.
pub const PRICE_WHOLE_DIGITS: usize = 12;
/// ISO 4217's code where no currency is meant: that of amounts before any price book exists.
pub const NO_CURRENCY: &str = "XXX";

/// A version of the price book, ready for rating.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceBook {
    /// Id.
    pub id: PriceBookId,
    /// First hour for which it holds.
    pub effective_from: Timestamp,
    /// ISO 4217 code.
    pub currency: String,
    /// Whether a tenant's use outside its containers is charged.
    pub price_unattributed: bool,
    prices: BTreeMap<Meter, Amount>,
}

impl PriceBook {
    /// Price of one pricing unit; nothing is charged for a meter without one.
    pub fn price(&self, meter: Meter) -> Amount {
        self.prices.get(&meter).cloned().unwrap_or_else(Amount::zero)
    }
}

/// All versions. Each holds from its hour until the next one's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriceBooks(BTreeMap<Timestamp, PriceBook>);

/// A price book cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("price book {id}, {}: {}", problem.field, problem.detail)]
pub struct PriceBookError {
    /// Which.
    pub id: PriceBookId,
    /// What is wrong with it.
    pub problem: FieldProblem,
}

impl PriceBooks {
    /// Takes all versions, in any order.
    pub fn new(views: &[PriceBookView]) -> Result<Self, PriceBookError> {
        let mut books: BTreeMap<Timestamp, PriceBook> = BTreeMap::new();
        for PriceBookView { id, book: spec, .. } in views {
            let other = books.values().next().map(|other| other.currency.as_str());
            let mut found = problems(spec, other);
            if books.contains_key(&spec.effective_from) {
                found.push(problem("effective_from", "another version begins at this hour".to_owned()));
            }
            if let Some(problem) = found.into_iter().next() {
                return Err(PriceBookError { id: id.clone(), problem });
            }
            let prices = spec.prices.iter().map(|price| (price.meter, Amount::from(&price.unit_price)));
            let book = PriceBook {
                id: id.clone(),
                effective_from: spec.effective_from,
                currency: spec.currency.clone(),
                price_unattributed: spec.price_unattributed,
                prices: prices.collect(),
            };
            books.insert(spec.effective_from, book);
        }
        Ok(Self(books))
    }

    /// The version in force at this hour, if there was one yet.
    pub fn at(&self, hour: Timestamp) -> Option<&PriceBook> {
        self.0.range(..=hour).next_back().map(|(_, book)| book)
    }

    /// The currency of every version.
    pub fn currency(&self) -> &str {
        self.0.values().next().map_or(NO_CURRENCY, |book| &book.currency)
    }
}

/// Checks what can be checked without the other versions but their currency, and says all that is
/// wrong. Whoever accepts a new version also refuses one that begins before the present hour.
pub fn problems(spec: &PriceBookSpec, currency: Option<&str>) -> Vec<FieldProblem> {
    let mut found = Vec::new();
    if !is_currency(&spec.currency) {
        let detail = format!("{:?} is no ISO 4217 code of three capital letters, such as EUR", spec.currency);
        found.push(problem("currency", detail));
    } else if currency.is_some_and(|other| other != spec.currency) {
        found.push(problem("currency", "every version of the price book has the same currency".to_owned()));
    }
    if spec.effective_from != spec.effective_from.hour_start() {
        found.push(problem("effective_from", "a full hour of UTC is needed".to_owned()));
    }
    for (at, price) in spec.prices.iter().enumerate() {
        let unit_price = Amount::from(&price.unit_price);
        let field = format!("prices[{at}].unit_price");
        if unit_price.is_negative() {
            found.push(problem(&field, "a price is not negative".to_owned()));
        }
        let text = unit_price.to_string();
        let whole = text.split('.').next().unwrap_or_default().trim_start_matches('-');
        if unit_price.fraction_digits() > PRICE_FRACTION_DIGITS || whole.len() > PRICE_WHOLE_DIGITS {
            let detail = format!(
                "at most {PRICE_WHOLE_DIGITS} digits before and {PRICE_FRACTION_DIGITS} after the point"
            );
            found.push(problem(&field, detail));
        }
        if spec.prices.iter().take(at).any(|other| other.meter == price.meter) {
            found.push(problem(&format!("prices[{at}].meter"), "the meter has two prices".to_owned()));
        }
    }
    found
}

/// Whether a text has the form of an ISO 4217 code.
pub(crate) fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn problem(field: &str, detail: String) -> FieldProblem {
    FieldProblem { field: field.to_owned(), detail }
}

#[cfg(test)]
mod tests {
    use wharf_shared::billing::PriceSpec;
    use wharf_shared::time::HOUR_US;

    use super::*;

    fn book(number: u32, hour: i64, currency: &str, prices: &[(Meter, &str)]) -> PriceBookView {
        let prices = prices
            .iter()
            .map(|(meter, price)| PriceSpec { meter: *meter, unit_price: price.parse().expect("a decimal") });
        PriceBookView {
            id: format!("prb_00000000-0000-7000-8000-{number:012}").parse().expect("an id"),
            book: PriceBookSpec {
                currency: currency.to_owned(),
                effective_from: Timestamp(hour * HOUR_US),
                prices: prices.collect(),
                price_unattributed: false,
            },
            created_at: Timestamp(0),
        }
    }

    #[test]
    fn a_version_holds_from_its_hour_until_the_next_ones() {
        let books =
            [book(2, 20, "EUR", &[(Meter::CpuUsed, "2")]), book(1, 10, "EUR", &[(Meter::CpuUsed, "1")])];
        let books = PriceBooks::new(&books).expect("well-formed");
        let price = |hour: i64| {
            books.at(Timestamp(hour * HOUR_US)).map(|book| book.price(Meter::CpuUsed).to_string())
        };
        assert_eq!(price(9), None);
        assert_eq!(price(10).as_deref(), Some("1"));
        assert_eq!(price(19).as_deref(), Some("1"));
        assert_eq!(price(20).as_deref(), Some("2"));
        assert!(
            books
                .at(Timestamp(10 * HOUR_US))
                .is_some_and(|book| book.price(Meter::NetworkInternetIn).is_zero())
        );
        assert_eq!((books.currency(), PriceBooks::default().currency()), ("EUR", NO_CURRENCY));
    }

    #[test]
    fn says_what_is_wrong_with_a_price_book() {
        let good = book(1, 1, "EUR", &[(Meter::CpuUsed, "0.000000000000000001")]);
        for (bad, field) in [
            (book(2, 2, "eur", &[]), "currency"),
            (book(2, 2, "USD", &[]), "currency"),
            (book(2, 1, "EUR", &[]), "effective_from"),
            (book(2, 2, "EUR", &[(Meter::CpuUsed, "-1")]), "prices[0].unit_price"),
            (book(2, 2, "EUR", &[(Meter::CpuUsed, "0.0000000000000000001")]), "prices[0].unit_price"),
            (book(2, 2, "EUR", &[(Meter::CpuUsed, "1000000000000")]), "prices[0].unit_price"),
            (book(2, 2, "EUR", &[(Meter::CpuUsed, "1"), (Meter::CpuUsed, "1")]), "prices[1].meter"),
        ] {
            let error = PriceBooks::new(&[good.clone(), bad]).expect_err(field);
            assert_eq!(error.problem.field, field);
        }
        let mut half_past = good;
        half_past.book.effective_from = Timestamp(HOUR_US / 2);
        assert_eq!(problems(&half_past.book, None).len(), 1);
    }
}
