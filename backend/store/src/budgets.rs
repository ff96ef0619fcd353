//! Budgets, and which of their thresholds were reached.
//!
//! A mark says that a threshold was reached; the row is made once, and whoever makes it tells of it in the
//! same transaction, with the bytes of its webhook. What follows from marks is computed from them again and
//! again, so that nothing is lost between the decision and the deed.

use wharf_shared::budget::{BudgetSpec, NoticeState};
use wharf_shared::id::TenantId;
use wharf_shared::page::Page;
use wharf_shared::time::Timestamp;

use crate::db::Tx;
use crate::error::StoreError;
use crate::pagination::PageRequest;
use crate::row::{Row, args, json};
use crate::scope::Scope;
use crate::statement::statements;

/// A tenant's budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetRecord {
    /// Whose.
    pub tenant: TenantId,
    /// The tenant's name.
    pub tenant_name: String,
    /// What it says.
    pub budget: BudgetSpec,
    /// Counts up with each change.
    pub version: i64,
    /// When it was set last.
    pub set_at: Timestamp,
}

/// That a threshold was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetMark {
    /// In per cent of the amount.
    pub percent: u32,
    /// When it was seen.
    pub at: Timestamp,
    /// What was spent then, an exact decimal.
    pub spent: String,
    /// Body of its webhook; empty if it has none.
    pub notice: String,
    /// What has become of that.
    pub notice_state: NoticeState,
    /// Why it was not taken.
    pub notice_problem: Option<String>,
}

/// Which mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkKey {
    /// Whose budget.
    pub tenant: TenantId,
    /// Begin of the month.
    pub from: Timestamp,
    /// The budget's version.
    pub version: i64,
    /// In per cent of the amount.
    pub percent: u32,
}

/// A webhook that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Of which mark.
    pub key: MarkKey,
    /// Its bytes.
    pub body: String,
    /// Where to, as the budget says now.
    pub url: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT b.tenant, t.name AS tenant_name, b.budget, b.version, b.set_at ",
            "FROM budgets b JOIN tenants t ON t.id = b.tenant WHERE (b.tenant = $1 OR $1 IS NULL) ",
            $rest
        )
    };
}

statements! {
    PUT = "INSERT INTO budgets (tenant, budget, version, set_at) VALUES ($1, $2, 1, $3) \
        ON CONFLICT (tenant) DO UPDATE SET budget = excluded.budget, version = budgets.version + 1, \
        set_at = excluded.set_at";
    REMOVE = "DELETE FROM budgets WHERE tenant = $1";
    LIST = select!("AND (b.tenant > $2 OR $2 IS NULL) ORDER BY b.tenant LIMIT $3");
    ALL = select!("ORDER BY b.tenant");
    MARKS = "SELECT percent, at, spent, notice, notice_state, notice_problem FROM budget_marks \
        WHERE tenant = $1 AND from_us = $2 AND version = $3 ORDER BY percent";
    MARK = "INSERT INTO budget_marks (tenant, from_us, version, percent, at, spent, notice, notice_state, \
        notice_attempts, notice_at, notice_problem) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $5, NULL) \
        ON CONFLICT DO NOTHING";
    NOTICES = "SELECT m.tenant, m.from_us, m.version, m.percent, m.notice, m.notice_attempts, b.budget \
        FROM budget_marks m JOIN budgets b ON b.tenant = m.tenant \
        WHERE m.notice_state = 'queued' AND m.notice_at <= $1 ORDER BY m.notice_at, m.tenant, m.percent LIMIT $2";
    SETTLE = "UPDATE budget_marks SET notice_state = $5, notice_attempts = notice_attempts + 1, notice_at = $6, \
        notice_problem = $7 WHERE tenant = $1 AND from_us = $2 AND version = $3 AND percent = $4 \
        AND notice_state = 'queued'";
}

fn record(row: &Row) -> Result<BudgetRecord, StoreError> {
    Ok(BudgetRecord {
        tenant: row.parsed("tenant")?,
        tenant_name: row.text("tenant_name")?,
        budget: row.json("budget")?,
        version: row.integer("version")?,
        set_at: row.time("set_at")?,
    })
}

