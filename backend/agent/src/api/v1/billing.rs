//! `/api/v1/billing`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::billing::{PriceBookSpec, PriceBookView};
use wharf_shared::page::Page;
use wharf_shared::problem::Problem;

use crate::api::extract::{Caller, Json, Paging, Query};
use crate::app::App;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list_books, create_book))
}

/// List versions of the price book, the last to take effect first.
#[utoipa::path(get, path = "/billing/price-books", tag = "billing", params(Paging),
    responses((status = 200, body = Page<PriceBookView>), (status = "default", body = Problem)))]
async fn list_books(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<PriceBookView>>> {
    app.billing.list_books(&ctx, &paging.into()).await.map(Json)
}

/// Add a version of the price book; it holds from an hour that is not over.
#[utoipa::path(post, path = "/billing/price-books", tag = "billing", request_body = PriceBookSpec,
    responses((status = 201, body = PriceBookView), (status = "default", body = Problem)))]
async fn create_book(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Json(spec): Json<PriceBookSpec>,
) -> Result<(StatusCode, Json<PriceBookView>)> {
    app.billing.create_book(&ctx, spec).await.map(|view| (StatusCode::CREATED, Json(view)))
}
