//! The overview: what needs attention, what runs, what it costs, what happened.

use leptos::prelude::*;
use wharf_shared::host::HostView;
use wharf_shared::permission::Permission;

use super::events::EventList;
use crate::api::{Api, Live};
use crate::browser;
use crate::components::{Empty, FailureBox, PageHead, Spark, StateChip, show, spark_colour};
use crate::state::{Auth, Containers, Events, Remote, Row};
use crate::view::money::{self, Sum};
use crate::view::rows::{self, Column};
use crate::view::{moment, quantity, route, state};

/// How many of the busiest are shown.
const BUSIEST: usize = 5;

/// The page.
#[component]
pub(crate) fn Overview() -> impl IntoView {
    let containers = Containers::expect();
    let auth = Auth::expect();
    let lost_at = Live::expect().lost_at();
    let attention = Memo::new(move |_| {
        containers.rows().with(|rows| {
            let wants = |row: &&Row| row.view.with(|view| state::attention(view).is_some());
            rows.values().filter(wants).map(|row| row.id.clone()).collect::<Vec<_>>()
        })
    });
    let running = Memo::new(move |_| {
        containers
            .rows()
            .with(|rows| rows.values().filter(|row| row.view.with(|view| view.state.is_live())).count())
    });
    let sentence = move || {
        if !containers.is_loaded().get() {
            return String::new();
        }
        if let Some(lost) = lost_at.get() {
            let clock = browser::zone().clock(lost);
            let ran = quantity::plural(running.get(), "container");
            return format!("Nothing was heard since {clock}; {ran} ran then.");
        }
        match attention.with(Vec::len) {
            0 if running.get() == 0 => "Nothing runs.".to_owned(),
            0 => format!("All is well: {} running.", quantity::plural(running.get(), "container")),
            1 => "1 container needs attention.".to_owned(),
            count => format!("{count} containers need attention."),
        }
    };
    let failure = move || containers.failure().get().map(|failure| view! { <FailureBox failure/> });
    let attention_rows = move || {
        let wanted = attention.get();
        containers
            .rows()
            .with(|rows| wanted.iter().filter_map(|id| rows.get(id)).map(attention_item).collect_view())
    };
    view! {
        <PageHead title="Overview" sentence=Signal::derive(sentence)>
            <a class="button primary" href="/containers/new">"New container"</a>
        </PageHead>
        {failure}
        <Totals running/>
        <div class="columns">
            <div class="stack">
                <section class="card" hidden=move || attention.with(Vec::is_empty)>
                    <h2>"Needs attention"</h2>
                    <ul class="plain">{attention_rows}</ul>
                </section>
                <section class="card">
                    <h2>"Most CPU now"</h2>
                    <Busiest/>
                </section>
                {auth.may(Permission::HostRead).then(|| view! { <section class="card"><Host/></section> })}
            </div>
            <section class="card">
                <h2><a href="/events">"What happened"</a></h2>
                <Recent/>
            </section>
        </div>
    }
    .into_any()
}

fn attention_item(row: &Row) -> AnyView {
    let view = row.view.clone();
    let why = {
        let view = view.clone();
        move || view.with(state::attention)
    };
    let name = view.with_untracked(|view| view.name.clone());
    view! {
        <li>
            <a href=route::container(&row.id)>{name}</a>" "<StateChip container=view/>" "
            <span class="muted">{why}</span>
        </li>
    }
    .into_any()
}

/// Sums over all that run, once a second.
#[component]
fn Totals(running: Memo<usize>) -> impl IntoView {
    let containers = Containers::expect();
    let lost_at = Live::expect().lost_at();
    let total = Memo::new(move |_| containers.rows().with(|rows| containers.total(rows.values())));
    let cpu = move || format!("{} cores", total.with(|total| quantity::cpus(total.cpu_millis)));
    let memory = move || total.with(|total| quantity::bytes(total.memory_bytes));
    let cost = move || total.with(|total| total.costs.per_hour());
    let figure = |label: &'static str, value: Signal<String>, test_id: &'static str| {
        view! { <div class="figure"><dt>{label}</dt><dd data-testid=test_id>{value}</dd></div> }
    };
    view! {
        <dl class="figures" class:stale=move || lost_at.get().is_some()>
            {figure("Running", Signal::derive(move || {
                let all = containers.rows().with(std::collections::BTreeMap::len);
                format!("{} of {all}", running.get())
            }), "running")}
            {figure("CPU in use", Signal::derive(cpu), "cpu-sum")}
            {figure("Memory in use", Signal::derive(memory), "memory-sum")}
            {figure("Cost", Signal::derive(cost), "cost-sum")}
        </dl>
    }
    .into_any()
}