/// Gives a tenant that exists a budget, in place of the one it may have.
///
/// # Errors
///
/// Those of the database.
pub async fn put(tx: &mut Tx, tenant: &TenantId, spec: &BudgetSpec, at: Timestamp) -> Result<(), StoreError> {
    tx.execute(PUT, args![tenant, json("budget", spec)?, at]).await.map(drop)
}

/// Takes a tenant's budget away, with its marks.
///
/// # Errors
///
/// [`StoreError::NotFound`] if it has none.
pub async fn remove(tx: &mut Tx, tenant: &TenantId) -> Result<(), StoreError> {
    match tx.execute(REMOVE, args![tenant]).await? {
        0 => Err(StoreError::NotFound("budget")),
        _ => Ok(()),
    }
}

/// A tenant's budget.
///
/// # Errors
///
/// [`StoreError::NotFound`] if it has none.
pub async fn get(tx: &mut Tx, tenant: &TenantId) -> Result<BudgetRecord, StoreError> {
    let row = tx.row(ALL, args![Some(tenant)]).await?;
    row.as_ref().map(record).transpose()?.ok_or(StoreError::NotFound("budget"))
}

/// Budgets in the order of their tenants' ids.
///
/// # Errors
///
/// Those of the database.
pub async fn list(tx: &mut Tx, scope: &Scope, page: &PageRequest) -> Result<Page<BudgetRecord>, StoreError> {
    let rows = tx.rows(LIST, args![scope.tenant(), page.cursor.as_deref(), page.fetch()]).await?;
    let records = rows.iter().map(record).collect::<Result<_, _>>()?;
    Ok(page.page(records, |record: &BudgetRecord| record.tenant.to_string()))
}

/// Every budget.
///
/// # Errors
///
/// Those of the database.
pub async fn all(tx: &mut Tx) -> Result<Vec<BudgetRecord>, StoreError> {
    tx.rows(ALL, args![None::<&TenantId>]).await?.iter().map(record).collect()
}

/// The thresholds that this version of the budget has reached in the month that begins at `from`, rising.
///
/// # Errors
///
/// Those of the database.
pub async fn marks(
    tx: &mut Tx,
    tenant: &TenantId,
    from: Timestamp,
    version: i64,
) -> Result<Vec<BudgetMark>, StoreError> {
    let mark = |row: &Row| {
        Ok(BudgetMark {
            percent: row.number("percent")?,
            at: row.time("at")?,
            spent: row.text("spent")?,
            notice: row.text("notice")?,
            notice_state: row.word("notice_state", NoticeState::from_name)?,
            notice_problem: row.optional_text("notice_problem")?,
        })
    };
    tx.rows(MARKS, args![tenant, from, version]).await?.iter().map(mark).collect()
}

/// Marks a threshold as reached; `false`, and nothing changed, if it is already.
///
/// # Errors
///
/// Those of the database, among them that the tenant has no budget.
pub async fn mark(tx: &mut Tx, key: &MarkKey, mark: &BudgetMark) -> Result<bool, StoreError> {
    let state = mark.notice_state.as_str();
    let values =
        args![&key.tenant, key.from, key.version, key.percent, mark.at, &mark.spent, &mark.notice, state];
    Ok(tx.execute(MARK, values).await? > 0)
}

/// Webhooks whose turn it is, those that wait longest first.
///
/// # Errors
///
/// Those of the database.
pub async fn notices(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
    let notice = |row: &Row| {
        let budget: BudgetSpec = row.json("budget")?;
        Ok(Notice {
            key: MarkKey {
                tenant: row.parsed("tenant")?,
                from: row.time("from_us")?,
                version: row.integer("version")?,
                percent: row.number("percent")?,
            },
            body: row.text("notice")?,
            url: budget.webhook_url,
            attempts: row.number("notice_attempts")?,
        })
    };
    tx.rows(NOTICES, args![now, limit]).await?.iter().map(notice).collect()
}

/// Writes what became of an attempt: with [`NoticeState::Queued`] it is tried again at `at`.
///
/// # Errors
///
/// Those of the database.
pub async fn settle_notice(
    tx: &mut Tx,
    key: &MarkKey,
    state: NoticeState,
    at: Timestamp,
    problem: Option<&str>,
) -> Result<(), StoreError> {
    let values = args![&key.tenant, key.from, key.version, key.percent, state.as_str(), at, problem];
    tx.execute(SETTLE, values).await.map(drop)
}
