//! Exact decimals of any length: money, prices, and quantities in pricing units.
//!
//! Sums and products are exact. There is no division here, because it may not end; the one place
//! where something is rounded is [`crate::rounding`].

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::BigInt;
use wharf_shared::decimal::{Decimal, InvalidDecimal};

/// An exact decimal. Equal numbers are equal, whatever zeros they were written with.
#[derive(Debug, Clone)]
pub struct Amount(Number);

/// The same number may stand in either way: both are exact, and what does not fit into the short one goes on
/// in the long one.
#[derive(Debug, Clone)]
enum Number {
    /// `digits` / 10^`scale`. Nearly every number is one, and a month has millions of them.
    Short { digits: i128, scale: u32 },
    /// Any other.
    Long(Box<BigDecimal>),
}

/// A number has more digits than cross the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{amount} has too many digits for the wire")]
pub struct TooLong {
    /// The number.
    pub amount: String,
}

/// Ten to `exponent`, if it is short.
const fn power(exponent: u32) -> Option<i128> {
    10_i128.checked_pow(exponent)
}

impl Amount {
    /// Zero.
    pub const fn zero() -> Self {
        Self::short(0, 0)
    }

    /// One.
    pub const fn one() -> Self {
        Self::short(1, 0)
    }

    const fn short(digits: i128, scale: u32) -> Self {
        Self(Number::Short { digits, scale })
    }

    fn long(big: BigDecimal) -> Self {
        Self(Number::Long(Box::new(big)))
    }

    /// A quantity of smallest units in units that are ten to `exponent` times as great.
    pub fn from_units(quantity: u128, exponent: u32) -> Self {
        i128::try_from(quantity).map_or_else(
            |_| Self::long(BigDecimal::new(BigInt::from(quantity), i64::from(exponent))),
            |digits| Self::short(digits, exponent),
        )
    }

    /// From a number of any length.
    pub(crate) fn from_big(big: BigDecimal) -> Self {
        let (digits, scale) = big.as_bigint_and_scale();
        match (i128::try_from(digits.as_ref()), u32::try_from(scale)) {
            (Ok(digits), Ok(scale)) => Self::short(digits, scale),
            _ => Self::long(big),
        }
    }

    /// As a number of any length.
    pub(crate) fn to_big(&self) -> BigDecimal {
        match &self.0 {
            Number::Short { digits, scale } => BigDecimal::new(BigInt::from(*digits), i64::from(*scale)),
            Number::Long(big) => big.as_ref().clone(),
        }
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        match &self.0 {
            Number::Short { digits, .. } => *digits == 0,
            Number::Long(big) => **big == BigDecimal::default(),
        }
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        match &self.0 {
            Number::Short { digits, .. } => *digits < 0,
            Number::Long(big) => **big < BigDecimal::default(),
        }
    }

    /// Digits of both and their common scale, if all are short.
    fn aligned(&self, other: &Self) -> Option<(i128, i128, u32)> {
        let (Number::Short { digits: a, scale: of_a }, Number::Short { digits: b, scale: of_b }) =
            (&self.0, &other.0)
        else {
            return None;
        };
        match of_a.cmp(of_b) {
            Ordering::Equal => Some((*a, *b, *of_a)),
            Ordering::Less => Some((a.checked_mul(power(of_b.checked_sub(*of_a)?)?)?, *b, *of_b)),
            Ordering::Greater => Some((*a, b.checked_mul(power(of_a.checked_sub(*of_b)?)?)?, *of_a)),
        }
    }

    /// The product, exact.
    #[must_use]
    #[expect(clippy::arithmetic_side_effects, reason = "numbers of any length do not overflow")]
    pub fn times(&self, other: &Self) -> Self {
        if let (Number::Short { digits: a, scale: of_a }, Number::Short { digits: b, scale: of_b }) =
            (&self.0, &other.0)
            && let (Some(digits), Some(scale)) = (a.checked_mul(*b), of_a.checked_add(*of_b))
        {
            return Self::short(digits, scale);
        }
        Self::from_big(self.to_big() * other.to_big())
    }

