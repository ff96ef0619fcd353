//! `/api/v1/outbox`: events of usage on their way to an endpoint outside.

use std::sync::Arc;

use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::outbox::{OutboxRetry, OutboxView};

use crate::api::extract::{Caller, Json};
use crate::app::App;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(retry))
}

/// How many events wait, where they go, and what the endpoint has refused
#[utoipa::path(get, path = "/outbox", tag = "usage", responses((status = 200, body = OutboxView)))]
async fn show(State(app): State<Arc<App>>, Caller(ctx): Caller) -> Result<Json<OutboxView>> {
    app.outbox.view(&ctx).await.map(Json)
}

/// Send again what the endpoint has refused
#[utoipa::path(post, path = "/outbox/retry", tag = "usage", responses((status = 200, body = OutboxRetry)))]
async fn retry(State(app): State<Arc<App>>, Caller(ctx): Caller) -> Result<Json<OutboxRetry>> {
    app.outbox.retry(&ctx).await.map(Json)
}
