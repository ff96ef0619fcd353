//! Whose things a query may see.

use wharf_shared::id::TenantId;

/// Every query of what tenants own takes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every tenant's (operators, and the agent itself).
    All,
    /// One tenant's.
    Tenant(TenantId),
}

impl Scope {
    /// The tenant it is limited to.
    pub const fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::All => None,
            Self::Tenant(tenant) => Some(tenant),
        }
    }

    /// Whether a thing of this tenant is inside.
    pub fn covers(&self, tenant: &TenantId) -> bool {
        self.tenant().is_none_or(|own| own == tenant)
    }
}
