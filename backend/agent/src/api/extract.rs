//! What handlers take from a request: the caller, and path, query and body with problems that name the field.

use std::sync::Arc;

use crate::ctx::PageRequest;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wharf_shared::auth::{CSRF_HEADER, SESSION_COOKIE};
use wharf_shared::problem::ProblemKind;

use super::security::same_secret;
use crate::app::App;
use crate::auth::{Client, Credential, SignedIn};
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};

/// Most bytes of a body.
const BODY_MAX_BYTES: usize = 1 << 20;
/// A body that is too large is read and thrown away up to here.
const HEARD_OUT_MAX_BYTES: usize = 32 << 20;

/// A caller with good credentials: what nearly every handler takes first.
#[derive(Debug)]
pub(crate) struct Caller(pub(crate) Ctx);

/// The same, with the credential itself.
#[derive(Debug)]
pub(crate) struct Identified(pub(crate) SignedIn);

/// The caller of a WebSocket's handshake, if a bearer token says who it is. A cookie does not count here.
#[derive(Debug)]
pub(crate) struct OptionalCaller(pub(crate) Option<Ctx>);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ServiceError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        identify(parts, app).await.map(|caller| Self(caller.ctx))
    }
}

impl FromRequestParts<Arc<App>> for Identified {
    type Rejection = ServiceError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        identify(parts, app).await.map(Self)
    }
}

impl FromRequestParts<Arc<App>> for OptionalCaller {
    type Rejection = ServiceError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        if parts.headers.contains_key(AUTHORIZATION) {
            identify(parts, app).await.map(|caller| Self(Some(caller.ctx)))
        } else {
            Ok(Self(None))
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = ServiceError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        client(parts)
    }
}

async fn identify(parts: &Parts, app: &App) -> Result<SignedIn> {
    let client = client(parts)?;
    // A token that is wrong is an error even beside a good cookie: the sender meant the token.
    let caller = if parts.headers.contains_key(AUTHORIZATION) {
        app.auth.by_token(bearer(&parts.headers)?, &client).await?
    } else if let Some(secret) = session_cookie(&parts.headers) {
        app.auth.by_session(secret, &client).await?
    } else {
        return Err(refuse("sign in, or send a token as Authorization: Bearer …"));
    };
    if !parts.method.is_safe() {
        check_csrf(&parts.headers, &caller.credential)?;
        app.auth.count_change(&caller.ctx)?;
    }
    Ok(caller)
}

fn client(parts: &Parts) -> Result<Client> {
    let missing = || ServiceError::new(ProblemKind::Internal, "the request has no id; the agent is miswired");
    parts.extensions.get::<Client>().cloned().ok_or_else(missing)
}

fn refuse(detail: &str) -> ServiceError {
    ServiceError::new(ProblemKind::Unauthenticated, detail)
}

fn bearer(headers: &HeaderMap) -> Result<&str> {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, secret)| secret.trim())
        .ok_or_else(|| refuse("write the token as Authorization: Bearer …"))
}

fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(name, value)| (name == SESSION_COOKIE).then_some(value))
}

/// A cookie comes along whoever sends the request; only our own page can read the token and add the header.
fn check_csrf(headers: &HeaderMap, credential: &Credential) -> Result<()> {
    let Credential::Session { csrf_token, .. } = credential else { return Ok(()) };
    let sent = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if same_secret(sent, csrf_token) {
        return Ok(());
    }
    Err(ServiceError::new(
        ProblemKind::Forbidden,
        format!("the header {CSRF_HEADER} does not carry the session's csrf_token"),
    ))
}

/// Parts of the path.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ServiceError))]
pub(crate) struct Path<T>(pub(crate) T);

/// Parameters of the query.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ServiceError))]
pub(crate) struct Query<T>(pub(crate) T);

impl From<PathRejection> for ServiceError {
    fn from(rejection: PathRejection) -> Self {
        // An id that cannot be one names nothing.
        Self::new(ProblemKind::NotFound, "there is nothing at this path").because(rejection)
    }
}

