//! Events, live, and the audit trail.

use leptos::prelude::*;
use wharf_shared::event::{AuditView, EventView};
use wharf_shared::id::ContainerId;
use wharf_shared::page::Page;

use crate::api::{Api, Failure};
use crate::browser;
use crate::components::{Empty, PageHead, show};
use crate::state::{Events, Notices, Remote};
use crate::view::state::Tone;
use crate::view::{event, route};

/// Events of a page of the API, and pages fetched at most to come to the latest ones.
const PAGE_EVENTS: usize = 1_000;
const PAGES_MAX: usize = 20;
/// Events shown.
const SHOWN: usize = 500;

/// The events before this page was opened, oldest first.
pub(crate) async fn latest(api: Api) -> Result<Vec<EventView>, Failure> {
    let mut events: Vec<EventView> = Vec::new();
    for _ in 0..PAGES_MAX {
        let after = events.last().map(|event| event.seq.to_string()).unwrap_or_default();
        let query = route::query(&[("limit", &PAGE_EVENTS.to_string()), ("after", &after)]);
        let page: Page<EventView> = api.get(format!("/events{query}")).await?;
        let is_last = page.items.len() < PAGE_EVENTS;
        if page.items.is_empty() {
            break;
        }
        events = page.items;
        if is_last {
            break;
        }
    }
    Ok(events)
}

/// Newest first, each once.
pub(crate) fn merged<'a>(
    recent: impl Iterator<Item = &'a EventView>,
    before: &'a [EventView],
    most: usize,
) -> Vec<EventView> {
    let mut events: Vec<EventView> = recent.chain(before).cloned().collect();
    events.sort_by_key(|event| std::cmp::Reverse(event.seq));
    events.dedup_by_key(|event| event.seq);
    events.truncate(most);
    events
}

/// A list of events.
#[component]
pub(crate) fn EventList(
    /// Newest first.
    events: Signal<Vec<EventView>>,
) -> impl IntoView {
    view! {
        <Show when=move || events.with(|events| !events.is_empty())
            fallback=|| view! { <Empty text="Nothing happened yet."/> }>
            <ol class="events">
                <For each=move || events.get() key=|event| event.seq let:event>{event_item(&event)}</For>
            </ol>
        </Show>
    }
    .into_any()
}

fn event_item(happened: &EventView) -> AnyView {
    let class = format!("dot {}", event::tone(happened).class());
    let sentence = event::sentence(happened);
    let is_container = happened.kind.starts_with("container.") && happened.kind != "container.removed";
    let what = if is_container {
        let href = format!("/containers/{}", route::encode(&happened.subject));
        view! { <a href=href>{sentence}</a> }.into_any()
    } else {
        sentence.into_any()
    };
    let zone = browser::zone();
    view! {
        <li>
            <time title=happened.at.to_string()>{zone.date_time(happened.at)}</time>
            <span class=class aria-hidden="true"></span>
            <span>{what}" "<span class="muted">{event::details(happened)}</span></span>
        </li>
    }
    .into_any()
}

/// The page of events.
#[component]
pub(crate) fn EventsPage() -> impl IntoView {
    let api = Api::expect();
    let search = RwSignal::new(String::new());
    let recent = Events::expect().recent();
    let before = Remote::new(move || latest(api));
    let content = move |before: Signal<Vec<EventView>>| {
        let events = Signal::derive(move || {
            let wanted = search.get().to_lowercase();
            let mut events = recent.with(|recent| merged(recent.iter(), &before.get(), SHOWN));
            events.retain(|event| {
                let text = format!("{} {} {}", event.kind, event::sentence(event), event::details(event));
                wanted.split_whitespace().all(|word| text.to_lowercase().contains(word))
            });
            events
        });
        view! { <EventList events/> }
    };
    view! {
        <PageHead title="Events" sentence="What happened, newest first; new ones appear at the top."/>
        <div class="bar">
            <label class="inline">"Filter "
                <input type="search" name="filter" data-search="" autocomplete="off" bind:value=search/></label>
        </div>
        <section class="card">{show(before, content)}</section>
    }
    .into_any()
}

/// The page of the audit trail: who did what.
#[component]
pub(crate) fn Audit() -> impl IntoView {
    let api = Api::expect();
    let notices = Notices::expect();
    let first = Remote::new(move || api.get::<Page<AuditView>>("/audit".to_owned()));
    let older = RwSignal::new(Vec::<AuditView>::new());
    let content = move |first: Signal<Page<AuditView>>| {
        let rows = Signal::derive(move || {
            let mut rows = first.get().items;
            rows.extend(older.get());
            rows
        });
        let more = move |_| {
            let Some(last) = rows.with_untracked(|rows| rows.last().map(|row| row.seq.to_string())) else {
                return;
            };
            leptos::task::spawn_local(async move {
                let query = route::query(&[("before", &last)]);
                match api.get::<Page<AuditView>>(format!("/audit{query}")).await {
                    Ok(page) if page.items.is_empty() => notices.confirm("That is all."),
                    Ok(page) => older.update(|older| older.extend(page.items)),
                    Err(failure) => notices.fail("Older entries", &failure),
                }
            });
        };
        view! {
            <div class="table-frame" tabindex="0" role="region" aria-label="Audit trail">
            <table>
                <thead><tr>
                    <th scope="col">"When"</th><th scope="col">"Who"</th><th scope="col">"What"</th>
                    <th scope="col">"Subject"</th><th scope="col">"Outcome"</th><th scope="col">"From"</th>
                    <th scope="col">"Request"</th>
                </tr></thead>
                <tbody>
                    <For each=move || rows.get() key=|row| row.seq let:row>{audit_row(row)}</For>
                </tbody>
            </table>
            </div>
            <p><button type="button" on:click=more>"Show older"</button></p>
        }
    };
    view! {
        <PageHead title="Audit" sentence="Who did what, newest first. Nothing is ever changed or removed here."/>
        {show(first, content)}
    }
    .into_any()
}

fn audit_row(row: AuditView) -> AnyView {
    let tone = if row.outcome == "done" { Tone::Ok } else { Tone::Warn };
    // A container's id as it is shown elsewhere; the whole one is in the title.
    let subject =
        row.subject.parse().map_or_else(|_| row.subject.clone(), |id: ContainerId| id.short().to_owned());
    let details = row.detail.iter().map(|(key, value)| format!("{key} {value}"));
    let whole: Vec<_> = std::iter::once(row.subject).chain(details).collect();
    view! {
        <tr>
            <td><time title=row.at.to_string()>{browser::zone().date_time(row.at)}</time></td>
            <td>{row.actor}</td>
            <td>{row.action}</td>
            <td class="id" title=whole.join(" · ")>{subject}</td>
            <td><span class=format!("chip {}", tone.class())>{row.outcome}</span></td>
            <td>{row.address.unwrap_or_else(|| "—".to_owned())}</td>
            <td class="id"><code>{row.request_id}</code></td>
        </tr>
    }
    .into_any()
}
