//! Exact sums and display of decimals. Money never passes through a float.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use wharf_shared::decimal::Decimal;

/// Places of a total.
pub(crate) const TOTAL_PLACES: usize = 2;
/// Places of unit prices and of costs per hour.
pub(crate) const RATE_PLACES: usize = 6;

/// An exact sum: digits, the least significant first, below which `scale` are the fraction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    negative: bool,
    digits: Vec<u8>,
    scale: usize,
}

impl Sum {
    /// The sum of all.
    pub(crate) fn of<'a>(decimals: impl IntoIterator<Item = &'a Decimal>) -> Self {
        let mut sum = Self::default();
        for decimal in decimals {
            sum.add(decimal);
        }
        sum
    }

    /// Adds one.
    pub(crate) fn add(&mut self, decimal: &Decimal) {
        let mut other = Self::read(decimal);
        self.rescale(other.scale);
        other.rescale(self.scale);
        if self.negative == other.negative && self.digits.len() >= other.digits.len() {
            // Nearly always; a list of a thousand adds up once a second.
            return self.accumulate(&other.digits);
        }
        if self.negative == other.negative {
            self.digits = added(&self.digits, &other.digits);
        } else if magnitudes(&self.digits, &other.digits).is_lt() {
            self.digits = subtracted(&other.digits, &self.digits);
            self.negative = other.negative;
        } else {
            self.digits = subtracted(&self.digits, &other.digits);
        }
    }

    fn accumulate(&mut self, digits: &[u8]) {
        let mut carry = 0;
        for (at, digit) in self.digits.iter_mut().enumerate() {
            let sum = *digit + digits.get(at).unwrap_or(&0) + carry;
            (*digit, carry) = (sum % 10, sum / 10);
        }
        if carry > 0 {
            self.digits.push(carry);
        }
    }

    /// Orders by value.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let (mut left, mut right) = (self.clone(), other.clone());
        left.rescale(right.scale);
        right.rescale(left.scale);
        match (left.is_below_zero(), right.is_below_zero()) {
            (false, false) => magnitudes(&left.digits, &right.digits),
            (true, true) => magnitudes(&right.digits, &left.digits),
            (left, right) => right.cmp(&left),
        }
    }

    fn is_zero(&self) -> bool {
        self.digits.iter().all(|digit| *digit == 0)
    }

    fn is_below_zero(&self) -> bool {
        self.negative && !self.is_zero()
    }

    fn read(decimal: &Decimal) -> Self {
        let text = decimal.as_str();
        let plain = text.strip_prefix('-').unwrap_or(text);
        let scale = plain.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let digits = plain.bytes().rev().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect();
        Self { negative: text.starts_with('-'), digits, scale }
    }

    fn rescale(&mut self, scale: usize) {
        if let Some(more) = scale.checked_sub(self.scale) {
            self.digits.splice(0..0, std::iter::repeat_n(0, more));
            self.scale = scale;
        }
    }

    /// The number divided by ten to this power, exactly.
    #[must_use]
    pub(crate) fn shifted(&self, exponent: u32) -> Self {
        let mut shifted = self.clone();
        shifted.scale += usize::try_from(exponent).unwrap_or(0);
        shifted
    }

    /// The number with so many places, rounded half away from zero, thousands grouped.
    pub(crate) fn show(&self, places: usize) -> String {
        let mut digits = self.digits.clone();
        let mut scale = self.scale;
        if scale > places {
            let cut = scale - places;
            let round_up = digits.get(cut - 1).is_some_and(|digit| *digit >= 5);
            digits.drain(..cut.min(digits.len()));
            if round_up {
                digits = added(&digits, &[1]);
            }
        } else {
            digits.splice(0..0, std::iter::repeat_n(0, places - scale));
        }
        scale = places;
        while digits.len() > scale + 1 && digits.last() == Some(&0) {
            digits.pop();
        }
        while digits.len() <= scale {
            digits.push(0);
        }
        let mut text = String::new();
        if self.negative && digits.iter().any(|digit| *digit != 0) {
            text.push('\u{2212}');
        }
        for (at, digit) in digits.iter().enumerate().rev() {
            text.push(char::from(b'0' + digit));
            if at == scale && scale > 0 {
                text.push('.');
            } else if at > scale && (at - scale).is_multiple_of(3) {
                text.push('\u{202f}');
            }
        }
        text
    }

    /// The same, but what is not zero is never shown as zero: `< 0.01`. Zero itself is `0`.
    pub(crate) fn show_apart(&self, places: usize) -> String {
        if self.is_zero() {
            return "0".to_owned();
        }
        let shown = self.show(places);
        if shown.contains(|c| matches!(c, '1'..='9')) {
            return shown;
        }
        let least = Self { negative: self.negative, digits: vec![1], scale: places }.show(places);
        format!("{}\u{202f}{least}", if self.negative { '>' } else { '<' })
    }

    /// All of its places, thousands grouped.
    pub(crate) fn exact(&self) -> String {
        self.show(self.scale)
    }
}

