//! API tokens for tools: made by their user, shown once, ended on a date.

use wharf_shared::auth::{NewToken, TokenSpec, TokenView};
use wharf_shared::id::{TokenId, UserId};
use wharf_shared::name;
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::problem::ProblemKind;
use wharf_shared::time::{DAY_US, SECOND_US, Timestamp};
use wharf_store::pagination::PageRequest;
use wharf_store::{StoreError, tokens};

use super::secret::TOKEN_PREFIX;
use super::{Auth, Client, Credential, Secret, SignedIn, ctx_of, unauthenticated};
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};
use crate::events::Change;

/// A token lives so long when its maker does not say, and at most.
const DAYS: (u32, u32) = (90, 366);
/// "Last used" is written at most so often: a write for each request would be a disk flush for each.
const TOUCH_EVERY_US: i64 = 60 * SECOND_US;

impl Auth {
    /// For whom this token acts.
    pub(crate) async fn by_token(&self, secret: &str, client: &Client) -> Result<SignedIn> {
        let refuse = || unauthenticated("the token is not valid, or has ended");
        let hash = Secret::received(secret).ok_or_else(refuse)?.hash();
        let now = self.clock.now();
        let found = tokens::find(&mut self.db.one().await?, &hash, now).await?;
        let (token, user) = found.ok_or_else(refuse)?;
        if token.last_used_at.is_none_or(|used| now.0 - used.0 >= TOUCH_EVERY_US) {
            let mut tx = self.db.begin().await?;
            tokens::touch(&mut tx, &token.id, now).await?;
            tx.commit().await?;
        }
        let credential = Credential::Token { expires_at: token.expires_at };
        Ok(SignedIn { ctx: ctx_of(&user, client), user, credential })
    }

    /// The caller's tokens; an admin sees everybody's.
    pub(crate) async fn tokens(&self, ctx: &Ctx, page: &PageRequest) -> Result<Page<TokenView>> {
        let owner = owner(ctx)?;
        Ok(tokens::list(&mut self.db.read().await?, owner, page).await?)
    }

    /// Makes a token for the caller itself.
    pub(crate) async fn create_token(&self, ctx: &Ctx, spec: &TokenSpec) -> Result<NewToken> {
        let user = ctx.user.as_ref().ok_or_else(|| unauthenticated("only users have tokens"))?;
        name::check(&spec.name).map_err(|error| ServiceError::invalid_field("name", error.to_string()))?;
        let days = spec.expires_in_days.unwrap_or(DAYS.0);
        if !(1..=DAYS.1).contains(&days) {
            let detail = format!("between 1 and {} days", DAYS.1);
            return Err(ServiceError::invalid_field("expires_in_days", detail));
        }
        let now = self.clock.now();
        let secret = Secret::generate(TOKEN_PREFIX)?;
        let new = tokens::NewToken {
            id: crate::ids::new("tok_")?,
            user: user.clone(),
            name: spec.name.clone(),
            secret_hash: secret.hash(),
            created_at: now,
            expires_at: Timestamp(now.0 + i64::from(days) * DAY_US),
        };
        let mut tx = self.db.begin().await?;
        tokens::purge(&mut tx, now).await?;
        let token = match tokens::insert(&mut tx, &new).await {
            Err(StoreError::Taken(_)) => {
                return Err(ServiceError::new(ProblemKind::NameTaken, "you have a token of this name"));
            }
            other => other?,
        };
        self.events.changed(&mut tx, ctx, "token.create", change("token.created", &token)).await?;
        tx.commit().await?;
        self.events.publish();
        Ok(NewToken { token, secret: secret.reveal().to_owned() })
    }

    /// Removes a token; an admin may remove anybody's.
    pub(crate) async fn delete_token(&self, ctx: &Ctx, id: &TokenId) -> Result<()> {
        let owner = owner(ctx)?;
        let mut tx = self.db.begin().await?;
        let token = match tokens::get(&mut tx, owner, id).await {
            Err(StoreError::NotFound(_)) => return Err(ServiceError::not_found("token", id.as_str())),
            other => other?,
        };
        tokens::delete(&mut tx, owner, id).await?;
        self.events.changed(&mut tx, ctx, "token.delete", change("token.removed", &token)).await?;
        tx.commit().await?;
        self.events.publish();
        Ok(())
    }
}

/// Whose tokens the caller may see: `None` is everybody's.
fn owner(ctx: &Ctx) -> Result<Option<&UserId>> {
    if ctx.require(Permission::UserManage).is_ok() {
        return Ok(None);
    }
    ctx.user.as_ref().map(Some).ok_or_else(|| unauthenticated("only users have tokens"))
}

fn change(kind: &'static str, token: &TokenView) -> Change {
    Change { kind, subject: token.id.to_string(), subject_name: token.name.clone(), ..Change::default() }
}
