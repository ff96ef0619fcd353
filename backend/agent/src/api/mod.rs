//! The HTTP API: routes, and the layers around them.
//!
//! From the outside in: [`frame`] (id, span, Host and Origin, bound on requests in work, problems,
//! headers), panics, the time limit, the body limit, then the handler, whose first argument says
//! who calls. The API only sees services, never the store.

mod container_metrics;
mod extract;
mod frame;
mod http_metrics;
mod live;
mod metrics;
mod openapi;
mod problem;
mod security;
mod serve;
mod spool;
#[cfg(test)]
mod tests;
mod v1;
mod web;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router, middleware};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use frame::Frame;
use http_metrics::HttpMetrics;
use serve::Doors;

/// A handler has so long to begin its answer.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Routes whose work is to wait, each with a bound of its own.
const SLOW_ROUTES: [&str; 4] = [
    "/api/v1/images/import",
    "/api/v1/containers/{container}/wait",
    "/api/v1/containers/{container}/stop",
    "/api/v1/containers/{container}/restart",
];
/// Open connections have so long to end when the agent stops.
const GRACE: Duration = Duration::from_secs(10);

/// The whole API as the agent serves it.
pub(crate) fn router(app: Arc<App>) -> Router {
    let metrics = Arc::new(HttpMetrics::default());
    let frame_state = Arc::new(Frame::new(&app.config, Arc::clone(&metrics)));
    let (routes, document) = OpenApiRouter::with_openapi(<openapi::Base as utoipa::OpenApi>::openapi())
        .nest("/api/v1", v1::routes())
        .split_for_parts();
    let document = Arc::new(openapi::complete(document));
    routes
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics::show))
        .route("/metrics/containers", get(container_metrics::show))
        .route_layer(middleware::from_fn(frame::time_limit))
        .fallback(elsewhere)
        .layer(Extension(document))
        .layer(Extension(metrics))
        .layer(CatchPanicLayer::custom(frame::panicked))
        .layer(middleware::from_fn_with_state(frame_state, frame::frame))
        .with_state(app)
}

/// Serves the API until the agent is asked to stop, then drains it.
pub(crate) async fn serve(app: Arc<App>, listener: TcpListener, tls: Option<Arc<ServerConfig>>) {
    let max_connections = usize::try_from(app.config.access.max_connections).unwrap_or(usize::MAX);
    let stopping = app.tasks.stopping();
    serve::serve(router(app), listener, Doors { tls, max_connections, grace: GRACE }, stopping).await;
}

/// Whether the agent can do its work: told to anybody, in one word.
async fn healthz(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    match app.db.read().await {
        Ok(_) if !app.tasks.stopping().is_cancelled() => (StatusCode::OK, "ok\n"),
        Ok(_) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        Err(error) => {
            tracing::warn!(error = %crate::error::chain(&error), "the health check found no store");
            (StatusCode::SERVICE_UNAVAILABLE, "no store\n")
        }
    }
}

/// What no route took: below `/api` there is nothing; anything else is the dashboard's.
async fn elsewhere(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if uri.path().starts_with("/api/") {
        StatusCode::NOT_FOUND.into_response()
    } else {
        web::serve(&method, &uri, &headers)
    }
}