/// ISO 4217's code for no currency: there is no price book.
const NO_CURRENCY: &str = "XXX";
/// What is shown without a price book.
const UNPRICED: &str = "no prices";

/// A total with its currency: `12.79 EUR`.
pub(crate) fn total(sum: &Sum, currency: &str) -> String {
    if currency == NO_CURRENCY {
        return UNPRICED.to_owned();
    }
    format!("{}\u{202f}{currency}", sum.show_apart(TOTAL_PLACES))
}

/// A price, a single amount or a cost per hour: up to six places, trailing zeros cut to two.
pub(crate) fn price(sum: &Sum, currency: &str) -> String {
    if currency == NO_CURRENCY {
        return UNPRICED.to_owned();
    }
    let mut shown = sum.show_apart(RATE_PLACES);
    while shown.ends_with('0') && shown.split_once('.').is_some_and(|(_, places)| places.len() > TOTAL_PLACES)
    {
        shown.pop();
    }
    format!("{shown}\u{202f}{currency}")
}

/// An amount with every place that it has, and two at least: `4.11873 EUR`, `0.40 EUR`.
pub(crate) fn exact(amount: &Decimal, currency: &str) -> String {
    if currency == NO_CURRENCY {
        return UNPRICED.to_owned();
    }
    let sum = Sum::of([amount]);
    format!("{}\u{202f}{currency}", sum.show(sum.scale.max(TOTAL_PLACES)))
}

/// A number with every place that it has, thousands grouped.
pub(crate) fn number(number: &Decimal) -> String {
    Sum::of([number]).exact()
}

/// What an hour costs: `0.021 EUR/h`.
pub(crate) fn per_hour(sum: &Sum, currency: &str) -> String {
    let price = price(sum, currency);
    if currency == NO_CURRENCY { price } else { format!("{price}/h") }
}

/// What an hour of several costs: an estimate, each currency by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Costs(BTreeMap<String, Sum>);

impl Costs {
    /// Adds one.
    pub(crate) fn add(&mut self, currency: &str, cost: &Decimal) {
        match self.0.get_mut(currency) {
            Some(sum) => sum.add(cost),
            None => drop(self.0.insert(currency.to_owned(), Sum::of([cost]))),
        }
    }

    /// The estimate in words.
    pub(crate) fn per_hour(&self) -> String {
        let is_mixed = self.0.len() > 1;
        let priced = self.0.iter().filter(|(currency, _)| !is_mixed || *currency != NO_CURRENCY);
        let shown: Vec<_> = priced.map(|(currency, sum)| per_hour(sum, currency)).collect();
        match shown.as_slice() {
            [] => "—".to_owned(),
            [only] if only == UNPRICED || only.starts_with('<') => only.clone(),
            _ => format!("≈\u{202f}{}", shown.join(" + ")),
        }
    }
}

fn added(left: &[u8], right: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let mut sum = Vec::with_capacity(left.len().max(right.len()) + 1);
    for at in 0..left.len().max(right.len()) {
        let digit = left.get(at).unwrap_or(&0) + right.get(at).unwrap_or(&0) + carry;
        sum.push(digit % 10);
        carry = digit / 10;
    }
    if carry > 0 {
        sum.push(carry);
    }
    sum
}

/// `left - right` where `right` is not the larger one.
fn subtracted(left: &[u8], right: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    left.iter()
        .enumerate()
        .map(|(at, digit)| {
            let take = right.get(at).unwrap_or(&0) + borrow;
            borrow = u8::from(*digit < take);
            digit + 10 * borrow - take
        })
        .collect()
}

