//! `/api/v1/usage`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_billing::focus::FocusContext;
use wharf_shared::page::Page;
use wharf_shared::problem::Problem;
use wharf_shared::time::{DAY_US, HOUR_US, Timestamp};
use wharf_shared::usage::{ExportFormat, UsageRow};

use crate::api::extract::{Caller, Json, Query};
use crate::app::App;
use crate::billing::Period;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(export))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct UsageQuery {
    /// Only this tenant's, by id or name.
    tenant: Option<String>,
    /// Only this container's, by id.
    container: Option<String>,
    /// First hour; 24 hours ago when absent.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// Hour after the last; the end of the present hour when absent.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// How an export is written.
    #[serde(default)]
    format: ExportFormat,
}

async fn period(app: &App, ctx: &Ctx, query: &UsageQuery) -> Result<Period> {
    let now = app.clock.now().hour_start();
    let container = query.container.as_deref().map(str::parse).transpose().map_err(
        |error: wharf_shared::id::InvalidId| ServiceError::invalid_field("container", error.to_string()),
    )?;
    Ok(Period {
        tenant: app.tenants.resolve(ctx, query.tenant.as_deref()).await?,
        container,
        from: query.from.unwrap_or(Timestamp(now.0 - DAY_US)),
        to: query.to.unwrap_or(Timestamp(now.0 + HOUR_US)),
    })
}

/// Usage and cost by tenant, container, hour and meter.
#[utoipa::path(get, path = "/usage", tag = "usage", params(UsageQuery),
    responses((status = 200, body = Page<UsageRow>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<UsageQuery>,
) -> Result<Json<Page<UsageRow>>> {
    let period = period(&app, &ctx, &query).await?;
    app.billing.usage(&ctx, &period).await.map(Json)
}

/// The same as a file: FOCUS 1.2 columns as CSV, or JSON lines with totals.
#[utoipa::path(get, path = "/usage/export", tag = "usage", params(UsageQuery),
    responses((status = 200, content((String = "text/csv"), (String = "application/x-ndjson"))),
        (status = "default", body = Problem)))]
async fn export(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<UsageQuery>,
) -> Result<Response> {
    let period = period(&app, &ctx, &query).await?;
    let host = app.metering.host().to_string();
    let context = FocusContext {
        provider_name: app.config.billing.provider.clone(),
        billing_account_id: app.config.billing.account_id.clone(),
        billing_account_name: app.config.billing.account_name.clone(),
        region: app.config.billing.region.clone(),
        host,
    };
    let body = app.billing.export(&ctx, &period, query.format, context).await?;
    let (content_type, file) = match query.format {
        ExportFormat::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"usage.csv\""),
        ExportFormat::Jsonl => ("application/x-ndjson", "attachment; filename=\"usage.jsonl\""),
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CONTENT_DISPOSITION, HeaderValue::from_static(file)),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}
