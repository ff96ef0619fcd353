//! `/api/v1/images`.

use std::sync::Arc;

use crate::ctx::PageRequest;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::id::PullId;
use wharf_shared::image::{ImageDetail, ImageView, PullRequest, PullView, TagRequest};
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::problem::{Problem, ProblemKind};

use crate::api::extract::{Caller, Json, Path, Query};
use crate::app::App;
use crate::error::{Result, ServiceError};

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
    let most = app.images.import_max_bytes();
    let disk = |error: std::io::Error| {
        let full = error.raw_os_error() == Some(nix::libc::ENOSPC);
        let kind = if full { ProblemKind::InsufficientStorage } else { ProblemKind::Internal };
        ServiceError::new(kind, "the archive could not be kept while it was received").because(error)
    };
    // A file without a name: it goes with its last descriptor, whatever happens.
    let spool = app.config.state_dir.join("spool");
    let file = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&spool)?;
        tempfile::NamedTempFile::new_in(spool)
    })
    .await
    .map_err(|error| ServiceError::internal("a worker thread panicked", error))?
    .map_err(disk)?;
    let mut sink = tokio::fs::File::from_std(file.reopen().map_err(disk)?);
    let mut received = 0_u64;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            ServiceError::new(ProblemKind::Malformed, "the archive broke off").because(error)
        })?;
        received += chunk.len() as u64;
        if received > most {
            return Err(ServiceError::new(
                ProblemKind::TooLarge,
                format!("an archive may have {most} bytes"),
            ));
        }
        sink.write_all(&chunk).await.map_err(disk)?;
    }
    sink.flush().await.map_err(disk)?;
    let path = file.path().to_owned();
    let views = app.images.import(&ctx, tenant.as_ref(), query.reference.as_deref(), path).await?;
    Ok((StatusCode::CREATED, Json(views)))
}
