//! CSV by RFC 4180: fields in quotes where they need them, lines ended by CR LF.
//!
//! An empty field is a null; there is no empty text in what we write. Reading is strict: what this
//! writer would not write is refused.

/// A line of fields.
pub(crate) fn write_line<S: AsRef<str>>(fields: impl IntoIterator<Item = S>) -> String {
    let mut line = String::new();
    for (at, field) in fields.into_iter().enumerate() {
        if at > 0 {
            line.push(',');
        }
        let field = field.as_ref();
        if field.contains([',', '"', '\r', '\n']) {
            line.push('"');
            line.push_str(&field.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(field);
        }
    }
    line.push_str("\r\n");
    line
}

/// A record that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadRecord {
    /// A quote where none may be.
    Quote,
    /// A quoted field without an end.
    Unended,
    /// A line that does not end with CR LF.
    LineEnd,
}

/// Reads the next record and returns its fields and what follows it; `None` at the end.
pub(crate) fn read_record(text: &str) -> Option<Result<(Vec<String>, &str), BadRecord>> {
    if text.is_empty() {
        return None;
    }
    let mut fields = Vec::new();
    let mut rest = text;
    Some(loop {
        let (field, after) = match read_field(rest) {
            Ok(read) => read,
            Err(bad) => break Err(bad),
        };
        fields.push(field);
        if let Some(next) = after.strip_prefix(',') {
            rest = next;
        } else if let Some(next) = after.strip_prefix("\r\n") {
            break Ok((fields, next));
        } else {
            break Err(BadRecord::LineEnd);
        }
    })
}

fn read_field(text: &str) -> Result<(String, &str), BadRecord> {
    let Some(mut quoted) = text.strip_prefix('"') else {
        let end = text.find([',', '"', '\r', '\n']).ok_or(BadRecord::LineEnd)?;
        let (field, after) = text.split_at(end);
        return if after.starts_with('"') { Err(BadRecord::Quote) } else { Ok((field.to_owned(), after)) };
    };
    let mut field = String::new();
    loop {
        let (part, after) = quoted.split_once('"').ok_or(BadRecord::Unended)?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                quoted = next;
            }
            // Quotes that were not needed are not ours.
            None if field.contains([',', '"', '\r', '\n']) => return Ok((field, after)),
            None => return Err(BadRecord::Quote),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_is_not_strict() {
        for bad in ["a", "a\n", "a\"b\r\n", "\"a\r\n", "\"a\"b\r\n", "\"plain\"\r\n", "a,b\rc\r\n"] {
            assert!(matches!(read_record(bad), Some(Err(_))), "{bad:?}");
        }
        assert_eq!(read_record(""), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(lines in proptest::collection::vec(
            proptest::collection::vec("(\\PC|[,\"\r\n=+@-]){0,8}", 1..6), 1..6
        )) {
            let text: String = lines.iter().map(write_line).collect();
            let (mut rest, mut read) = (text.as_str(), Vec::new());
            while let Some(record) = read_record(rest) {
                let (fields, after) = record.expect("well-formed");
                read.push(fields);
                rest = after;
            }
            prop_assert_eq!(read, lines);
        }

        #[test]
        fn no_text_panics(text in "(\\PC|[,\"\r\n]){0,40}") {
            prop_assert!(read_record(&text).is_none_or(|record| record.is_ok() || record.is_err()));
        }
    }
}
