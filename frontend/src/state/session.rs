//! Who is signed in.

use leptos::prelude::*;
use wharf_shared::auth::{LoginRequest, SessionView, SetupRequest};
use wharf_shared::permission::Permission;
use wharf_shared::problem::ProblemKind;
use wharf_shared::user::UserView;

use crate::api::{Api, Failure};

/// Where signing in is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Session {
    /// The agent is being asked.
    Checking,
    /// The agent did not answer.
    Failed(Failure),
    /// Nobody.
    SignedOut,
    /// Somebody.
    SignedIn(UserView),
}

/// Signing in and out.
#[derive(Clone, Copy)]
pub(crate) struct Auth {
    api: Api,
    session: RwSignal<Session>,
}

impl Auth {
    /// Asks who is signed in, and hears when the session ends.
    pub(crate) fn new(api: Api) -> Self {
        let auth = Self { api, session: RwSignal::new(Session::Checking) };
        Effect::new(move |_| {
            if api.signed_out().get() > 0 {
                auth.session.set(Session::SignedOut);
            }
        });
        auth.check();
        auth
    }

    /// The one that the app provides.
    pub(crate) fn expect() -> Self {
        expect_context()
    }

    /// Where signing in is.
    pub(crate) fn session(self) -> Signal<Session> {
        self.session.into()
    }

    /// The user, if somebody is signed in.
    pub(crate) fn user(self) -> Option<UserView> {
        self.session.with(|session| match session {
            Session::SignedIn(user) => Some(user.clone()),
            _ => None,
        })
    }

    /// Whether the user may do this.
    pub(crate) fn may(self, permission: Permission) -> bool {
        self.session
            .with(|session| matches!(session, Session::SignedIn(user) if user.role.allows(permission)))
    }

    /// Asks the agent who is signed in.
    pub(crate) fn check(self) {
        leptos::task::spawn_local(async move {
            match self.api.get::<SessionView>("/auth/session".to_owned()).await {
                Ok(view) => self.begin(view),
                Err(failure) if failure.is(ProblemKind::Unauthenticated) => {
                    self.session.set(Session::SignedOut);
                }
                Err(failure) => self.session.set(Session::Failed(failure)),
            }
        });
    }

    /// Signs in with name and password.
    pub(crate) async fn login(self, request: LoginRequest) -> Result<(), Failure> {
        self.begin(self.api.send("POST", "/auth/login".to_owned(), Some(&request)).await?);
        Ok(())
    }

    /// Makes the first admin, who is signed in then.
    pub(crate) async fn set_up(self, request: SetupRequest) -> Result<(), Failure> {
        self.begin(self.api.send("POST", "/auth/setup".to_owned(), Some(&request)).await?);
        Ok(())
    }

    /// Signs out.
    pub(crate) fn logout(self) {
        leptos::task::spawn_local(async move {
            // The session may have ended by itself: the reader wanted to be out, and is.
            self.api.act("POST", "/auth/logout".to_owned()).await.ok();
            self.session.set(Session::SignedOut);
        });
    }

    fn begin(self, view: SessionView) {
        self.api.set_csrf_token(view.csrf_token);
        self.session.set(Session::SignedIn(view.user));
    }
}
