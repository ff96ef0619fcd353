//! Statements and credit notes: what was issued, which never changes, and what happened to it since.
//!
//! Numbers have no gap: they are counted up in the transaction that issues.

use wharf_billing::statement::stored_hash;
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
            "SELECT s.seq, s.number, s.kind, s.tenant, s.from_us, s.body, s.content_hash, paid.at AS paid_at, ",
            "voided.detail AS voided_by FROM statements AS s ",
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
    NUMBER_OF_PERIOD = "SELECT number FROM statements AS s WHERE tenant = $1 AND from_us = $2 \
        AND kind = 'statement' AND NOT EXISTS (SELECT 1 FROM statement_marks AS mark \
            WHERE mark.number = s.number AND mark.kind = 'voided') ORDER BY seq DESC LIMIT 1";
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
    /// Its number.
    pub number: String,
    /// What it is.
    pub kind: StatementKind,
    /// Whose.
    pub tenant: TenantId,
    /// Begin of its period.
    pub from: Timestamp,
    /// When it was paid.
    pub paid_at: Option<Timestamp>,
    /// The number of the credit note that took it back.
    pub voided_by: Option<String>,
    body: String,
    content_hash: String,
}

/// What is stored is not what was issued.
#[derive(Debug, thiserror::Error)]
#[error("its content has another hash than it was issued with")]
struct Changed;

impl StatementRecord {
    /// As it was issued.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if what is stored has another hash than what was issued, or cannot be read.
    pub fn issued(&self) -> Result<StatementView, StoreError> {
        const COLUMN: &str = "statements.body";
        let corrupt = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Corrupt {
            column: COLUMN,
            source: Some(source),
        };
        if stored_hash(&self.body, &self.content_hash).as_ref() != Some(&self.content_hash) {
            return Err(corrupt(Changed.into()));
        }
        serde_json::from_str(&self.body).map_err(|error| corrupt(error.into()))
    }
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
        number: row.text("number")?,
        kind: row.word("kind", StatementKind::from_name)?,
        tenant: row.parsed("tenant")?,
        from: row.time("from_us")?,
        paid_at: row.optional_time("paid_at")?,
        voided_by: row.optional_text("voided_by")?,
        body: row.text("body")?,
        content_hash: row.text("content_hash")?,
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
    let body = json("body", issued)?;
    if stored_hash(&body, hash).as_deref() != Some(hash) {
        return Err(StoreError::Refused("a statement's content hash is not that of its content"));
    }
    let seq = tx.count_up("statements", 1).await?;
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

/// Its number only, for who has no use for the rest.
///
/// # Errors
///
/// Those of the database.
pub async fn number_of_period(
    tx: &mut Tx,
    tenant: &TenantId,
    from: Timestamp,
) -> Result<Option<String>, StoreError> {
    tx.row(NUMBER_OF_PERIOD, args![tenant, from]).await?.map(|row| row.text("number")).transpose()
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

#[cfg(test)]
mod tests {
    use wharf_billing::statement::{bytes_hash, content_hash};

    use super::*;
    use crate::Db;

    const DAMAGE: &str = "UPDATE statements SET body = $2 WHERE number = $1";

    fn statement(number: &str) -> StatementView {
        let body = serde_json::json!({
            "id": number, "kind": "statement", "status": "issued", "provider": "Example",
            "tenant": "tnt_00000000-0000-7000-8000-000000000001", "tenant_name": "\"content_hash\":\"0\"",
            "from": Timestamp(0), "to": Timestamp(1), "currency": "EUR", "price_books": [], "contracts": [],
            "lines": [], "net": "1", "tax": "0", "total": "1", "adjustment": "0", "evidence_hash": "",
        });
        let view: StatementView = serde_json::from_value(body).expect("a statement");
        let content_hash = content_hash(&view).ok();
        StatementView { content_hash, ..view }
    }

    #[tokio::test]
    async fn a_damaged_statement_is_found_and_hides_no_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let db =
            Db::connect(&format!("sqlite:{}/store.db", directory.path().display())).await.expect("opens");
        let mut tx = db.begin().await.expect("begins");
        for number in ["S-000001", "S-000002", "S-000003"] {
            insert(&mut tx, &statement(number), &[]).await.expect("kept");
        }
        let whole = list(&mut tx, &Scope::All, None, &PageRequest::default()).await.expect("reads");
        assert!(whole.items.iter().all(|of| of.issued().is_ok()));
        let body = |at: usize| whole.items.get(at).expect("three").body.clone();
        let cheaper = body(1).replace("\"total\":\"1\"", "\"total\":\"0\"");
        tx.execute(DAMAGE, args!["S-000002", cheaper]).await.expect("written");
        tx.execute(DAMAGE, args!["S-000003", "torn"]).await.expect("written");
        let now = list(&mut tx, &Scope::All, None, &PageRequest::default()).await.expect("reads");
        let good: Vec<_> = now.items.iter().map(|of| (of.number.as_str(), of.issued().is_ok())).collect();
        assert_eq!(good, [("S-000003", false), ("S-000002", false), ("S-000001", true)]);
    }

    #[test]
    fn a_document_s_hash_is_that_of_its_bytes_whatever_version_wrote_them() {
        let view = statement("S-000001");
        let hash = view.content_hash.clone().expect("set");
        let body = serde_json::to_string(&view).expect("serializes");
        assert_eq!(stored_hash(&body, &hash), Some(hash.clone()), "as every version has computed it");
        // A later version's fields, which this one does not know and would not write again.
        let later = body.replace("\"net\"", "\"stamp\":7,\"net\"");
        let nulled = later.replace(&format!("\"{hash}\""), "null");
        let later_hash = bytes_hash(nulled.as_bytes());
        let later = later.replace(&hash, &later_hash);
        assert_eq!(stored_hash(&later, &later_hash), Some(later_hash.clone()));
        assert_ne!(stored_hash(&later.replace("stamp\":7", "stamp\":8"), &later_hash), Some(later_hash));
        assert_eq!(stored_hash("torn", &hash), None);
    }
}
