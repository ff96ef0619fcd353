//! `/api/v1/networks`.

use std::sync::Arc;

use crate::ctx::PageRequest;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::network::NetworkView;
use wharf_shared::page::Page;
use wharf_shared::problem::Problem;

use crate::api::extract::{Caller, Json, Query};
use crate::app::App;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only this tenant's, by id or name.
    tenant: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// List tenants' networks.
#[utoipa::path(get, path = "/networks", tag = "networks", params(ListQuery),
    responses((status = 200, body = Page<NetworkView>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<NetworkView>>> {
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    let page = PageRequest { cursor: query.cursor, limit: query.limit };
    app.networks.list(&ctx, tenant.as_ref(), &page).await.map(Json)
}
