//! The audit trail: who did what. The actor comes from the credentials, never from a body.

use std::collections::BTreeMap;

use wharf_shared::event::AuditView;
use wharf_shared::id::TenantId;
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::problem::ProblemKind;
use wharf_store::Tx;
use wharf_store::audit::{self, NewAudit};

use super::EventBus;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};

/// Entries on a page when the client does not say, and at most.
const LIMIT: (u32, u32) = (100, 1_000);

/// Something somebody did or tried to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deed {
    /// Noun and verb, such as `container.create`.
    pub(crate) action: &'static str,
    /// Whose thing it was done to.
    pub(crate) tenant: Option<TenantId>,
    /// Id or reference of the thing.
    pub(crate) subject: String,
    /// Why it was refused; `None` is a deed that was done.
    pub(crate) refused: Option<ProblemKind>,
    /// More, by action.
    pub(crate) detail: BTreeMap<String, String>,
}

impl EventBus {
    /// Writes an entry of the audit trail in the transaction of the change.
    pub(crate) async fn audit(&self, tx: &mut Tx, ctx: &Ctx, deed: Deed) -> Result<()> {
        let entry = NewAudit {
            at: self.clock.now(),
            actor: ctx.actor.clone(),
            address: ctx.address.map(|address| address.to_string()),
            request_id: ctx.request_id.clone(),
            action: deed.action.to_owned(),
            tenant: deed.tenant,
            subject: deed.subject,
            outcome: deed.refused.map_or("done", ProblemKind::slug).to_owned(),
            detail: deed.detail,
        };
        audit::append(tx, &entry).await?;
        Ok(())
    }

    /// The trail, newest first; the cursor is the number before which the next page begins.
    pub(crate) async fn trail(
        &self,
        ctx: &Ctx,
        before: Option<i64>,
        limit: Option<u32>,
    ) -> Result<Page<AuditView>, ServiceError> {
        ctx.require(Permission::UserManage)?;
        let limit = limit.unwrap_or(LIMIT.0).clamp(1, LIMIT.1);
        let mut items = audit::list(&mut self.db.read().await?, before, limit.saturating_add(1)).await?;
        let fits = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > fits;
        items.truncate(fits);
        let next_cursor = items.last().filter(|_| more).map(|entry| entry.seq.to_string());
        Ok(Page { items, next_cursor })
    }
}
