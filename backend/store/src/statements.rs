//! Statements and credit notes: what was issued, which never changes, and what happened to it since.
//!
//! Numbers have no gap: they are counted up in the transaction that issues.

use wharf_shared::id::{ContractId, TenantId};
use wharf_shared::page::Page;
use wharf_shared::statement::{StatementKind, StatementView};
use wharf_shared::time::Timestamp;

use crate::db::Tx;
use crate::error::StoreError;
use crate::pagination::PageRequest;
use crate::row::{Row, args, json};
use crate::scope::Scope;
use crate::statement::statements;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT s.seq, s.body, paid.at AS paid_at, voided.detail AS voided_by FROM statements AS s ",
            "LEFT JOIN statement_marks AS paid ON paid.number = s.number AND paid.kind = 'paid' ",
            "LEFT JOIN statement_marks AS voided ON voided.number = s.number AND voided.kind = 'voided' ",
            $rest
        )
    };
}

statements! {
    INSERT = "INSERT INTO statements (number, seq, kind, tenant, from_us, body, content_hash) \
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    MARK = "INSERT INTO statement_marks (number, kind, at, made_by, detail) VALUES ($1, $2, $3, $4, $5) \
        ON CONFLICT DO NOTHING";
    USE_CREDIT = "INSERT INTO statement_credits (number, contract, name, tenant, amount) \
        VALUES ($1, $2, $3, $4, $5)";
    GET = select!("WHERE s.number = $1 AND (s.tenant = $2 OR $2 IS NULL)");
    OF_PERIOD = select!("WHERE s.tenant = $1 AND s.from_us = $2 AND s.kind = 'statement' \
        AND voided.number IS NULL ORDER BY s.seq DESC LIMIT 1");
    LIST = select!("WHERE (s.tenant = $1 OR $1 IS NULL) AND (s.from_us = $2 OR $2 IS NULL) \
        AND (s.seq < $3 OR $3 IS NULL) ORDER BY s.seq DESC LIMIT $4");
    CREDITS_OF = "SELECT contract, name, amount FROM statement_credits WHERE number = $1 ORDER BY contract, name";
    USED_CREDITS = "SELECT contract, name, amount FROM statement_credits AS used WHERE tenant = $1 \
        AND NOT EXISTS (SELECT 1 FROM statement_marks AS mark WHERE mark.number = used.number \
            AND mark.kind = 'voided') ORDER BY number, contract, name";
}

/// What happens to a statement after it was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It was paid.
    Paid,
    /// A credit note, whose number is the detail, took it back.
    Voided,
}

impl Mark {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Voided => "voided",
        }
    }
}

/// A document as it was issued, and what happened to it since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementRecord {
    /// Its place in the order of issue.
    pub seq: i64,
    /// As it was issued.
    pub issued: StatementView,
    /// When it was paid.
    pub paid_at: Option<Timestamp>,
    /// The number of the credit note that took it back.
    pub voided_by: Option<String>,
}

/// A contract's credit, and how much of it statements have used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedCredit {
    /// The contract.
    pub contract: ContractId,
    /// The credit's name in it.
    pub name: String,
    /// Decimal number.
    pub amount: String,
}

fn record(row: &Row) -> Result<StatementRecord, StoreError> {
    Ok(StatementRecord {
        seq: row.integer("seq")?,
        issued: row.json("body")?,
        paid_at: row.optional_time("paid_at")?,
        voided_by: row.optional_text("voided_by")?,
    })
}

/// The next number of its kind. From here to the commit no other statement is issued, so whoever looks
/// after this whether the period has a statement, sees every one.
///
/// # Errors
///
/// Those of the database.
pub async fn next_number(tx: &mut Tx, kind: StatementKind) -> Result<String, StoreError> {
    let (counter, letter) = match kind {
        StatementKind::Statement => ("statement numbers", 'S'),
        StatementKind::CreditNote => ("credit note numbers", 'C'),
    };
    Ok(format!("{letter}-{:06}", tx.count_up(counter, 1).await?))
}

