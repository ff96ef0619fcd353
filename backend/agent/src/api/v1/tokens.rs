//! API tokens.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::auth::{NewToken, TokenSpec, TokenView};
use wharf_shared::id::TokenId;
use wharf_shared::page::Page;

use crate::api::extract::{Caller, Json, Paging, Path, Query};
use crate::app::App;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(remove))
}

/// One's own tokens; an admin sees everybody's
#[utoipa::path(get, path = "/tokens", tag = "access", params(Paging), responses((status = 200, body = Page<TokenView>)))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<TokenView>>> {
    app.auth.tokens(&ctx, &paging.into()).await.map(Json)
}

/// Make a token for oneself; its secret is shown this once
#[utoipa::path(post, path = "/tokens", tag = "access", responses((status = 201, body = NewToken)))]
async fn create(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Json(spec): Json<TokenSpec>,
) -> Result<(StatusCode, Json<NewToken>)> {
    Ok((StatusCode::CREATED, Json(app.auth.create_token(&ctx, &spec).await?)))
}

/// Remove a token
#[utoipa::path(delete, path = "/tokens/{token}", tag = "access", params(("token" = TokenId, Path)), responses((status = 204)))]
async fn remove(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(token): Path<TokenId>,
) -> Result<StatusCode> {
    app.auth.delete_token(&ctx, &token).await?;
    Ok(StatusCode::NO_CONTENT)
}
