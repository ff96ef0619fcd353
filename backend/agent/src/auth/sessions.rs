//! Browser sessions: begun by a sign-in, prolonged by use, ended by sign-out, idleness or age.

use wharf_shared::auth::SessionView;
use wharf_shared::time::{SECOND_US, Timestamp};
use wharf_store::Tx;
use wharf_store::sessions::{self, SessionRecord};
use wharf_store::users::UserRecord;

use super::{Auth, Client, Credential, Secret, SignedIn, ctx_of, unauthenticated};
use crate::error::Result;
use crate::events::Deed;

/// A session is prolonged at most so often: a write for each request would be a disk flush for each.
const PROLONG_EVERY_US: i64 = 60 * SECOND_US;

/// A session that has just begun.
#[derive(Debug)]
pub(crate) struct SessionGrant {
    /// For the cookie.
    pub(crate) secret: Secret,
    pub(crate) view: SessionView,
    /// For the cookie's `Max-Age`.
    pub(crate) max_age_s: i64,
}

impl Auth {
    /// Begins a session in the caller's transaction.
    pub(super) async fn begin_session(&self, tx: &mut Tx, user: UserRecord) -> Result<SessionGrant> {
        let now = self.clock.now();
        let secret = Secret::generate("")?;
        let session = SessionRecord {
            secret_hash: secret.hash(),
            user: user.id.clone(),
            csrf_token: Secret::generate("")?.reveal().to_owned(),
            created_at: now,
            expires_at: Timestamp(now.0 + self.idle_us.min(self.max_us)),
        };
        sessions::purge(tx, now).await?;
        sessions::insert(tx, &session).await?;
        let SessionRecord { csrf_token, expires_at, .. } = session;
        let view = SessionView { user: user.into(), csrf_token, expires_at };
        Ok(SessionGrant { secret, view, max_age_s: self.max_us / SECOND_US })
    }

    /// Who holds this cookie.
    pub(crate) async fn by_session(&self, secret: &str, client: &Client) -> Result<SignedIn> {
        let refuse = || unauthenticated("the session has ended; sign in again");
        let hash = Secret::received(secret).ok_or_else(refuse)?.hash();
        let now = self.clock.now();
        let found = sessions::find(&mut self.db.one().await?, &hash, now).await?;
        let (mut session, user) = found.ok_or_else(refuse)?;
        let until = Timestamp((now.0 + self.idle_us).min(session.created_at.0 + self.max_us));
        if until.0 - session.expires_at.0 >= PROLONG_EVERY_US {
            session.expires_at = until;
            self.prolong(&session).await?;
        }
        let SessionRecord { secret_hash, csrf_token, expires_at, .. } = session;
        let credential = Credential::Session { secret_hash, csrf_token, expires_at };
        Ok(SignedIn { ctx: ctx_of(&user, client), user, credential })
    }

    /// Replaces the session's row, unless it was ended meanwhile.
    async fn prolong(&self, session: &SessionRecord) -> Result<()> {
        let mut tx = self.db.begin().await?;
        if sessions::delete(&mut tx, &session.secret_hash).await? {
            sessions::insert(&mut tx, session).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Ends the session; a token goes on until it is removed.
    pub(crate) async fn logout(&self, caller: &SignedIn) -> Result<()> {
        let Credential::Session { secret_hash, .. } = &caller.credential else { return Ok(()) };
        let mut tx = self.db.begin().await?;
        sessions::delete(&mut tx, secret_hash).await?;
        let deed = Deed { action: "session.logout", subject: caller.user.id.to_string(), ..Deed::default() };
        self.events.audit(&mut tx, &caller.ctx, deed).await?;
        Ok(tx.commit().await?)
    }

    /// The caller, as it is told about itself.
    pub(crate) fn session_view(caller: SignedIn) -> SessionView {
        let (csrf_token, expires_at) = match caller.credential {
            Credential::Session { csrf_token, expires_at, .. } => (csrf_token, expires_at),
            Credential::Token { expires_at, .. } => (String::new(), expires_at),
        };
        SessionView { user: caller.user.into(), csrf_token, expires_at }
    }
}
