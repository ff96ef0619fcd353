//! `/api/v1/billing`: price books.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::billing::{PriceBookSpec, PriceBookView};
use wharf_shared::page::Page;
use wharf_shared::statement::{SimulateSpec, Simulation};

use crate::api::extract::{Caller, Json, Paging, Query};
use crate::app::App;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list_price_books, add_price_book))
        .routes(routes!(simulate_price_book))
}

/// List versions of the price book, the last to take effect first.
#[utoipa::path(get, path = "/billing/price-books", tag = "billing", params(Paging),
    responses((status = 200, body = Page<PriceBookView>)))]
async fn list_price_books(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<PriceBookView>>> {
    app.billing.price_books(&ctx, &paging.into()).await.map(Json)
}

/// Add a version of the price book; it holds from an hour that is not over.
#[utoipa::path(post, path = "/billing/price-books", tag = "billing", request_body = PriceBookSpec,
    responses((status = 201, body = PriceBookView)))]
async fn add_price_book(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Json(spec): Json<PriceBookSpec>,
) -> Result<(StatusCode, Json<PriceBookView>)> {
    app.billing.add_price_book(&ctx, spec).await.map(|view| (StatusCode::CREATED, Json(view)))
}

/// What a price book would change in a period, tenant by tenant. Nothing is kept.
#[utoipa::path(post, path = "/billing/price-books/simulate", tag = "billing", request_body = SimulateSpec,
    responses((status = 200, body = Simulation)))]
async fn simulate_price_book(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Json(spec): Json<SimulateSpec>,
) -> Result<Json<Simulation>> {
    app.metering.roll_up_now(&app.db).await?;
    app.billing.simulate(&ctx, spec).await.map(Json)
}
