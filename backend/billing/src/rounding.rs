//! The only place that rounds: half to even.

use bigdecimal::{BigDecimal, RoundingMode};

use crate::amount::Amount;

/// Digits that a live rate is shown with.
const RATE_DIGITS: u32 = 18;

/// ISO 4217 currencies whose smallest unit is not a hundredth, and how many digits it has.
const OTHER_EXPONENTS: [(&str, u32); 24] = [
    ("BHD", 3),
    ("BIF", 0),
    ("CLF", 4),
    ("CLP", 0),
    ("DJF", 0),
    ("GNF", 0),
    ("IQD", 3),
    ("ISK", 0),
    ("JOD", 3),
    ("JPY", 0),
    ("KMF", 0),
    ("KRW", 0),
    ("KWD", 3),
    ("LYD", 3),
    ("OMR", 3),
    ("PYG", 0),
    ("RWF", 0),
    ("TND", 3),
    ("UGX", 0),
    ("UYW", 4),
    ("VND", 0),
    ("VUV", 0),
    ("XAF", 0),
    ("XOF", 0),
];

/// Digits after the point of the currency's smallest unit.
pub fn currency_digits(currency: &str) -> u32 {
    OTHER_EXPONENTS.iter().find(|(code, _)| *code == currency).map_or(2, |(_, digits)| *digits)
}

/// An amount as it can be paid.
pub fn to_payable(amount: &Amount, currency: &str) -> Amount {
    round(&amount.0, currency_digits(currency))
}

/// What `amount` in `duration_ns` makes in an hour; `None` without a duration. For showing only.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "the divisor is not zero, and numbers of any length do not overflow"
)]
pub fn per_hour(amount: &Amount, duration_ns: u64) -> Option<Amount> {
    const HOUR_NS: u64 = 3_600_000_000_000;
    (duration_ns > 0)
        .then(|| round(&(&amount.0 * BigDecimal::from(HOUR_NS) / BigDecimal::from(duration_ns)), RATE_DIGITS))
}

fn round(number: &BigDecimal, digits: u32) -> Amount {
    Amount(number.with_scale_round(i64::from(digits), RoundingMode::HalfEven))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_to_even_at_the_currencys_smallest_unit() {
        for (given, currency, rounded) in [
            ("0.005", "EUR", "0"),
            ("0.015", "EUR", "0.02"),
            ("0.0150000000000000000000000001", "EUR", "0.02"),
            ("0.02499999999999999999999999999999999999", "EUR", "0.02"),
            ("-0.015", "EUR", "-0.02"),
            ("2.5", "JPY", "2"),
            ("3.5", "JPY", "4"),
            ("1.0005", "KWD", "1"),
        ] {
            let amount = given.parse::<Amount>().expect("an amount");
            assert_eq!(to_payable(&amount, currency).to_string(), rounded, "{given} {currency}");
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
