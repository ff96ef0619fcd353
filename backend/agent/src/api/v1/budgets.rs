//! `/api/v1/budgets`: what tenants may spend in a month; one a tenant.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::budget::{BudgetSpec, BudgetView};
use wharf_shared::page::Page;

use crate::api::extract::{Caller, Json, Path, Query};
use crate::app::App;
use crate::ctx::PageRequest;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, set, remove))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only this tenant's, by id or name.
    tenant: Option<String>,
    /// Most items; 100 when absent, at most 1000.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Budgets and how they stand in the present month; a member sees its own tenant's
#[utoipa::path(get, path = "/budgets", tag = "budgets", params(ListQuery),
    responses((status = 200, body = Page<BudgetView>)))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<BudgetView>>> {
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    let page = PageRequest { cursor: query.cursor, limit: query.limit };
    app.budgets.list(&ctx, tenant.as_ref(), &page).await.map(Json)
}

/// A tenant's budget
#[utoipa::path(get, path = "/budgets/{tenant}", tag = "budgets",
    params(("tenant" = String, Path, description = "Id or name")), responses((status = 200, body = BudgetView)))]
async fn show(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(tenant): Path<String>,
) -> Result<Json<BudgetView>> {
    app.budgets.get(&ctx, &tenant).await.map(Json)
}

/// Give a tenant a budget in place of the one it has; its thresholds are looked at anew
#[utoipa::path(put, path = "/budgets/{tenant}", tag = "budgets", request_body = BudgetSpec,
    params(("tenant" = String, Path, description = "Id or name")), responses((status = 200, body = BudgetView)))]
async fn set(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(tenant): Path<String>,
    Json(spec): Json<BudgetSpec>,
) -> Result<Json<BudgetView>> {
    app.budgets.set(&ctx, &tenant, spec).await.map(Json)
}

/// Take a tenant's budget away; what it has paused goes on
#[utoipa::path(delete, path = "/budgets/{tenant}", tag = "budgets",
    params(("tenant" = String, Path, description = "Id or name")), responses((status = 204)))]
async fn remove(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(tenant): Path<String>,
) -> Result<StatusCode> {
    app.budgets.remove(&ctx, &tenant).await.map(|()| StatusCode::NO_CONTENT)
}
