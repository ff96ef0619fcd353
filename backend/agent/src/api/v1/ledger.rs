//! `/api/v1/ledger`: where it stands, all of it, corrections; `/api/v1/metering`: what is on its way into it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::id::HostId;
use wharf_shared::ledger::{CorrectionSpec, CorrectionView, LedgerView};
use wharf_shared::metering::{HostReportView, MeteringView, RetireSpec};

use crate::api::extract::{Caller, Json, Path};
use crate::app::App;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(export))
        .routes(routes!(correct))
        .routes(routes!(show_metering))
        .routes(routes!(list_hosts))
        .routes(routes!(retire_host))
}

/// Where the host's ledger stands: its head, the last checkpoint, the key that signs.
#[utoipa::path(get, path = "/ledger", tag = "ledger", responses((status = 200, body = LedgerView)))]
async fn show(State(app): State<Arc<App>>, Caller(ctx): Caller) -> Result<Json<LedgerView>> {
    app.ledger.view(&ctx).await.map(Json)
}

/// How metering stands: what the hours lack yet, and gaps, resets and settings of the clock in the journal.
#[utoipa::path(get, path = "/metering", tag = "ledger", responses((status = 200, body = MeteringView)))]
async fn show_metering(State(app): State<Arc<App>>, Caller(ctx): Caller) -> Result<Json<MeteringView>> {
    app.ledger.metering(&ctx).await.map(Json)
}

/// How far each host of this store has reported, by id.
#[utoipa::path(get, path = "/metering/hosts", tag = "ledger",
    responses((status = 200, body = Vec<HostReportView>)))]
async fn list_hosts(State(app): State<Arc<App>>, Caller(ctx): Caller) -> Result<Json<Vec<HostReportView>>> {
    app.ledger.hosts(&ctx).await.map(Json)
}

/// Say that a host will never report again: its last report is its end, and statements do not wait for more. If it
/// reports all the same, it is not retired any more.
#[utoipa::path(post, path = "/metering/hosts/{host}/retire", tag = "ledger", request_body = RetireSpec,
    params(("host" = String, Path, description = "Id")), responses((status = 200, body = HostReportView)))]
async fn retire_host(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(host): Path<HostId>,
    Json(spec): Json<RetireSpec>,
) -> Result<Json<HostReportView>> {
    app.ledger.retire_host(&ctx, &host, spec, app.clock.now()).await.map(Json)
}

/// All records with their hashes as JSON lines, for `wharf ledger verify`. One that breaks off lacks the last
/// line.
#[utoipa::path(get, path = "/ledger/export", tag = "ledger",
    responses((status = 200, content((String = "application/x-ndjson")))))]
async fn export(State(app): State<Arc<App>>, Caller(ctx): Caller) -> Result<Response> {
    let lines = app.ledger.export(&ctx).await?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        (CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"ledger.jsonl\"")),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// Put right what a reading counted: by a record more, never by a change. If the reading's hour was billed, it is
/// an hour of the next period without a statement that changes.
#[utoipa::path(post, path = "/ledger/corrections", tag = "ledger", request_body = CorrectionSpec,
    responses((status = 201, body = CorrectionView)))]
async fn correct(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Json(spec): Json<CorrectionSpec>,
) -> Result<(StatusCode, Json<CorrectionView>)> {
    app.ledger.correct(&ctx, spec).await.map(|view| (StatusCode::CREATED, Json(view)))
}
