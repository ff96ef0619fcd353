//! Which rows of a long list are in sight.

use std::ops::Range;

use super::number;

/// Rows drawn above and below those in sight, so that scrolling does not show blanks.
const MARGIN_ROWS: usize = 8;

/// The rows to draw of `rows` rows of `row_px` pixels, scrolled to `top_px`, seen through `height_px`.
pub(crate) fn in_sight(rows: usize, row_px: f64, top_px: f64, height_px: f64) -> Range<usize> {
    let first = number::count(top_px / row_px).saturating_sub(MARGIN_ROWS).min(rows);
    let seen = number::count(height_px / row_px).saturating_add(2 * MARGIN_ROWS + 1);
    first..first.saturating_add(seen).min(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_what_is_in_sight_and_a_margin() {
        assert_eq!(in_sight(1_000, 34.0, 0.0, 340.0), 0..27);
        assert_eq!(in_sight(1_000, 34.0, 3_400.0, 340.0), 92..119);
        assert_eq!(in_sight(10, 34.0, 1e9, 340.0), 10..10);
        assert_eq!(in_sight(0, 34.0, 0.0, 340.0), 0..0);
        assert_eq!(in_sight(3, 34.0, f64::NAN, 340.0), 0..3);
    }
}
