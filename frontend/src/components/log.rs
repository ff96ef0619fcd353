//! A container's log, live. Only the lines in sight are in the page.
//!
//! It follows the end until the reader scrolls up, and never moves under the reader. The server's
//! cursor makes it go on without gap or repeat after a lost connection.

use std::collections::VecDeque;
use std::sync::Arc;

use leptos::html;
use leptos::prelude::*;
use wharf_shared::id::ContainerId;
use wharf_shared::live::{LogStream, Topic, TopicItem};
use wharf_shared::time::Timestamp;

use super::field::Check;
use crate::api::{Connection, Live, Told};
use crate::browser;
use crate::view::log::{self, Level};
use crate::view::number::{count, float_count, pixels};
use crate::view::{quantity, route, window};

const LINE_PX: f64 = 18.0;
/// Lines kept in the page; older ones are a download away.
const KEPT: usize = 50_000;
const TAIL: u32 = 2_000;

#[derive(Clone)]
enum Line {
    Text { at: Timestamp, stream: LogStream, text: String, level: Level },
    Gap { missed_bytes: u64 },
}

/// The lines, numbered from the first one ever shown.
#[derive(Default)]
struct Kept {
    first: usize,
    lines: VecDeque<Line>,
}

impl Kept {
    fn push(&mut self, line: Line) {
        self.lines.push_back(line);
        if self.lines.len() > KEPT {
            self.lines.pop_front();
            self.first += 1;
        }
    }

    fn get(&self, number: usize) -> Option<&Line> {
        self.lines.get(number.checked_sub(self.first)?)
    }
}

/// Which lines are shown: all from a number on, or these.
#[derive(Clone, PartialEq)]
enum Shown {
    All { first: usize, count: usize },
    Some(Arc<Vec<usize>>),
}

impl Shown {
    fn len(&self) -> usize {
        match self {
            Self::All { count, .. } => *count,
            Self::Some(numbers) => numbers.len(),
        }
    }

    fn at(&self, row: usize) -> Option<usize> {
        match self {
            Self::All { first, count } => (row < *count).then_some(first + row),
            Self::Some(numbers) => numbers.get(row).copied(),
        }
    }
}

