//! Who asks: the first argument of every service method.

use std::net::IpAddr;

use wharf_shared::id::{TenantId, UserId};
use wharf_shared::permission::Permission;
use wharf_shared::problem::ProblemKind;
use wharf_shared::user::Role;
pub(crate) use wharf_store::Scope;
pub(crate) use wharf_store::pagination::PageRequest;

use crate::error::{Result, ServiceError};

/// The caller of a service, and the request it came with.
#[derive(Debug, Clone)]
pub(crate) struct Ctx {
    /// Name for the audit trail.
    pub(crate) actor: String,
    /// The user, unless the agent itself acts.
    pub(crate) user: Option<UserId>,
    pub(crate) role: Role,
    /// The tenant of a member.
    pub(crate) tenant: Option<TenantId>,
    pub(crate) request_id: String,
    pub(crate) address: Option<IpAddr>,
}

impl Ctx {
    /// The agent itself, doing the named task.
    pub(crate) fn system(task: &str) -> Self {
        Self {
            actor: format!("system:{task}"),
            user: None,
            role: Role::Admin,
            tenant: None,
            request_id: String::new(),
            address: None,
        }
    }

    /// Refuses a caller without the permission.
    pub(crate) fn require(&self, permission: Permission) -> Result<()> {
        if self.role.allows(permission) {
            Ok(())
        } else {
            Err(ServiceError::new(
                ProblemKind::Forbidden,
                format!("the role {} does not allow this; ask an admin", self.role.as_str()),
            ))
        }
    }

    /// What of the tenants' things this caller may see.
    pub(crate) fn scope(&self) -> Result<Scope> {
        match &self.tenant {
            Some(tenant) => Ok(Scope::Tenant(tenant.clone())),
            None => self.require(Permission::AllTenants).map(|()| Scope::All),
        }
    }

    /// The same, narrowed to one tenant when the caller asks for it.
    pub(crate) fn scope_of(&self, asked: Option<&TenantId>) -> Result<Scope> {
        match (self.scope()?, asked) {
            (scope, Some(tenant)) if scope.covers(tenant) => Ok(Scope::Tenant(tenant.clone())),
            (_, Some(tenant)) => Err(ServiceError::not_found("tenant", tenant.as_str())),
            (scope, None) => Ok(scope),
        }
    }

    /// The tenant a new thing shall belong to: the one asked for, if the caller may; else its own.
    pub(crate) fn tenant_for(&self, asked: Option<&TenantId>) -> Result<TenantId> {
        match self.scope_of(asked)? {
            Scope::Tenant(tenant) => Ok(tenant),
            Scope::All => Err(ServiceError::invalid_field("tenant", "say for which tenant")),
        }
    }
}