    /// The sum, exact.
    #[must_use]
    #[expect(clippy::arithmetic_side_effects, reason = "numbers of any length do not overflow")]
    pub fn plus(&self, other: &Self) -> Self {
        let short = self.aligned(other).and_then(|(a, b, scale)| Some(Self::short(a.checked_add(b)?, scale)));
        short.unwrap_or_else(|| Self::from_big(self.to_big() + other.to_big()))
    }

    /// The difference, exact.
    #[must_use]
    #[expect(clippy::arithmetic_side_effects, reason = "numbers of any length do not overflow")]
    pub fn minus(&self, other: &Self) -> Self {
        let short = self.aligned(other).and_then(|(a, b, scale)| Some(Self::short(a.checked_sub(b)?, scale)));
        short.unwrap_or_else(|| Self::from_big(self.to_big() - other.to_big()))
    }

    /// `self / divisor`, cut after so many digits, if all of it is short; the divisor is not zero.
    pub(crate) fn short_quotient(&self, divisor: &Self, digits: u32) -> Option<Self> {
        let (
            Number::Short { digits: above, scale: of_above },
            Number::Short { digits: below, scale: of_below },
        ) = (&self.0, &divisor.0)
        else {
            return None;
        };
        let wanted = digits.checked_add(*of_below)?;
        let cut = match wanted.checked_sub(*of_above) {
            Some(missing) => above.checked_mul(power(missing)?)?.checked_div(*below)?,
            None => above.checked_div(below.checked_mul(power(of_above.checked_sub(wanted)?)?)?)?,
        };
        Some(Self::short(cut, digits))
    }

    /// Digits after the point that are needed to write it.
    pub fn fraction_digits(&self) -> u64 {
        u64::try_from(self.to_big().normalized().fractional_digit_count()).unwrap_or(0)
    }

    /// Ten to `exponent` times as much, exact.
    #[must_use]
    pub fn scaled(&self, exponent: i64) -> Self {
        let (digits, scale) = self.to_big().into_bigint_and_scale();
        Self::from_big(BigDecimal::new(digits, scale.saturating_sub(exponent)))
    }

    /// In units of which ten to `exponent` make one, if it is a whole number of at most 38 digits of them.
    pub fn to_units(&self, exponent: u32) -> Option<i128> {
        const LIMIT: u128 = 10_u128.pow(38);
        let units = match &self.0 {
            Number::Short { digits: 0, .. } => Some(0),
            Number::Short { digits, scale } if *scale <= exponent => {
                digits.checked_mul(power(exponent.checked_sub(*scale)?)?)
            }
            Number::Short { digits, scale } => {
                let idle = power(scale.checked_sub(exponent)?)?;
                (digits.checked_rem(idle)? == 0).then(|| digits.checked_div(idle)).flatten()
            }
            Number::Long(big) => {
                let (digits, scale) = big.normalized().into_bigint_and_scale();
                let missing = i64::from(exponent).checked_sub(scale)?;
                let factor = power(u32::try_from(missing).ok()?);
                let digits = i128::try_from(digits).ok()?;
                if digits == 0 { Some(0) } else { digits.checked_mul(factor?) }
            }
        };
        units.filter(|units| units.unsigned_abs() < LIMIT)
    }

    /// As it crosses the wire.
    pub fn to_decimal(&self) -> Result<Decimal, TooLong> {
        let text = self.to_string();
        text.parse().map_err(|InvalidDecimal| TooLong { amount: text })
    }
}

impl PartialEq for Amount {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Amount {}

impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Amount {
    fn cmp(&self, other: &Self) -> Ordering {
        match self.aligned(other) {
            Some((a, b, _)) => a.cmp(&b),
            None => self.to_big().cmp(&other.to_big()),
        }
    }
}

impl From<&Decimal> for Amount {
    fn from(decimal: &Decimal) -> Self {
        // A wire decimal is plain digits, which always parse.
        decimal.as_str().parse().unwrap_or_else(|InvalidDecimal| Self::zero())
    }
}

impl FromStr for Amount {
    type Err = InvalidDecimal;