impl From<QueryRejection> for ServiceError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(ProblemKind::Malformed, rejection.body_text())
    }
}

/// Which page of a list is wanted.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paging {
    /// Most items; 100 when absent, at most 1000.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl From<Paging> for PageRequest {
    fn from(paging: Paging) -> Self {
        Self { cursor: paging.cursor, limit: paging.limit }
    }
}

/// A JSON body, both ways. What cannot be read is refused with the path of the field.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ServiceError;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        if !is_json(request.headers()) {
            let detail = "the body must have the content type application/json";
            return Err(ServiceError::new(ProblemKind::UnsupportedMediaType, detail));
        }
        let body = receive(request.into_body()).await?;
        read(&body).map(Self)
    }
}

/// A JSON body, or none at all and then the default.
#[derive(Debug)]
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = ServiceError;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let json = is_json(request.headers());
        let body = receive(request.into_body()).await?;
        match (body.is_empty(), json) {
            (true, _) => Ok(Self(T::default())),
            (false, true) => read(&body).map(Self),
            (false, false) => Err(ServiceError::new(
                ProblemKind::UnsupportedMediaType,
                "the body must have the content type application/json",
            )),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// Receives a body whole. One that is too large is heard out within reason: a connection that is closed while
/// its client still sends is reset, and the client learns nothing of the reason.
async fn receive(body: Body) -> Result<Vec<u8>> {
    let mut received = Vec::new();
    let mut length = 0_usize;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            ServiceError::new(ProblemKind::Malformed, "the body could not be read").because(error)
        })?;
        length = length.saturating_add(chunk.len());
        if length <= BODY_MAX_BYTES {
            received.extend_from_slice(&chunk);
        } else if length > HEARD_OUT_MAX_BYTES {
            break;
        }
    }
    if length > BODY_MAX_BYTES {
        return Err(ServiceError::new(ProblemKind::TooLarge, "a body has at most 1 MiB here"));
    }
    Ok(received)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let source = error.into_inner();
        match source.classify() {
            serde_json::error::Category::Data => ServiceError::invalid_field(&field, source.to_string()),
            _ => ServiceError::new(ProblemKind::Malformed, format!("the body is not JSON: {source}")),
        }
    })?;
    json.end().map_err(|error| {
        ServiceError::new(ProblemKind::Malformed, format!("the body is not JSON: {error}"))
    })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use wharf_shared::tenant::TenantSpec;

    use super::*;

    #[test]
    fn an_unknown_or_wrong_field_is_refused_by_its_path() {
        let refused = |text: &str| read::<TenantSpec>(text.as_bytes()).expect_err(text);
        let error = refused(r#"{"name":"a","quota":{"memory_bytes":"much"}}"#);
        assert_eq!(
            (error.kind, error.fields[0].field.as_str()),
            (ProblemKind::Invalid, "quota.memory_bytes")
        );
        let error = refused(r#"{"name":"a","quota":{"memory":1}}"#);
        assert!(error.fields[0].field.starts_with("quota") && error.fields[0].detail.contains("`memory`"));
        assert_eq!(refused(r#"{"name":"a"} {}"#).kind, ProblemKind::Malformed);
        assert_eq!(refused(r#"{"name":"#).kind, ProblemKind::Malformed);
    }

    #[test]
    fn a_body_nested_without_end_is_refused() {
        let deep = "[".repeat(100_000);
        assert_eq!(
            read::<serde_json::Value>(deep.as_bytes()).expect_err("too deep").kind,
            ProblemKind::Malformed
        );
    }

    #[test]
    fn the_session_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, "a=b; wharf_session=s3cret; c=d".parse().expect("a header"));
        assert_eq!(session_cookie(&headers), Some("s3cret"));
        headers.insert(COOKIE, "xwharf_session=s3cret".parse().expect("a header"));
        assert_eq!(session_cookie(&headers), None);
    }
}
