//! What commands print: tables for people, JSON for programs.
//!
//! This is the only module that writes to standard output and error. Text that a tenant chose is
//! shown in tables without control characters, so that a name cannot drive the reader's terminal.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

/// Where and in which form results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// JSON instead of tables.
    pub(crate) json: bool,
}

/// A table: a head and rows of as many cells.
#[derive(Debug)]
pub(crate) struct Table {
    head: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this head.
    pub(crate) fn new(head: &'static [&'static str]) -> Self {
        Self { head, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into_iter().map(|cell| visible(&cell)).collect());
    }

    /// The table as text: columns as wide as their widest cell, two blanks between them, none at a
    /// line's end.
    pub(crate) fn render(&self) -> String {
        let mut widths: Vec<usize> = self.head.iter().map(|cell| cell.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let head = self.head.iter().map(|&cell| cell.to_owned()).collect();
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            for (cell, width) in row.iter().zip(&widths) {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', 2 + width - cell.chars().count()));
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
        text
    }
}

impl Output {
    /// Prints a list: a table, or a JSON array.
    pub(crate) fn list<T: Serialize>(self, items: &[T], table: impl FnOnce(&[T]) -> Table) -> Result<()> {
        if self.json { document(&items) } else { write_out(table(items).render().as_bytes()) }
    }

    /// Prints the outcome of a change: one word for people, the thing itself as JSON.
    pub(crate) fn outcome<T: Serialize>(self, thing: &T, word: &str) -> Result<()> {
        if self.json { document(thing) } else { line(&visible(word)) }
    }

    /// Prints one item of a stream: a line for people, or a line of JSON.
    pub(crate) fn item<T: Serialize>(self, item: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        if self.json { line(&inert(serde_json::to_string(item)?)) } else { line(&text(item)) }
    }
}

/// Prints a thing as indented JSON.
pub(crate) fn document<T: Serialize>(thing: &T) -> Result<()> {
    line(&inert(serde_json::to_string_pretty(thing)?))
}

/// The same JSON with the control characters escaped that JSON may leave as they are (DEL and C1, of which
/// U+009B begins a terminal's sequence as ESC [ does). They can only be in strings.
fn inert(json: String) -> String {
    let is_obeyed = |letter: char| matches!(letter, '\u{7f}'..='\u{9f}');
    if !json.contains(is_obeyed) {
        return json;
    }
    let escape = |letter: char| {
        if is_obeyed(letter) { format!("\\u{:04x}", u32::from(letter)) } else { letter.to_string() }
    };
    json.chars().map(escape).collect()
}

/// The text with every control character replaced.
pub(crate) fn visible(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter })
        .collect()
}

/// Writes a line to standard output.
pub(crate) fn line(text: &str) -> Result<()> {
    write_out(format!("{text}\n").as_bytes())
}

/// Writes bytes to standard output, at once.
pub(crate) fn write_out(bytes: &[u8]) -> Result<()> {
    write(&mut io::stdout().lock(), bytes)
}

/// Writes bytes to standard error, at once.
pub(crate) fn write_err(bytes: &[u8]) -> Result<()> {
    write(&mut io::stderr().lock(), bytes)
}

/// Tells the person something that is no result.
pub(crate) fn note(text: &str) {
    // Nobody is left to be told that standard error is closed.
    drop(write_err(format!("{text}\n").as_bytes()));
}

/// Tells the person that a part of the output is missing.
pub(crate) fn missed(bytes: u64) {
    note(&format!("wharf: {bytes} bytes of the log were rotated away unread"));
}

fn write(to: &mut impl Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes)?;
    Ok(to.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(["a".to_owned(), "running".to_owned()]);
        table.row(["long-name".to_owned(), String::new()]);
        assert_eq!(table.render(), "NAME       STATE\na          running\nlong-name\n");
    }

    #[test]
    fn a_name_cannot_drive_the_terminal() {
        let mut table = Table::new(&["NAME"]);
        table.row(["\u{1b}[2Jx\ny".to_owned()]);
        assert_eq!(table.render(), "NAME\n\u{fffd}[2Jx\u{fffd}y\n");
    }

    /// Attacks: F2.
    #[test]
    fn json_cannot_drive_the_terminal_either_and_means_the_same() {
        let text = "\u{1b}[2Jx\u{9b}2J\u{7f}ä";
        let json = inert(serde_json::to_string(text).expect("JSON"));
        assert_eq!(json, r#""\u001b[2Jx\u009b2J\u007fä""#);
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
    }

    #[test]
    fn an_empty_table_still_has_its_head() {
        assert_eq!(Table::new(&["A", "B"]).render(), "A  B\n");
    }
}
