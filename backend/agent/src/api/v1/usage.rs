//! `/api/v1/usage`: on pages and as a file.

use std::sync::Arc;

use crate::ctx::PageRequest;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio_util::io::ReaderStream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::page::Page;
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{ExportFormat, UsageRow};

use crate::api::extract::{Caller, Json, Query};
use crate::app::App;
use crate::billing::UsageFilter;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(export))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only this tenant's, by id or name.
    tenant: Option<String>,
    /// Only this container's, by name or, also when it is gone, by id.
    container: Option<String>,
    /// First hour; 24 hours ago when absent.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// Hour after the last; the end of the present hour when absent.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// Rows after which a page ends with the tenant's hour; 100 when absent, at most 1000.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct ExportQuery {
    /// Only this tenant's, by id or name.
    tenant: Option<String>,
    /// Only this container's, by name or, also when it is gone, by id.
    container: Option<String>,
    /// First hour; 24 hours ago when absent.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// Hour after the last; the end of the present hour when absent.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// How it is written.
    #[serde(default)]
    format: ExportFormat,
}

/// Usage and cost by tenant, container, hour and meter.
#[utoipa::path(get, path = "/usage", tag = "usage", params(ListQuery), responses((status = 200, body = Page<UsageRow>)))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<UsageRow>>> {
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    let filter = UsageFilter { tenant, container: query.container, from: query.from, to: query.to };
    app.metering.roll_up_now(&app.db).await?;
    let page = PageRequest { cursor: query.cursor, limit: query.limit };
    app.billing.usage(&ctx, &filter, &page).await.map(Json)
}

/// The same as a file: FOCUS 1.2 columns as CSV, or JSON lines with totals.
#[utoipa::path(get, path = "/usage/export", tag = "usage", params(ExportQuery),
    responses((status = 200, content((String = "text/csv"), (String = "application/x-ndjson")))))]
async fn export(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<ExportQuery>,
) -> Result<Response> {
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    let filter = UsageFilter { tenant, container: query.container, from: query.from, to: query.to };
    // A bill right after an end has that end.
    app.metering.roll_up_now(&app.db).await?;
    let (file, length_bytes) = app.billing.export(&ctx, &filter, query.format).await?;
    let (content_type, name) = match query.format {
        ExportFormat::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"usage.csv\""),
        ExportFormat::Jsonl => ("application/x-ndjson", "attachment; filename=\"usage.jsonl\""),
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CONTENT_DISPOSITION, HeaderValue::from_static(name)),
        (CONTENT_LENGTH, HeaderValue::from(length_bytes)),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(file))).into_response())
}
