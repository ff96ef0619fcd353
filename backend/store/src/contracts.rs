//! Contracts: added, given an end once, and never changed otherwise.

use wharf_shared::billing::{ContractSpec, ContractView};
use wharf_shared::id::{ContractId, TenantId};
use wharf_shared::page::Page;
use wharf_shared::time::Timestamp;

use crate::db::Tx;
use crate::error::StoreError;
use crate::pagination::PageRequest;
use crate::row::{Row, args, json};
use crate::statement::statements;

statements! {
    INSERT = "INSERT INTO contracts (id, tenant, from_us, to_us, contract, created_at, created_by) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    END = "UPDATE contracts SET to_us = $2, contract = $3 WHERE id = $1 AND to_us IS NULL";
    GET = "SELECT id, contract, created_at FROM contracts WHERE id = $1";
    LIST = "SELECT id, contract, created_at FROM contracts \
        WHERE (tenant = $1 OR $1 IS NULL) AND (id < $2 OR $2 IS NULL) ORDER BY id DESC LIMIT $3";
    ALL = "SELECT id, contract, created_at FROM contracts ORDER BY tenant, from_us";
}

fn view(row: &Row) -> Result<ContractView, StoreError> {
    Ok(ContractView {
        id: row.parsed("id")?,
        contract: row.json("contract")?,
        created_at: row.time("created_at")?,
    })
}

/// Lets nobody else add or end a contract until this transaction ends: what it sees of them stays true.
pub async fn lock(tx: &mut Tx) -> Result<(), StoreError> {
    tx.count_up("contracts", 1).await.map(drop)
}

/// Adds a contract. Whoever calls has taken [`lock`] and seen that it overlaps no other, in the same transaction.
///
/// # Errors
///
/// [`StoreError::Taken`] if the tenant has one that begins at this hour.
pub async fn insert(
    tx: &mut Tx,
    id: &ContractId,
    contract: &ContractSpec,
    created_at: Timestamp,
    created_by: &str,
) -> Result<ContractView, StoreError> {
    let text = json("contract", contract)?;
    let values = args![id, &contract.tenant, contract.from, contract.to, text, created_at, created_by];
    if tx.execute(INSERT, values).await? == 0 {
        return Err(StoreError::Taken("begin of the contract"));
    }
    Ok(ContractView { id: id.clone(), contract: contract.clone(), created_at })
}

/// Gives a contract that has none an end.
///
/// # Errors
///
/// [`StoreError::NotFound`] without such a contract, [`StoreError::Stale`] if it has an end.
pub async fn end(tx: &mut Tx, id: &ContractId, to: Timestamp) -> Result<ContractView, StoreError> {
    let mut found = get(tx, id).await?;
    found.contract.to = Some(to);
    let text = json("contract", &found.contract)?;
    if tx.execute(END, args![id, to, text]).await? == 0 {
        return Err(StoreError::Stale("contract"));
    }
    Ok(found)
}

/// One contract.
///
/// # Errors
///
/// [`StoreError::NotFound`] without it.
pub async fn get(tx: &mut Tx, id: &ContractId) -> Result<ContractView, StoreError> {
    tx.row(GET, args![id]).await?.as_ref().map(view).transpose()?.ok_or(StoreError::NotFound("contract"))
}

/// Contracts, the newest first.
///
/// # Errors
///
/// Those of the database.
pub async fn list(
    tx: &mut Tx,
    tenant: Option<&TenantId>,
    page: &PageRequest,
) -> Result<Page<ContractView>, StoreError> {
    let rows = tx.rows(LIST, args![tenant, page.cursor.as_deref(), page.fetch()]).await?;
    let views = rows.iter().map(view).collect::<Result<_, _>>()?;
    Ok(page.page(views, |view: &ContractView| view.id.to_string()))
}

/// Every contract: what rating needs.
///
/// # Errors
///
/// Those of the database.
pub async fn all(tx: &mut Tx) -> Result<Vec<ContractView>, StoreError> {
    tx.rows(ALL, args![]).await?.iter().map(view).collect()
}
