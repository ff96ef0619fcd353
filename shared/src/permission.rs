//! Who may do what: one table of roles and permissions.

use serde::{Deserialize, Serialize};

use crate::user::Role;

/// Something one may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// See containers, images, volumes, usage and events of one's own tenant.
    TenantRead,
    /// Make, change and remove containers, images and volumes of one's own tenant.
    TenantWrite,
    /// Act in every tenant.
    AllTenants,
    /// Bind host paths and devices, join the host's network, add capabilities.
    HostAccess,
    /// See the host, its tasks and checks.
    HostRead,
    /// Make, change and remove tenants and their budgets. What they owe is none of it.
    TenantManage,
    /// Make and remove users, and see the audit trail.
    UserManage,
    /// Decide over money: add price books and contracts; issue, mark as paid and void statements.
    PriceManage,
    /// Put right what a reading counted.
    LedgerCorrect,
}

impl Role {
    /// Whether the role has the permission.
    pub const fn allows(self, permission: Permission) -> bool {
        use Permission as P;
        match self {
            Self::Admin => true,
            Self::Operator => matches!(
                permission,
                P::TenantRead
                    | P::TenantWrite
                    | P::AllTenants
                    | P::HostAccess
                    | P::HostRead
                    | P::TenantManage
                    | P::LedgerCorrect
            ),
            Self::Member => matches!(permission, P::TenantRead | P::TenantWrite),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_touches_neither_the_host_nor_other_tenants() {
        for permission in [
            Permission::AllTenants,
            Permission::HostAccess,
            Permission::HostRead,
            Permission::UserManage,
            Permission::LedgerCorrect,
        ] {
            assert!(!Role::Member.allows(permission));
        }
        assert!(!Role::Operator.allows(Permission::UserManage));
        assert!(!Role::Operator.allows(Permission::PriceManage));
    }
}
