//! Contracts: what one tenant pays in place of what the price book says.

use wharf_billing::contract::{self, Contracts};
use wharf_shared::billing::{ContractSpec, ContractView};
use wharf_shared::id::{ContractId, TenantId};
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::time::Timestamp;
use wharf_store::pagination::PageRequest;
use wharf_store::{StoreError, Tx, contracts, tenants};

use super::{Billing, field};
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};
use crate::events::Change;

impl Billing {
    /// Contracts, the newest first; a member sees its own tenant's.
    pub(crate) async fn contracts(
        &self,
        ctx: &Ctx,
        tenant: Option<&TenantId>,
        page: &PageRequest,
    ) -> Result<Page<ContractView>> {
        ctx.require(Permission::TenantRead)?;
        let scope = ctx.scope_of(tenant)?;
        Ok(contracts::list(&mut self.0.db.read().await?, scope.tenant(), page).await?)
    }

    /// Adds a contract. Hours that are over keep their price.
    pub(crate) async fn add_contract(&self, ctx: &Ctx, spec: ContractSpec) -> Result<ContractView> {
        ctx.require(Permission::PriceManage)?;
        let now = self.0.clock.now();
        let mut fields = contract::problems(&spec);
        if spec.from < now.hour_start() {
            let earliest = now.hour_start();
            let detail = format!("hours that are over keep their price; {earliest} is the earliest");
            fields.push(field("from", detail));
        }
        if !fields.is_empty() {
            return Err(ServiceError::invalid(fields));
        }
        let id = crate::ids::new("ctr_")?;
        let mut tx = self.0.db.begin().await?;
        let tenant_name = match tenants::get(&mut tx, &spec.tenant).await {
            Err(StoreError::NotFound(_)) => {
                let detail = format!("there is no tenant {}; make it first", spec.tenant);
                return Err(ServiceError::invalid_field("tenant", detail));
            }
            found => found?.name,
        };
        contracts::lock(&mut tx).await?;
        if let Some(problem) = read_contracts(&mut tx).await?.overlap(&spec) {
            return Err(ServiceError::invalid(vec![problem]));
        }
        let view = contracts::insert(&mut tx, &id, &spec, now, &ctx.actor).await?;
        let change = Change {
            kind: "contract.created",
            tenant: Some(spec.tenant),
            subject: id.to_string(),
            subject_name: tenant_name,
            ..Change::default()
        };
        self.0.events.changed(&mut tx, ctx, "contract.create", change).await?;
        tx.commit().await?;
        self.0.events.publish();
        Ok(view)
    }

    /// Gives a contract without an end one that is not over yet.
    pub(crate) async fn end_contract(
        &self,
        ctx: &Ctx,
        id: &ContractId,
        to: Timestamp,
    ) -> Result<ContractView> {
        ctx.require(Permission::PriceManage)?;
        let now = self.0.clock.now();
        let mut tx = self.0.db.begin().await?;
        let found = contracts::get(&mut tx, id).await?;
        let ended = ContractSpec { to: Some(to), ..found.contract };
        let mut fields = contract::problems(&ended);
        if to < now.hour_start() {
            let earliest = now.hour_start();
            let detail = format!("hours that are over keep their price; {earliest} is the earliest");
            fields.push(field("to", detail));
        }
        if !fields.is_empty() {
            return Err(ServiceError::invalid(fields));
        }
        let view = match contracts::end(&mut tx, id, to).await {
            Err(StoreError::Stale(_)) => {
                return Err(ServiceError::conflict(
                    "the contract has an end already, and that never changes",
                ));
            }
            ended => ended?,
        };
        let change = Change {
            kind: "contract.ended",
            tenant: Some(view.contract.tenant.clone()),
            subject: id.to_string(),
            detail: [("to".to_owned(), to.to_string())].into(),
            ..Change::default()
        };
        self.0.events.changed(&mut tx, ctx, "contract.end", change).await?;
        tx.commit().await?;
        self.0.events.publish();
        Ok(view)
    }
}

/// Every contract, ready for rating.
pub(super) async fn read_contracts(tx: &mut Tx) -> Result<Contracts> {
    Contracts::new(&contracts::all(tx).await?)
        .map_err(|error| ServiceError::internal("a stored contract cannot be used", error))
}