/// The log of one container.
#[component]
pub(crate) fn LogView(
    /// Whose.
    container: ContainerId,
) -> impl IntoView {
    let kept = StoredValue::new(Kept::default());
    let news = RwSignal::new(0_u32);
    let follow = RwSignal::new(true);
    let unseen = RwSignal::new(0_usize);
    let search = RwSignal::new(String::new());
    let only_hits = RwSignal::new(false);
    let with_time = RwSignal::new(true);
    let only_stderr = RwSignal::new(false);
    let live = Live::expect();
    let status = RwSignal::new("Waiting for lines");
    // What is not connected is not live, whatever came before.
    let status_now = move || match live.connection().get() {
        Connection::Live => status.get(),
        _ => "Waiting for the connection",
    };
    let top_px = RwSignal::new(0.0);
    let height_px = RwSignal::new(600.0);
    let set_to = StoredValue::new(None::<i32>);
    let scroller = NodeRef::<html::Div>::new();

    let download = format!("/api/v1/containers/{container}/logs{}", route::query(&[("timestamps", "true")]));
    let topic = Topic::Logs { container, after: None, tail: Some(TAIL) };
    let subscription = live.subscribe(topic, move |told| match told {
        Told::Items(items) => {
            let added = items.len();
            kept.update_value(|kept| items.into_iter().filter_map(line).for_each(|line| kept.push(line)));
            status.set("Live");
            if !follow.get_untracked() {
                unseen.update(|unseen| *unseen += added);
            }
            news.update(|news| *news = news.wrapping_add(1));
        }
        Told::Ended => status.set("The log is complete"),
        Told::Refused(problem) => {
            leptos::logging::warn!("the log was refused: {problem}");
            status.set("The log cannot be read");
        }
    });
    let _subscription = StoredValue::new_local(subscription);

    let shown = Memo::new(move |_| {
        news.track();
        let (wanted, filtered, stderr) = (search.get(), only_hits.get(), only_stderr.get());
        kept.with_value(|kept| {
            if !stderr && (!filtered || wanted.is_empty()) {
                return Shown::All { first: kept.first, count: kept.lines.len() };
            }
            let fits = |line: &Line| match line {
                Line::Gap { .. } => true,
                Line::Text { stream, text, .. } => {
                    (!stderr || *stream == LogStream::Stderr)
                        && (!filtered || wanted.is_empty() || !log::hits(text, &wanted).is_empty())
                }
            };
            let numbers = kept.lines.iter().enumerate().filter(|(_, line)| fits(line));
            Shown::Some(Arc::new(numbers.map(|(at, _)| kept.first + at).collect()))
        })
    });

    Effect::new(move |_| {
        let rows = shown.with(Shown::len);
        let Some(element) = scroller.get() else { return };
        height_px.set(f64::from(element.client_height()));
        if !follow.get() {
            return set_to.set_value(None);
        }
        // The reader may have scrolled since this last did, with the event for it still to come.
        if set_to.get_value().is_some_and(|set_to| element.scroll_top() < set_to - 2) {
            set_to.set_value(None);
            return follow.set(false);
        }
        unseen.set(0);
        request_animation_frame(move || {
            element.set_scroll_top(pixels(float_count(rows) * LINE_PX));
            set_to.set_value(Some(element.scroll_top()));
        });
    });

    let scrolled = move |_: web_sys::Event| {
        let Some(element) = scroller.get_untracked() else { return };
        let top = f64::from(element.scroll_top());
        top_px.set(top);
        let seen = top + f64::from(element.client_height()) + 2.0 * LINE_PX;
        let is_at_end = seen >= f64::from(element.scroll_height());
        if follow.get_untracked() != is_at_end {
            follow.set(is_at_end);
        }
    };
    let rows = Memo::new(move |_| {
        let range = window::in_sight(shown.with(Shown::len), LINE_PX, top_px.get(), height_px.get());
        shown.with(|shown| {
            range.filter_map(|row| shown.at(row).map(|number| (row, number))).collect::<Vec<_>>()
        })
    });
    // Steps to the next hit below (or above) the middle of what is in sight.
    let step = move |backwards: bool| {
        let (Some(element), wanted) = (scroller.get_untracked(), search.get_untracked()) else { return };
        if wanted.is_empty() {
            return;
        }
        let middle = f64::from(element.scroll_top()) + f64::from(element.client_height()) / 2.0;
        let here = count(middle / LINE_PX);
        let is_hit = |row: &usize| {
            shown.with_untracked(|shown| shown.at(*row)).is_some_and(|number| {
                kept.with_value(|kept| match kept.get(number) {
                    Some(Line::Text { text, .. }) => !log::hits(text, &wanted).is_empty(),
                    _ => false,
                })
            })
        };
        let rows = shown.with_untracked(Shown::len);
        let found = if backwards {
            (0..here.min(rows)).rev().find(is_hit)
        } else {
            (here.saturating_add(1)..rows).find(is_hit)
        };
        if let Some(row) = found {
            follow.set(false);
            let top = float_count(row) * LINE_PX - f64::from(element.client_height()) / 2.0;
            element.set_scroll_top(pixels(top));
        }
    };
    let searched = move |event: web_sys::KeyboardEvent| {
        if event.key() == "Enter" {
            event.prevent_default();
            step(event.shift_key());
        }
    };
    view! {
        <div class="bar">
            <label class="inline">"Search "
                <input type="search" name="search" data-search="" autocomplete="off" bind:value=search
                    on:keydown=searched/>
            </label>
            <button type="button" on:click=move |_| step(true) aria-label="Previous hit">"↑"</button>
            <button type="button" on:click=move |_| step(false) aria-label="Next hit">"↓"</button>
            <Check label="only hits" value=only_hits/>
            <Check label="only stderr" value=only_stderr/>
            <Check label="time" value=with_time/>
            <Check label="follow" value=follow/>
            <span class="grow"></span>
            <span class="muted" role="status">{status_now}</span>
            <output class="muted" data-testid="log-count">{move || {
                quantity::plural(shown.with(Shown::len), "line")
            }}</output>
            <a class="button" href=download download="log.txt" rel="external">"Download"</a>
        </div>
        <div class="log-frame">
            <div class="log" node_ref=scroller tabindex="0" role="log" aria-live="off" aria-label="Log lines"
                on:scroll=scrolled>
                <div class="log-all" style:height=move || format!("{}px", float_count(shown.with(Shown::len)) * LINE_PX)>
                    <For each=move || rows.get() key=|row| *row let:row>
                        {move || kept.with_value(|kept| {
                            kept.get(row.1).map(|line| drawn(line, row.0, with_time.get(), &search.get()))
                        })}
                    </For>
                </div>
            </div>
            <Show when=move || !follow.get()>
                <button type="button" class="pill" on:click=move |_| follow.set(true)>
                    {move || match unseen.get() {
                        0 => "To the end ↓".to_owned(),
                        new => format!("{new} new ↓"),
                    }}
                </button>
            </Show>
        </div>
    }
    .into_any()
}

fn line(item: TopicItem) -> Option<Line> {
    match item {
        TopicItem::Log(line) => {
            let text = log::clean(&line.text);
            Some(Line::Text { at: line.at, stream: line.stream, level: log::level(&text), text })
        }
        TopicItem::LogGap { missed_bytes, .. } => Some(Line::Gap { missed_bytes }),
        _ => None,
    }
}

fn drawn(line: &Line, row: usize, with_time: bool, search: &str) -> AnyView {
    let top = format!("{}px", float_count(row) * LINE_PX);
    match line {
        Line::Gap { missed_bytes } => view! {
            <div class="line gap" style:top=top>
                {format!("— {} were rotated away before they could be read —", quantity::bytes(*missed_bytes))}
            </div>
        }
        .into_any(),
        Line::Text { at, stream, text, level } => {
            let class = match (stream, level) {
                (LogStream::Supervisor, _) => "line supervisor",
                (_, Level::Error) => "line error",
                (_, Level::Warn) => "line warn",
                (LogStream::Stderr, Level::Other) => "line stderr",
                (LogStream::Stdout, Level::Other) => "line",
            };
            let mark = match stream {
                LogStream::Stdout => " ",
                LogStream::Stderr => "E",
                LogStream::Supervisor => "S",
            };
            let pieces = log::pieces(text, search)
                .into_iter()
                .map(|(piece, is_hit)| {
                    let piece = piece.to_owned();
                    if is_hit { view! { <mark>{piece}</mark> }.into_any() } else { piece.into_any() }
                })
                .collect_view();
            let time = with_time.then(|| view! { <time>{browser::zone().clock_ms(*at)}</time> });
            view! {
                <div class=class style:top=top>{time}<span class="mark" title="stream">{mark}</span>{pieces}</div>
            }
            .into_any()
        }
    }
}
