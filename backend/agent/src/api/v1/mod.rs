//! Version 1 of the API: one module a noun, merged here.

mod audit;
mod auth;
mod events;
mod host;
mod tenants;
mod tokens;
mod users;

use std::sync::Arc;

use axum::Extension;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Caller, Json};
use crate::app::App;

/// All routes below `/api/v1`.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(document))
        .merge(audit::routes())
        .merge(auth::routes())
        .merge(events::routes())
        .merge(host::routes())
        .merge(tenants::routes())
        .merge(tokens::routes())
        .merge(users::routes())
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "host", responses((status = 200, description = "OpenAPI 3.1")))]
async fn document(_: Caller, Extension(made): Extension<Arc<OpenApi>>) -> Json<Arc<OpenApi>> {
    Json(made)
}
