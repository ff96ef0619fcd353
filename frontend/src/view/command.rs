//! A command line as words and back, by the shell's quoting rules (no expansion).

/// Splits into words; quotes and backslashes as in a shell.
pub(crate) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => loop {
                match chars.next().ok_or("a single quote is not closed")? {
                    '\'' => break word.get_or_insert_default().push_str(""),
                    c => word.get_or_insert_default().push(c),
                }
            },
            '"' => loop {
                match chars.next().ok_or("a double quote is not closed")? {
                    '"' => break word.get_or_insert_default().push_str(""),
                    '\\' => {
                        let next = chars.next().ok_or("a double quote is not closed")?;
                        let word = word.get_or_insert_default();
                        if !matches!(next, '"' | '\\' | '$' | '`') {
                            word.push('\\');
                        }
                        word.push(next);
                    }
                    c => word.get_or_insert_default().push(c),
                }
            },
            '\\' => {
                let next = chars.next().ok_or("nothing follows the last backslash")?;
                word.get_or_insert_default().push(next);
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Joins words so that [`split`] gives them back.
pub(crate) fn join(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    let quote = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_a_shell_does() {
        let words = split(r#"sh -c 'echo "a b"' "c\"d" e\ f """#).expect("well-formed");
        assert_eq!(words, ["sh", "-c", "echo \"a b\"", "c\"d", "e f", ""]);
        assert_eq!(split("  ").expect("blank"), Vec::<String>::new());
        for bad in ["'a", "\"a", "a\\"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn joined_words_split_into_themselves() {
        let words = ["sh", "-c", "it's $HOME; \"x\"", "", "a b"].map(str::to_owned);
        assert_eq!(split(&join(&words)).expect("quoted"), words);
    }
}
