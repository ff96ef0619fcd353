//! The page of all containers: live, searchable, sortable.

use std::collections::BTreeSet;

use leptos::prelude::*;
use leptos_router::hooks::{use_navigate, use_query_map};
use wharf_shared::id::ContainerId;

use super::actions;
use super::grid::Grid;
use crate::components::{Empty, FailureBox, PageHead};
use crate::state::Containers;
use crate::view::rows::{self, Column};
use crate::view::state::Action;
use crate::view::{quantity, route};

/// Orders that follow live values settle so many seconds.
const SETTLE_TICKS: u32 = 3;

/// The page.
#[component]
pub(crate) fn ContainerList() -> impl IntoView {
    let containers = Containers::expect();
    let query = use_query_map();
    let first_search = query.with_untracked(|query| query.get("search").unwrap_or_default());
    let search = RwSignal::new(first_search);
    let order = RwSignal::new((Column::State, false));
    let selected = RwSignal::new(BTreeSet::<ContainerId>::new());
    let navigate = use_navigate();
    // The search is part of the address, so that it can be shared and comes back.
    Effect::new(move |before: Option<String>| {
        let now = search.get();
        if before.is_some_and(|before| before != now) {
            let options =
                leptos_router::NavigateOptions { replace: true, scroll: false, ..Default::default() };
            navigate(&format!("/containers{}", route::query(&[("search", &now)])), options);
        }
        now
    });
    let settled = Memo::new(move |_| containers.tick().get() / SETTLE_TICKS);
    let shown = Memo::new(move |before: Option<&Vec<ContainerId>>| {
        ordered(containers, search, order, selected, settled, before)
    });
    let sentence = move || {
        if !containers.is_loaded().get() {
            return String::new();
        }
        let (all, live) = containers.rows().with(|rows| {
            let live = rows.values().filter(|row| row.view.with(|view| view.state.is_live())).count();
            (rows.len(), live)
        });
        format!("{live} running of {}", quantity::plural(all, "container"))
    };
    let table = move || {
        if !containers.is_loaded().get() {
            return match containers.failure().get() {
                Some(failure) => {
                    let retry = Callback::new(move |()| containers.reload());
                    view! { <FailureBox failure retry/> }.into_any()
                }
                None => view! { <div class="skeleton" role="status" aria-label="Loading"><i></i><i></i><i></i></div> }
                    .into_any(),
            };
        }
        let is_any = Memo::new(move |_| containers.rows().with(|rows| !rows.is_empty()));
        view! {
            <Show when=move || is_any.get() fallback=|| view! {
                <Empty text="No containers yet." command="wharf run -d busybox:1.36 sleep 1h">
                    <a class="button primary" href="/containers/new">"New container"</a>
                </Empty>
            }>
                <Grid shown order selected search/>
                <Footer shown/>
            </Show>
        }
        .into_any()
    };
    view! {
        <PageHead title="Containers" sentence=Signal::derive(sentence)>
            <a class="button primary" href="/containers/new">"New container"</a>
        </PageHead>
        <div class="bar">
            <label class="inline">"Search "
                <input class="wide" type="search" name="search" data-search="" autocomplete="off" bind:value=search
                    placeholder="name, state:failed, tenant:acme, image:nginx"/></label>
            <Bulk selected/>
        </div>
        {table}
    }
    .into_any()
}

fn ordered(
    containers: Containers,
    search: RwSignal<String>,
    order: RwSignal<(Column, bool)>,
    selected: RwSignal<BTreeSet<ContainerId>>,
    settled: Memo<u32>,
    before: Option<&Vec<ContainerId>>,
) -> Vec<ContainerId> {
    let (column, descending) = order.get();
    let is_selecting = selected.with(|selected| !selected.is_empty());
    // Read only where the order depends on it: otherwise the list is sorted for nothing.
    if column.is_live() && !is_selecting {
        settled.track();
    }
    let mut found: Vec<_> = search.with(|wanted| {
        containers.rows().with(|rows| {
            let matching = rows.values().filter(|row| row.view.with(|view| rows::matches(view, wanted)));
            matching.map(|row| row.entry(column)).collect()
        })
    });
    if let Some(before) = before.filter(|before| is_selecting && before.len() == found.len()) {
        let known: BTreeSet<_> = before.iter().collect();
        if found.iter().all(|entry| known.contains(&entry.id)) {
            return before.clone();
        }
    }
    found.sort_by(|left, right| rows::compare(left, right, descending));
    found.into_iter().map(|entry| entry.id).collect()
}

#[component]
fn Bulk(selected: RwSignal<BTreeSet<ContainerId>>) -> impl IntoView {
    let containers = Containers::expect();
    let button = move |action: Action| {
        let click = move |_| {
            let rows = containers.rows().with_untracked(|rows| {
                selected.with_untracked(|selected| {
                    selected.iter().filter_map(|id| rows.get(id).cloned()).collect()
                })
            });
            actions::act_on_all(action, rows, move || selected.set(BTreeSet::new()));
        };
        view! { <button type="button" on:click=click>{action.verb()}</button> }
    };
    view! {
        <Show when=move || selected.with(|selected| !selected.is_empty())>
            <div class="bulk" role="group" aria-label="With the selected containers">
                <strong>{move || format!("{} selected", selected.with(BTreeSet::len))}</strong>
                {button(Action::Start)}
                {button(Action::Stop)}
                {button(Action::Restart)}
                {button(Action::Remove)}
                <button type="button" class="quiet" on:click=move |_| selected.set(BTreeSet::new())>"Clear"</button>
            </div>
        </Show>
    }
    .into_any()
}

/// Totals of what is shown.
#[component]
fn Footer(shown: Memo<Vec<ContainerId>>) -> impl IntoView {
    let containers = Containers::expect();
    let words = Memo::new(move |_| {
        containers.rows().with(|rows| {
            shown.with(|shown| {
                let total = containers.total(shown.iter().filter_map(|id| rows.get(id)));
                format!(
                    "{} shown · {} cores · {} · {}",
                    shown.len(),
                    quantity::cpus(total.cpu_millis),
                    quantity::bytes(total.memory_bytes),
                    total.costs.per_hour()
                )
            })
        })
    });
    view! { <p class="totals" data-testid="totals">{words}</p> }.into_any()
}
