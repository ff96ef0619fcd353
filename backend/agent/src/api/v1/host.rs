//! The host: what it is, what it can do.

use std::sync::Arc;

use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::host::{CheckView, HostView};

use crate::api::extract::{Caller, Json};
use crate::app::App;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(checks))
}

/// The host
#[utoipa::path(get, path = "/host", tag = "host", responses((status = 200, body = HostView)))]
async fn show(State(app): State<Arc<App>>, Caller(ctx): Caller) -> Result<Json<HostView>> {
    app.host.view(&ctx).await.map(Json)
}

/// What the host can do
#[utoipa::path(get, path = "/host/checks", tag = "host", responses((status = 200, body = Vec<CheckView>)))]
async fn checks(State(app): State<Arc<App>>, Caller(ctx): Caller) -> Result<Json<Vec<CheckView>>> {
    app.host.checks(&ctx).await.map(Json)
}
