//! The multiplexed live socket: subscriptions that outlive connections.
//!
//! ```text
//! Connecting ── Welcome ──► Live ── closed or silent ──► Waiting ── time or click ──► Connecting
//! ```
//! A subscription remembers the cursor of its last item, so that after a reconnect the server goes on
//! exactly there. Silence is not health: a ping goes out every few seconds, and a socket that answers
//! nothing is given up.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use leptos::prelude::*;
use wharf_shared::auth::WsTicket;
use wharf_shared::live::{ClientFrame, ServerFrame, Topic, TopicItem};
use wharf_shared::problem::{Problem, ProblemKind};
use wharf_shared::time::{SECOND_US, Timestamp};

use super::client::{Api, Failure, next_id};
use super::socket::Socket;
use crate::browser;

const PING_EVERY: Duration = Duration::from_secs(4);
/// Two pings unanswered and a bit.
const SILENCE_MAX_US: i64 = 10 * SECOND_US;
const BACK_OFF_MAX_MS: u64 = 8_000;

/// How the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    /// Nobody is signed in.
    Off,
    /// On the way; the attempt's number since the last success.
    Connecting(u32),
    /// Frames come.
    Live,
    /// Lost; the next attempt's number.
    Waiting(u32),
}

/// What a subscriber is told.
pub(crate) enum Told {
    /// Items, in order.
    Items(Vec<TopicItem>),
    /// The topic has ended.
    Ended,
    /// The topic was refused.
    Refused(Problem),
}

struct Subscriber {
    topic: Topic,
    tell: Rc<dyn Fn(Told)>,
}

#[derive(Default)]
struct State {
    socket: Option<Socket>,
    subscribers: BTreeMap<u32, Subscriber>,
    heard_at: i64,
    /// Grows with each attempt; what belongs to an older one is ignored.
    generation: u32,
    attempt: u32,
    version: Option<String>,
}

/// The live connection. Copies are the same connection.
#[derive(Clone, Copy)]
pub(crate) struct Live {
    api: Api,
    state: StoredValue<State, LocalStorage>,
    connection: RwSignal<Connection>,
    lost_at: RwSignal<Option<Timestamp>>,
    is_outdated: RwSignal<bool>,
}

/// Ends its subscription when it is dropped.
pub(crate) struct Subscription {
    live: Live,
    sub: u32,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let sub = self.sub;
        self.live.state.try_update_value(|state| {
            if state.subscribers.remove(&sub).is_some()
                && let Some(socket) = &state.socket
            {
                socket.send(&ClientFrame::Unsubscribe { sub });
            }
        });
    }
}

impl Live {
    /// A connection that is off until [`Live::connect`].
    pub(crate) fn new(api: Api) -> Self {
        let live = Self {
            api,
            state: StoredValue::new_local(State::default()),
            connection: RwSignal::new(Connection::Off),
            lost_at: RwSignal::new(None),
            is_outdated: RwSignal::new(false),
        };
        set_interval(move || live.beat(), PING_EVERY);
        live
    }

    /// The one that the app provides.
    pub(crate) fn expect() -> Self {
        expect_context()
    }

    /// How it stands.
    pub(crate) fn connection(self) -> Signal<Connection> {
        self.connection.into()
    }

    /// Since when nothing came.
    pub(crate) fn lost_at(self) -> Signal<Option<Timestamp>> {
        self.lost_at.into()
    }

    /// Whether the agent is newer than this page.
    pub(crate) fn is_outdated(self) -> Signal<bool> {
        self.is_outdated.into()
    }

    /// Subscribes until the guard is dropped.
    pub(crate) fn subscribe(self, topic: Topic, tell: impl Fn(Told) + 'static) -> Subscription {
        let sub = next_id();
        self.state.update_value(|state| {
            if self.connection.get_untracked() == Connection::Live
                && let Some(socket) = &state.socket
            {
                socket.send(&ClientFrame::Subscribe { sub, topic: topic.clone() });
            }
            state.subscribers.insert(sub, Subscriber { topic, tell: Rc::new(tell) });
        });
        Subscription { live: self, sub }
    }

    /// Connects now, whatever it was waiting for.
    pub(crate) fn connect(self) {
        let Some((generation, attempt)) = self.state.try_update_value(|state| {
            state.socket = None;
            state.generation += 1;
            (state.generation, state.attempt)
        }) else {
            return;
        };
        self.connection.set(Connection::Connecting(attempt));
        leptos::task::spawn_local(async move {
            let ticket = self.api.send::<(), WsTicket>("POST", "/auth/ws-ticket".to_owned(), None).await;
            if !self.is_current(generation) {
                return;
            }
            match ticket {
                Ok(ticket) => self.open(generation, ticket.ticket),
                Err(Failure::Problem(problem)) if problem.kind == ProblemKind::Unauthenticated => {
                    self.disconnect();
                }
                Err(_) => self.wait(generation),
            }
        });
    }

    /// Ends the connection; subscriptions stay and go on after the next [`Live::connect`].
    pub(crate) fn disconnect(self) {
        self.state.update_value(|state| {
            state.socket = None;
            state.generation += 1;
            state.attempt = 0;
        });
        self.connection.set(Connection::Off);
        self.lost_at.set(None);
    }

