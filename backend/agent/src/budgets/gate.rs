//! What budgets refuse at present: asked at each start, so it is in memory and answers at once.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use wharf_billing::budget::Orders;
use wharf_shared::id::TenantId;
use wharf_shared::problem::ProblemKind;
use wharf_shared::time::Timestamp;
use wharf_store::budgets::BudgetRecord;

use crate::error::{Result, ServiceError};

/// What a budget orders, and its name in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) orders: Orders,
    /// Which budget.
    name: String,
    tenant_name: String,
    /// The end of the month.
    until: Timestamp,
}

impl Standing {
    pub(super) fn new(record: &BudgetRecord, orders: Orders, until: Timestamp) -> Self {
        let BudgetRecord { tenant_name, budget, .. } = record;
        let name =
            format!("the budget of the tenant {tenant_name} ({} {} a month)", budget.amount, budget.currency);
        Self { orders, name, tenant_name: tenant_name.clone(), until }
    }

    /// Why something is not done, and what helps.
    pub(super) fn why(&self, percent: u32, what: &str) -> String {
        let Self { name, tenant_name, until, .. } = self;
        format!(
            "{name} has reached {percent} %, so {what} until {until}; an operator can raise it with \
             `wharf budget set {tenant_name}`"
        )
    }

    fn refusal(&self, percent: u32, what: &str) -> ServiceError {
        ServiceError::new(ProblemKind::BudgetExceeded, self.why(percent, what))
    }
}

/// The tenants whose budgets order something.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<RwLock<HashMap<TenantId, Standing>>>);

impl Gate {
    /// Refuses a start that a budget forbids.
    pub(crate) fn require_start(&self, tenant: &TenantId) -> Result<()> {
        let refuses = |standing: &Standing| {
            let percent = standing.orders.refuse_starts?;
            Some(standing.refusal(percent, "no container of it is started"))
        };
        self.find(tenant).as_ref().and_then(refuses).map_or(Ok(()), Err)
    }

    /// Refuses to let go on what a budget has paused, or would at once.
    pub(crate) fn require_resume(&self, tenant: &TenantId) -> Result<()> {
        let refuses = |standing: &Standing| {
            let percent = standing.orders.freeze.or(standing.orders.stop)?;
            Some(standing.refusal(percent, "its containers stay paused"))
        };
        self.find(tenant).as_ref().and_then(refuses).map_or(Ok(()), Err)
    }

    pub(super) fn find(&self, tenant: &TenantId) -> Option<Standing> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    /// From now on a tenant's budget orders this.
    pub(super) fn set(&self, tenant: &TenantId, standing: Standing) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if standing.orders == Orders::default() {
            all.remove(tenant);
        } else {
            all.insert(tenant.clone(), standing);
        }
    }

    /// Of other tenants than these, nothing is ordered any more.
    pub(super) fn keep(&self, has_budget: impl Fn(&TenantId) -> bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|tenant, _| has_budget(tenant));
    }
}
