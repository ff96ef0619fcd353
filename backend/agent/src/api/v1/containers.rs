//! `/api/v1/containers`.

use std::sync::Arc;
use std::time::Duration;

use crate::containers::ContainerFilter;
use crate::ctx::PageRequest;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::container::{
    ChangesView, CommitRequest, ContainerSpec, ContainerState, ContainerUpdate, ContainerView, CopiedView,
    ExecSpec, ExecView, ExitView, FileView, ProcessView, SignalRequest, StopRequest, signal_number,
};
use wharf_shared::image::ImageView;
use wharf_shared::live::{LogLine, LogStream, MetricsPoint};
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::problem::{Problem, ProblemKind};
use wharf_shared::time::Timestamp;

use crate::api::extract::{Caller, Json, OptionalJson, Path, Query};
use crate::api::{live, spool};
use crate::app::App;
use crate::containers::logs::{LogItem, LogQuery};
use crate::error::{Result, ServiceError};

/// A wait is answered after this at the latest; the client asks again.
const WAIT_MOST: Duration = Duration::from_secs(50);
/// Lines of JSON.
const NDJSON: &str = "application/x-ndjson";

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, remove))
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(restart))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(kill))
        .routes(routes!(wait))
        .routes(routes!(exec))
        .routes(routes!(logs))
        .routes(routes!(processes))
        .routes(routes!(metrics))
        .routes(routes!(history))
        .routes(routes!(exec_socket))
        .routes(routes!(attach_socket))
        .routes(routes!(changes))
        .routes(routes!(export))
        .routes(routes!(commit))
        .routes(routes!(copy_out, copy_in))
        .routes(routes!(stat_file))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Also those that do not run.
    #[serde(default)]
    all: bool,
    /// Only in this state.
    state: Option<ContainerState>,
    /// Only with this in their name.
    name: Option<String>,
    /// Only this tenant's, by id or name.
    tenant: Option<String>,
    /// Only with this label, `name` or `name=value`.
    label: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// List containers, newest first; those that run unless `all` or `state` says otherwise.
#[utoipa::path(get, path = "/containers", tag = "containers", params(ListQuery),
    responses((status = 200, body = Page<ContainerView>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ContainerView>>> {
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    let states = match query.state {
        Some(state) => vec![state],
        None if query.all => Vec::new(),
        None => vec![
            ContainerState::Pulling,
            ContainerState::Starting,
            ContainerState::Running,
            ContainerState::Paused,
            ContainerState::Stopping,
            ContainerState::Restarting,
        ],
    };
    let label = query.label.map(|label| match label.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (label, None),
    });
    let filter = ContainerFilter { states, name: query.name, label };
    let page = PageRequest { cursor: query.cursor, limit: query.limit };
    app.containers.list(&ctx, tenant.as_ref(), &filter, &page).await.map(Json)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct CreateQuery {
    /// Start it at once; an image that is not there is pulled in the background.
    #[serde(default)]
    start: bool,
}

/// Create a container.
#[utoipa::path(post, path = "/containers", tag = "containers", params(CreateQuery), request_body = ContainerSpec,
    responses((status = 201, body = ContainerView), (status = "default", body = Problem)))]
async fn create(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<CreateQuery>,
    Json(spec): Json<ContainerSpec>,
) -> Result<(StatusCode, Json<ContainerView>)> {
    let view = app.containers.create(&ctx, spec, query.start).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Show a container, by id, beginning of its id (4 characters or more), or name.
#[utoipa::path(get, path = "/containers/{container}", tag = "containers", params(("container" = String, Path)),
    responses((status = 200, body = ContainerView), (status = "default", body = Problem)))]
async fn get(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
) -> Result<Json<ContainerView>> {
    app.containers.get(&ctx, &container).await.map(Json)
}

/// Change name, limits or restart policy. Limits of a running container hold at once, all of them or
/// none; devices, open files and `/dev/shm` can change only while it does not run.
#[utoipa::path(patch, path = "/containers/{container}", tag = "containers", params(("container" = String, Path)),
    request_body = ContainerUpdate,
    responses((status = 200, body = ContainerView), (status = "default", body = Problem)))]
async fn update(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
    Json(update): Json<ContainerUpdate>,
) -> Result<Json<ContainerView>> {
    app.containers.update(&ctx, &container, update).await.map(Json)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct RemoveQuery {
    /// Kill it first if it runs.
    #[serde(default)]
    force: bool,
    /// Also the volumes that were made for it because its image declares them.
    #[serde(default)]
    volumes: bool,
}

/// Remove a container with its writable layer and log; its usage stays, and so do volumes unless told
/// otherwise (one that removes itself takes those of its image along).
#[utoipa::path(delete, path = "/containers/{container}", tag = "containers",
    params(("container" = String, Path), RemoveQuery),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
    Query(query): Query<RemoveQuery>,
) -> Result<StatusCode> {
    app.containers.remove(&ctx, &container, query.force, query.volumes).await.map(|()| StatusCode::NO_CONTENT)
}

