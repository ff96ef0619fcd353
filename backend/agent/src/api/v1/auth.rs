//! Signing in and out, the first admin, one's own password, tickets for live sockets.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::auth::{
    LoginRequest, PasswordChange, SESSION_COOKIE, SessionView, SetupRequest, SetupView, WsTicket,
};

use crate::api::extract::{Caller, Identified, Json};
use crate::app::App;
use crate::auth::{Auth, Client, SessionGrant};
use crate::config::TlsMode;
use crate::error::{Result, ServiceError};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(show_setup, set_up))
        .routes(routes!(login))
        .routes(routes!(logout))
        .routes(routes!(show_session))
        .routes(routes!(change_password))
        .routes(routes!(issue_ticket))
}

/// Whether the first admin is still to be set up
#[utoipa::path(get, path = "/auth/setup", tag = "access", security(()), responses((status = 200, body = SetupView)))]
async fn show_setup(State(app): State<Arc<App>>) -> Result<Json<SetupView>> {
    Ok(Json(SetupView { needed: app.auth.setup_needed().await? }))
}

/// Make the first admin with the secret of the one-time link
#[utoipa::path(post, path = "/auth/setup", tag = "access", security(()), responses((status = 200, body = SessionView)))]
async fn set_up(
    State(app): State<Arc<App>>,
    client: Client,
    Json(request): Json<SetupRequest>,
) -> Result<Response> {
    with_cookie(&app, app.auth.setup(&client, &request).await?)
}

/// Begin a session
#[utoipa::path(post, path = "/auth/login", tag = "access", security(()), responses((status = 200, body = SessionView)))]
async fn login(
    State(app): State<Arc<App>>,
    client: Client,
    Json(request): Json<LoginRequest>,
) -> Result<Response> {
    with_cookie(&app, app.auth.login(&client, &request).await?)
}

/// End the session
#[utoipa::path(post, path = "/auth/logout", tag = "access", responses((status = 204)))]
async fn logout(State(app): State<Arc<App>>, Identified(caller): Identified) -> Result<Response> {
    app.auth.logout(&caller).await?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie(&app, "", 0)?)]).into_response())
}

/// Who is signed in
#[utoipa::path(get, path = "/auth/session", tag = "access", responses((status = 200, body = SessionView)))]
async fn show_session(Identified(caller): Identified) -> Json<SessionView> {
    Json(Auth::session_view(caller))
}

/// Set a new password and end one's other sessions
#[utoipa::path(post, path = "/auth/password", tag = "access", responses((status = 204)))]
async fn change_password(
    State(app): State<Arc<App>>,
    Identified(caller): Identified,
    Json(change): Json<PasswordChange>,
) -> Result<StatusCode> {
    app.auth.change_password(&caller, &change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A ticket for the first frame of one WebSocket
#[utoipa::path(post, path = "/auth/ws-ticket", tag = "access", responses((status = 200, body = WsTicket)))]
async fn issue_ticket(State(app): State<Arc<App>>, Caller(ctx): Caller) -> Result<Json<WsTicket>> {
    let ticket = app.auth.ticket(&ctx)?.reveal().to_owned();
    Ok(Json(WsTicket { ticket }))
}

fn with_cookie(app: &App, grant: SessionGrant) -> Result<Response> {
    let cookie = cookie(app, grant.secret.reveal(), grant.max_age_s)?;
    Ok(([(SET_COOKIE, cookie)], Json(grant.view)).into_response())
}

fn cookie(app: &App, value: &str, max_age_s: i64) -> Result<HeaderValue> {
    let secure = if app.config.tls.mode == TlsMode::Off { "" } else { "; Secure" };
    let text =
        format!("{SESSION_COOKIE}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={max_age_s}{secure}");
    text.parse().map_err(|error| ServiceError::internal("the cookie could not be written", error))
}
