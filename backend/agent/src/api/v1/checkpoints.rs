//! `/api/v1/checkpoints`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::checkpoint::{CheckpointRequest, CheckpointView, RestoreRequest};
use wharf_shared::container::ContainerView;
use wharf_shared::page::Page;
use wharf_shared::problem::Problem;

use crate::api::extract::{Caller, Json, OptionalJson, Path, Query};
use crate::app::App;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, remove))
        .routes(routes!(restore))
        .routes(routes!(checkpoint))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only this tenant's, by id or name.
    tenant: Option<String>,
}

/// List the checkpoints on this host, newest first (operators only).
#[utoipa::path(get, path = "/checkpoints", tag = "checkpoints", params(ListQuery),
    responses((status = 200, body = Page<CheckpointView>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<CheckpointView>>> {
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    let items = app.checkpoints.list(&ctx, tenant.as_ref()).await?;
    Ok(Json(Page { items, next_cursor: None }))
}

/// Save a running container's processes, with what they have written in its root (operators only). What is
/// in volumes stays there. It is stopped then, unless it shall run on; connections with others are closed
/// at the restore.
#[utoipa::path(post, path = "/containers/{container}/checkpoints", tag = "checkpoints",
    params(("container" = String, Path)), request_body = CheckpointRequest,
    responses((status = 201, body = CheckpointView), (status = "default", body = Problem)))]
async fn checkpoint(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
    OptionalJson(request): OptionalJson<CheckpointRequest>,
) -> Result<(StatusCode, Json<CheckpointView>)> {
    let view = app.checkpoints.create(&ctx, &container, request).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Show a checkpoint (operators only).
#[utoipa::path(get, path = "/checkpoints/{checkpoint}", tag = "checkpoints", params(("checkpoint" = String, Path)),
    responses((status = 200, body = CheckpointView), (status = "default", body = Problem)))]
async fn get(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(checkpoint): Path<String>,
) -> Result<Json<CheckpointView>> {
    app.checkpoints.get(&ctx, &checkpoint).await.map(Json)
}

/// Remove a checkpoint (operators only).
#[utoipa::path(delete, path = "/checkpoints/{checkpoint}", tag = "checkpoints", params(("checkpoint" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(checkpoint): Path<String>,
) -> Result<StatusCode> {
    app.checkpoints.remove(&ctx, &checkpoint).await.map(|()| StatusCode::NO_CONTENT)
}

/// Make a container of a checkpoint, which goes on where the saved one was (operators only).
#[utoipa::path(post, path = "/checkpoints/{checkpoint}/restore", tag = "checkpoints",
    params(("checkpoint" = String, Path)), request_body = RestoreRequest,
    responses((status = 201, body = ContainerView), (status = "default", body = Problem)))]
async fn restore(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(checkpoint): Path<String>,
    OptionalJson(request): OptionalJson<RestoreRequest>,
) -> Result<(StatusCode, Json<ContainerView>)> {
    let view = app.checkpoints.restore(&ctx, &checkpoint, request).await?;
    Ok((StatusCode::CREATED, Json(view)))
}