    fn open(self, generation: u32, ticket: String) {
        let hello = ClientFrame::Hello { ticket: Some(ticket) };
        let socket = Socket::open(
            "/api/v1/live",
            move || {
                self.state.with_value(|state| {
                    if let Some(socket) = &state.socket {
                        socket.send(&hello);
                    }
                });
            },
            move |frame| {
                if self.is_current(generation) {
                    self.hear(frame);
                }
            },
            move || self.wait(generation),
        );
        if socket.is_none() {
            return self.wait(generation);
        }
        self.state.update_value(|state| {
            state.socket = socket;
            state.heard_at = browser::now().0;
        });
    }

    fn is_current(self, generation: u32) -> bool {
        self.state.try_with_value(|state| state.generation == generation).unwrap_or(false)
    }

    /// Waits longer after each failure, with jitter so that many pages do not come back at once.
    fn wait(self, generation: u32) {
        if !self.is_current(generation) {
            return;
        }
        let Some((generation, attempt)) = self.state.try_update_value(|state| {
            state.generation += 1;
            state.attempt += 1;
            (state.generation, state.attempt)
        }) else {
            return;
        };
        self.connection.set(Connection::Waiting(attempt));
        if self.lost_at.get_untracked().is_none() {
            let heard_at = self.state.with_value(|state| state.heard_at);
            let at = if heard_at == 0 { browser::now() } else { Timestamp(heard_at) };
            self.lost_at.set(Some(at));
        }
        let limit = (250_u64 << attempt.min(6)).min(BACK_OFF_MAX_MS);
        let jitter = crate::view::number::count(js_sys::Math::random() * 250.0);
        let wait = Duration::from_millis(limit + u64::try_from(jitter).unwrap_or(0));
        set_timeout(
            move || {
                // A socket is dropped here and not in its own callback.
                if self.is_current(generation) {
                    self.connect();
                }
            },
            wait,
        );
    }

    fn hear(self, frame: ServerFrame) {
        self.state.update_value(|state| state.heard_at = browser::now().0);
        match frame {
            ServerFrame::Welcome { version, .. } => self.welcome(&version),
            ServerFrame::Items { sub, items } => self.tell(sub, Told::Items(items)),
            ServerFrame::End { sub } => {
                self.tell(sub, Told::Ended);
                self.state.update_value(|state| drop(state.subscribers.remove(&sub)));
            }
            ServerFrame::Refused { sub: Some(sub), problem } => self.tell(sub, Told::Refused(problem)),
            ServerFrame::Refused { sub: None, problem } => {
                leptos::logging::warn!("the live connection was refused: {problem}");
            }
            ServerFrame::Pong => {}
        }
    }

    fn welcome(self, version: &str) {
        let is_other = self.state.try_update_value(|state| {
            state.attempt = 0;
            let first = state.version.get_or_insert_with(|| version.to_owned());
            let is_other = *first != version;
            if let Some(socket) = &state.socket {
                for (sub, subscriber) in &state.subscribers {
                    socket.send(&ClientFrame::Subscribe { sub: *sub, topic: subscriber.topic.clone() });
                }
            }
            is_other
        });
        self.is_outdated.set(is_other.unwrap_or(false));
        self.lost_at.set(None);
        self.connection.set(Connection::Live);
    }

    fn tell(self, sub: u32, told: Told) {
        let tell = self.state.try_update_value(|state| {
            let subscriber = state.subscribers.get_mut(&sub)?;
            if let Told::Items(items) = &told {
                remember(&mut subscriber.topic, items);
            }
            Some(Rc::clone(&subscriber.tell))
        });
        // Called outside of the state, which it may want to change.
        if let Some(Some(tell)) = tell {
            tell(told);
        }
    }

    fn beat(self) {
        if self.connection.get_untracked() != Connection::Live {
            return;
        }
        let (generation, is_silent) = self.state.with_value(|state| {
            if let Some(socket) = &state.socket {
                socket.send(&ClientFrame::Ping);
            }
            (state.generation, browser::now().0 - state.heard_at > SILENCE_MAX_US)
        });
        if is_silent {
            self.wait(generation);
        }
    }
}

/// Where to go on after the items.
fn remember(topic: &mut Topic, items: &[TopicItem]) {
    for item in items {
        match (&mut *topic, item) {
            (Topic::Logs { after, .. }, TopicItem::Log(line)) => *after = Some(line.cursor),
            (Topic::Logs { after, .. }, TopicItem::LogGap { cursor, .. }) => *after = Some(*cursor),
            (Topic::Events { after }, TopicItem::Event(event)) => *after = Some(event.seq),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_shared::live::{LogLine, LogStream};

    #[test]
    fn a_log_goes_on_after_the_last_line_or_gap() {
        let mut topic =
            Topic::Logs { container: "ab".repeat(32).parse().expect("an id"), after: None, tail: Some(10) };
        let line = |cursor| {
            TopicItem::Log(LogLine {
                cursor,
                stream: LogStream::Stdout,
                at: Timestamp(0),
                text: String::new(),
                partial: false,
            })
        };
        remember(&mut topic, &[line(5), TopicItem::LogGap { missed_bytes: 4, cursor: 9 }, line(12)]);
        assert!(matches!(topic, Topic::Logs { after: Some(12), .. }));
    }
}