/// Tell what a container has changed in its image, whether it runs or not.
#[utoipa::path(get, path = "/containers/{container}/changes", tag = "containers",
    params(("container" = String, Path)),
    responses((status = 200, body = ChangesView), (status = "default", body = Problem)))]
async fn changes(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
) -> Result<Json<ChangesView>> {
    app.containers.changes(&ctx, &container).await.map(Json)
}

/// All files of a container's root as a tar archive, without what is mounted in it.
#[utoipa::path(get, path = "/containers/{container}/export", tag = "containers",
    params(("container" = String, Path)),
    responses((status = 200, content_type = "application/x-tar", description = "A tar archive"),
        (status = "default", body = Problem)))]
async fn export(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
) -> Result<Response> {
    let archive = app.containers.export(&ctx, &container).await?;
    let kind = [(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"))];
    Ok((kind, Body::from_stream(archive)).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct StatQuery {
    /// Absolute path in the container.
    path: String,
    /// Tell of what a link at its end leads to.
    #[serde(default)]
    follow: bool,
}

/// Tell what a path of a container is, whether it runs or not.
#[utoipa::path(get, path = "/containers/{container}/files/stat", tag = "containers",
    params(("container" = String, Path), StatQuery),
    responses((status = 200, body = FileView), (status = "default", body = Problem)))]
async fn stat_file(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
    Query(query): Query<StatQuery>,
) -> Result<Json<FileView>> {
    app.containers.stat_file(&ctx, &container, &query.path, query.follow).await.map(Json)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct CopyOutQuery {
    /// Absolute path in the container.
    path: String,
    /// What names in the archive begin with: the path's last component when absent, nothing when empty.
    name: Option<String>,
}

/// Copy a path out of a container, running or not, as a tar archive. Volumes are seen only while it runs.
#[utoipa::path(get, path = "/containers/{container}/files", tag = "containers",
    params(("container" = String, Path), CopyOutQuery),
    responses((status = 200, content_type = "application/x-tar", description = "A tar archive"),
        (status = "default", body = Problem)))]
async fn copy_out(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
    Query(query): Query<CopyOutQuery>,
) -> Result<Response> {
    let archive = app.containers.copy_out(&ctx, &container, &query.path, query.name).await?;
    let kind = [(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"))];
    Ok((kind, Body::from_stream(archive)).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct CopyInQuery {
    /// A directory of the container, absolute.
    path: String,
    /// Keep the archive's owners; all belongs to the container's root otherwise.
    #[serde(default)]
    keep_owners: bool,
}

/// Unpack a tar archive, compressed or not, into a directory of a container, running or not. A directory
/// never replaces a file, nor a file a directory.
#[utoipa::path(put, path = "/containers/{container}/files", tag = "containers",
    params(("container" = String, Path), CopyInQuery), request_body(content_type = "application/x-tar"),
    responses((status = 200, body = CopiedView), (status = "default", body = Problem)))]
async fn copy_in(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
    Query(query): Query<CopyInQuery>,
    body: Body,
) -> Result<Json<CopiedView>> {
    // Before anything is received.
    ctx.require(Permission::TenantWrite)?;
    app.containers.find(&ctx, &container).await?;
    let archive = spool::receive(&app, body).await?.into_file();
    app.containers.copy_in(&ctx, &container, &query.path, archive, query.keep_owners).await.map(Json)
}

/// Make an image of what a container has changed.
#[utoipa::path(post, path = "/containers/{container}/commit", tag = "containers",
    params(("container" = String, Path)), request_body = CommitRequest,
    responses((status = 201, body = ImageView), (status = "default", body = Problem)))]
async fn commit(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
    Json(request): Json<CommitRequest>,
) -> Result<(StatusCode, Json<ImageView>)> {
    let view = app.containers.commit(&ctx, &container, request).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Start a container; answered when it runs or cannot.
#[utoipa::path(post, path = "/containers/{container}/start", tag = "containers", params(("container" = String, Path)),
    responses((status = 200, body = ContainerView), (status = "default", body = Problem)))]
async fn start(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
) -> Result<Json<ContainerView>> {
    app.containers.start(&ctx, &container).await.map(Json)
}

fn grace(request: &StopRequest) -> Option<Duration> {
    request.grace_s.map(|seconds| Duration::from_secs(u64::from(seconds.min(86_400))))
}

