//! Tenants' networks as they are shown.

use std::sync::Arc;

use wharf_shared::id::TenantId;
use wharf_shared::network::NetworkView;
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_store::pagination::PageRequest;
use wharf_store::{addresses, tenants};

use crate::containers::Deps;
use crate::ctx::Ctx;
use crate::error::Result;

/// The service.
#[derive(Clone)]
pub(crate) struct Networks {
    deps: Arc<Deps>,
}

impl Networks {
    pub(crate) fn new(deps: Arc<Deps>) -> Self {
        Self { deps }
    }

    pub(crate) async fn list(
        &self,
        ctx: &Ctx,
        tenant: Option<&TenantId>,
        page: &PageRequest,
    ) -> Result<Page<NetworkView>> {
        ctx.require(Permission::TenantRead)?;
        let mut tx = self.deps.db.read().await?;
        let found = tenants::list(&mut tx, &ctx.scope_of(tenant)?, page).await?;
        let mut items = Vec::with_capacity(found.items.len());
        for row in found.items {
            let network = self.deps.tenant_network(&row)?;
            let used = addresses::of_tenant(&mut tx, &row.id).await?.len();
            items.push(NetworkView {
                tenant: row.id,
                bridge: self.deps.network.instance().bridge(network.index),
                subnet: network.subnet.to_string(),
                gateway: wharf_network::ipam::gateway(network.subnet).to_string(),
                addresses_used: u32::try_from(used).unwrap_or(u32::MAX),
            });
        }
        Ok(Page { items, next_cursor: found.next_cursor })
    }
}
