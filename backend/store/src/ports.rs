//! Published ports of the host: one port of one address, one container.

use std::net::Ipv4Addr;

use wharf_shared::id::ContainerId;
use wharf_shared::network::{PortMapping, Protocol};

use crate::db::Tx;
use crate::error::StoreError;
use crate::row::{Row, args};
use crate::statement::statements;

statements! {
    CONFLICT = "SELECT container FROM ports WHERE protocol = $1 AND host_port = $2 \
        AND (host_ip = $3 OR host_ip = '' OR $3 = '')";
    TAKE = "INSERT INTO ports (protocol, host_port, host_ip, container, container_port) \
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    IN_USE = "SELECT DISTINCT host_port FROM ports WHERE protocol = $1 ORDER BY host_port";
    OF_CONTAINER = "SELECT protocol, host_port, host_ip, container_port FROM ports WHERE container = $1 \
        ORDER BY container_port, protocol, host_port, host_ip";
    LIST = "SELECT protocol, host_port, host_ip, container_port, container FROM ports \
        ORDER BY protocol, host_port, host_ip";
    RELEASE = "DELETE FROM ports WHERE container = $1";
}

fn mapping(row: &Row) -> Result<PortMapping, StoreError> {
    let protocol =
        |name: &str| [Protocol::Tcp, Protocol::Udp].into_iter().find(|known| known.as_str() == name);
    Ok(PortMapping {
        host_ip: row.optional_parsed("host_ip")?,
        host_port: Some(row.number("host_port")?),
        container_port: row.number("container_port")?,
        protocol: row.word("protocol", protocol)?,
    })
}

/// Publishes ports whose `host_port` is chosen. "Every address" and one address exclude each other.
pub async fn take(tx: &mut Tx, container: &ContainerId, mappings: &[PortMapping]) -> Result<(), StoreError> {
    if mappings.is_empty() {
        return Ok(());
    }
    // No key can say that '' excludes every other address, so takers stand in line.
    tx.count_up("ports", 1).await?;
    for mapping in mappings {
        let port = mapping.host_port.ok_or(StoreError::Refused("a host port must be chosen first"))?;
        let ip = mapping.host_ip.filter(|ip| !ip.is_unspecified()).map(|ip: Ipv4Addr| ip.to_string());
        let (protocol, port, ip) = (mapping.protocol.as_str(), u32::from(port), ip.unwrap_or_default());
        if tx.row(CONFLICT, args![protocol, port, &ip]).await?.is_some() {
            return Err(StoreError::Taken("port"));
        }
        let values = args![protocol, port, &ip, container, u32::from(mapping.container_port)];
        if tx.execute(TAKE, values).await? == 0 {
            return Err(StoreError::Taken("port"));
        }
    }
    Ok(())
}

/// Host ports in use on any address.
pub async fn in_use(tx: &mut Tx, protocol: Protocol) -> Result<Vec<u16>, StoreError> {
    let rows = tx.rows(IN_USE, args![protocol.as_str()]).await?;
    rows.iter().map(|row| row.number("host_port")).collect()
}

/// The container's published ports.
pub async fn of_container(tx: &mut Tx, container: &ContainerId) -> Result<Vec<PortMapping>, StoreError> {
    let rows = tx.rows(OF_CONTAINER, args![container]).await?;
    rows.iter().map(mapping).collect()
}

/// Every published port and its container.
pub async fn list(tx: &mut Tx) -> Result<Vec<(ContainerId, PortMapping)>, StoreError> {
    let rows = tx.rows(LIST, args![]).await?;
    rows.iter().map(|row| Ok((row.parsed("container")?, mapping(row)?))).collect()
}

/// The container publishes nothing any more; how many ports it had.
pub async fn release(tx: &mut Tx, container: &ContainerId) -> Result<u64, StoreError> {
    tx.execute(RELEASE, args![container]).await
}
