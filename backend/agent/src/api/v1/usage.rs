//! `/api/v1/usage`: on pages and as a file.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::fs::File;
use tokio_util::io::ReaderStream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_billing::focus::metadata::Metadata;
use wharf_shared::page::Page;
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{ExportFormat, UsageRow};

use crate::api::extract::{Caller, Json, Query};
use crate::app::App;
use crate::billing::{Export, ExportFilter, UsageFilter};
use crate::ctx::{Ctx, PageRequest};
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(export)).routes(routes!(export_metadata))
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
    /// First hour; 24 hours before the last when absent.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// Hour after the last; when absent, the begin of the present hour, or its end with `provisional`.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// Instead of hours, the rows of this statement, by number or by tenant id and month: they add up to it.
    statement: Option<String>,
    /// Instead of hours, the rows of every statement of this month, such as 2026-01.
    period: Option<String>,
    /// Also what may still change: hours that are not over or not reported, statements that are not issued.
    #[serde(default)]
    provisional: bool,
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

/// The same as a file: FOCUS 1.2 columns as CSV or Parquet, or JSON lines with totals.
#[utoipa::path(get, path = "/usage/export", tag = "usage", params(ExportQuery),
    responses((status = 200, content((String = "text/csv"), (String = "application/x-ndjson"),
        (Vec<u8> = "application/vnd.apache.parquet")))))]
async fn export(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<ExportQuery>,
) -> Result<Response> {
    let format = query.format;
    let filter = wanted(&app, &ctx, query).await?;
    let Export { file, length_bytes, is_provisional, turn } =
        app.billing.export(&ctx, &filter, format).await?;
    let (content_type, name, name_if_provisional) = match format {
        ExportFormat::Csv => (
            "text/csv; charset=utf-8",
            "attachment; filename=\"usage.csv\"",
            "attachment; filename=\"usage-provisional.csv\"",
        ),
        ExportFormat::Jsonl => (
            "application/x-ndjson",
            "attachment; filename=\"usage.jsonl\"",
            "attachment; filename=\"usage-provisional.jsonl\"",
        ),
        ExportFormat::Parquet => (
            "application/vnd.apache.parquet",
            "attachment; filename=\"usage.parquet\"",
            "attachment; filename=\"usage-provisional.parquet\"",
        ),
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (
            CONTENT_DISPOSITION,
            HeaderValue::from_static(if is_provisional { name_if_provisional } else { name }),
        ),
        (CONTENT_LENGTH, HeaderValue::from(length_bytes)),
    ];
    // Ends with the body, whether that was read or given up.
    let body = ReaderStream::new(File::from_std(file)).inspect(move |_| _ = &turn);
    Ok((headers, Body::from_stream(body)).into_response())
}

/// What an export says about itself: the metadata that FOCUS wants beside a file, with every column's type.
#[utoipa::path(get, path = "/usage/export/metadata", tag = "usage", params(ExportQuery),
    responses((status = 200, body = serde_json::Value)))]
async fn export_metadata(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<ExportQuery>,
) -> Result<Json<Metadata>> {
    let filter = wanted(&app, &ctx, query).await?;
    app.billing.export_metadata(&ctx, &filter).await.map(Json)
}

/// What an export is asked for; a bill right after an end has that end.
async fn wanted(app: &App, ctx: &Ctx, query: ExportQuery) -> Result<ExportFilter> {
    let ExportQuery { tenant, container, from, to, statement, period, provisional, format: _ } = query;
    let tenant = app.tenants.resolve(ctx, tenant.as_deref()).await?;
    app.metering.roll_up_now(&app.db).await?;
    Ok(ExportFilter {
        usage: UsageFilter { tenant, container, from, to },
        statement,
        month: period,
        is_provisional_wanted: provisional,
    })
}
