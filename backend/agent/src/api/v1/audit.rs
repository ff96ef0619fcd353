//! The audit trail, for admins.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::event::AuditView;
use wharf_shared::page::Page;

use crate::api::extract::{Caller, Json, Query};
use crate::app::App;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    /// Only entries before this number: `next_cursor` of the page before.
    before: Option<i64>,
    /// Most entries; 100 when absent, at most 1000.
    limit: Option<u32>,
}

/// Who did what, newest first
#[utoipa::path(get, path = "/audit", tag = "events", params(AuditQuery), responses((status = 200, body = Page<AuditView>)))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Page<AuditView>>> {
    app.events.trail(&ctx, query.before, query.limit).await.map(Json)
}
