//! Addresses of containers: one address, one container.

use std::net::Ipv4Addr;

use wharf_shared::id::{ContainerId, TenantId};

use crate::db::Tx;
use crate::error::StoreError;
use crate::row::args;
use crate::statement::statements;

statements! {
    OF_TENANT = "SELECT address FROM addresses WHERE tenant = $1";
    OF_CONTAINER = "SELECT address FROM addresses WHERE container = $1";
    TAKE = "INSERT INTO addresses (address, tenant, container) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    RELEASE = "DELETE FROM addresses WHERE container = $1";
}

/// Addresses in use in a tenant's network.
pub async fn of_tenant(tx: &mut Tx, tenant: &TenantId) -> Result<Vec<Ipv4Addr>, StoreError> {
    let rows = tx.rows(OF_TENANT, args![tenant]).await?;
    rows.iter().map(|row| row.parsed("address")).collect()
}

/// The container's address, if it has one.
pub async fn find(tx: &mut Tx, container: &ContainerId) -> Result<Option<Ipv4Addr>, StoreError> {
    tx.row(OF_CONTAINER, args![container]).await?.map(|row| row.parsed("address")).transpose()
}

/// Gives the container this address.
pub async fn take(
    tx: &mut Tx,
    tenant: &TenantId,
    container: &ContainerId,
    address: Ipv4Addr,
) -> Result<(), StoreError> {
    match tx.execute(TAKE, args![address.to_string(), tenant, container]).await? {
        0 => Err(StoreError::Taken("address")),
        _ => Ok(()),
    }
}

/// The container has no address any more; whether it had one.
pub async fn release(tx: &mut Tx, container: &ContainerId) -> Result<bool, StoreError> {
    Ok(tx.execute(RELEASE, args![container]).await? > 0)
}