fn magnitudes(left: &[u8], right: &[u8]) -> Ordering {
    let digit = |digits: &[u8], at: usize| digits.get(at).copied().unwrap_or(0);
    (0..left.len().max(right.len()))
        .rev()
        .map(|at| digit(left, at).cmp(&digit(right, at)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(texts: &[&str]) -> Sum {
        let decimals: Vec<Decimal> = texts.iter().map(|text| text.parse().expect("a decimal")).collect();
        Sum::of(&decimals)
    }

    #[test]
    fn sums_are_exact_where_a_float_is_not() {
        let exact = |texts: &[&str]| sum(texts).exact().replace('\u{202f}', "").replace('\u{2212}', "-");
        assert_eq!(exact(&["0.1", "0.2"]), "0.3");
        assert_eq!(
            exact(&["99999999999999999999999999999999999999", "0.000000000000000001"]),
            "99999999999999999999999999999999999999.000000000000000001"
        );
        assert_eq!(exact(&["1", "-3.5", "0.25"]), "-2.25");
        assert_eq!(sum(&["-1", "1"]).show(2), "0.00");
    }

    #[test]
    fn totals_have_two_places_and_round_half_away_from_zero() {
        assert_eq!(sum(&["4.11873"]).show(2), "4.12");
        assert_eq!(sum(&["0.005"]).show(2), "0.01");
        assert_eq!(sum(&["-0.004"]).show(2), "0.00");
        assert_eq!(sum(&["1234567.899"]).show(2), "1\u{202f}234\u{202f}567.90");
        assert_eq!(sum(&["9.999"]).show(2), "10.00");
        assert_eq!(sum(&[]).show(2), "0.00");
    }

    #[test]
    fn an_amount_on_paper_has_two_places_at_least_and_loses_none() {
        let shown = |text: &str| exact(&text.parse().expect("a decimal"), "EUR");
        assert_eq!(
            [shown("0.4"), shown("0"), shown("4.11873")],
            ["0.40\u{202f}EUR", "0.00\u{202f}EUR", "4.11873\u{202f}EUR"]
        );
        assert_eq!(number(&"1234.5".parse().expect("a decimal")), "1\u{202f}234.5");
    }

    #[test]
    fn costs_of_several_currencies_are_never_added() {
        let (one, two) = ("1".parse().expect("a decimal"), "2.5".parse().expect("a decimal"));
        let all_per_hour = |all: &[(&str, &Decimal)]| {
            let mut costs = Costs::default();
            for (currency, cost) in all {
                costs.add(currency, cost);
            }
            costs.per_hour()
        };
        assert_eq!(all_per_hour(&[("EUR", &one), ("EUR", &two)]), "≈\u{202f}3.50\u{202f}EUR/h");
        assert_eq!(
            all_per_hour(&[("EUR", &one), ("USD", &two), ("XXX", &one)]),
            "≈\u{202f}1.00\u{202f}EUR/h + 2.50\u{202f}USD/h"
        );
        let tiny = "0.0000001".parse().expect("a decimal");
        assert_eq!(all_per_hour(&[("EUR", &tiny)]), "<\u{202f}0.000001\u{202f}EUR/h");
        assert_eq!(all_per_hour(&[("XXX", &one)]), "no prices");
        assert_eq!(all_per_hour(&[]), "—");
    }

    #[test]
    fn values_are_ordered_whatever_their_scale_and_sign() {
        let order = |left, right| sum(&[left]).compare(&sum(&[right]));
        assert_eq!(order("1.10", "1.1"), Ordering::Equal);
        assert_eq!(order("-2", "1"), Ordering::Less);
        assert_eq!(order("-2", "-3"), Ordering::Greater);
        assert_eq!(order("10", "9.99"), Ordering::Greater);
    }

    #[test]
    fn a_small_cost_is_not_shown_as_nothing() {
        assert_eq!(total(&sum(&["0.0004"]), "EUR"), "<\u{202f}0.01\u{202f}EUR");
        assert_eq!(total(&sum(&["0.005"]), "EUR"), "0.01\u{202f}EUR");
        assert_eq!(total(&sum(&["-0.0004"]), "EUR"), ">\u{202f}\u{2212}0.01\u{202f}EUR");
        assert_eq!(total(&sum(&["1", "-1"]), "EUR"), "0\u{202f}EUR");
        assert_eq!(price(&sum(&["0.0000004"]), "EUR"), "<\u{202f}0.000001\u{202f}EUR");
        assert_eq!(price(&sum(&["0.0"]), "EUR"), "0\u{202f}EUR");
        assert_eq!(price(&sum(&["0.021000"]), "EUR"), "0.021\u{202f}EUR");
        assert_eq!(price(&sum(&["3"]), "EUR"), "3.00\u{202f}EUR");
        assert_eq!(price(&sum(&["0"]), "XXX"), "no prices");
    }
}
