//! A decimal number as it crosses the wire: a string, so that no reader rounds it through a float.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An exact decimal such as `"0.000012"`; plain digits, no exponent, at most 60 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Decimal(String);

/// A text is not a plain decimal number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidDecimal;

impl fmt::Display for InvalidDecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a decimal number like 12 or -0.000345 (no exponent, at most 60 characters)")
    }
}

impl std::error::Error for InvalidDecimal {}

impl Decimal {
    /// The number as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Zero.
    pub fn zero() -> Self {
        Self("0".to_owned())
    }

    /// Whether the number is below zero.
    pub fn is_negative(&self) -> bool {
        self.0.starts_with('-')
    }
}

impl FromStr for Decimal {
    type Err = InvalidDecimal;

    fn from_str(text: &str) -> Result<Self, InvalidDecimal> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() <= 60 && plain(whole) && plain(fraction) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidDecimal)
        }
    }
}

impl TryFrom<String> for Decimal {
    type Error = InvalidDecimal;
    fn try_from(text: String) -> Result<Self, InvalidDecimal> {
        text.parse()
    }
}

impl From<Decimal> for String {
    fn from(decimal: Decimal) -> Self {
        decimal.0
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_plain_decimals_and_nothing_else() {
        for good in ["0", "12", "-0.000345", "99999999999999999999999999999999999999.5"] {
            assert!(good.parse::<Decimal>().is_ok(), "{good}");
        }
        for bad in ["", "-", ".5", "5.", "1e9", "NaN", "+1", "1,5", &"9".repeat(61)] {
            assert!(bad.parse::<Decimal>().is_err(), "{bad}");
        }
    }
}
