//! CSV by RFC 4180: fields in quotes where they need them, lines ended by CR LF.
//!
//! A field with nothing in it is a null, `""` is an empty text; we write no empty text. Reading takes the
//! files of others too (lines ended by LF, quotes that were not needed), but nothing that can be understood
//! in two ways: a quote in the middle of a field, a last line without its end.

use std::io::{self, BufRead, Read as _};

/// Bytes of a record, and so what reading holds in memory at most.
const RECORD_MAX_BYTES: u64 = 1 << 20;

/// Adds a field to a line; `None` is a null.
pub(crate) fn write_field(line: &mut String, field: Option<&str>) {
    match field {
        None => {}
        Some("") => line.push_str("\"\""),
        Some(field) if field.contains([',', '"', '\r', '\n']) => {
            line.push('"');
            line.push_str(&field.replace('"', "\"\""));
            line.push('"');
        }
        Some(field) => line.push_str(field),
    }
}

/// A line of fields.
pub(crate) fn write_line<S: AsRef<str>>(fields: impl IntoIterator<Item = Option<S>>) -> String {
    let mut line = String::new();
    for (at, field) in fields.into_iter().enumerate() {
        if at > 0 {
            line.push(',');
        }
        write_field(&mut line, field.as_ref().map(AsRef::as_ref));
    }
    line.push_str("\r\n");
    line
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadCsv {
    /// The file could not be read.
    #[error("it could not be read")]
    Read(#[from] io::Error),
    /// Not UTF-8.
    #[error("record {0} is no text in UTF-8")]
    Text(u64),
    /// A quote where none may be, or none where one must be.
    #[error("record {0} has a quote in the middle of a field")]
    Quote(u64),
    /// The file ends inside a record.
    #[error("record {0} is cut off: the file ends before its line does")]
    Unended(u64),
    /// Too long.
    #[error("record {0} has more than {RECORD_MAX_BYTES} bytes")]
    TooLong(u64),
}

/// Reads records one after another; one of them is in memory.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    input: R,
    record: Vec<u8>,
    count: u64,
}

impl<R: BufRead> Reader<R> {
    pub(crate) const fn new(input: R) -> Self {
        Self { input, record: Vec::new(), count: 0 }
    }

    /// The next record's fields; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<Option<String>>>, BadCsv> {
        self.record.clear();
        self.count = self.count.saturating_add(1);
        let mut quotes = 0_usize;
        loop {
            let begin = self.record.len();
            let room = RECORD_MAX_BYTES.saturating_sub(begin as u64);
            let read = self.input.by_ref().take(room).read_until(b'\n', &mut self.record)?;
            let line = self.record.get(begin..).unwrap_or_default();
            quotes = line.iter().fold(quotes, |sum, byte| sum.saturating_add(usize::from(*byte == b'"')));
            match line.last() {
                Some(b'\n') if quotes.is_multiple_of(2) => break,
                Some(b'\n') => {}
                None if begin == 0 => return Ok(None),
                _ if read as u64 == room => return Err(BadCsv::TooLong(self.count)),
                _ => return Err(BadCsv::Unended(self.count)),
            }
        }
        let text = std::str::from_utf8(&self.record).ok().ok_or(BadCsv::Text(self.count))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let mut fields = Vec::new();
        let mut rest = Some(text);
        while let Some(text) = rest {
            let (field, after) = read_field(text).ok_or(BadCsv::Quote(self.count))?;
            fields.push(field);
            rest = after;
        }
        Ok(Some(fields))
    }
}

/// The first field, and what follows its comma if it has one; `None` where quotes make no sense.
fn read_field(text: &str) -> Option<(Option<String>, Option<&str>)> {
    let Some(mut quoted) = text.strip_prefix('"') else {
        let (field, after) = match text.split_once(',') {
            Some((field, after)) => (field, Some(after)),
            None => (text, None),
        };
        let plain = !field.contains(['"', '\r', '\n']);
        return plain.then(|| ((!field.is_empty()).then(|| field.to_owned()), after));
    };
    let mut field = String::new();
    loop {
        let (part, after) = quoted.split_once('"')?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                quoted = next;
            }
            None if after.is_empty() => return Some((Some(field), None)),
            None => return after.strip_prefix(',').map(|after| (Some(field), Some(after))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<Vec<Option<String>>>, BadCsv> {
        let (mut reader, mut records) = (Reader::new(text.as_bytes()), Vec::new());
        while let Some(record) = reader.next()? {
            records.push(record);
        }
        Ok(records)
    }

    #[test]
    fn refuses_what_could_be_understood_in_two_ways() {
        for bad in ["a", "a\"b\r\n", "\"a\r\n", "\"a\"b\r\n", "\"a\" ,b\r\n", "a,b\rc\r\n", "a\r\nb"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(matches!(Reader::new(&[0xff, b'\n'][..]).next(), Err(BadCsv::Text(1))));
        let long = "a".repeat(2 << 20) + "\n";
        assert!(matches!(read(&long), Err(BadCsv::TooLong(1))));
    }

    #[test]
    fn a_null_is_told_from_an_empty_text_and_other_line_ends_are_fine() {
        let text = |text: &str| Some(text.to_owned());
        let expected = vec![vec![None, text(""), text("b")], vec![text("x\ny"), None, None]];
        assert_eq!(read(",\"\",\"b\"\n\"x\ny\",,\r\n").expect("well-formed"), expected);
        assert_eq!(read("").expect("nothing"), Vec::<Vec<_>>::new());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(lines in proptest::collection::vec(
            proptest::collection::vec(proptest::option::of("(\\PC|[,\"\r\n=+@-]){0,8}"), 1..6), 1..6
        )) {
            let line = |fields: &Vec<Option<String>>| write_line(fields.iter().map(Option::as_deref));
            let text: String = lines.iter().map(line).collect();
            prop_assert_eq!(read(&text).expect("well-formed"), lines);
        }

        #[test]
        fn no_text_panics(text in "(\\PC|[,\"\r\n]){0,40}") {
            prop_assert!(read(&text).is_ok() || !text.is_empty());
        }
    }
}