#[component]
fn Busiest() -> impl IntoView {
    let containers = Containers::expect();
    let top = Memo::new(move |before: Option<&Vec<wharf_shared::id::ContainerId>>| {
        // The order changes at most every five seconds: nothing moves under the pointer all the time.
        let tick = containers.tick().get();
        containers.rows().with(|rows| {
            let is_live = |row: &&Row| row.view.with(|view| view.state.is_live());
            let live = rows.values().filter(is_live).count();
            if let Some(before) = before
                && !tick.is_multiple_of(5)
                && before.len() == live.min(BUSIEST)
            {
                return before.clone();
            }
            let mut entries: Vec<_> =
                rows.values().filter(is_live).map(|row| row.entry(Column::Cpu)).collect();
            entries.sort_by(|left, right| rows::compare(left, right, true));
            entries.into_iter().take(BUSIEST).map(|entry| entry.id).collect()
        })
    });
    let colour = spark_colour(containers.tick());
    view! {
        <Show when=move || !top.with(Vec::is_empty)
            fallback=|| view! { <Empty text="Nothing runs." command="wharf run -d busybox:1.36 sleep 1h"/> }>
            <table class="compact">
                <tbody>
                    <For each=move || top.get() key=Clone::clone let:id>
                        {containers.find(id.as_str()).map(|row| busiest_row(row, colour))}
                    </For>
                </tbody>
            </table>
        </Show>
    }
    .into_any()
}

fn busiest_row(row: Row, colour: Memo<String>) -> AnyView {
    let point = row.point.clone();
    let cpu = {
        let point = point.clone();
        move || {
            point.with(|point| {
                point
                    .as_ref()
                    .map_or("—".to_owned(), |point| quantity::measured(point.cpu_millis, quantity::cpus))
            })
        }
    };
    let cost = move || {
        point.with(|point| {
            point.as_ref().map_or("—".to_owned(), |point| {
                money::per_hour(&Sum::of([&point.cost_per_hour]), &point.currency)
            })
        })
    };
    let name = row.view.with_untracked(|view| view.name.clone());
    view! {
        <tr>
            <th scope="row"><a href=route::container(&row.id)>{name}</a></th>
            <td><Spark row colour/></td>
            <td class="number">{cpu}</td>
            <td class="number">{cost}</td>
        </tr>
    }
    .into_any()
}

/// The latest events: those of the page's life, before them those of the API.
#[component]
fn Recent() -> impl IntoView {
    let api = Api::expect();
    let before = Remote::new(move || super::events::latest(api));
    let recent = Events::expect().recent();
    show(before, move |before| {
        let events = Signal::derive(move || {
            recent.with(|recent| super::events::merged(recent.iter(), &before.get(), 8))
        });
        view! { <EventList events/> }
    })
}

#[component]
fn Host() -> impl IntoView {
    let api = Api::expect();
    let host = Remote::new(move || api.get::<HostView>("/host".to_owned())).follow("container");
    view! {
        <h2><a href="/hosts">"Host"</a></h2>
        {show(host, host_facts)}
    }
    .into_any()
}

pub(crate) fn host_facts(host: Signal<HostView>) -> AnyView {
    let fact = move |read: fn(&HostView) -> String| move || host.with(read);
    view! {
        <dl class="facts">
            <dt>"Name"</dt><dd>{fact(|host| host.name.clone())}</dd>
            <dt>"CPUs"</dt><dd>{fact(|host| host.cpus.to_string())}</dd>
            <dt>"Memory"</dt><dd>{fact(|host| quantity::bytes(host.memory_bytes))}</dd>
            <dt>"Disk"</dt><dd>{fact(|host| format!(
                "{} free of {}", quantity::bytes(host.disk_free_bytes), quantity::bytes(host.disk_total_bytes)
            ))}</dd>
            <dt>"Kernel"</dt><dd>{fact(|host| format!("{} · cgroup {}", host.kernel, host.cgroup_layout))}</dd>
            <dt>"Agent"</dt><dd>{fact(|host| format!(
                "{} · since {}", host.version, moment::duration(browser::now().0 - host.agent_started_at.0)
            ))}</dd>
        </dl>
    }
    .into_any()
}
