//! What happened since the page was opened, and which kinds of things changed.

use std::collections::{HashMap, VecDeque};

use leptos::prelude::*;
use wharf_shared::event::EventView;
use wharf_shared::live::{Topic, TopicItem};

use crate::api::{Live, Told};

/// Events that are kept for pages opened later.
const KEPT: usize = 500;

type Handler = Box<dyn Fn(&EventView)>;

/// The event stream of this page.
#[derive(Clone, Copy)]
pub(crate) struct Events {
    recent: RwSignal<VecDeque<EventView>>,
    changes: StoredValue<HashMap<&'static str, RwSignal<u32>>>,
    handlers: StoredValue<Vec<Handler>, LocalStorage>,
}

/// Nouns that pages follow.
const NOUNS: [&str; 10] = [
    "container",
    "image",
    "pull",
    "volume",
    "tenant",
    "user",
    "token",
    "statement",
    "price_book",
    "contract",
];

impl Events {
    /// Listens until it is disposed of.
    pub(crate) fn new(live: Live) -> Self {
        let events = Self {
            recent: RwSignal::new(VecDeque::new()),
            changes: StoredValue::new(NOUNS.map(|noun| (noun, RwSignal::new(0))).into()),
            handlers: StoredValue::new_local(Vec::new()),
        };
        let subscription = live.subscribe(Topic::Events { after: None }, move |told| {
            if let Told::Items(items) = told {
                events.hear(items);
            }
        });
        // Ends with the owner of this.
        StoredValue::new_local(subscription);
        events
    }

    /// The ones that the shell provides.
    pub(crate) fn expect() -> Self {
        expect_context()
    }

    /// Newest first.
    pub(crate) fn recent(self) -> Signal<VecDeque<EventView>> {
        self.recent.into()
    }

    /// Counts events about things of this kind.
    pub(crate) fn changes(self, noun: &'static str) -> Signal<u32> {
        let found = self.changes.with_value(|changes| changes.get(noun).copied());
        found.map_or_else(|| Signal::stored(0), Into::into)
    }

    /// Calls this with each event from now on.
    pub(crate) fn on_each(self, handler: impl Fn(&EventView) + 'static) {
        self.handlers.update_value(|handlers| handlers.push(Box::new(handler)));
    }

    fn hear(self, items: Vec<TopicItem>) {
        let events: Vec<EventView> = items
            .into_iter()
            .filter_map(|item| match item {
                TopicItem::Event(event) => Some(event),
                _ => None,
            })
            .collect();
        self.handlers.with_value(|handlers| {
            for event in &events {
                for handler in handlers {
                    handler(event);
                }
            }
        });
        for event in &events {
            let noun = event.kind.split('.').next().unwrap_or_default();
            let signal = self.changes.with_value(|changes| changes.get(noun).copied());
            if let Some(signal) = signal {
                signal.update(|count| *count = count.wrapping_add(1));
            }
        }
        self.recent.update(|recent| {
            for event in events {
                recent.push_front(event);
            }
            recent.truncate(KEPT);
        });
    }
}
