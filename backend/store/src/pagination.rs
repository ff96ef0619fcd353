//! One page of a list: a limit, and the key of the last row as cursor.

use wharf_shared::page::Page;

/// Rows on a page when the client does not say.
pub const LIMIT_DEFAULT: u32 = 100;
/// Most rows on a page.
pub const LIMIT_MAX: u32 = 1_000;

/// Which page is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Most rows; [`LIMIT_DEFAULT`] when absent, never more than [`LIMIT_MAX`].
    pub limit: Option<u32>,
}

impl PageRequest {
    /// Begins at the first row, with the greatest page.
    pub const fn whole() -> Self {
        Self { cursor: None, limit: Some(LIMIT_MAX) }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX)
    }

    /// One row more than the page has: it tells whether there is a next page.
    pub(crate) fn fetch(&self) -> u32 {
        self.limit().saturating_add(1)
    }

    /// Cuts the page from the rows fetched.
    pub(crate) fn page<T>(&self, mut rows: Vec<T>, key: impl FnOnce(&T) -> String) -> Page<T> {
        let limit = usize::try_from(self.limit()).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = if more { rows.last().map(key) } else { None };
        Page { items: rows, next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_has_no_cursor() {
        let request = PageRequest { cursor: None, limit: Some(2) };
        let page = request.page(vec![1, 2, 3], ToString::to_string);
        assert_eq!((page.items, page.next_cursor.as_deref()), (vec![1, 2], Some("2")));
        assert_eq!(request.page(vec![1, 2], ToString::to_string).next_cursor, None);
    }
}
