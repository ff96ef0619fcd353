//! The container list: live, searchable, sortable, virtual.

use std::collections::BTreeSet;

use leptos::html;
use leptos::prelude::*;
use leptos_router::hooks::{use_navigate, use_query_map};
use wharf_shared::id::ContainerId;
use wharf_shared::permission::Permission;

use super::actions;
use crate::api::{Connection, Live};
use crate::components::{Empty, FailureBox, PageHead, Spark, StateChip};
use crate::state::{Auth, Containers, Row};
use crate::view::money::{self, Sum};
use crate::view::number::float_count;
use crate::view::rows::{self, Column};
use crate::view::state::Action;
use crate::view::{quantity, route, window};

const ROW_PX: f64 = 36.0;
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
    let shown = Memo::new(move |before: Option<&Vec<ContainerId>>| {
        ordered(containers, search, order, selected, before)
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
                <Table shown order selected search/>
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
    before: Option<&Vec<ContainerId>>,
) -> Vec<ContainerId> {
    let (column, descending) = order.get();
    let wanted = search.get();
    let is_selecting = selected.with(|selected| !selected.is_empty());
    let is_live_order = matches!(column, Column::Cpu | Column::Memory | Column::Cost);
    // Read only where the order depends on it: otherwise the list is sorted once a second for nothing.
    let tick = if is_live_order && !is_selecting { containers.tick().get() } else { 0 };
    let mut found: Vec<_> = containers.rows().with(|rows| {
        rows.values()
            .map(|row| (row.id.clone(), row.view.get(), row.point.get_untracked()))
            .filter(|(_, view, _)| rows::matches(view, &wanted))
            .collect()
    });
    let is_frozen = is_selecting || (is_live_order && !tick.is_multiple_of(SETTLE_TICKS));
    if let Some(before) = before.filter(|before| is_frozen && before.len() == found.len()) {
        let place: std::collections::BTreeMap<_, _> = before.iter().zip(0_usize..).collect();
        if found.iter().all(|(id, ..)| place.contains_key(id)) {
            return before.clone();
        }
    }
    found.sort_by(|left, right| {
        rows::compare((&left.1, left.2.as_ref()), (&right.1, right.2.as_ref()), column, descending)
    });
    found.into_iter().map(|(id, ..)| id).collect()
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

#[component]
fn Table(
    shown: Memo<Vec<ContainerId>>,
    order: RwSignal<(Column, bool)>,
    selected: RwSignal<BTreeSet<ContainerId>>,
    search: RwSignal<String>,
) -> impl IntoView {
    let containers = Containers::expect();
    let live = Live::expect();
    let with_tenants = Auth::expect().may(Permission::AllTenants);
    let (top_px, height_px) = (RwSignal::new(0.0), RwSignal::new(800.0));
    let scroller = NodeRef::<html::Div>::new();
    Effect::new(move |_| {
        if let Some(element) = scroller.get() {
            height_px.set(f64::from(element.client_height()));
        }
    });
    let range =
        Memo::new(move |_| window::in_sight(shown.with(Vec::len), ROW_PX, top_px.get(), height_px.get()));
    let in_sight = move || {
        let range = range.get();
        shown.with(|shown| shown.get(range).map(<[ContainerId]>::to_vec).unwrap_or_default())
    };
    let above = move || format!("{}px", float_count(range.get().start) * ROW_PX);
    let below = move || format!("{}px", float_count(shown.with(Vec::len) - range.get().end) * ROW_PX);
    let is_all = move || {
        shown.with(|shown| {
            !shown.is_empty() && selected.with(|selected| shown.iter().all(|id| selected.contains(id)))
        })
    };
    let select_all = move |_| {
        if is_all() {
            selected.set(BTreeSet::new());
        } else {
            selected.set(shown.get_untracked().into_iter().collect());
        }
    };
    let head =
        move |column: Column, name: &'static str, class: &'static str| sort_head(order, column, name, class);
    let columns = if with_tenants { "9" } else { "8" };
    view! {
        <div class="grid-frame" class:stale=move || live.connection().get() != Connection::Live
            node_ref=scroller tabindex="0" role="region" aria-label="Containers"
            on:scroll:target=move |event| top_px.set(f64::from(event.target().scroll_top()))>
            <table class="grid" aria-rowcount=move || shown.with(Vec::len).to_string()>
                <thead><tr>
                    <th scope="col" class="tick"><input type="checkbox" aria-label="Select all that are shown"
                        prop:checked=is_all on:change=select_all/></th>
                    {head(Column::State, "State", "")}
                    {head(Column::Name, "Name", "")}
                    {with_tenants.then(|| head(Column::Tenant, "Tenant", "wide-only"))}
                    {head(Column::Image, "Image", "wide-only")}
                    {head(Column::Cpu, "CPU", "number")}
                    {head(Column::Memory, "Memory", "number")}
                    {head(Column::Cost, "Cost/h", "number")}
                    <th scope="col" class="verbs"><span class="hidden">"Actions"</span></th>
                </tr></thead>
                <tbody aria-hidden="true"><tr style:height=above><td colspan=columns></td></tr></tbody>
                <tbody data-testid="containers">
                    <For each=in_sight key=Clone::clone let:id>
                        {containers.rows().with_untracked(|rows| rows.get(&id).cloned())
                            .map(|row| list_row(&row, selected, with_tenants))}
                    </For>
                </tbody>
                <tbody aria-hidden="true"><tr style:height=below><td colspan=columns></td></tr></tbody>
            </table>
            <Show when=move || shown.with(Vec::is_empty)>
                <Empty text=Signal::derive(move || format!(
                    "0 of {} match {:?}", containers.rows().with(std::collections::BTreeMap::len), search.get()
                ))>
                    <button type="button" on:click=move |_| search.set(String::new())>"Clear the search"</button>
                </Empty>
            </Show>
        </div>
        <Footer shown/>
    }
    .into_any()
}

fn sort_head(
    order: RwSignal<(Column, bool)>,
    column: Column,
    name: &'static str,
    class: &'static str,
) -> AnyView {
    let sort = move || {
        let (now, descending) = order.get();
        if now != column {
            "none"
        } else if descending {
            "descending"
        } else {
            "ascending"
        }
    };
    let is_live = matches!(column, Column::Cpu | Column::Memory | Column::Cost);
    let click = move |_| {
        order.update(|(now, descending)| {
            if *now == column {
                *descending = !*descending;
            } else {
                // The largest first where numbers are meant.
                (*now, *descending) = (column, is_live);
            }
        });
    };
    view! {
        <th scope="col" class=class aria-sort=sort>
            <button type="button" class="sort" on:click=click>{name}</button>
        </th>
    }
    .into_any()
}

/// Totals of what is shown.
#[component]
fn Footer(shown: Memo<Vec<ContainerId>>) -> impl IntoView {
    let containers = Containers::expect();
    let words = Memo::new(move |_| {
        containers.tick().track();
        let shown = shown.get();
        containers.rows().with(|rows| {
            let points: Vec<_> = shown
                .iter()
                .filter_map(|id| rows.get(id))
                .filter_map(|row| row.point.get_untracked())
                .collect();
            let cpu: u64 = points.iter().filter_map(|point| point.cpu_millis.value()).sum();
            let memory: u64 = points.iter().filter_map(|point| point.memory_working_set_bytes.value()).sum();
            let cost = money::all_per_hour(
                points.iter().map(|point| (point.currency.as_str(), &point.cost_per_hour)),
            );
            format!(
                "{} shown · {} cores · {} · {cost}",
                shown.len(),
                quantity::cpus(cpu),
                quantity::bytes(memory)
            )
        })
    });
    view! { <p class="totals" data-testid="totals">{words}</p> }.into_any()
}

fn list_row(row: &Row, selected: RwSignal<BTreeSet<ContainerId>>, with_tenants: bool) -> AnyView {
    let view = row.view.clone();
    let text = |read: fn(&wharf_shared::container::ContainerView) -> String| {
        let view = view.clone();
        move || view.with(read)
    };
    let point = StoredValue::new(row.point.clone());
    let metric = move |show: fn(&wharf_shared::live::MetricsPoint) -> String| {
        let point = point.get_value();
        move || point.with(|point| point.as_ref().map_or_else(|| "—".to_owned(), show))
    };
    let is_live = {
        let view = view.clone();
        move || view.with(|view| view.state.is_live())
    };
    let id = row.id.clone();
    let is_selected = {
        let id = id.clone();
        move || selected.with(|selected| selected.contains(&id))
    };
    let is_selected_too = is_selected.clone();
    let tick = move |_| {
        selected.update(|selected| {
            if !selected.remove(&id) {
                selected.insert(id.clone());
            }
        });
    };
    let name = text(|view| view.name.clone());
    let label = text(|view| format!("Select {}", view.name));
    let verb = {
        let (view, row) = (view.clone(), row.clone());
        move || {
            let is_startable = view.with(|view| Action::Start.is_allowed_in(view.state));
            let action = if is_startable { Action::Start } else { Action::Stop };
            let row = row.clone();
            let label = format!("{} {}", action.verb(), view.with(|view| view.name.clone()));
            view! {
                <button type="button" class="quiet" aria-label=label
                    on:click=move |_| actions::act(action, &row, || ())>{action.verb()}</button>
            }
        }
    };
    let tenant = with_tenants
        .then(|| view! { <td class="wide-only clip">{text(|view| view.tenant_name.clone())}</td> });
    view! {
        <tr class:selected=is_selected_too>
            <td class="tick"><input type="checkbox" aria-label=label prop:checked=is_selected on:change=tick/></td>
            <td><StateChip container=view.clone()/></td>
            <th scope="row" class="clip"><a href=route::container(&row.id)>{name}</a></th>
            {tenant}
            <td class="wide-only clip">{text(|view| view.spec.image.clone())}</td>
            <td class="number cpu">
                <Show when=is_live fallback=|| "—">
                    <span>{metric(|point| quantity::measured(point.cpu_millis, quantity::cpus))}</span>
                </Show>
                <Spark row=row.clone()/>
            </td>
            <td class="number">{metric(|point| quantity::measured(point.memory_working_set_bytes, quantity::bytes))}</td>
            <td class="number">{metric(|point| money::price(&Sum::of([&point.cost_per_hour]), &point.currency))}</td>
            <td class="verbs">{verb}</td>
        </tr>
    }
    .into_any()
}
