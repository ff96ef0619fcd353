//! Price books: versions that are added and never changed.

use wharf_shared::billing::{PriceBookSpec, PriceBookView};
use wharf_shared::id::PriceBookId;
use wharf_shared::page::Page;
use wharf_shared::time::Timestamp;

use crate::db::Tx;
use crate::error::StoreError;
use crate::pagination::PageRequest;
use crate::row::{Row, args, json};
use crate::statement::statements;

statements! {
    INSERT = "INSERT INTO price_books (id, currency, effective_from, book, created_at, created_by) \
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    OTHER_CURRENCY = "SELECT id FROM price_books WHERE currency <> $1 LIMIT 1";
    LIST = "SELECT id, book, created_at FROM price_books \
        WHERE (effective_from < $1 OR $1 IS NULL) ORDER BY effective_from DESC LIMIT $2";
    ALL = "SELECT id, book, created_at FROM price_books ORDER BY effective_from";
}

fn view(row: &Row) -> Result<PriceBookView, StoreError> {
    Ok(PriceBookView { id: row.parsed("id")?, book: row.json("book")?, created_at: row.time("created_at")? })
}

/// Adds a version. There is one version for a moment, and one currency for all.
pub async fn insert(
    tx: &mut Tx,
    id: &PriceBookId,
    book: &PriceBookSpec,
    created_at: Timestamp,
    created_by: &str,
) -> Result<PriceBookView, StoreError> {
    // One at a time, so that what is seen of the others stays true.
    tx.count_up("price books", 1).await?;
    if tx.row(OTHER_CURRENCY, args![&book.currency]).await?.is_some() {
        return Err(StoreError::Refused("another version of the price book has another currency"));
    }
    let text = json("book", book)?;
    let values = args![id, &book.currency, book.effective_from, text, created_at, created_by];
    if tx.execute(INSERT, values).await? == 0 {
        return Err(StoreError::Taken("begin of validity"));
    }
    Ok(PriceBookView { id: id.clone(), book: book.clone(), created_at })
}

/// Versions, the last to take effect first.
pub async fn list(tx: &mut Tx, page: &PageRequest) -> Result<Page<PriceBookView>, StoreError> {
    let before = page.cursor.as_deref().map(str::parse::<i64>).transpose();
    let before = before.ok().ok_or(StoreError::Refused("the cursor is not one of this list"))?;
    let rows = tx.rows(LIST, args![before, page.fetch()]).await?;
    let books = rows.iter().map(view).collect::<Result<_, _>>()?;
    Ok(page.page(books, |view: &PriceBookView| view.book.effective_from.0.to_string()))
}

/// Every version in the order in which they take effect: what rating needs.
pub async fn all(tx: &mut Tx) -> Result<Vec<PriceBookView>, StoreError> {
    tx.rows(ALL, args![]).await?.iter().map(view).collect()
}
