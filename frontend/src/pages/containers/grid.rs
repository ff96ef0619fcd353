//! The container list's rows. Only those in sight are in the document, and each is laid out by itself:
//! with a thousand rows a second's metrics cost what the few in sight cost.

use std::collections::BTreeSet;

use leptos::html;
use leptos::prelude::*;
use wharf_shared::id::ContainerId;
use wharf_shared::permission::Permission;

use super::actions;
use crate::api::{Connection, Live};
use crate::components::{Empty, Spark, StateChip, spark_colour};
use crate::state::{Auth, Containers, Row};
use crate::view::money::{self, Sum};
use crate::view::number::float_count;
use crate::view::rows::Column;
use crate::view::state::{self, Action};
use crate::view::{quantity, route, window};

const ROW_PX: f64 = 36.0;
/// Longer texts are clipped, with an ellipsis. Only those: each clip costs the browser at every frame
/// that scrolls.
const STATE_FITS: usize = 10;
const TENANT_FITS: usize = 8;
const IMAGE_FITS: usize = 16;

/// A row in sight, and where it stands in the whole list.
#[derive(Clone)]
struct Seen {
    row: Row,
    place: ArcRwSignal<usize>,
}

impl Seen {
    /// The row at its place now: the one that was seen before, so that its elements and the focus stay.
    fn follow(before: &[Self], row: &Row, place: usize) -> Self {
        let Some(known) = before.iter().find(|seen| seen.row.id == row.id) else {
            return Self { row: row.clone(), place: ArcRwSignal::new(place) };
        };
        if known.place.get_untracked() != place {
            known.place.set(place);
        }
        known.clone()
    }
}

