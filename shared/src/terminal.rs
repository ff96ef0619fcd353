//! Text of strangers, fit to be shown: without anything that a terminal or a reader's eye would obey.
//!
//! A container's log can hold sequences that rename the window, fill the clipboard, move the cursor over
//! other lines or make a terminal answer by typing (CVE-2021-25743). What begins a sequence never stays, so
//! one that is cut between two pieces does nothing either. Sources: ECMA-48, xterm's ctlseqs, UAX #9.

/// Returns the text without terminal sequences (CSI, OSC, other escapes), control characters, line
/// separators and bidirectional overrides; tabs become spaces.
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\u{9b}' => skip_csi(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(&mut chars),
            '\t' => shown.push_str("    "),
            c if c.is_control() || is_bidirectional(c) => {}
            '\u{2028}' | '\u{2029}' | '\u{feff}' => {}
            c => shown.push(c),
        }
    }
    shown
}

/// Marks, embeddings, overrides and isolates.
fn is_bidirectional(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn skip_escape(chars: &mut Chars<'_>) {
    match chars.next() {
        Some('[') => skip_csi(chars),
        Some(']' | 'P' | '_' | '^' | 'X') => skip_string(chars),
        // nF sequences such as ESC ( B.
        Some(' '..='/') => {
            chars.next();
        }
        _ => {}
    }
}

fn skip_csi(chars: &mut Chars<'_>) {
    while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    chars.next_if(|c| matches!(c, '@'..='~'));
}

/// OSC, DCS, APC, PM, SOS: up to BEL or ST.
fn skip_string(chars: &mut Chars<'_>) {
    while let Some(c) = chars.next() {
        if matches!(c, '\u{7}' | '\u{9c}') || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Attacks: F2.
    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m"), "red");
        assert_eq!(plain("\u{1b}]0;title\u{7}x\u{1b}]52;c;YQ==\u{1b}\\y"), "xy");
        assert_eq!(plain("\u{9d}0;title\u{9c}x\u{90}+q\u{1b}\\y"), "xy");
        assert_eq!(plain("a\u{9b}2Jb\u{8}\u{7}\tc"), "ab    c");
        assert_eq!(plain("gnp\u{202e}exe"), "gnpexe");
        assert_eq!(plain("\u{1b}(Bok\u{1b}"), "ok");
    }

    #[test]
    fn a_sequence_in_two_pieces_does_nothing() {
        assert_eq!(plain("a\u{1b}") + &plain("[2Jb"), "a[2Jb");
        assert_eq!(plain("a\u{1b}]0;ti") + &plain("tle\u{7}b"), "atleb");
    }

    #[test]
    fn words_of_every_language_stay() {
        let text = "Grüße, 世界 ✓ שלום é 🚢";
        assert_eq!(plain(text), text);
    }

    proptest! {
        #[test]
        fn whatever_is_written_only_text_is_left(
            text in r"(?:[a-z;?0-9]|[\x1b\x07\x08\r\n\u{80}-\u{9f}]|\x1b[\[\]P^_X(]|\x{202e}|.)*"
        ) {
            let shown = plain(&text);
            prop_assert!(!shown.chars().any(|c| c.is_control() || is_bidirectional(c)), "{shown:?}");
            prop_assert_eq!(plain(&shown), shown);
        }
    }
}
