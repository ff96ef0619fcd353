//! `/api/v1/volumes`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::page::Page;
use wharf_shared::problem::Problem;
use wharf_shared::volume::{VolumeSpec, VolumeView};

use crate::api::extract::{Caller, Json, Path, Query};
use crate::app::App;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, remove))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only this tenant's, by id or name.
    tenant: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct TenantQuery {
    /// Whose volume, by id or name, when several tenants have one of this name.
    tenant: Option<String>,
}

/// List volumes.
#[utoipa::path(get, path = "/volumes", tag = "volumes", params(ListQuery),
    responses((status = 200, body = Page<VolumeView>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<VolumeView>>> {
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    let page = crate::ctx::PageRequest { cursor: query.cursor, limit: query.limit };
    app.volumes.list(&ctx, tenant.as_ref(), &page).await.map(Json)
}

/// Create a volume.
#[utoipa::path(post, path = "/volumes", tag = "volumes", request_body = VolumeSpec,
    responses((status = 201, body = VolumeView), (status = "default", body = Problem)))]
async fn create(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Json(spec): Json<VolumeSpec>,
) -> Result<(StatusCode, Json<VolumeView>)> {
    app.volumes.create(&ctx, spec).await.map(|view| (StatusCode::CREATED, Json(view)))
}

/// Show a volume, by id or name.
#[utoipa::path(get, path = "/volumes/{volume}", tag = "volumes", params(("volume" = String, Path), TenantQuery),
    responses((status = 200, body = VolumeView), (status = "default", body = Problem)))]
async fn get(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(volume): Path<String>,
    Query(query): Query<TenantQuery>,
) -> Result<Json<VolumeView>> {
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    app.volumes.get(&ctx, tenant.as_ref(), &volume).await.map(Json)
}

/// Remove a volume that no container mounts, with its data.
#[utoipa::path(delete, path = "/volumes/{volume}", tag = "volumes", params(("volume" = String, Path), TenantQuery),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(volume): Path<String>,
    Query(query): Query<TenantQuery>,
) -> Result<StatusCode> {
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    app.volumes.remove(&ctx, tenant.as_ref(), &volume).await.map(|()| StatusCode::NO_CONTENT)
}
