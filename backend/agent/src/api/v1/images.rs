//! `/api/v1/images`.

use std::sync::Arc;

use crate::ctx::PageRequest;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::id::PullId;
use wharf_shared::image::{ImageDetail, ImageView, PullRequest, PullView, TagRequest};
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::problem::Problem;

use crate::api::extract::{Caller, Json, Path, Query};
use crate::api::spool;
use crate::app::App;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, remove))
        .routes(routes!(detail))
        .routes(routes!(tag))
        .routes(routes!(pull))
        .routes(routes!(list_pulls))
        .routes(routes!(get_pull, cancel_pull))
        .routes(routes!(import))
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
struct ImageQuery {
    /// Image reference.
    reference: String,
    /// Whose image, by id or name, when several tenants have it.
    tenant: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct RemoveQuery {
    /// Image reference.
    reference: String,
    /// Whose image, by id or name, when several tenants have it.
    tenant: Option<String>,
    /// Take the name away although containers use the image.
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ImportQuery {
    /// Name of the image; needed for a plain root file system.
    reference: Option<String>,
    /// Whose image it becomes, by id or name; a member's own tenant when absent.
    tenant: Option<String>,
}

/// List images.
#[utoipa::path(get, path = "/images", tag = "images", params(ListQuery),
    responses((status = 200, body = Page<ImageView>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ImageView>>> {
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    let page = PageRequest { cursor: query.cursor, limit: query.limit };
    app.images.list(&ctx, tenant.as_ref(), &page).await.map(Json)
}

/// Take a tenant's name for an image away; content that nobody needs goes with it.
#[utoipa::path(delete, path = "/images", tag = "images", params(RemoveQuery),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<RemoveQuery>,
) -> Result<StatusCode> {
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    app.images.remove(&ctx, tenant.as_ref(), &query.reference, query.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Show an image with its layers and history.
#[utoipa::path(get, path = "/images/detail", tag = "images", params(ImageQuery),
    responses((status = 200, body = ImageDetail), (status = "default", body = Problem)))]
async fn detail(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<ImageQuery>,
) -> Result<Json<ImageDetail>> {
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    app.images.detail(&ctx, tenant.as_ref(), &query.reference).await.map(Json)
}

/// Give an image a further name.
#[utoipa::path(post, path = "/images/tag", tag = "images", request_body = TagRequest,
    responses((status = 200, body = ImageView), (status = "default", body = Problem)))]
async fn tag(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Json(request): Json<TagRequest>,
) -> Result<Json<ImageView>> {
    app.images.tag(&ctx, request).await.map(Json)
}

/// Pull an image; it goes on in the background.
#[utoipa::path(post, path = "/images/pull", tag = "images", request_body = PullRequest,
    responses((status = 202, body = PullView), (status = "default", body = Problem)))]
async fn pull(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Json(request): Json<PullRequest>,
) -> Result<(StatusCode, Json<PullView>)> {
    app.images.pull(&ctx, request).await.map(|view| (StatusCode::ACCEPTED, Json(view)))
}

/// List running pulls and the last finished ones, newest first.
#[utoipa::path(get, path = "/images/pulls", tag = "images",
    responses((status = 200, body = Page<PullView>), (status = "default", body = Problem)))]
async fn list_pulls(State(app): State<Arc<App>>, Caller(ctx): Caller) -> Result<Json<Page<PullView>>> {
    Ok(Json(Page { items: app.images.list_pulls(&ctx)?, next_cursor: None }))
}

/// Show a pull.
#[utoipa::path(get, path = "/images/pulls/{pull}", tag = "images", params(("pull" = String, Path)),
    responses((status = 200, body = PullView), (status = "default", body = Problem)))]
async fn get_pull(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(pull): Path<PullId>,
) -> Result<Json<PullView>> {
    app.images.get_pull(&ctx, &pull).map(Json)
}

/// Cancel a running pull; answered when it has ended.
#[utoipa::path(delete, path = "/images/pulls/{pull}", tag = "images", params(("pull" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
async fn cancel_pull(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(pull): Path<PullId>,
) -> Result<StatusCode> {
    app.images.cancel_pull(&ctx, &pull).await.map(|()| StatusCode::NO_CONTENT)
}

/// Import an archive: docker save, an OCI layout, or a plain root file system, compressed or not.
/// Closing the connection cancels it.
#[utoipa::path(post, path = "/images/import", tag = "images", params(ImportQuery),
    request_body(content_type = "application/x-tar"),
    responses((status = 201, body = Vec<ImageView>), (status = "default", body = Problem)))]
async fn import(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<ImportQuery>,
    body: Body,
) -> Result<(StatusCode, Json<Vec<ImageView>>)> {
    ctx.require(Permission::TenantWrite)?;
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    let file = spool::receive(&app, body).await?;
    let path = file.path().to_owned();
    let views = app.images.import(&ctx, tenant.as_ref(), query.reference.as_deref(), path).await?;
    Ok((StatusCode::CREATED, Json(views)))
}
