//! Log lines as they are shown: without anything that a terminal or a reader's eye would obey.

use std::ops::Range;

use wharf_shared::terminal::plain;

/// Longest line that is drawn; more is cut and said so.
const SHOWN_MAX_CHARS: usize = 4_000;

/// How bad a line says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Error or worse.
    Error,
    /// Warning.
    Warn,
    /// Anything else.
    Other,
}

/// The line [without escapes](plain), cut when it is very long.
pub(crate) fn clean(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX_CHARS) {
        None => plain(text),
        Some((end, _)) => {
            let head = text.get(..end).unwrap_or_default();
            plain(head) + " … (cut here; download the log for the rest)"
        }
    }
}

/// What the line's first words say.
pub(crate) fn level(text: &str) -> Level {
    let head: String = text.chars().take(120).collect::<String>().to_ascii_lowercase();
    let has =
        |words: &[&str]| head.split(|c: char| !c.is_ascii_alphabetic()).any(|word| words.contains(&word));
    if has(&["error", "err", "fatal", "panic", "critical", "emerg", "panicked"]) {
        Level::Error
    } else if has(&["warn", "warning"]) {
        Level::Warn
    } else {
        Level::Other
    }
}

/// Where a search is found, without regard to ASCII case.
pub(crate) fn hits(text: &str, search: &str) -> Vec<Range<usize>> {
    let (text, search) = (text.to_ascii_lowercase(), search.to_ascii_lowercase());
    if search.is_empty() {
        return Vec::new();
    }
    text.match_indices(&search).map(|(at, found)| at..at + found.len()).collect()
}

/// The text in pieces, and whether each is a hit.
pub(crate) fn pieces<'a>(text: &'a str, search: &str) -> Vec<(&'a str, bool)> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for hit in hits(text, search) {
        pieces.extend(text.get(from..hit.start).map(|piece| (piece, false)));
        pieces.extend(text.get(hit.clone()).map(|piece| (piece, true)));
        from = hit.end;
    }
    pieces.extend(text.get(from..).map(|piece| (piece, false)));
    pieces.retain(|(piece, _)| !piece.is_empty());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attacks: F2.
    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(clean("\u{1b}[31mred\u{1b}[0m\tgnp\u{202e}exe"), "red    gnpexe");
    }

    #[test]
    fn a_very_long_line_is_cut_and_says_so() {
        assert_eq!(clean(&"ä".repeat(SHOWN_MAX_CHARS)), "ä".repeat(SHOWN_MAX_CHARS));
        let shown = clean(&"x".repeat(100_000));
        assert!(shown.len() < 5_000 && shown.contains("cut here"));
    }

    #[test]
    fn levels_are_words_and_not_parts_of_them() {
        assert_eq!(level("2026-01-01 ERROR: no"), Level::Error);
        assert_eq!(level("terror in the night"), Level::Other);
        assert_eq!(level("[warn] x"), Level::Warn);
    }

    #[test]
    fn pieces_join_to_the_whole_text() {
        let found = pieces("Äbc ABC abc", "abc");
        assert_eq!(found.iter().filter(|(_, hit)| *hit).count(), 2);
        assert_eq!(found.iter().map(|(piece, _)| *piece).collect::<String>(), "Äbc ABC abc");
        assert_eq!(pieces("abc", ""), [("abc", false)]);
    }
}
