//! `/api/v1/statements`: what tenants owe, on paper, and how it came to be.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_billing::statement;
use wharf_shared::page::Page;
use wharf_shared::statement::{Explanation, IssueSpec, StatementFormat, StatementView, VoidSpec};

use crate::api::extract::{Caller, Json, Paging, Path, Query};
use crate::app::App;
use crate::ctx::PageRequest;
use crate::error::Result;

/// The page has its style in itself and nothing else.
const PAGE_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list_statements))
        .routes(routes!(show_statement))
        .routes(routes!(issue_statement))
        .routes(routes!(pay_statement))
        .routes(routes!(void_statement))
        .routes(routes!(explain_line))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only this tenant's, by id or name.
    tenant: Option<String>,
    /// A month, such as 2026-01: every statement of it, issued or not. Without one, what was issued.
    period: Option<String>,
    /// Most items; of a period 20 when absent and at most 100, else 100 and 1000.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct ShowQuery {
    /// How it is written; what `Accept` names first when absent.
    format: Option<StatementFormat>,
}

/// Statements of a period by tenant, or all documents that were issued, the last first.
#[utoipa::path(get, path = "/statements", tag = "statements", params(ListQuery),
    responses((status = 200, body = Page<StatementView>)))]
async fn list_statements(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<StatementView>>> {
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    app.metering.roll_up_now(&app.db).await?;
    let page = PageRequest { cursor: query.cursor, limit: query.limit };
    app.billing.statements(&ctx, tenant.as_ref(), query.period.as_deref(), &page).await.map(Json)
}

/// One statement or credit note: as an object, for a spreadsheet, or as a page that prints well.
#[utoipa::path(get, path = "/statements/{statement}", tag = "statements",
    params(("statement" = String, Path, description = "Number, or tenant id and month: `tnt_….2026-01`"), ShowQuery),
    responses((status = 200, content((StatementView = "application/json"), (String = "text/csv"),
        (String = "text/html")))))]
async fn show_statement(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Query(query): Query<ShowQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    app.metering.roll_up_now(&app.db).await?;
    let view = app.billing.statement(&ctx, &id).await?;
    Ok(match query.format.unwrap_or_else(|| accepted(&headers)) {
        StatementFormat::Json => Json(view).into_response(),
        StatementFormat::Csv => {
            let headers = [
                (CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8")),
                (CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"statement.csv\"")),
            ];
            (headers, statement::csv(&view)).into_response()
        }
        StatementFormat::Html => {
            let headers = [
                (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
                (CONTENT_SECURITY_POLICY, PAGE_POLICY),
            ];
            (headers, statement::html(&view)).into_response()
        }
    })
}

/// The first of our formats in `Accept`; JSON for whoever takes anything.
fn accepted(headers: &HeaderMap) -> StatementFormat {
    let text = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut types = text.split(',').map(|part| part.split(';').next().unwrap_or_default().trim());
    let known = |name| match name {
        "application/json" => Some(StatementFormat::Json),
        "text/csv" => Some(StatementFormat::Csv),
        "text/html" => Some(StatementFormat::Html),
        _ => None,
    };
    types.find_map(known).unwrap_or_default()
}

/// Issue a draft: it gets its number and never changes again.
#[utoipa::path(post, path = "/statements/{statement}/issue", tag = "statements", request_body = IssueSpec,
    params(("statement" = String, Path, description = "Tenant id and month: `tnt_….2026-01`")),
    responses((status = 201, body = StatementView)))]
async fn issue_statement(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Json(spec): Json<IssueSpec>,
) -> Result<(StatusCode, Json<StatementView>)> {
    app.metering.roll_up_now(&app.db).await?;
    app.billing
        .issue_statement(&ctx, &id, &spec, &app.metering)
        .await
        .map(|view| (StatusCode::CREATED, Json(view)))
}

/// Note that a statement was paid.
#[utoipa::path(post, path = "/statements/{statement}/pay", tag = "statements",
    params(("statement" = String, Path, description = "Number")), responses((status = 200, body = StatementView)))]
async fn pay_statement(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Result<Json<StatementView>> {
    app.billing.pay_statement(&ctx, &id).await.map(Json)
}

/// Take a statement back; the answer is its credit note.
#[utoipa::path(post, path = "/statements/{statement}/void", tag = "statements", request_body = VoidSpec,
    params(("statement" = String, Path, description = "Number")), responses((status = 201, body = StatementView)))]
async fn void_statement(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Json(spec): Json<VoidSpec>,
) -> Result<(StatusCode, Json<StatementView>)> {
    app.billing.void_statement(&ctx, &id, spec).await.map(|note| (StatusCode::CREATED, Json(note)))
}

/// How a line came to be: formula, hours, readings, and the kernel's file and value of each.
#[utoipa::path(get, path = "/statements/{statement}/lines/{line}/explain", tag = "statements",
    params(("statement" = String, Path, description = "Number, or tenant id and month"),
        ("line" = u32, Path, description = "The line's number"), Paging),
    responses((status = 200, body = Explanation)))]
async fn explain_line(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path((id, line)): Path<(String, u32)>,
    Query(paging): Query<Paging>,
) -> Result<Json<Explanation>> {
    app.metering.roll_up_now(&app.db).await?;
    app.billing.explain(&ctx, &app.metering, &id, line, &paging.into()).await.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_first_that_we_have() {
        for (accept, format) in [
            ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", StatementFormat::Html),
            ("image/png, text/csv;q=0.5, application/json", StatementFormat::Csv),
            ("*/*", StatementFormat::Json),
            ("", StatementFormat::Json),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(accepted(&headers), format, "{accept}");
        }
    }
}
