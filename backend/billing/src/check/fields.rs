//! What one field must be, whatever the others are: nulls, texts, numbers, times, JSON, words.

use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use wharf_shared::time::Timestamp;

use super::{Report, Row};
use crate::amount::Amount;
use crate::currency;
use crate::focus::schema::{self, Column, Kind};

/// Texts that stand where a null should.
const STAND_INS: [&str; 9] = ["", "-", "n/a", "na", "nil", "none", "null", "undefined", "unknown"];
/// Digits of a number, and its largest exponent; more is no amount of money but an attack.
const DIGITS_MAX: usize = 100;

/// Checks the value of a column of FOCUS.
pub(super) fn check(row: &Row<'_>, column: &Column, value: Option<&str>, report: &mut Report) {
    let Some(value) = value else {
        if !column.nullable {
            report.add(row.at, column.name, "null", "null", "a value: the column may not be null");
        }
        return;
    };
    let mut add = |rule: &'static str, expected: &str| {
        report.add(row.at, column.name, rule, value, expected.to_owned());
    };
    if STAND_INS.contains(&value.to_ascii_lowercase().as_str()) {
        return add("null-stand-in", "a real null or a real value");
    }
    if value.trim() != value || value.chars().any(char::is_control) {
        return add("text-form", "a text without outer spaces and control characters");
    }
    match column.kind {
        Kind::Number | Kind::Cost => match number(value) {
            None => add("number-form", "a number like -12.5 or 1.25E-7: no +, commas or units"),
            Some(number) if number.is_negative() && column.name.ends_with("UnitPrice") => {
                add("negative-price", "a price that is not below 0");
            }
            Some(_) => {}
        },
        Kind::Time => {
            if time(value).is_none() {
                add("time-form", "a time like 2026-01-31T13:00:00Z: UTC, Z, no fractions");
            }
        }
        Kind::Json => {
            if let Err(expected) = flat_object(column.name, value) {
                add("key-value-form", expected);
            }
        }
        Kind::Text => text(row, column.name, value, report),
    }
}

fn text(row: &Row<'_>, column: &str, value: &str, report: &mut Report) {
    if let Some((_, words)) = schema::WORDS.iter().find(|(name, _)| *name == column)
        && !words.contains(&value)
    {
        report.add(row.at, column, "allowed-value", value, words.join(", "));
    }
    match column {
        "BillingCurrency" if value == crate::price::NO_CURRENCY => {
            let costs = schema::COLUMNS.iter().filter(|column| column.kind == Kind::Cost);
            if costs.into_iter().filter_map(|cost| row.number(cost.name)).any(|cost| !cost.is_zero()) {
                report.add(row.at, column, "currency", value, "a currency, where something is charged");
            }
        }
        "BillingCurrency" if !currency::is_active(value) => {
            report.add(row.at, column, "currency", value, "a nation's currency by its code of ISO 4217");
        }
        "PricingUnit" | "ConsumedUnit" | "CommitmentDiscountUnit" if !is_unit(value) => {
            let expected = "a unit like GB, Core-Seconds, GB-Hours, Requests/Second or 1000 Requests";
            report.add(row.at, column, "unit-form", value, expected);
        }
        _ => {}
    }
}

/// A number in the form of FOCUS: plain digits, or with an exponent as in `1.25E-7`.
pub(super) fn number(text: &str) -> Option<Amount> {
    if text.len() > DIGITS_MAX {
        return None;
    }
    let (digits, exponent) = match text.split_once('E') {
        Some((digits, exponent)) => {
            let plain = exponent.strip_prefix('-').unwrap_or(exponent);
            let is_plain = !plain.is_empty() && plain.bytes().all(|byte| byte.is_ascii_digit());
            let exponent = exponent.parse::<i8>().ok().filter(|_| is_plain)?;
            (digits, i64::from(exponent))
        }
        None => (text, 0),
    };
    let whole = digits.strip_prefix('-').unwrap_or(digits);
    if whole.len() > 1 && whole.starts_with('0') && !whole.starts_with("0.") {
        return None;
    }
    Some(digits.parse::<Amount>().ok()?.scaled(exponent))
}

/// A time as FOCUS writes it.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let time = text.parse::<Timestamp>().ok()?;
    (time.0.rem_euclid(1_000_000) == 0 && time.to_string() == text).then_some(time)
}

