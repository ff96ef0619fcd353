//! The first admin: made with a one-time secret that is printed where only the host's owner sees it.

use wharf_shared::auth::SetupRequest;
use wharf_shared::name;
use wharf_shared::problem::ProblemKind;
use wharf_shared::user::Role;
use wharf_store::users::{self, UserRecord};
use wharf_store::{StoreError, setup};

use super::{Auth, Client, Secret, SessionGrant, ctx_of, unauthenticated};
use crate::error::{Result, ServiceError};
use crate::events::Change;

impl Auth {
    /// Whether there is no admin yet.
    pub(crate) async fn setup_needed(&self) -> Result<bool> {
        Ok(users::count_admins(&mut self.db.read().await?).await? == 0)
    }

    /// A new secret for the first admin, if there is none yet; an older secret is void.
    pub(crate) async fn setup_secret(&self) -> Result<Option<Secret>> {
        let mut tx = self.db.begin().await?;
        if users::count_admins(&mut tx).await? > 0 {
            return Ok(None);
        }
        let secret = Secret::generate("")?;
        setup::put(&mut tx, &secret.hash(), self.clock.now()).await?;
        tx.commit().await?;
        Ok(Some(secret))
    }

    /// Makes the first admin and signs it in.
    pub(crate) async fn setup(&self, client: &Client, request: &SetupRequest) -> Result<SessionGrant> {
        let refuse = || {
            unauthenticated(
                "the link is used or void; if there is an admin, sign in, else the agent prints a new link when it starts",
            )
        };
        name::check(&request.name).map_err(|error| ServiceError::invalid_field("name", error.to_string()))?;
        self.take_try(None, client.address)?;
        let hash = Secret::received(&request.secret).ok_or_else(refuse)?.hash();
        let user = UserRecord {
            id: crate::ids::new("usr_")?,
            name: request.name.clone(),
            password_hash: self.passwords.hash("password", &request.password).await?,
            role: Role::Admin,
            tenant: None,
            created_at: self.clock.now(),
        };
        let mut tx = self.db.begin().await?;
        if users::count_admins(&mut tx).await? > 0 || !setup::consume(&mut tx, &hash).await? {
            return Err(refuse());
        }
        match users::insert(&mut tx, &user).await {
            Err(StoreError::Taken(_)) => {
                return Err(ServiceError::new(ProblemKind::NameTaken, "another user has this name"));
            }
            other => other?,
        }
        let ctx = ctx_of(&user, client);
        let change = Change {
            kind: "user.created",
            subject: user.id.to_string(),
            subject_name: user.name.clone(),
            ..Change::default()
        };
        let grant = self.begin_session(&mut tx, user).await?;
        self.events.changed(&mut tx, &ctx, "user.setup", change).await?;
        tx.commit().await?;
        self.events.publish();
        self.give_back_try(None, client.address);
        Ok(grant)
    }
}
