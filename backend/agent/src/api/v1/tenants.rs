//! Tenants.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::page::Page;
use wharf_shared::tenant::{TenantSpec, TenantUpdate, TenantView};

use crate::api::extract::{Caller, Json, Paging, Path, Query};
use crate::app::App;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, update, remove))
}

/// Tenants by name; a member sees its own
#[utoipa::path(get, path = "/tenants", tag = "tenants", params(Paging), responses((status = 200, body = Page<TenantView>)))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<TenantView>>> {
    app.tenants.list(&ctx, &paging.into()).await.map(Json)
}

/// Make a tenant
#[utoipa::path(post, path = "/tenants", tag = "tenants", responses((status = 201, body = TenantView)))]
async fn create(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Json(spec): Json<TenantSpec>,
) -> Result<(StatusCode, Json<TenantView>)> {
    Ok((StatusCode::CREATED, Json(app.tenants.create(&ctx, spec).await?)))
}

/// One tenant
#[utoipa::path(get, path = "/tenants/{tenant}", tag = "tenants",
    params(("tenant" = String, Path, description = "Id or name")), responses((status = 200, body = TenantView)))]
async fn show(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(tenant): Path<String>,
) -> Result<Json<TenantView>> {
    app.tenants.get(&ctx, &tenant).await.map(Json)
}

/// Change name or quota
#[utoipa::path(patch, path = "/tenants/{tenant}", tag = "tenants",
    params(("tenant" = String, Path, description = "Id or name")), responses((status = 200, body = TenantView)))]
async fn update(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(tenant): Path<String>,
    Json(update): Json<TenantUpdate>,
) -> Result<Json<TenantView>> {
    let view = app.tenants.update(&ctx, &tenant, update).await?;
    app.containers.tenant_updated(&view.id, &view.quota).await?;
    Ok(Json(view))
}

/// Remove a tenant that has nothing and nobody any more
#[utoipa::path(delete, path = "/tenants/{tenant}", tag = "tenants",
    params(("tenant" = String, Path, description = "Id or name")), responses((status = 204)))]
async fn remove(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(tenant): Path<String>,
) -> Result<StatusCode> {
    let removed = app.tenants.delete(&ctx, &tenant).await?;
    app.containers.tenant_removed(&removed).await;
    Ok(StatusCode::NO_CONTENT)
}