/// `GB`, `GB-Hours`, `Requests/Second`, `1000 Requests`: words of letters, the first a capital but in units of
/// data, which are abbreviated.
fn is_unit(unit: &str) -> bool {
    const TIMES: [&str; 6] = ["Year", "Month", "Day", "Hour", "Minute", "Second"];
    let unit = match unit.split_once(' ') {
        Some((count, unit)) => {
            let whole = !count.starts_with('0') && count.bytes().all(|byte| byte.is_ascii_digit());
            if !whole || count.is_empty() {
                return false;
            }
            unit
        }
        None => unit,
    };
    let is_word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_uppercase())
            && word.bytes().all(|byte| byte.is_ascii_alphabetic())
            && !["Bytes", "Byte", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes"].contains(&word)
    };
    let is_time = |word: &str| TIMES.contains(&word);
    match (unit.split_once('-'), unit.split_once('/')) {
        (Some((thing, times)), None) => is_word(thing) && times.strip_suffix('s').is_some_and(is_time),
        (None, Some((things, time))) => is_word(things) && is_time(time),
        (None, None) => unit.split(' ').all(is_word),
        (Some(_), Some(_)) => false,
    }
}

/// What is wrong about an object that must be flat, if something is.
fn flat_object(column: &str, text: &str) -> Result<(), &'static str> {
    struct Flat;
    impl<'de> Visitor<'de> for Flat {
        type Value = Vec<(String, bool)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some((key, value)) = map.next_entry::<String, serde_json::Value>()? {
                pairs.push((key, value.is_object() || value.is_array()));
            }
            Ok(pairs)
        }
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let pairs = json.deserialize_map(Flat).and_then(|pairs| json.end().map(|()| pairs));
    let Ok(pairs) = pairs else { return Err("an object of JSON") };
    if pairs.is_empty() {
        return Err("null where there is nothing to tell");
    }
    if pairs.iter().any(|(_, nested)| *nested) {
        return Err("a flat object: texts, numbers, true, false or null");
    }
    let mut keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
    if column == "SkuPriceDetails"
        && keys.iter().any(|key| !schema::SKU_PRICE_DETAILS.contains(key) && !key.starts_with("x_"))
    {
        return Err("keys that FOCUS defines, or that begin with x_");
    }
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    if keys.len() == count { Ok(()) } else { Err("each key once") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_both_forms_and_no_other() {
        let shown = |text: &str| number(text).map(|number| number.to_string());
        for (text, expected) in
            [("12.5", "12.5"), ("-0.5", "-0.5"), ("0", "0"), ("1.25E-7", "0.000000125"), ("2E3", "2000")]
        {
            assert_eq!(shown(text).as_deref(), Some(expected));
        }
        for bad in
            ["+1", "1,000", "1e5", "1E+5", "1E", "E5", "1E999", ".5", "5.", "007", "$1", "1/2", "", "NaN"]
        {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }

    #[test]
    fn units_are_plurals_of_things_with_or_without_a_time() {
        for good in
            ["GB", "B", "GiB", "Core-Seconds", "GB-Hours", "Requests/Second", "1000 Requests", "Hours"]
        {
            assert!(is_unit(good), "{good}");
        }
        for bad in
            ["gb", "GB-Hour", "GB Hours/Month-Days", "Requests/Seconds", "0.5 GB", "Bytes", "GB-", "%", ""]
        {
            assert!(!is_unit(bad), "{bad}");
        }
    }

    #[test]
    fn objects_are_flat_whole_and_have_each_key_once() {
        assert_eq!(flat_object("Tags", r#"{"a":"1","b":2,"c":true,"d":null}"#), Ok(()));
        for bad in
            ["{}", "[]", "a=b", r#"{"a":{"b":1}}"#, r#"{"a":[1]}"#, r#"{"a":1,"a":2}"#, r#"{"a":1} x"#, "{"]
        {
            assert!(flat_object("Tags", bad).is_err(), "{bad}");
        }
        assert!(flat_object("SkuPriceDetails", r#"{"Tier":1}"#).is_err());
        assert_eq!(flat_object("SkuPriceDetails", r#"{"x_Tier":1,"CoreCount":2}"#), Ok(()));
    }
}