/// Stop a container: its stop signal, and after the grace SIGKILL. Answered when it has ended.
#[utoipa::path(post, path = "/containers/{container}/stop", tag = "containers", params(("container" = String, Path)),
    request_body = StopRequest,
    responses((status = 200, body = ContainerView), (status = "default", body = Problem)))]
async fn stop(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
    OptionalJson(request): OptionalJson<StopRequest>,
) -> Result<Json<ContainerView>> {
    app.containers.stop(&ctx, &container, grace(&request)).await.map(Json)
}

/// Stop and start a container.
#[utoipa::path(post, path = "/containers/{container}/restart", tag = "containers",
    params(("container" = String, Path)), request_body = StopRequest,
    responses((status = 200, body = ContainerView), (status = "default", body = Problem)))]
async fn restart(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
    OptionalJson(request): OptionalJson<StopRequest>,
) -> Result<Json<ContainerView>> {
    app.containers.restart(&ctx, &container, grace(&request)).await.map(Json)
}

/// Freeze every process of a container.
#[utoipa::path(post, path = "/containers/{container}/pause", tag = "containers", params(("container" = String, Path)),
    responses((status = 200, body = ContainerView), (status = "default", body = Problem)))]
async fn pause(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
) -> Result<Json<ContainerView>> {
    app.containers.pause(&ctx, &container).await.map(Json)
}

/// Let a frozen container go on.
#[utoipa::path(post, path = "/containers/{container}/resume", tag = "containers",
    params(("container" = String, Path)),
    responses((status = 200, body = ContainerView), (status = "default", body = Problem)))]
async fn resume(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
) -> Result<Json<ContainerView>> {
    app.containers.resume(&ctx, &container).await.map(Json)
}

/// Send a signal to a container's first process.
#[utoipa::path(post, path = "/containers/{container}/kill", tag = "containers", params(("container" = String, Path)),
    request_body = SignalRequest, responses((status = 204), (status = "default", body = Problem)))]
async fn kill(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
    Json(request): Json<SignalRequest>,
) -> Result<StatusCode> {
    let signo = signal_number(&request.signal).ok_or_else(|| {
        ServiceError::invalid_field("signal", "give a name like SIGHUP or a number from 1 to 64")
    })?;
    app.containers.kill(&ctx, &container, signo).await.map(|()| StatusCode::NO_CONTENT)
}

/// What to wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum WaitCondition {
    #[default]
    Exited,
    Removed,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct WaitQuery {
    /// `exited` or `removed`.
    #[serde(default)]
    condition: WaitCondition,
}

/// Wait until a container has ended. After 50 s without an end: 503 with `Retry-After`; ask again.
#[utoipa::path(get, path = "/containers/{container}/wait", tag = "containers",
    params(("container" = String, Path), WaitQuery),
    responses((status = 200, body = ExitView), (status = "default", body = Problem)))]
async fn wait(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
    Query(query): Query<WaitQuery>,
) -> Result<Json<ExitView>> {
    let removed = query.condition == WaitCondition::Removed;
    match tokio::time::timeout(WAIT_MOST, app.containers.wait(&ctx, &container, removed)).await {
        Ok(exit) => exit.map(Json),
        Err(_elapsed) => Err(ServiceError::new(ProblemKind::Unavailable, "it has not ended yet; ask again")),
    }
}

/// Prepare a further process in a container; it starts when its WebSocket is opened.
#[utoipa::path(post, path = "/containers/{container}/exec", tag = "containers", params(("container" = String, Path)),
    request_body = ExecSpec,
    responses((status = 201, body = ExecView), (status = "default", body = Problem)))]
async fn exec(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
    Json(spec): Json<ExecSpec>,
) -> Result<(StatusCode, Json<ExecView>)> {
    let view = app.execs.prepare(&app.containers, &ctx, &container, spec).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct LogsQuery {
    /// Go on as the log grows.
    #[serde(default)]
    follow: bool,
    /// Only lines after this cursor.
    after: Option<u64>,
    /// At most so many lines before the end.
    tail: Option<u32>,
    /// Only lines that began at this time or later.
    #[param(value_type = Option<String>)]
    since: Option<Timestamp>,
    /// Only `stdout`, `stderr` or `supervisor`.
    stream: Option<LogStream>,
    /// Begin each line of plain text with its time.
    #[serde(default)]
    timestamps: bool,
}

/// The log: plain text, or with `Accept: application/x-ndjson` one JSON object a line with cursors.
#[utoipa::path(get, path = "/containers/{container}/logs", tag = "containers",
    params(("container" = String, Path), LogsQuery),
    responses((status = 200, content((String = "text/plain"), (LogLine = "application/x-ndjson"))),
        (status = "default", body = Problem)))]
