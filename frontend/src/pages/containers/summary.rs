//! A container's overview: live charts, facts and its events.

use std::collections::VecDeque;

use leptos::prelude::*;
use wharf_shared::container::{ContainerView, NetworkMode, RestartPolicy};
use wharf_shared::live::MetricsPoint;
use wharf_shared::time::SECOND_US;
use wharf_shared::volume::VolumeSource;

use crate::api::Api;
use crate::browser;
use crate::components::{Chart, ChartKind, Copy, Sight};
use crate::pages::events::{EventList, latest, merged};
use crate::state::{Events, Remote, Row};
use crate::view::chart::{self, Point};
use crate::view::money::Costs;
use crate::view::{command, quantity};

/// Seconds of points that are kept; the agent's ring has as many.
const KEPT_S: i64 = 900;
const SPANS: [(i64, &str); 3] = [(60, "1 min"), (300, "5 min"), (900, "15 min")];

const CPU: usize = 0;
const MEMORY: usize = 1;
const RECEIVE: usize = 2;
const TRANSMIT: usize = 3;
const READ: usize = 4;
const WRITE: usize = 5;
const PIDS: usize = 6;

/// The tab.
#[component]
pub(super) fn Summary(row: Row) -> impl IntoView {
    let api = Api::expect();
    let sight = Sight {
        span_s: RwSignal::new(300),
        cursor_us: RwSignal::new(None),
        tick: RwSignal::new(0),
        points: StoredValue::new(VecDeque::new()),
    };
    let keep = move |point: &MetricsPoint| {
        sight.points.update_value(|points| chart::push(points, charted(point), KEPT_S * SECOND_US));
    };
    let history = {
        let path = format!("/containers/{}/metrics/history?minutes=15", row.id);
        Remote::new(move || api.get::<Vec<MetricsPoint>>(path.clone()))
    };
    // The past first, then what came since; points come in order and each once.
    Effect::new(move |_| {
        if let Some(history) = history.value().get() {
            let since: Vec<Point> = sight.points.with_value(|points| points.iter().cloned().collect());
            sight.points.set_value(VecDeque::new());
            history.iter().for_each(keep);
            sight.points.update_value(|points| {
                for point in since {
                    chart::push(points, point, KEPT_S * SECOND_US);
                }
            });
            sight.tick.update(|tick| *tick = tick.wrapping_add(1));
        }
    });
    let point = row.point.clone();
    Effect::new(move |_| {
        point.with(|point| point.iter().for_each(keep));
        sight.tick.update(|tick| *tick = tick.wrapping_add(1));
    });
    let limits = {
        let view = row.view.clone();
        Memo::new(move |_| view.with(|view| view.spec.limits.clone()))
    };
    let spans = SPANS
        .iter()
        .map(|(span, name)| {
            let pressed = move || (sight.span_s.get() == *span).to_string();
            view! {
                <button type="button" aria-pressed=pressed on:click=move |_| sight.span_s.set(*span)>{*name}</button>
            }
        })
        .collect_view();
    let cost = {
        let point = row.point.clone();
        move || {
            point.with(|point| {
                point.as_ref().map_or_else(
                    || "no cost while it does not run".to_owned(),
                    |point| {
                        let mut costs = Costs::default();
                        costs.add(&point.currency, &point.cost_per_hour);
                        costs.per_hour()
                    },
                )
            })
        }
    };
    view! {
        <div class="bar">
            <div class="segments" role="group" aria-label="Time shown">{spans}</div>
            <span class="muted" data-testid="cost-now">{cost}</span>
        </div>
        <div class="charts">
            <Chart title="CPU" kind=ChartKind::Cpu series=&[(CPU, "")] sight
                limit=Signal::derive(move || limits.get().cpu_millis.map(u64::from))/>
            <Chart title="Memory" kind=ChartKind::Bytes series=&[(MEMORY, "")] sight
                limit=Signal::derive(move || limits.get().memory_bytes)/>
            <Chart title="Network" kind=ChartKind::Rate series=&[(RECEIVE, "in"), (TRANSMIT, "out")] sight/>
            <Chart title="Block I/O" kind=ChartKind::Rate series=&[(READ, "read"), (WRITE, "written")] sight/>
            <Chart title="Processes" kind=ChartKind::Count series=&[(PIDS, "")] sight
                limit=Signal::derive(move || limits.get().pids.map(u64::from))/>
        </div>
        <div class="columns">
            <section class="card"><h2>"Facts"</h2><Facts row=row.clone()/></section>
            <section class="card"><h2>"What happened"</h2><Happened row/></section>
        </div>
    }
    .into_any()
}

