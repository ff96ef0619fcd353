//! What happens around every request: an id, a span, admission, a bound, and the shape of what comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tracing::Instrument;
use wharf_shared::problem::ProblemKind;

use super::http_metrics::HttpMetrics;
use super::security::{Names, harden};
use super::{SLOW_ROUTES, TIMEOUT, problem};
use crate::auth::Client;
use crate::config::Config;
use crate::error::ServiceError;

/// Name of the response's header with the request id.
const REQUEST_ID: &str = "x-request-id";

/// What the frame needs to know.
#[derive(Debug)]
pub(super) struct Frame {
    names: Names,
    /// Requests in work; a stream counts until its head is sent.
    free: Semaphore,
    metrics: Arc<HttpMetrics>,
}

impl Frame {
    pub(super) fn new(config: &Config, metrics: Arc<HttpMetrics>) -> Self {
        let most = usize::try_from(config.access.max_requests).unwrap_or(usize::MAX);
        let most = most.min(Semaphore::MAX_PERMITS);
        Self { names: Names::new(config), free: Semaphore::new(most), metrics }
    }
}

/// The outermost layer.
pub(super) async fn frame(State(frame): State<Arc<Frame>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    // Never taken from the client: it would be written into the log and the audit trail as it is.
    let request_id = uuid::Uuid::now_v7().simple().to_string();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    // The path names things; the query may hold more, and neither headers nor bodies are ever logged.
    let span = tracing::info_span!(
        "request",
        request.id = %request_id,
        http.method = %method,
        http.path = %request.uri().path(),
    );
    async {
        let mut response = problem::render(admit(&frame, request, &request_id, next).await, &request_id);
        harden(response.headers_mut());
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        let took = begun.elapsed();
        frame.metrics.observe(&method, &route, response.status(), took);
        tracing::debug!(http.status = response.status().as_u16(), duration_ms = took.as_millis(), "answered");
        response
    }
    .instrument(span)
    .await
}

async fn admit(frame: &Frame, request: Request, request_id: &str, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical());
    parts.extensions.insert(Client { request_id: request_id.to_owned(), address });
    if let Err(error) = frame.names.admit(&mut parts) {
        return error.into_response();
    }
    match frame.free.try_acquire() {
        Ok(_place) => next.run(Request::from_parts(parts, body)).await,
        Err(error) => ServiceError::new(ProblemKind::Unavailable, "too many requests are in work; try again")
            .because(error)
            .into_response(),
    }
}

/// Ends handlers that take too long, but for those whose work is to wait.
pub(super) async fn time_limit(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    if route.is_some_and(|route| SLOW_ROUTES.contains(&route)) {
        return next.run(request).await;
    }
    match tokio::time::timeout(TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(error) => {
            let detail = "the agent took too long and has given up; look whether it was done all the same";
            ServiceError::new(ProblemKind::Unavailable, detail).because(error).into_response()
        }
    }
}

/// A handler that panicked: a bug, of which the client learns only that.
#[expect(clippy::needless_pass_by_value, reason = "the layer hands the panic over like this")]
pub(super) fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    ServiceError::internal("the request ended in a panic", text).into_response()
}
