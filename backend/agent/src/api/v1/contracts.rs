//! `/api/v1/contracts`: what single tenants have agreed.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::billing::{ContractEnd, ContractSpec, ContractView};
use wharf_shared::id::ContractId;
use wharf_shared::page::Page;

use crate::api::extract::{Caller, Json, Path, Query};
use crate::app::App;
use crate::ctx::PageRequest;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list_contracts, add_contract)).routes(routes!(end_contract))
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

/// Contracts, the newest first; a member sees its own tenant's.
#[utoipa::path(get, path = "/contracts", tag = "contracts", params(ListQuery),
    responses((status = 200, body = Page<ContractView>)))]
async fn list_contracts(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ContractView>>> {
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    let page = PageRequest { cursor: query.cursor, limit: query.limit };
    app.billing.contracts(&ctx, tenant.as_ref(), &page).await.map(Json)
}

/// Add a contract; it holds from an hour that is not over.
#[utoipa::path(post, path = "/contracts", tag = "contracts", request_body = ContractSpec,
    responses((status = 201, body = ContractView)))]
async fn add_contract(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Json(spec): Json<ContractSpec>,
) -> Result<(StatusCode, Json<ContractView>)> {
    app.billing.add_contract(&ctx, spec).await.map(|view| (StatusCode::CREATED, Json(view)))
}

/// Give a contract an end; all else of it never changes.
#[utoipa::path(patch, path = "/contracts/{contract}", tag = "contracts", request_body = ContractEnd,
    params(("contract" = String, Path, description = "Id")), responses((status = 200, body = ContractView)))]
async fn end_contract(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(contract): Path<ContractId>,
    Json(end): Json<ContractEnd>,
) -> Result<Json<ContractView>> {
    app.billing.end_contract(&ctx, &contract, end.to).await.map(Json)
}
