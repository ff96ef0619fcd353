//! What a chart draws, in data and pixels, without the canvas.

use wharf_shared::time::{SECOND_US, Timestamp};
use wharf_shared::usage::Measured;

use super::number;

/// Points further apart than this are not joined: a gap stays a gap. The agent reads once a second
/// what somebody watches, and what nobody watches every ten seconds at least.
const GAP_US: i64 = 12 * SECOND_US;

/// One moment of one or more series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    /// When.
    pub(crate) at: Timestamp,
    /// One value a series.
    pub(crate) values: Vec<Measured>,
}

/// Adds a point in order and drops those older than `keep_us` before it. A point that is not newer
/// than the last one is known already.
pub(crate) fn push(points: &mut std::collections::VecDeque<Point>, point: Point, keep_us: i64) {
    if points.back().is_some_and(|last| last.at >= point.at) {
        return;
    }
    let oldest = point.at.0 - keep_us;
    points.push_back(point);
    while points.front().is_some_and(|first| first.at.0 < oldest) {
        points.pop_front();
    }
}

/// Why a chart has nothing to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blank {
    /// Nothing came yet.
    NoData,
    /// This kernel has no such counter.
    NotMeasurable,
}

/// Whether there is anything to draw.
pub(crate) fn blank(points: &[Point]) -> Option<Blank> {
    let mut values = points.iter().flat_map(|point| &point.values).peekable();
    if values.peek().is_none() {
        return Some(Blank::NoData);
    }
    values.all(|value| *value == Measured::NotMeasurable).then_some(Blank::NotMeasurable)
}

/// A round top for the axis, a little above the largest value: 1, 2, 2.5 or 5 times a power of ten,
/// or of two for bytes.
pub(crate) fn ceiling(largest: u64, binary: bool) -> u64 {
    let largest = largest.max(1);
    let mut unit: u64 = 1;
    let step: u64 = if binary { 1_024 } else { 1_000 };
    while largest / unit >= step {
        unit = unit.saturating_mul(step);
    }
    for factor in [1_u64, 2, 4, 5, 8, 10, 20, 40, 50, 80, 100, 200, 250, 400, 500, 600, 800, 1_000, 1_024] {
        let top = unit.saturating_mul(factor);
        if top >= largest {
            return top;
        }
    }
    largest
}

/// A series as strokes: runs of joined pixel positions, at most two for each pixel column (its least
/// and its greatest value), so that the cost follows the width and not the number of points.
pub(crate) fn strokes(points: &[Point], series: usize, frame: &Frame) -> Vec<Vec<(f64, f64)>> {
    let mut strokes: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut last_at: Option<i64> = None;
    let mut column: Option<(f64, u64, u64)> = None;
    let flush = |column: &mut Option<(f64, u64, u64)>, strokes: &mut Vec<Vec<(f64, f64)>>| {
        if let (Some((x, least, greatest)), Some(stroke)) = (column.take(), strokes.last_mut()) {
            stroke.push((x, frame.y(least)));
            if greatest != least {
                stroke.push((x, frame.y(greatest)));
            }
        }
    };
    for point in points.iter().filter(|point| point.at.0 >= frame.from_us && point.at.0 <= frame.to_us) {
        let Some(value) = point.values.get(series).and_then(|value| value.value()) else {
            flush(&mut column, &mut strokes);
            last_at = None;
            continue;
        };
        if last_at.is_none_or(|last| point.at.0 - last > GAP_US) {
            flush(&mut column, &mut strokes);
            strokes.push(Vec::new());
        }
        last_at = Some(point.at.0);
        let x = frame.x(point.at.0).floor();
        match &mut column {
            Some((at, least, greatest)) if (*at - x).abs() < 0.5 => {
                *least = value.min(*least);
                *greatest = value.max(*greatest);
            }
            _ => {
                flush(&mut column, &mut strokes);
                column = Some((x, value, value));
            }
        }
    }
    flush(&mut column, &mut strokes);
    strokes
}

/// The plot's place on the canvas and its axes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Frame {
    /// Left edge.
    pub(crate) left: f64,
    /// Upper edge.
    pub(crate) top: f64,
    /// Width.
    pub(crate) width: f64,
    /// Height.
    pub(crate) height: f64,
    /// Moment at the left edge.
    pub(crate) from_us: i64,
    /// Moment at the right edge.
    pub(crate) to_us: i64,
    /// Value at the upper edge.
    pub(crate) ceiling: u64,
}

impl Frame {
    /// Pixel of a moment.
    pub(crate) fn x(&self, at_us: i64) -> f64 {
        let span = number::float_signed((self.to_us - self.from_us).max(1));
        self.left + self.width * number::float_signed(at_us - self.from_us) / span
    }

