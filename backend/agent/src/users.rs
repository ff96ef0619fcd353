//! Users: made and removed by admins. The first one is made by `auth/setup.rs`.

use std::sync::Arc;

use wharf_shared::id::UserId;
use wharf_shared::name;
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::problem::{FieldProblem, ProblemKind};
use wharf_shared::user::{Role, UserSpec, UserView};
use wharf_store::pagination::PageRequest;
use wharf_store::users::{self, UserRecord};
use wharf_store::{Db, StoreError, tenants};

use crate::auth::Passwords;
use crate::clock::Clock;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};
use crate::events::{Change, EventBus};

/// The service of users.
#[derive(Debug)]
pub(crate) struct Users {
    db: Db,
    clock: Arc<dyn Clock>,
    events: EventBus,
    passwords: Passwords,
}

impl Users {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>, events: EventBus, passwords: Passwords) -> Self {
        Self { db, clock, events, passwords }
    }

    /// All users, by name.
    pub(crate) async fn list(&self, ctx: &Ctx, page: &PageRequest) -> Result<Page<UserView>> {
        ctx.require(Permission::UserManage)?;
        let Page { items, next_cursor } = users::list(&mut self.db.read().await?, page).await?;
        Ok(Page { items: items.into_iter().map(UserView::from).collect(), next_cursor })
    }

    /// Makes a user.
    pub(crate) async fn create(&self, ctx: &Ctx, spec: UserSpec) -> Result<UserView> {
        ctx.require(Permission::UserManage)?;
        check(&spec)?;
        let user = UserRecord {
            id: crate::ids::new("usr_")?,
            password_hash: self.passwords.hash("password", &spec.password).await?,
            name: spec.name,
            role: spec.role,
            tenant: spec.tenant,
            created_at: self.clock.now(),
        };
        let mut tx = self.db.begin().await?;
        if let Some(tenant) = &user.tenant {
            match tenants::get(&mut tx, tenant).await {
                Err(StoreError::NotFound(_)) => {
                    return Err(ServiceError::invalid_field("tenant", "there is no such tenant"));
                }
                other => drop(other?),
            }
        }
        match users::insert(&mut tx, &user).await {
            Err(StoreError::Taken(_)) => {
                return Err(ServiceError::new(ProblemKind::NameTaken, "another user has this name"));
            }
            other => other?,
        }
        self.events.changed(&mut tx, ctx, "user.create", change("user.created", &user)).await?;
        tx.commit().await?;
        self.events.publish();
        Ok(user.into())
    }

    /// Removes a user with its sessions and tokens.
    pub(crate) async fn delete(&self, ctx: &Ctx, id: &UserId) -> Result<()> {
        ctx.require(Permission::UserManage)?;
        let mut tx = self.db.begin().await?;
        let user = match users::get(&mut tx, id).await {
            Err(StoreError::NotFound(_)) => return Err(ServiceError::not_found("user", id.as_str())),
            other => other?,
        };
        if user.role == Role::Admin && users::count_admins(&mut tx).await? <= 1 {
            return Err(ServiceError::conflict("this is the last admin; make another one first"));
        }
        users::delete(&mut tx, id).await?;
        self.events.changed(&mut tx, ctx, "user.delete", change("user.removed", &user)).await?;
        tx.commit().await?;
        self.events.publish();
        Ok(())
    }
}

fn check(spec: &UserSpec) -> Result<()> {
    let mut fields = Vec::new();
    let mut refuse =
        |field: &str, detail: String| fields.push(FieldProblem { field: field.to_owned(), detail });
    if let Err(error) = name::check(&spec.name) {
        refuse("name", error.to_string());
    }
    match (spec.role, &spec.tenant) {
        (Role::Member, None) => refuse("tenant", "a member belongs to a tenant; say to which".to_owned()),
        (Role::Admin | Role::Operator, Some(_)) => {
            refuse("tenant", "only members belong to a tenant; leave it out".to_owned());
        }
        (Role::Member, Some(_)) | (Role::Admin | Role::Operator, None) => {}
    }
    if fields.is_empty() { Ok(()) } else { Err(ServiceError::invalid(fields)) }
}

fn change(kind: &'static str, user: &UserRecord) -> Change {
    Change {
        kind,
        // An event of the host: who works for a tenant is not told to its members.
        tenant: None,
        subject: user.id.to_string(),
        subject_name: user.name.clone(),
        detail: [("role".to_owned(), user.role.as_str().to_owned())].into(),
    }
}
