//! Exact decimals of any length: money, prices, and quantities in pricing units.
//!
//! Sums and products are exact. There is no division here, because it may not end; the one place
//! where something is rounded is [`crate::rounding`].

use std::fmt;
use std::str::FromStr;

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::BigInt;
use wharf_shared::decimal::{Decimal, InvalidDecimal};

/// An exact decimal. Equal numbers are equal, whatever zeros they were written with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(pub(crate) BigDecimal);

/// A number has more digits than cross the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{amount} has too many digits for the wire")]
pub struct TooLong {
    /// The number.
    pub amount: String,
}

impl Amount {
    /// Zero.
    pub fn zero() -> Self {
        Self(BigDecimal::from(0))
    }

    /// One.
    pub fn one() -> Self {
        Self(BigDecimal::from(1))
    }

    /// A quantity of smallest units in units that are ten to `exponent` times as great.
    pub fn from_units(quantity: u128, exponent: u32) -> Self {
        Self(BigDecimal::new(BigInt::from(quantity), i64::from(exponent)))
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        *self == Self::zero()
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        *self < Self::zero()
    }

    /// The product, exact.
    #[must_use]
    #[expect(clippy::arithmetic_side_effects, reason = "numbers of any length do not overflow")]
    pub fn times(&self, other: &Self) -> Self {
        Self(&self.0 * &other.0)
    }

    /// The sum, exact.
    #[must_use]
    #[expect(clippy::arithmetic_side_effects, reason = "numbers of any length do not overflow")]
    pub fn plus(&self, other: &Self) -> Self {
        Self(&self.0 + &other.0)
    }

    /// The difference, exact.
    #[must_use]
    #[expect(clippy::arithmetic_side_effects, reason = "numbers of any length do not overflow")]
    pub fn minus(&self, other: &Self) -> Self {
        Self(&self.0 - &other.0)
    }

    /// Digits after the point that are needed to write it.
    pub fn fraction_digits(&self) -> u64 {
        u64::try_from(self.0.normalized().fractional_digit_count()).unwrap_or(0)
    }

    /// Ten to `exponent` times as much, exact.
    #[must_use]
    pub fn scaled(&self, exponent: i64) -> Self {
        let (digits, scale) = self.0.as_bigint_and_exponent();
        Self(BigDecimal::new(digits, scale.saturating_sub(exponent)))
    }

    /// In units of which ten to `exponent` make one, if it is a whole number of at most 38 digits of them.
    pub fn to_units(&self, exponent: u32) -> Option<i128> {
        const LIMIT: u128 = 10_u128.pow(38);
        let (digits, scale) = self.0.normalized().into_bigint_and_exponent();
        let missing = i64::from(exponent).checked_sub(scale)?;
        let factor = 10_i128.checked_pow(u32::try_from(missing).ok()?);
        let digits = i128::try_from(digits).ok()?;
        let units = if digits == 0 { Some(0) } else { digits.checked_mul(factor?) };
        units.filter(|units| units.unsigned_abs() < LIMIT)
    }

    /// As it crosses the wire.
    pub fn to_decimal(&self) -> Result<Decimal, TooLong> {
        let text = self.to_string();
        text.parse().map_err(|InvalidDecimal| TooLong { amount: text })
    }
}

impl From<&Decimal> for Amount {
    fn from(decimal: &Decimal) -> Self {
        // A wire decimal is plain digits, which always parse.
        Self(BigDecimal::from_str(decimal.as_str()).unwrap_or_default())
    }
}

impl FromStr for Amount {
    type Err = InvalidDecimal;

    fn from_str(text: &str) -> Result<Self, InvalidDecimal> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let number = (plain(whole) && plain(fraction)).then(|| BigDecimal::from_str(text).ok());
        number.flatten().map(Self).ok_or(InvalidDecimal)
    }
}

impl fmt::Display for Amount {
    /// Plain digits, no exponent, no zeros that say nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.normalized().to_plain_string())
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::zero(), |sum, amount| sum.plus(&amount))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amount(text: &str) -> Amount {
        text.parse().expect(text)
    }

    #[test]
    fn prints_plain_digits_and_no_idle_zeros() {
        for (given, printed) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("100", "100"),
            ("1.50", "1.5"),
            ("0.000000000000000001", "0.000000000000000001"),
        ] {
            assert_eq!(amount(given).to_string(), printed);
        }
        assert_eq!(Amount::from_units(5, 18).to_string(), "0.000000000000000005");
        assert_eq!(Amount::from_units(1_500_000_000, 9).to_string(), "1.5");
    }

    #[test]
    fn refuses_what_is_not_plain() {
        for bad in ["", "-", "1e5", "+1", ".5", "5.", "1_000", "NaN", "--1", "0x1"] {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
    }

    #[test]
    fn keeps_more_digits_than_the_wire_and_says_so() {
        let long = Amount::from_units(u128::MAX, 18).times(&Amount::from_units(u128::MAX, 18));
        assert!(long.to_string().len() > 70);
        assert_eq!(long.to_decimal(), Err(TooLong { amount: long.to_string() }));
    }

    proptest! {
        #[test]
        fn products_distribute_over_sums(a: u128, b: u128, price: u64, scale in 0_u32..30) {
            let price = Amount::from_units(price.into(), scale);
            let [a, b] = [a, b].map(|quantity| Amount::from_units(quantity, 18));
            prop_assert_eq!(a.plus(&b).times(&price), a.times(&price).plus(&b.times(&price)));
            prop_assert_eq!(a.plus(&b).minus(&b), a);
        }

        #[test]
        fn text_is_read_back_as_the_same_number(quantity: u128, scale in 0_u32..40) {
            let number = Amount::from_units(quantity, scale);
            prop_assert_eq!(number.to_string().parse::<Amount>(), Ok(number));
        }
    }
}