    /// Pixel of a value.
    pub(crate) fn y(&self, value: u64) -> f64 {
        self.top
            + self.height
                * (1.0 - number::float(value.min(self.ceiling)) / number::float(self.ceiling.max(1)))
    }

    /// The moment at a pixel, if it lies in the plot.
    pub(crate) fn moment(&self, x: f64) -> Option<i64> {
        let share = (x - self.left) / self.width;
        (0.0..=1.0)
            .contains(&share)
            .then(|| self.from_us + number::integer(share * number::float_signed(self.to_us - self.from_us)))
    }
}

/// The point nearest to a moment, if one is within the gap.
pub(crate) fn nearest(points: &[Point], at_us: i64) -> Option<&Point> {
    points
        .iter()
        .min_by_key(|point| (point.at.0 - at_us).abs())
        .filter(|point| (point.at.0 - at_us).abs() <= GAP_US)
}

/// Mean and peak of a series, for the text beside the chart.
pub(crate) fn summary(points: &[Point], series: usize) -> Option<(u64, u64)> {
    let values: Vec<u64> = points.iter().filter_map(|point| point.values.get(series)?.value()).collect();
    let peak = *values.iter().max()?;
    let sum: u128 = values.iter().map(|value| u128::from(*value)).sum();
    let mean = sum.checked_div(u128::try_from(values.len()).ok()?)?;
    Some((u64::try_from(mean).ok()?, peak))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn point(second: i64, value: Measured) -> Point {
        Point { at: Timestamp(second * SECOND_US), values: vec![value] }
    }

    fn frame() -> Frame {
        Frame {
            left: 0.0,
            top: 0.0,
            width: 100.0,
            height: 10.0,
            from_us: 0,
            to_us: 100 * SECOND_US,
            ceiling: 10,
        }
    }

    #[test]
    fn a_gap_and_an_unreadable_second_break_the_line() {
        let points = [
            point(1, Measured::Value(1)),
            point(2, Measured::Value(2)),
            point(3, Measured::Unreadable(5)),
            point(4, Measured::Value(4)),
            point(30, Measured::Value(5)),
        ];
        let strokes = strokes(&points, 0, &frame());
        assert_eq!(strokes.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
    }

    #[test]
    fn cost_follows_the_width_and_keeps_peaks() {
        let points: Vec<_> = (0..1_000)
            .map(|at| Point {
                at: Timestamp(at * SECOND_US / 10),
                values: vec![Measured::Value(if at == 505 { 10 } else { 1 })],
            })
            .collect();
        let strokes = strokes(&points, 0, &frame());
        let drawn: Vec<_> = strokes.concat();
        assert!(drawn.len() <= 202, "{}", drawn.len());
        assert!(drawn.iter().any(|(_, y)| *y < 0.5), "the peak is drawn");
    }

    #[test]
    fn repeated_and_old_points_are_dropped() {
        let mut points = VecDeque::new();
        for second in [1, 2, 2, 1, 9] {
            push(&mut points, point(second, Measured::Value(0)), 5 * SECOND_US);
        }
        assert_eq!(points.iter().map(|point| point.at.0 / SECOND_US).collect::<Vec<_>>(), [9]);
    }

    #[test]
    fn a_blank_chart_says_why() {
        assert_eq!(blank(&[]), Some(Blank::NoData));
        assert_eq!(blank(&[point(1, Measured::NotMeasurable)]), Some(Blank::NotMeasurable));
        assert_eq!(blank(&[point(1, Measured::Value(0))]), None);
    }

    #[test]
    fn the_axis_ends_at_a_round_number() {
        assert_eq!(ceiling(0, false), 1);
        assert_eq!(ceiling(180, false), 200);
        assert_eq!(ceiling(1_900, false), 2_000);
        assert_eq!(ceiling(300 * 1_024 * 1_024, true), 400 * 1_024 * 1_024);
        assert!(ceiling(u64::MAX, true) >= u64::MAX / 2);
    }

    #[test]
    fn pixels_and_moments_are_inverse() {
        let frame = frame();
        assert_eq!(frame.moment(frame.x(42 * SECOND_US)), Some(42 * SECOND_US));
        assert_eq!(frame.moment(-1.0), None);
    }

    #[test]
    fn the_summary_leaves_out_what_could_not_be_read() {
        let points =
            [point(1, Measured::Value(2)), point(2, Measured::NotMeasurable), point(3, Measured::Value(6))];
        assert_eq!(summary(&points, 0), Some((4, 6)));
        assert_eq!(summary(&[], 0), None);
    }
}
