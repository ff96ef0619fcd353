//! Sign-in by name and password, and a new password for oneself.
//!
//! Wrong tries are counted by name and by address. A try is taken before the password is looked at
//! and given back when it was right, so that parallel tries cannot slip past the bound.

use std::net::IpAddr;
use std::sync::PoisonError;

use wharf_shared::auth::{LoginRequest, PasswordChange};
use wharf_shared::name;
use wharf_shared::problem::ProblemKind;
use wharf_store::sessions;
use wharf_store::users::{self, UserRecord};

use super::{Auth, Client, Credential, SessionGrant, SignedIn, ctx_of, unauthenticated};
use crate::error::{Result, ServiceError};
use crate::events::Deed;

impl Auth {
    /// Begins a session for who knows the password.
    pub(crate) async fn login(&self, client: &Client, request: &LoginRequest) -> Result<SessionGrant> {
        let refuse = || unauthenticated("name or password is wrong");
        // Such a name cannot exist; it is not worth the memory of a count of its own.
        let name = name::check(&request.name).ok().map(|()| request.name.as_str());
        self.take_try(name, client.address)?;
        let user = match name {
            Some(name) => users::find_by_name(&mut self.db.read().await?, name).await?,
            None => None,
        };
        let stored = user.as_ref().map(|user| user.password_hash.as_str());
        let right = self.passwords.verify(&request.password, stored).await?;
        let Some(user) = user else { return Err(refuse()) };
        let ctx = ctx_of(&user, client);
        let mut tx = self.db.begin().await?;
        let refused = (!right).then_some(ProblemKind::Unauthenticated);
        let deed = Deed { action: "session.login", subject: user.id.to_string(), refused, ..Deed::default() };
        if !right {
            self.events.audit(&mut tx, &ctx, deed).await?;
            tx.commit().await?;
            return Err(refuse());
        }
        self.give_back_try(name, client.address);
        let grant = self.begin_session(&mut tx, user).await?;
        self.events.audit(&mut tx, &ctx, deed).await?;
        tx.commit().await?;
        Ok(grant)
    }

    /// Sets a new password and ends the user's other sessions.
    pub(crate) async fn change_password(&self, caller: &SignedIn, change: &PasswordChange) -> Result<()> {
        let UserRecord { id, name, password_hash, .. } = &caller.user;
        self.take_try(Some(name), caller.ctx.address)?;
        if !self.passwords.verify(&change.current, Some(password_hash)).await? {
            return Err(ServiceError::invalid_field("current", "this is not your present password"));
        }
        self.give_back_try(Some(name), caller.ctx.address);
        let new_hash = self.passwords.hash("new", &change.new).await?;
        let own_session = match &caller.credential {
            Credential::Session { secret_hash, .. } => secret_hash,
            Credential::Token { .. } => "",
        };
        let mut tx = self.db.begin().await?;
        users::set_password(&mut tx, id, &new_hash).await?;
        sessions::delete_others(&mut tx, id, own_session).await?;
        let deed = Deed { action: "user.change_password", subject: id.to_string(), ..Deed::default() };
        self.events.audit(&mut tx, &caller.ctx, deed).await?;
        Ok(tx.commit().await?)
    }

    /// Takes a try at a secret that people choose or carry.
    pub(super) fn take_try(&self, name: Option<&str>, address: Option<IpAddr>) -> Result<()> {
        let now = self.clock.now();
        let by_address = address.is_none_or(|address| {
            let address = network_of(address);
            self.by_address.lock().unwrap_or_else(PoisonError::into_inner).take(&address, now)
        });
        let by_name = name.is_none_or(|name| {
            self.by_name.lock().unwrap_or_else(PoisonError::into_inner).take(&name.to_owned(), now)
        });
        if by_address && by_name {
            Ok(())
        } else {
            Err(ServiceError::new(ProblemKind::RateLimited, "too many wrong tries; wait half a minute"))
        }
    }

    pub(super) fn give_back_try(&self, name: Option<&str>, address: Option<IpAddr>) {
        if let Some(address) = address {
            let address = network_of(address);
            self.by_address.lock().unwrap_or_else(PoisonError::into_inner).give_back(&address);
        }
        if let Some(name) = name {
            self.by_name.lock().unwrap_or_else(PoisonError::into_inner).give_back(&name.to_owned());
        }
    }
}

/// Whom an address belongs to: of IPv6, one customer has a /64 at least.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        address @ IpAddr::V4(_) => address,
    }
}
