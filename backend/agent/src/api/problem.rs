//! Errors become RFC 9457 problems here, and nowhere else.
//!
//! A handler's [`ServiceError`] travels in the response's extensions; the outermost layer
//! ([`render`]) writes it down with the request id, so that also what axum itself refuses (no such
//! route, a body too large, a panic) has the same shape. An internal cause is logged, once, and
//! never sent.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use wharf_shared::problem::{Problem, ProblemKind};

use crate::error::{ServiceError, chain};

/// Media type of RFC 9457.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";
/// What a client that came too often or too early is told to wait.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("5");

/// A problem on its way out.
#[derive(Clone)]
struct Failure(Arc<ServiceError>);

impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status_of(self.kind);
        response.extensions_mut().insert(Failure(Arc::new(self)));
        response
    }
}

/// The problem as clients see it, outside of HTTP too (the WebSocket's frames).
pub(crate) fn problem(error: &ServiceError, request_id: &str) -> Problem {
    let mut problem = Problem::new(error.kind, error.detail.clone());
    problem.fields.clone_from(&error.fields);
    request_id.clone_into(&mut problem.instance);
    problem
}

/// Logs a failure where it ends. The client's own mistakes are not worth a line.
pub(crate) fn log(error: &ServiceError) {
    if error.kind.status() >= 500 {
        tracing::error!(error = %chain(error), kind = error.kind.slug(), "a request failed");
    } else {
        tracing::debug!(error = %chain(error), kind = error.kind.slug(), "a request was refused");
    }
}

/// Gives every failed response the shape of a problem.
pub(crate) fn render(response: Response, request_id: &str) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    if let Some(Failure(error)) = response.extensions().get::<Failure>().cloned() {
        log(&error);
        return write(response, &problem(&error, request_id));
    }
    // The dashboard's files and the plain answers of /healthz are no problems of the API.
    if response.headers().contains_key(CONTENT_TYPE) && !is_plain_text(&response) {
        return response;
    }
    let error = foreign(status);
    log(&error);
    write(response, &problem(&error, request_id))
}

/// What a status means that axum or a layer gave.
fn foreign(status: StatusCode) -> ServiceError {
    let (kind, detail) = match status {
        StatusCode::NOT_FOUND => (ProblemKind::NotFound, "there is nothing at this path"),
        StatusCode::METHOD_NOT_ALLOWED => {
            (ProblemKind::MethodNotAllowed, "the Allow header names the methods")
        }
        StatusCode::PAYLOAD_TOO_LARGE => (ProblemKind::TooLarge, "a body has at most 1 MiB here"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            (ProblemKind::UnsupportedMediaType, "the content type is not the one expected")
        }
        StatusCode::SERVICE_UNAVAILABLE => (ProblemKind::Unavailable, "the agent is busy; try again"),
        status if status.is_client_error() => (ProblemKind::Malformed, "the request cannot be read"),
        _ => (ProblemKind::Internal, "the agent's log has the cause"),
    };
    ServiceError::new(kind, detail)
}

fn is_plain_text(response: &Response) -> bool {
    response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("text/plain"))
}

fn status_of(kind: ProblemKind) -> StatusCode {
    // Every status of the table is a valid one; a test walks it.
    StatusCode::from_u16(kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn write(response: Response, problem: &Problem) -> Response {
    let (parts, _) = response.into_parts();
    // Serialising strings and numbers cannot fail.
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut written = Response::new(Body::from(body));
    *written.status_mut() = status_of(problem.kind);
    // Allow of a 405 and cookies that are taken back stay; length and type are the problem's own.
    *written.headers_mut() = parts.headers;
    written.headers_mut().remove(CONTENT_LENGTH);
    written.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if matches!(problem.kind, ProblemKind::RateLimited | ProblemKind::Unavailable) {
        written.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_S);
    }
    if problem.kind == ProblemKind::Unauthenticated {
        written.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(response: Response) -> Problem {
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        serde_json::from_slice(&bytes).expect("a problem")
    }

    #[test]
    fn every_kind_has_a_valid_status() {
        for &kind in ProblemKind::ALL {
            assert_eq!(status_of(kind).as_u16(), kind.status());
        }
    }

    #[tokio::test]
    async fn an_internal_cause_is_not_sent() {
        let error = ServiceError::internal("the row could not be read", std::io::Error::other("secret path"));
        let problem = body(render(error.into_response(), "req-1")).await;
        assert_eq!((problem.status, problem.instance.as_str()), (500, "req-1"));
        assert!(!serde_json::to_string(&problem).expect("json").contains("secret"));
    }

    #[tokio::test]
    async fn what_axum_refuses_has_the_same_shape() {
        let response = render(StatusCode::METHOD_NOT_ALLOWED.into_response(), "req-2");
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(body(response).await.kind, ProblemKind::MethodNotAllowed);
    }
}
