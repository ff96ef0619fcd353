//! Events: a page of them, or a stream that can be resumed (server-sent events).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::event::EventView;
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::problem::ProblemKind;

use crate::api::extract::{Caller, Json, Query};
use crate::api::problem;
use crate::app::App;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};

/// Events on a page when the client does not say, and at most.
const LIMIT: (u32, u32) = (100, 1_000);
/// A quiet stream says so often that it is still there, for proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// So often it is looked at whether the caller may still listen.
const RECHECK: Duration = Duration::from_secs(10);

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct EventQuery {
    /// Only events after this number. The stream begins with what happens next when absent.
    after: Option<i64>,
    /// Go on with what happens; also said by `Accept: text/event-stream`.
    follow: Option<bool>,
    /// Most events of a page; 100 when absent, at most 1000.
    limit: Option<u32>,
    /// Only events of this tenant, by id or name.
    tenant: Option<String>,
}

/// What happened, oldest first
///
/// A followed stream is `text/event-stream`: `id` is the event's number, `data` the event; the
/// header `Last-Event-ID` resumes it. Old events go (`retention`): where some after the given number are
/// no longer kept, one of kind `events.gap` stands in their place.
#[utoipa::path(get, path = "/events", tag = "events", params(EventQuery), responses((status = 200, body = Page<EventView>)))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Query(query): Query<EventQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    ctx.require(Permission::TenantRead)?;
    let tenant = app.tenants.resolve(&ctx, query.tenant.as_deref()).await?;
    let scope = ctx.scope_of(tenant.as_ref())?;
    if query.follow.unwrap_or_else(|| wants_stream(&headers)) {
        let after = last_event_id(&headers)?.or(query.after);
        let events = app.events.subscribe(scope, after).map(|event| event.and_then(|event| frame(&event)));
        let stream = events.take_until(until_not_allowed(Arc::clone(&app), ctx));
        return Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response());
    }
    let limit = query.limit.unwrap_or(LIMIT.0).clamp(1, LIMIT.1);
    let items = app.events.list(&scope, query.after.unwrap_or(0), limit).await?;
    let full = u32::try_from(items.len()).is_ok_and(|count| count >= limit);
    let next_cursor = items.last().filter(|_| full).map(|event| event.seq.to_string());
    Ok(Json(Page { items, next_cursor }).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let seq = value.to_str().ok().and_then(|text| text.parse().ok());
    let bad = || ServiceError::new(ProblemKind::Malformed, "Last-Event-ID is not a number of an event");
    seq.map(Some).ok_or_else(bad)
}

fn frame(event: &EventView) -> Result<Event> {
    let frame = Event::default().id(event.seq.to_string()).json_data(event);
    frame.map_err(|error| ServiceError::internal("an event could not be written", error))
}

/// Ends when the agent stops or the caller is no longer who it was.
async fn until_not_allowed(app: Arc<App>, ctx: Ctx) {
    let stopping = app.tasks.stopping();
    loop {
        // Either branch only says why it is looked at again.
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(RECHECK) => {}
        }
        if let Err(error) = app.auth.recheck(&ctx).await {
            problem::log(&error);
            return;
        }
    }
}