/// Keeps a document as it is issued. Its id is its number, and it has its content hash.
///
/// # Errors
///
/// Those of the database; one without a content hash is refused.
pub async fn insert(tx: &mut Tx, issued: &StatementView, credits: &[UsedCredit]) -> Result<(), StoreError> {
    let hash = issued.content_hash.as_deref();
    let hash = hash.ok_or(StoreError::Refused("a statement is issued with its content hash"))?;
    let seq = tx.count_up("statements", 1).await?;
    let body = json("body", issued)?;
    let values = args![&issued.id, seq, issued.kind.as_str(), &issued.tenant, issued.from, body, hash];
    tx.execute(INSERT, values).await?;
    for UsedCredit { contract, name, amount } in credits {
        tx.execute(USE_CREDIT, args![&issued.id, contract, name, &issued.tenant, amount]).await?;
    }
    Ok(())
}

/// Notes what happened to a document; `false` if that was noted before.
///
/// # Errors
///
/// Those of the database.
pub async fn mark(
    tx: &mut Tx,
    number: &str,
    mark: Mark,
    at: Timestamp,
    by: &str,
    detail: &str,
) -> Result<bool, StoreError> {
    Ok(tx.execute(MARK, args![number, mark.as_str(), at, by, detail]).await? > 0)
}

/// The document of this number.
///
/// # Errors
///
/// [`StoreError::NotFound`] without it, or if it is another tenant's.
pub async fn get(tx: &mut Tx, scope: &Scope, number: &str) -> Result<StatementRecord, StoreError> {
    let row = tx.row(GET, args![number, scope.tenant()]).await?;
    row.as_ref().map(record).transpose()?.ok_or(StoreError::NotFound("statement"))
}

/// The statement of a tenant's period that no credit note has taken back.
///
/// # Errors
///
/// Those of the database.
pub async fn of_period(
    tx: &mut Tx,
    tenant: &TenantId,
    from: Timestamp,
) -> Result<Option<StatementRecord>, StoreError> {
    tx.row(OF_PERIOD, args![tenant, from]).await?.as_ref().map(record).transpose()
}

/// Documents, the last issued first; only those of the period that begins at `from`, if it is given.
///
/// # Errors
///
/// Those of the database; a cursor of another list is refused.
pub async fn list(
    tx: &mut Tx,
    scope: &Scope,
    from: Option<Timestamp>,
    page: &PageRequest,
) -> Result<Page<StatementRecord>, StoreError> {
    let before = page.cursor.as_deref().map(str::parse::<i64>).transpose();
    let before = before.ok().ok_or(StoreError::Refused("the cursor is not one of this list"))?;
    let rows = tx.rows(LIST, args![scope.tenant(), from, before, page.fetch()]).await?;
    let records = rows.iter().map(record).collect::<Result<_, _>>()?;
    Ok(page.page(records, |record: &StatementRecord| record.seq.to_string()))
}

/// What a tenant's statements have used of its credits; those that were taken back have not.
///
/// # Errors
///
/// Those of the database.
pub async fn used_credits(tx: &mut Tx, tenant: &TenantId) -> Result<Vec<UsedCredit>, StoreError> {
    tx.rows(USED_CREDITS, args![tenant]).await?.iter().map(credit).collect()
}

/// What one statement has used of its tenant's credits, also if it was taken back.
///
/// # Errors
///
/// Those of the database.
pub async fn credits_of(tx: &mut Tx, number: &str) -> Result<Vec<UsedCredit>, StoreError> {
    tx.rows(CREDITS_OF, args![number]).await?.iter().map(credit).collect()
}

fn credit(row: &Row) -> Result<UsedCredit, StoreError> {
    Ok(UsedCredit { contract: row.parsed("contract")?, name: row.text("name")?, amount: row.text("amount")? })
}