fn charted(point: &MetricsPoint) -> Point {
    Point {
        at: point.at,
        values: vec![
            point.cpu_millis,
            point.memory_working_set_bytes,
            point.network_receive_bytes_per_s,
            point.network_transmit_bytes_per_s,
            point.io_read_bytes_per_s,
            point.io_write_bytes_per_s,
            point.pids,
        ],
    }
}

#[component]
fn Facts(row: Row) -> impl IntoView {
    let view = row.view;
    let facts = Memo::new(move |_| view.with(facts));
    let id = row.id.to_string();
    view! {
        <dl class="facts">
            <dt>"Id"</dt><dd><code>{row.id.short().to_owned()}</code>" "<Copy text=Signal::stored(id) label="Copy the id"/></dd>
            {move || facts.get().into_iter().map(|(name, value)| view! { <dt>{name}</dt><dd>{value}</dd> }).collect_view()}
        </dl>
    }
    .into_any()
}

fn facts(view: &ContainerView) -> Vec<(&'static str, String)> {
    let zone = browser::zone();
    let spec = &view.spec;
    let mut facts = vec![
        ("Image", spec.image.clone()),
        ("Command", command::join(&view.command_line)),
        ("Created", zone.date_time(view.created_at)),
    ];
    let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    add("Digest", view.image_digest.clone());
    add("Started", view.started_at.map(|at| zone.date_time(at)));
    add("Ended", view.finished_at.map(|at| zone.date_time(at)));
    add("Process id on the host", view.pid.map(|pid| pid.to_string()));
    add("Address", view.address.clone());
    add("Ports", joined(view.ports.iter().map(ToString::to_string)));
    add(
        "Mounts",
        joined(spec.volumes.iter().map(|mount| {
            let source = match &mount.source {
                VolumeSource::Volume(name) | VolumeSource::Host(name) => name.clone(),
                VolumeSource::Tmpfs(bytes) => format!("tmpfs of {}", quantity::bytes(*bytes)),
            };
            format!("{source} at {}{}", mount.target, if mount.read_only { " (read-only)" } else { "" })
        })),
    );
    add(
        "Network",
        match spec.network {
            NetworkMode::Tenant => None,
            NetworkMode::None => Some("none".to_owned()),
            NetworkMode::Host => Some("the host's".to_owned()),
        },
    );
    add(
        "CPU limit",
        spec.limits.cpu_millis.map(|millis| format!("{} cores", quantity::cpus(u64::from(millis)))),
    );
    add("Memory limit", spec.limits.memory_bytes.map(quantity::bytes));
    add(
        "Starts again",
        match spec.restart {
            RestartPolicy::No => None,
            RestartPolicy::Always => Some("always".to_owned()),
            RestartPolicy::UnlessStopped => Some("unless stopped".to_owned()),
            RestartPolicy::OnFailure { max_retries: 0 } => Some("after a failure".to_owned()),
            RestartPolicy::OnFailure { max_retries } => {
                Some(format!("after a failure, at most {max_retries} times"))
            }
        },
    );
    add("Labels", joined(spec.labels.iter().map(|(key, value)| format!("{key}={value}"))));
    facts
}

fn joined(parts: impl Iterator<Item = String>) -> Option<String> {
    let parts: Vec<_> = parts.collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[component]
fn Happened(row: Row) -> impl IntoView {
    let api = Api::expect();
    let recent = Events::expect().recent();
    let before = Remote::new(move || latest(api));
    let id = row.id.to_string();
    crate::components::show(before, move |before| {
        let id = id.clone();
        let events = Signal::derive(move || {
            let of_this: Vec<_> = before.get().into_iter().filter(|event| event.subject == id).collect();
            recent.with(|recent| merged(recent.iter().filter(|event| event.subject == id), &of_this, 20))
        });
        view! { <EventList events/> }
    })
}
