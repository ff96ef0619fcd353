//! The multiplexed socket: each subscription is a stream, all flow into one bounded queue.
//!
//! A browser that reads slowly fills the queue, and then its streams wait: logs wait in the shim's
//! files, events in their table, and of metrics and pulls it is given the latest. Nothing waits for
//! it, and nothing that carries a cursor is lost. Every subscription is authorised by itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::ctx::Scope;
use axum::extract::{Request, State, WebSocketUpgrade};
use axum::response::Response;
use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{Stream, StreamExt};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use wharf_shared::id::ContainerId;
use wharf_shared::live::{ClientFrame, MetricsPoint, ServerFrame, Topic, TopicItem};
use wharf_shared::permission::Permission;
use wharf_shared::problem::{Problem, ProblemKind};

use super::frames::{Frames, Incoming};
use super::{HELLO_TIMEOUT, OptionalCaller, authenticate, upgrade};
use crate::api::problem::problem;
use crate::app::App;
use crate::containers::logs::{LogItem, LogQuery};
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};

/// Subscriptions of one socket.
const SUBSCRIPTIONS_MAX: usize = 64;
/// A silent connection is asked for a sign of life this often.
const PING_EVERY: Duration = Duration::from_secs(20);
/// The user's rights are looked at again this often.
const RECHECK_EVERY: Duration = Duration::from_secs(30);
/// WebSocket close code: policy violation (RFC 6455 §7.4.1).
const CLOSE_POLICY: u16 = 1008;
/// WebSocket close code: going away.
const CLOSE_AWAY: u16 = 1001;

/// Opens the socket.
pub(in crate::api) async fn live(
    State(app): State<Arc<App>>,
    caller: OptionalCaller,
    socket: WebSocketUpgrade,
    request: Request,
) -> Result<Response> {
    let (parts, _) = request.into_parts();
    upgrade(socket, &parts, caller, move |frames, caller| serve(app, frames, caller))
}

type Output = (u32, ServerFrame);

async fn serve(app: Arc<App>, frames: Frames, caller: Option<Ctx>) {
    let (mut sending, mut receiving) = frames.split();
    let hello = tokio::time::timeout(HELLO_TIMEOUT, receiving.next::<ClientFrame>()).await;
    let Ok(Incoming::Frame(ClientFrame::Hello { ticket })) = hello else {
        return sending.close(CLOSE_POLICY, "say hello first").await;
    };
    let ctx = match authenticate(&app, caller, ticket).await {
        Ok(ctx) => ctx,
        Err(error) => {
            sending.send(&ServerFrame::Refused { sub: None, problem: problem(&error, "") }).await;
            return sending.close(CLOSE_POLICY, "not signed in").await;
        }
    };
    let welcome = ServerFrame::Welcome { now: app.clock.now(), version: crate::VERSION.to_owned() };
    if !sending.send(&welcome).await {
        return;
    }
    let mut streams: SelectAll<BoxStream<'static, Output>> = SelectAll::new();
    let mut subscribed: HashMap<u32, CancellationToken> = HashMap::new();
    let stopping = app.tasks.stopping();
    let mut ping = tokio::time::interval(PING_EVERY);
    let mut recheck = tokio::time::interval(RECHECK_EVERY);
    loop {
        // Every branch takes its item only when it wins; a stream that was not polled keeps its own.
        let answer = tokio::select! {
            incoming = receiving.next::<ClientFrame>() => match incoming {
                Incoming::Frame(ClientFrame::Ping) => Some(ServerFrame::Pong),
                Incoming::Frame(ClientFrame::Hello { .. }) => Some(refused(None, "hello was said already")),
                Incoming::Frame(ClientFrame::Unsubscribe { sub }) => {
                    if let Some(token) = subscribed.remove(&sub) {
                        token.cancel();
                    }
                    None
                }
                Incoming::Frame(ClientFrame::Subscribe { sub, topic }) => {
                    if subscribed.contains_key(&sub) || subscribed.len() >= SUBSCRIPTIONS_MAX {
                        Some(refused(Some(sub), "the number is taken, or there are too many subscriptions"))
                    } else {
                        match subscribe(&app, &ctx, topic).await {
                            Ok(topic) => {
                                let token = CancellationToken::new();
                                subscribed.insert(sub, token.clone());
                                let items = topic.map(move |frame| (sub, frame(sub)));
                                let end = stream::once(async move { (sub, ServerFrame::End { sub }) });
                                streams.push(items.chain(end).take_until(token.cancelled_owned()).boxed());
                                None
                            }
                            Err(error) => Some(ServerFrame::Refused { sub: Some(sub), problem: problem(&error, "") }),
                        }
                    }
                }
                Incoming::Garbage(why) => Some(refused(None, &why)),
                Incoming::Closed => return,
            },
            Some((sub, frame)) = streams.next(), if !streams.is_empty() => {
                if matches!(frame, ServerFrame::End { .. }) {
                    subscribed.remove(&sub);
                }
                Some(frame)
            }
            _ = ping.tick() => {
                if !sending.ping().await {
                    return;
                }
                None
            }
            _ = recheck.tick() => {
                if app.auth.recheck(&ctx).await.is_err() {
                    return sending.close(CLOSE_POLICY, "your account has changed; sign in again").await;
                }
                None
            }
            () = stopping.cancelled() => {
                return sending.close(CLOSE_AWAY, "the agent is stopping").await;
            }
        };
        if let Some(frame) = answer
            && !sending.send(&frame).await
        {
            return;
        }
    }
}