/// The rows in sight of a list that may be long.
#[component]
pub(super) fn Grid(
    /// Which, in order.
    shown: Memo<Vec<ContainerId>>,
    /// What they are ordered by, and whether the greatest come first.
    order: RwSignal<(Column, bool)>,
    /// Which are ticked.
    selected: RwSignal<BTreeSet<ContainerId>>,
    /// What was searched for.
    search: RwSignal<String>,
) -> impl IntoView {
    let containers = Containers::expect();
    let live = Live::expect();
    let with_tenants = Auth::expect().may(Permission::AllTenants);
    let (top_px, height_px) = (RwSignal::new(0.0), RwSignal::new(800.0));
    let scroller = NodeRef::<html::Div>::new();
    let measure = move || {
        if let Some(element) = scroller.get() {
            height_px.set(f64::from(element.client_height()));
        }
    };
    Effect::new(move |_| measure());
    let resized = window_event_listener(leptos::ev::resize, move |_| untrack(measure));
    on_cleanup(move || resized.remove());
    let range =
        Memo::new(move |_| window::in_sight(shown.with(Vec::len), ROW_PX, top_px.get(), height_px.get()));
    let seen = RwSignal::new(Vec::<Seen>::new());
    Effect::new(move |_| {
        let range = range.get();
        let now = containers.rows().with_untracked(|rows| {
            seen.with_untracked(|before| {
                let shown = shown.read();
                let places = range.clone().zip(shown.get(range).unwrap_or_default());
                places.filter_map(|(place, id)| Some(Seen::follow(before, rows.get(id)?, place))).collect()
            })
        });
        seen.set(now);
    });
    let above = move || format!("{}px", float_count(range.get().start) * ROW_PX);
    let height = move || format!("{}px", float_count(shown.with(Vec::len)) * ROW_PX);
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
    let colour = spark_colour(containers.tick());
    view! {
        <div class="grid-frame" class:stale=move || live.connection().get() != Connection::Live
            node_ref=scroller tabindex="0" role="region" aria-label="Containers"
            on:scroll:target=move |event| top_px.set(f64::from(event.target().scroll_top()))>
            // The roles are said, because boxes that are no tables lose those of their elements.
            <table class="grid" class:with-tenants=with_tenants role="table"
                aria-rowcount=move || (shown.with(Vec::len) + 1).to_string()>
                <thead role="rowgroup"><tr role="row" aria-rowindex="1">
                    <th scope="col" role="columnheader" class="tick"><input type="checkbox"
                        aria-label="Select all that are shown" prop:checked=is_all on:change=select_all/></th>
                    {head(Column::State, "State", "")}
                    {head(Column::Name, "Name", "")}
                    {with_tenants.then(|| head(Column::Tenant, "Tenant", "wide-only"))}
                    {head(Column::Image, "Image", "wide-only")}
                    {head(Column::Cpu, "CPU", "number")}
                    {head(Column::Memory, "Memory", "number not-phone")}
                    {head(Column::Cost, "Cost/h", "number not-phone")}
                    <th scope="col" role="columnheader" class="verbs"><span class="hidden">"Actions"</span></th>
                </tr></thead>
                <tbody role="rowgroup" data-testid="containers" style:height=height style:padding-top=above>
                    <For each=move || seen.get() key=|seen| seen.row.id.clone() let:seen>
                        {list_row(&seen, selected, with_tenants, colour)}
                    </For>
                </tbody>
            </table>
            <Show when=move || shown.with(Vec::is_empty)>
                <Empty text=Signal::derive(move || format!(
                    "0 of {} match {:?}", containers.rows().with(std::collections::BTreeMap::len), search.get()
                ))>
                    <button type="button" on:click=move |_| search.set(String::new())>"Clear the search"</button>
                </Empty>
            </Show>
        </div>
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
    let click = move |_| {
        order.update(|(now, descending)| {
            if *now == column {
                *descending = !*descending;
            } else {
                // The largest first where numbers are meant.
                (*now, *descending) = (column, column.is_live());
            }
        });
    };
    view! {
        <th scope="col" role="columnheader" class=class aria-sort=sort>
            <button type="button" class="sort" on:click=click>{name}</button>
        </th>
    }
    .into_any()
}

fn list_row(
    seen: &Seen,
    selected: RwSignal<BTreeSet<ContainerId>>,
    with_tenants: bool,
    colour: Memo<String>,
) -> AnyView {
    let row = &seen.row;
    let place = seen.place.clone();
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
    let is_wordy = {
        let view = view.clone();
        move || view.with(|view| state::words(view).len() > STATE_FITS)
    };
    // These two never change.
    let (tenant, image) = row.view.with_untracked(|view| (view.tenant_name.clone(), view.spec.image.clone()));
    let cell = |text: String, fits: usize| {
        let class = if text.len() > fits { "wide-only clip" } else { "wide-only" };
        view! { <td role="cell" class=class title=text.clone()>{text.clone()}</td> }
    };
    let tenant = with_tenants.then(|| cell(tenant, TENANT_FITS));
    view! {
        // The header is the first row.
        <tr role="row" aria-rowindex=move || (place.get() + 2).to_string() class:selected=is_selected_too>
            <td role="cell" class="tick"><input type="checkbox" aria-label=label prop:checked=is_selected on:change=tick/></td>
            <td role="cell" class:clip=is_wordy><StateChip container=view.clone()/></td>
            <th scope="row" role="rowheader" class="clip"><a href=route::container(&row.id)>{name}</a></th>
            {tenant}
            {cell(image, IMAGE_FITS)}
            <td role="cell" class="number cpu">
                <span>{metric(|point| quantity::measured(point.cpu_millis, quantity::cpus))}</span>
                <Spark row=row.clone() colour/>
            </td>
            <td role="cell" class="number not-phone">{metric(|point| quantity::measured(point.memory_working_set_bytes, quantity::bytes))}</td>
            <td role="cell" class="number not-phone">{metric(|point| money::price(&Sum::of([&point.cost_per_hour]), &point.currency))}</td>
            <td role="cell" class="verbs">{verb}</td>
        </tr>
    }
    .into_any()
}
