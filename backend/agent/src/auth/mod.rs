//! Who is asking: sign-in, sessions, API tokens, the first admin, WebSocket tickets.
//!
//! Everything that proves an identity is a 256-bit secret of which only the hash is stored
//! ([`secret`]), or a password ([`password`]). Sessions end when idle and in any case after a while;
//! tokens end on their date. A credential is looked up anew for each request together with its user,
//! so a removed user is out at once.

mod login;
mod password;
mod secret;
mod sessions;
mod setup;
mod throttle;
mod tickets;
mod tokens;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use wharf_shared::id::TenantId;
use wharf_shared::permission::Permission;
use wharf_shared::problem::ProblemKind;
use wharf_shared::time::{HOUR_US, SECOND_US, Timestamp};
use wharf_store::users::{self, UserRecord};
use wharf_store::{Db, StoreError};

use crate::clock::Clock;
use crate::config::Access;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};
use crate::events::EventBus;

pub(crate) use password::Passwords;
pub(crate) use secret::Secret;
pub(crate) use sessions::SessionGrant;
use throttle::{Rate, Throttle};
use tickets::Tickets;

/// Wrong passwords for one name: ten at once, then one in half a minute.
const NAME_RATE: Rate = Rate { burst: 10, one_in_us: 30 * SECOND_US };
/// Wrong passwords from one address: thirty at once, then one in five seconds.
const ADDRESS_RATE: Rate = Rate { burst: 30, one_in_us: 5 * SECOND_US };
/// Names, addresses and tenants that are remembered at once, about 100 bytes each.
const THROTTLE_CAPACITY: usize = 10_000;

/// From where a request comes, before anybody knows who sends it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) request_id: String,
    pub(crate) address: Option<IpAddr>,
}

/// With what a caller proved its identity.
#[derive(Debug, Clone)]
pub(crate) enum Credential {
    /// A browser's cookie.
    Session { secret_hash: String, csrf_token: String, expires_at: Timestamp },
    /// A tool's token.
    Token { expires_at: Timestamp },
}

/// A caller whose credentials are good.
#[derive(Debug, Clone)]
pub(crate) struct SignedIn {
    pub(crate) ctx: Ctx,
    pub(crate) user: UserRecord,
    pub(crate) credential: Credential,
}

/// Proves identities and gives out what they are proved with.
#[derive(Debug)]
pub(crate) struct Auth {
    db: Db,
    clock: Arc<dyn Clock>,
    events: EventBus,
    passwords: Passwords,
    tickets: Tickets,
    by_name: Mutex<Throttle<String>>,
    by_address: Mutex<Throttle<IpAddr>>,
    changes: Mutex<Throttle<TenantId>>,
    idle_us: i64,
    max_us: i64,
}

impl Auth {
    pub(crate) fn new(
        access: &Access,
        db: Db,
        clock: Arc<dyn Clock>,
        events: EventBus,
        passwords: Passwords,
    ) -> Self {
        let changes = Rate::per_second(access.tenant_changes_per_s);
        Self {
            db,
            clock,
            events,
            passwords,
            tickets: Tickets::default(),
            by_name: Mutex::new(Throttle::new(NAME_RATE, THROTTLE_CAPACITY)),
            by_address: Mutex::new(Throttle::new(ADDRESS_RATE, THROTTLE_CAPACITY)),
            changes: Mutex::new(Throttle::new(changes, THROTTLE_CAPACITY)),
            idle_us: i64::from(access.session_idle_minutes) * 60 * SECOND_US,
            max_us: i64::from(access.session_max_hours) * HOUR_US,
        }
    }

    /// Counts a changing request of a tenant's member; refuses it when there are too many.
    pub(crate) fn count_change(&self, ctx: &Ctx) -> Result<()> {
        let Some(tenant) = ctx.tenant.as_ref().filter(|_| !ctx.role.allows(Permission::AllTenants)) else {
            return Ok(());
        };
        let now = self.clock.now();
        if self.changes.lock().unwrap_or_else(PoisonError::into_inner).take(tenant, now) {
            Ok(())
        } else {
            Err(ServiceError::new(ProblemKind::RateLimited, "the tenant sends too many changes; slow down"))
        }
    }

    /// A ticket for one WebSocket.
    pub(crate) fn ticket(&self, ctx: &Ctx) -> Result<Secret> {
        self.tickets.issue(ctx, self.clock.now())
    }

    /// Whose ticket it is; it is used up.
    pub(crate) async fn ticket_ctx(&self, ticket: &str) -> Result<Ctx> {
        let ctx = self.tickets.redeem(ticket, self.clock.now())?;
        self.recheck(&ctx).await?;
        Ok(ctx)
    }

    /// Whether a caller of a long-lived stream is still who it was: not removed, role and tenant unchanged.
    pub(crate) async fn recheck(&self, ctx: &Ctx) -> Result<()> {
        let Some(id) = &ctx.user else { return Ok(()) };
        match users::get(&mut self.db.one().await?, id).await {
            Ok(user) if user.role == ctx.role && user.tenant == ctx.tenant => Ok(()),
            Ok(_) | Err(StoreError::NotFound(_)) => {
                Err(unauthenticated("your account has changed; sign in again"))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn unauthenticated(detail: &str) -> ServiceError {
    ServiceError::new(ProblemKind::Unauthenticated, detail)
}

fn ctx_of(user: &UserRecord, client: &Client) -> Ctx {
    Ctx {
        actor: user.name.clone(),
        user: Some(user.id.clone()),
        role: user.role,
        tenant: user.tenant.clone(),
        request_id: client.request_id.clone(),
        address: client.address,
    }
}
