//! Rust source cut into code, comments and string literals, so that a check never mistakes one for
//! another. It knows as much of the grammar as that takes (Rust reference, "Lexical structure").

/// What a piece of source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Neither of the others.
    Code,
    /// A line or block comment, its marks included.
    Comment,
    /// The inside of a string literal.
    Text,
}

/// A piece of source and the line it begins on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

/// Cuts a source file into pieces.
pub(crate) fn pieces(source: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = source;
    let mut code_bytes = 0;
    let mut line = 1;
    while let Some(tail) = rest.get(code_bytes..).filter(|tail| !tail.is_empty()) {
        let before = rest.get(..code_bytes).unwrap_or_default();
        let Some((kind, open, inside, close)) = special(tail, before) else {
            code_bytes += word(tail);
            continue;
        };
        for (kind, bytes) in [(Kind::Code, code_bytes + open), (kind, inside), (Kind::Code, close)] {
            let (text, after) = rest.split_at_checked(bytes).unwrap_or((rest, ""));
            if !text.is_empty() {
                found.push(Piece { kind, text, line });
            }
            line += text.matches('\n').count();
            rest = after;
        }
        code_bytes = 0;
    }
    if !rest.is_empty() {
        found.push(Piece { kind: Kind::Code, text: rest, line });
    }
    found
}

/// The words of code (identifiers, keywords, numbers) with their lines.
pub(crate) fn words<'a>(piece: &'a Piece<'a>) -> impl Iterator<Item = (usize, &'a str)> {
    piece.text.lines().zip(piece.line..).flat_map(|(text, line)| {
        text.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .filter(|word| !word.is_empty())
            .map(move |word| (line, word))
    })
}

/// If `tail` begins with a comment or string literal: its kind, and the bytes of its opening, its
/// inside and its closing. A comment is all inside.
fn special(tail: &str, before: &str) -> Option<(Kind, usize, usize, usize)> {
    if tail.starts_with("//") {
        return Some((Kind::Comment, 0, tail.find('\n').unwrap_or(tail.len()), 0));
    }
    if tail.starts_with("/*") {
        return Some((Kind::Comment, 0, block_comment(tail), 0));
    }
    let after_word = before.chars().next_back().is_some_and(|last| last.is_alphanumeric() || last == '_');
    let marks = tail.bytes().take_while(|byte| matches!(byte, b'b' | b'c' | b'r')).count();
    let raw = tail.get(..marks).is_some_and(|prefix| prefix.ends_with('r'));
    let hashes = tail.bytes().skip(marks).take_while(|byte| *byte == b'#').count();
    let quote = marks + hashes;
    if marks > 2
        || (marks > 0 && after_word)
        || (hashes > 0 && !raw)
        || tail.as_bytes().get(quote) != Some(&b'"')
    {
        return None;
    }
    let inside = tail.get(quote + 1..)?;
    if raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some((Kind::Text, quote + 1, inside.find(&end).unwrap_or(inside.len()), end.len()));
    }
    let mut escaped = false;
    let end = inside.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    Some((Kind::Text, quote + 1, end.unwrap_or(inside.len()), 1))
}

/// The bytes of a block comment; they nest.
fn block_comment(tail: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(here) = tail.get(at..).filter(|here| !here.is_empty()) {
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth = depth.saturating_sub(1);
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    tail.len()
}

/// The bytes of the next piece of plain code that cannot hide a literal: a character literal
/// (`'"'` begins no string), or one character.
fn word(tail: &str) -> usize {
    let first = tail.chars().next().map_or(1, char::len_utf8);
    if !tail.starts_with('\'') {
        return first;
    }
    let inside = tail.get(1..).unwrap_or_default();
    if let Some(escape) = inside.strip_prefix('\\') {
        let skip = 1 + escape.chars().next().map_or(0, char::len_utf8);
        return inside.get(skip..).and_then(|rest| rest.find('\'')).map_or(first, |end| 1 + skip + end + 1);
    }
    let letter = inside.chars().next().map_or(0, char::len_utf8);
    // Without a closing quote it is a lifetime.
    if inside.get(letter..).is_some_and(|rest| rest.starts_with('\'')) { 1 + letter + 1 } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Kind, source: &str) -> Vec<&str> {
        pieces(source).into_iter().filter(|piece| piece.kind == kind).map(|piece| piece.text).collect()
    }

    #[test]
    fn the_pieces_are_the_whole_source() {
        let source =
            "//! Head\nfn f<'a>(x: &'a str) -> char { let _ = \"a \\\" // b\"; /* /* n */ */ '\"' }\n";
        let whole: String = pieces(source).iter().map(|piece| piece.text).collect();
        assert_eq!(whole, source);
    }

    #[test]
    fn comments_in_strings_and_strings_in_comments_are_what_surrounds_them() {
        assert_eq!(of(Kind::Text, "let a = \"// no\"; // \"yes\""), ["// no"]);
        assert_eq!(of(Kind::Comment, "let a = \"// no\"; // \"yes\""), ["// \"yes\""]);
    }

    #[test]
    fn knows_raw_byte_and_escaped_strings() {
        assert_eq!(
            of(Kind::Text, r##"r#"a"b"# b"c" br"d" "e\\" "f\"g" cr"h""##),
            [r#"a"b"#, "c", "d", r"e\\", r#"f\"g"#, "h"]
        );
    }

    #[test]
    fn characters_and_lifetimes_begin_no_string() {
        assert_eq!(of(Kind::Text, r#"'"' '\'' '\\' '\u{22}' &'a str "x""#), ["x"]);
        assert_eq!(of(Kind::Text, "let var"), Vec::<&str>::new());
    }

    #[test]
    fn a_piece_knows_its_line() {
        let lines: Vec<_> = pieces("a\n\"b\nc\"\n// d\n").iter().map(|piece| piece.line).collect();
        assert_eq!(lines, [1, 2, 3, 3, 4, 4]);
    }
}