fn refused(sub: Option<u32>, detail: &str) -> ServerFrame {
    ServerFrame::Refused { sub, problem: Problem::new(ProblemKind::Malformed, detail) }
}

/// Makes a frame once the subscription's number is known.
type Framed = Box<dyn FnOnce(u32) -> ServerFrame + Send>;

fn items(items: Vec<TopicItem>) -> Framed {
    Box::new(move |sub| ServerFrame::Items { sub, items })
}

fn failed(error: &ServiceError) -> Framed {
    let problem = problem(error, "");
    Box::new(move |sub| ServerFrame::Refused { sub: Some(sub), problem })
}

async fn subscribe(app: &Arc<App>, ctx: &Ctx, topic: Topic) -> Result<BoxStream<'static, Framed>> {
    ctx.require(Permission::TenantRead)?;
    let scope = ctx.scope()?;
    Ok(match topic {
        Topic::Logs { container, after, tail } => {
            let query = LogQuery { after, tail, follow: true, ..LogQuery::default() };
            let lines = app.containers.logs(ctx, container.as_str(), query).await?;
            lines
                .map(|batch| match batch {
                    Ok(batch) => items(batch.into_iter().filter_map(log_item).collect()),
                    Err(error) => failed(&error.into()),
                })
                .boxed()
        }
        Topic::Metrics { container } => {
            let only = match container {
                Some(id) => Some(app.containers.find(ctx, id.as_str()).await?.id),
                None => None,
            };
            metrics(app, scope, only).boxed()
        }
        Topic::Events { after } => app
            .events
            .subscribe(scope, after)
            .map(|event| match event {
                Ok(event) => items(vec![TopicItem::Event(event)]),
                Err(error) => failed(&error),
            })
            .boxed(),
        Topic::Pulls => {
            let mut first: Vec<TopicItem> =
                app.images.list_pulls(ctx)?.into_iter().map(TopicItem::Pull).collect();
            first.reverse();
            let first = stream::iter((!first.is_empty()).then(|| items(first)));
            let watched =
                stream::unfold((app.images.watch_pulls(), scope), |(mut pulls, scope)| async move {
                    loop {
                        match pulls.recv().await {
                            Ok(view) if scope.covers(&view.tenant) => {
                                return Some((items(vec![TopicItem::Pull(view)]), (pulls, scope)));
                            }
                            Ok(_) | Err(RecvError::Lagged(_)) => {}
                            Err(RecvError::Closed) => return None,
                        }
                    }
                });
            first.chain(watched).boxed()
        }
    })
}

/// The points that the scope may see, once a tick; the latest when the reader is slow.
fn metrics(
    app: &Arc<App>,
    scope: Scope,
    only: Option<ContainerId>,
) -> impl Stream<Item = Framed> + Send + use<> {
    let state = (app.metering.live(), Arc::clone(app), scope, only);
    stream::unfold(state, |(mut live, app, scope, only)| async move {
        loop {
            match live.recv().await {
                Ok(points) => {
                    let visible = |point: &&MetricsPoint| match &only {
                        Some(id) => point.container == *id,
                        None => app
                            .containers
                            .tenant_of(&point.container)
                            .is_some_and(|tenant| scope.covers(&tenant)),
                    };
                    let points: Vec<TopicItem> =
                        points.iter().filter(visible).cloned().map(TopicItem::Metrics).collect();
                    if !points.is_empty() {
                        return Some((items(points), (live, app, scope, only)));
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    })
}

fn log_item(item: LogItem) -> Option<TopicItem> {
    match item {
        LogItem::Line(line) => Some(TopicItem::Log(line)),
        LogItem::Gap { missed_bytes, cursor } => Some(TopicItem::LogGap { missed_bytes, cursor }),
        // Only attached sockets ask for chunks.
        LogItem::Chunk { .. } => None,
    }
}
