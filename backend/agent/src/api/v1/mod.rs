//! Version 1 of the API: one module a noun, merged here.

mod audit;
mod auth;
mod billing;
mod budgets;
mod checkpoints;
mod containers;
mod contracts;
mod events;
mod host;
mod images;
mod ledger;
mod live;
mod networks;
mod outbox;
mod statements;
mod tenants;
mod tokens;
mod usage;
mod users;
mod volumes;

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
        .merge(billing::routes())
        .merge(budgets::routes())
        .merge(checkpoints::routes())
        .merge(containers::routes())
        .merge(contracts::routes())
        .merge(events::routes())
        .merge(host::routes())
        .merge(images::routes())
        .merge(ledger::routes())
        .merge(live::routes())
        .merge(networks::routes())
        .merge(outbox::routes())
        .merge(statements::routes())
        .merge(tenants::routes())
        .merge(tokens::routes())
        .merge(usage::routes())
        .merge(users::routes())
        .merge(volumes::routes())
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "host", responses((status = 200, description = "OpenAPI 3.1")))]
async fn document(_: Caller, Extension(made): Extension<Arc<OpenApi>>) -> Json<Arc<OpenApi>> {
    Json(made)
}