async fn logs(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
    Query(query): Query<LogsQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    let json = headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(NDJSON.as_bytes()));
    let timestamps = query.timestamps;
    let wanted = LogQuery {
        after: query.after,
        tail: query.tail,
        since: query.since,
        stream: query.stream,
        follow: query.follow,
        raw: false,
    };
    let lines = app.containers.logs(&ctx, &container, wanted).await?;
    let text = lines.map_ok(move |batch| {
        let mut text = String::new();
        for item in batch {
            write_item(&mut text, &item, json, timestamps);
        }
        Bytes::from(text)
    });
    // The agent's stop ends a followed log; the client comes back with its cursor.
    let stop = app.tasks.stopping();
    let body = Body::from_stream(text.take_until(stop.cancelled_owned()));
    let content_type = if json { NDJSON } else { "text/plain; charset=utf-8" };
    Ok(([(CONTENT_TYPE, HeaderValue::from_static(content_type))], body).into_response())
}

fn write_item(text: &mut String, item: &LogItem, json: bool, timestamps: bool) {
    match item {
        LogItem::Line(line) if json => match serde_json::to_string(line) {
            Ok(object) => {
                text.push_str(&object);
                text.push('\n');
            }
            Err(error) => tracing::error!(%error, "a log line could not be encoded"),
        },
        LogItem::Line(line) => {
            if timestamps {
                text.push_str(&line.at.to_string());
                text.push(' ');
            }
            text.push_str(&line.text);
            if !line.partial {
                text.push('\n');
            }
        }
        LogItem::Gap { missed_bytes, cursor } if json => {
            text.push_str("{\"missed_bytes\":");
            text.push_str(&missed_bytes.to_string());
            text.push_str(",\"cursor\":");
            text.push_str(&cursor.to_string());
            text.push_str("}\n");
        }
        LogItem::Gap { .. } | LogItem::Chunk { .. } => {}
    }
}

/// What runs in a container, in its own process and user ids.
#[utoipa::path(get, path = "/containers/{container}/processes", tag = "containers",
    params(("container" = String, Path)),
    responses((status = 200, body = Vec<ProcessView>), (status = "default", body = Problem)))]
async fn processes(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
) -> Result<Json<Vec<ProcessView>>> {
    app.containers.processes(&ctx, &container).await.map(Json)
}

/// The latest metrics of a running container.
#[utoipa::path(get, path = "/containers/{container}/metrics", tag = "containers",
    params(("container" = String, Path)),
    responses((status = 200, body = MetricsPoint), (status = "default", body = Problem)))]
async fn metrics(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
) -> Result<Json<MetricsPoint>> {
    let row = app.containers.find(&ctx, &container).await?;
    let point = app.metering.latest(&row.id);
    point.map(Json).ok_or_else(|| ServiceError::conflict("the container does not run, or was not read yet"))
}

/// The last 15 minutes of a running container's metrics, one point in 5 s.
#[utoipa::path(get, path = "/containers/{container}/metrics/history", tag = "containers",
    params(("container" = String, Path)),
    responses((status = 200, body = Vec<MetricsPoint>), (status = "default", body = Problem)))]
async fn history(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(container): Path<String>,
) -> Result<Json<Vec<MetricsPoint>>> {
    let row = app.containers.find(&ctx, &container).await?;
    Ok(Json(app.metering.history(&row.id)))
}

/// WebSocket of a prepared exec; see the frames `StreamInput` and `StreamOutput`.
#[utoipa::path(get, path = "/containers/{container}/exec/{exec}", tag = "containers",
    params(("container" = String, Path), ("exec" = String, Path)),
    responses((status = 101), (status = "default", body = Problem)))]
async fn exec_socket(
    state: State<Arc<App>>,
    path: Path<(String, String)>,
    caller: crate::api::extract::OptionalCaller,
    socket: axum::extract::WebSocketUpgrade,
    request: axum::extract::Request,
) -> Result<Response> {
    live::exec(state, path, caller, socket, request).await
}

/// WebSocket of the container's own standard streams; see `StreamInput` and `StreamOutput`.
#[utoipa::path(get, path = "/containers/{container}/attach", tag = "containers",
    params(("container" = String, Path), live::AttachQuery),
    responses((status = 101), (status = "default", body = Problem)))]
async fn attach_socket(
    state: State<Arc<App>>,
    path: Path<String>,
    query: Query<live::AttachQuery>,
    caller: crate::api::extract::OptionalCaller,
    socket: axum::extract::WebSocketUpgrade,
    request: axum::extract::Request,
) -> Result<Response> {
    live::attach(state, path, query, caller, socket, request).await
}