    fn from_str(text: &str) -> Result<Self, InvalidDecimal> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let number = (plain(whole) && plain(fraction)).then(|| BigDecimal::from_str(text).ok());
        number.flatten().map(Self::from_big).ok_or(InvalidDecimal)
    }
}

impl fmt::Display for Amount {
    /// Plain digits, no exponent, no zeros that say nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Number::Short { digits, scale } => write_short(f, *digits, *scale),
            Number::Long(big) => f.write_str(&big.normalized().to_plain_string()),
        }
    }
}

fn write_short(f: &mut fmt::Formatter<'_>, digits: i128, scale: u32) -> fmt::Result {
    const ZEROS: &str = "0000000000000000000000000000000000000000";
    if digits < 0 {
        f.write_str("-")?;
    }
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(digits.unsigned_abs());
    let scale = usize::try_from(scale).unwrap_or(usize::MAX);
    let (whole, fraction) = text.split_at(text.len().saturating_sub(scale));
    f.write_str(if whole.is_empty() { "0" } else { whole })?;
    let mut missing = scale.saturating_sub(text.len());
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        return Ok(());
    }
    f.write_str(".")?;
    while missing > 0 {
        let zeros = ZEROS.get(..missing).unwrap_or(ZEROS);
        f.write_str(zeros)?;
        missing = missing.saturating_sub(zeros.len());
    }
    f.write_str(fraction)
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
        fn what_is_short_and_what_is_long_come_to_the_same(
            a: i128, b: i128, few: (i32, i64), of_a in 0_u32..45, of_b in 0_u32..45, kind in 0..4,
        ) {
            // Long ones that overflow in every operation, short ones that do not, and both together.
            let (a, b) = match kind {
                0 => (a, b),
                1 => (few.0.into(), few.1.into()),
                2 => (a, few.1.into()),
                _ => (few.0.into(), b),
            };
            let big = |digits: i128, scale: u32| BigDecimal::new(BigInt::from(digits), i64::from(scale));
            let [short, other] = [Amount::short(a, of_a), Amount::short(b, of_b)];
            let [long, long_other] = [Amount::long(big(a, of_a)), Amount::long(big(b, of_b))];
            for (x, y) in [(&short, &other), (&short, &long_other), (&long, &other), (&long, &long_other)] {
                prop_assert_eq!(x.plus(y).to_big(), big(a, of_a) + big(b, of_b));
                prop_assert_eq!(x.minus(y).to_big(), big(a, of_a) - big(b, of_b));
                prop_assert_eq!(x.times(y).to_big(), big(a, of_a) * big(b, of_b));
                prop_assert_eq!(x.cmp(y), big(a, of_a).cmp(&big(b, of_b)));
                prop_assert_eq!(x == y, big(a, of_a) == big(b, of_b));
            }
            let plain = |amount: &Amount| amount.to_big().normalized().to_plain_string();
            for (x, y) in [(&short, &long), (&other, &long_other)] {
                prop_assert_eq!(x.to_string(), y.to_string());
                prop_assert_eq!(x.to_string(), plain(x));
                prop_assert_eq!((x.is_zero(), x.is_negative()), (y.is_zero(), y.is_negative()));
                prop_assert_eq!(x.fraction_digits(), y.fraction_digits());
                for exponent in [0, 12, 18, 30, 45] {
                    prop_assert_eq!(x.to_units(exponent), y.to_units(exponent), "{} {}", x, exponent);
                }
            }
        }

        #[test]
        fn text_is_read_back_as_the_same_number(quantity: u128, scale in 0_u32..40) {
            let number = Amount::from_units(quantity, scale);
            prop_assert_eq!(number.to_string().parse::<Amount>(), Ok(number));
        }
    }
}
