//! Users, for admins.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::id::UserId;
use wharf_shared::page::Page;
use wharf_shared::user::{UserSpec, UserView};

use crate::api::extract::{Caller, Json, Paging, Path, Query};
use crate::app::App;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(remove))
}

/// Users by name
#[utoipa::path(get, path = "/users", tag = "access", params(Paging), responses((status = 200, body = Page<UserView>)))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<UserView>>> {
    app.users.list(&ctx, &paging.into()).await.map(Json)
}

/// Make a user
#[utoipa::path(post, path = "/users", tag = "access", responses((status = 201, body = UserView)))]
async fn create(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Json(spec): Json<UserSpec>,
) -> Result<(StatusCode, Json<UserView>)> {
    Ok((StatusCode::CREATED, Json(app.users.create(&ctx, spec).await?)))
}

/// Remove a user with its sessions and tokens
#[utoipa::path(delete, path = "/users/{user}", tag = "access", params(("user" = UserId, Path)), responses((status = 204)))]
async fn remove(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(user): Path<UserId>,
) -> Result<StatusCode> {
    app.users.delete(&ctx, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}
