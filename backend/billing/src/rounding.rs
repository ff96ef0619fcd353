//! The only place that rounds.

use bigdecimal::num_bigint::BigInt;
use bigdecimal::{BigDecimal, RoundingMode};
use wharf_shared::billing::Rounding;

use crate::amount::Amount;
use crate::currency;

/// Digits that a live rate is shown with.
const RATE_DIGITS: u32 = 18;
/// Digits that a quantity keeps in a unit in which it does not end.
pub const QUANTITY_DIGITS: u32 = 12;

/// An amount as it can be paid: in whole smallest units of its currency.
pub fn to_payable(amount: &Amount, currency: &str, rounding: Rounding) -> Amount {
    let mode = match rounding {
        Rounding::HalfEven => RoundingMode::HalfEven,
        Rounding::HalfUp => RoundingMode::HalfUp,
    };
    Amount::from_big(amount.to_big().with_scale_round(i64::from(currency::digits(currency)), mode))
}

/// What of an amount that is not negative can be paid in whole smallest units of its currency.
pub(crate) fn to_payable_down(amount: &Amount, currency: &str) -> Amount {
    let digits = i64::from(currency::digits(currency));
    Amount::from_big(amount.to_big().with_scale_round(digits, RoundingMode::Down))
}

/// A number that is not negative, cut after so many digits. For showing only.
pub(crate) fn cut(number: &Amount, digits: i64) -> Amount {
    Amount::from_big(number.to_big().with_scale_round(digits, RoundingMode::Down))
}

/// `number / divisor`, cut after [`QUANTITY_DIGITS`]; both are positive, or the number is zero.
pub(crate) fn quotient(number: &Amount, divisor: &Amount) -> Amount {
    if divisor.is_zero() {
        return Amount::zero();
    }
    if let Some(short) = number.short_quotient(divisor, QUANTITY_DIGITS) {
        return short;
    }
    long_quotient(number, divisor)
}

#[expect(
    clippy::arithmetic_side_effects,
    reason = "the divisor is not zero, and numbers of any length do not overflow"
)]
fn long_quotient(number: &Amount, divisor: &Amount) -> Amount {
    let (above, above_digits) = number.to_big().into_bigint_and_scale();
    let (below, below_digits) = divisor.to_big().into_bigint_and_scale();
    let shift = i64::from(QUANTITY_DIGITS) + below_digits - above_digits;
    let power = |digits: i64| BigInt::from(10).pow(u32::try_from(digits).unwrap_or(0));
    let cut = if shift >= 0 { above * power(shift) / below } else { above / (below * power(-shift)) };
    Amount::from_big(BigDecimal::new(cut, i64::from(QUANTITY_DIGITS)))
}

/// What `amount` in `duration_ns` makes in an hour; `None` without a duration. For showing only.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "the divisor is not zero, and numbers of any length do not overflow"
)]
pub fn per_hour(amount: &Amount, duration_ns: u64) -> Option<Amount> {
    const HOUR_NS: u64 = 3_600_000_000_000;
    (duration_ns > 0).then(|| {
        let rate = amount.to_big() * BigDecimal::from(HOUR_NS) / BigDecimal::from(duration_ns);
        Amount::from_big(rate.with_scale_round(i64::from(RATE_DIGITS), RoundingMode::HalfEven))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quotient_that_is_short_is_that_of_numbers_of_any_length(
            number: u128, divisor in 1..u128::MAX, few: bool, of_number in 0_u32..31, of_divisor in 0_u32..31,
        ) {
            let divisor = if few { divisor % 3_865_470_566_401 + 1 } else { divisor };
            let (number, divisor) =
                (Amount::from_units(number >> 3, of_number), Amount::from_units(divisor, of_divisor));
            prop_assert_eq!(quotient(&number, &divisor), long_quotient(&number, &divisor));
        }
    }

    fn amount(text: &str) -> Amount {
        text.parse().expect("an amount")
    }

    #[test]
    fn a_half_goes_where_the_book_says_at_the_currencys_smallest_unit() {
        for (given, currency, even, up) in [
            ("0.005", "EUR", "0", "0.01"),
            ("0.015", "EUR", "0.02", "0.02"),
            ("0.0150000000000000000000000001", "EUR", "0.02", "0.02"),
            ("0.02499999999999999999999999999999999999", "EUR", "0.02", "0.02"),
            ("-0.005", "EUR", "0", "-0.01"),
            ("2.5", "JPY", "2", "3"),
            ("3.5", "JPY", "4", "4"),
            ("1.0005", "KWD", "1", "1.001"),
        ] {
            let rounded = |rounding| to_payable(&amount(given), currency, rounding).to_string();
            assert_eq!(
                (rounded(Rounding::HalfEven).as_str(), rounded(Rounding::HalfUp).as_str()),
                (even, up)
            );
        }
    }

    #[test]
    fn a_quotient_is_cut_after_twelve_digits_and_never_too_great() {
        for (number, divisor, cut) in [
            ("275.123456", "3600", "0.076423182222"),
            ("0.000000000000001", "3", "0"),
            ("100", "0.5", "200"),
            ("1", "0.000000000003", "333333333333.333333333333"),
            ("0", "7", "0"),
        ] {
            assert_eq!(quotient(&amount(number), &amount(divisor)).to_string(), cut, "{number} / {divisor}");
        }
    }

    #[test]
    fn a_rate_is_that_of_a_whole_hour() {
        let amount = "0.000001".parse::<Amount>().expect("an amount");
        let second = 1_000_000_000;
        assert_eq!(per_hour(&amount, second).map(|rate| rate.to_string()).as_deref(), Some("0.0036"));
        assert_eq!(
            per_hour(&amount, 7 * second).map(|rate| rate.to_string()).as_deref(),
            Some("0.000514285714285714")
        );
        assert_eq!(per_hour(&amount, 0), None);
    }
}
