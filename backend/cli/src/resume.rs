//! A stream that survives lost connections with no gap and no repeat.
//!
//! Pure: it remembers the cursor of the last item that was passed on, says where the next
//! connection has to go on, drops what comes again, and says how long to wait before the next try.
//! The server's cursor of a log line is the position *after* the line, an event's its number, so
//! both only grow, and "at or before my cursor" means "I have it".

use std::time::Duration;

/// First pause before a new connection.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Where a stream is.
#[derive(Debug)]
pub(crate) struct Resume<C> {
    cursor: C,
    failures: u32,
}

impl<C: Copy + PartialOrd> Resume<C> {
    /// A stream that has everything up to `cursor`.
    pub(crate) fn at(cursor: C) -> Self {
        Self { cursor, failures: 0 }
    }

    /// Where the next connection goes on.
    pub(crate) fn cursor(&self) -> C {
        self.cursor
    }

    /// Whether an item with this cursor is new; if so, it counts as had from now on.
    pub(crate) fn accept(&mut self, cursor: C) -> bool {
        self.failures = 0;
        let is_new = cursor > self.cursor;
        if is_new {
            self.cursor = cursor;
        }
        is_new
    }

    /// The connection was lost or refused: how long to wait before the next one. `random` spreads
    /// many clients that lost the same server.
    pub(crate) fn pause(&mut self, random: u64) -> Duration {
        let longest = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        let half = longest / 2;
        let spread_ms = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_millis(random % (spread_ms + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_after_a_reconnect_is_dropped_and_nothing_is_missed() {
        // The server sends lines that end at these positions; each connection breaks after some.
        let lines = [10_u64, 25, 31, 40, 58, 60];
        let mut resume = Resume::at(0);
        let mut seen = Vec::new();
        for breaks_after in [2, 1, 0, 3, 9] {
            // A server that repeats the line at the cursor is met as well.
            let rest = lines.iter().filter(|line| **line >= resume.cursor()).take(breaks_after + 1);
            let rest: Vec<u64> = rest.copied().collect();
            seen.extend(rest.into_iter().filter(|line| resume.accept(*line)));
        }
        assert_eq!(seen, lines);
    }

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew_after_an_item() {
        let mut resume = Resume::at(0_u64);
        let first = resume.pause(u64::MAX);
        assert!(first >= FIRST_PAUSE / 2 && first <= FIRST_PAUSE);
        let last = (0..40).map(|_| resume.pause(7)).last().expect("forty pauses");
        assert!(last >= LONGEST_PAUSE / 2 && last <= LONGEST_PAUSE);
        assert!(resume.accept(1));
        assert!(resume.pause(0) <= FIRST_PAUSE);
    }
}
