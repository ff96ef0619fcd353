//! The few conversions between integers and the floats of pixels, each in one place.

/// A float near the integer, for pixels and charts; never for money.
#[expect(clippy::cast_precision_loss, reason = "a pixel does not see the 53rd bit")]
pub(crate) const fn float(value: u64) -> f64 {
    value as f64
}

/// A float near the signed integer, for pixels and charts.
#[expect(clippy::cast_precision_loss, reason = "a pixel does not see the 53rd bit")]
pub(crate) const fn float_signed(value: i64) -> f64 {
    value as f64
}

/// A float near the count.
pub(crate) fn float_count(value: usize) -> f64 {
    u64::try_from(value).map_or(f64::MAX, float)
}

/// The whole part of a pixel position as a count; 0 for what is negative or no number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and that is wanted: positions come from the browser"
)]
pub(crate) const fn count(value: f64) -> usize {
    value as usize
}

/// The whole part of a float as an integer; saturates.
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and that is wanted")]
pub(crate) const fn integer(value: f64) -> i64 {
    value as i64
}

/// The whole part of a pixel size for the browser's API; saturates.
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and that is wanted")]
pub(crate) const fn pixels(value: f64) -> i32 {
    value as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_from_the_browser_never_panic() {
        assert_eq!([count(-1.0), count(f64::NAN), count(7.9)], [0, 0, 7]);
        assert_eq!(pixels(1e99), i32::MAX);
        assert_eq!(integer(f64::NEG_INFINITY), i64::MIN);
    }
}
