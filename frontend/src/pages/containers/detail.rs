//! A container's page: what it is, verbs, and tabs that each have an address.

use leptos::prelude::*;
use leptos_router::hooks::{use_navigate, use_params_map};
use wharf_shared::container::{ContainerState, ContainerView};

use super::actions;
use super::summary::Summary;
use crate::api::{Api, Connection, Failure, Live};
use crate::browser;
use crate::components::{Copy, Empty, FailureBox, LogView, PageHead, StateChip, Terminal};
use crate::state::{Containers, Row};
use crate::view::moment;
use crate::view::route;
use crate::view::state::Action;

const TABS: [(&str, &str); 4] =
    [("", "Overview"), ("logs", "Logs"), ("terminal", "Terminal"), ("inspect", "Inspect")];

const ACTIONS: [Action; 7] = [
    Action::Start,
    Action::Stop,
    Action::Restart,
    Action::Pause,
    Action::Resume,
    Action::Kill,
    Action::Remove,
];

/// The page.
#[component]
pub(crate) fn ContainerPage() -> impl IntoView {
    let containers = Containers::expect();
    let params = use_params_map();
    let given = Memo::new(move |_| params.with(|params| params.get("container").unwrap_or_default()));
    let tab = Memo::new(move |_| params.with(|params| params.get("tab").unwrap_or_default()));
    // The page stands as long as this is the same container, whatever happens to the list.
    let found = Memo::new(move |_| containers.find(&given.get()).map(|row| row.id));
    let last = StoredValue::new(None::<Row>);
    move || {
        let row = found.get().and_then(|id| containers.find(id.as_str()));
        match row {
            Some(row) => {
                last.set_value(Some(row.clone()));
                page(row, tab).into_any()
            }
            None if !containers.is_loaded().get() => match containers.failure().get() {
                Some(failure) => view! { <FailureBox failure/> }.into_any(),
                None => view! { <PageHead title="Container" sentence="Loading…"/> }.into_any(),
            },
            None => match last.get_value() {
                Some(row) => gone(&row),
                None => view! { <Missing given=given.get()/> }.into_any(),
            },
        }
    }
}

/// Not in the list: it may be newer than the list, or a name of another tenant's; the agent knows.
#[component]
fn Missing(given: String) -> impl IntoView {
    let (api, containers) = (Api::expect(), Containers::expect());
    let failure = RwSignal::new(None::<Failure>);
    leptos::task::spawn_local(async move {
        match api.get::<ContainerView>(format!("/containers/{}", route::encode(&given))).await {
            Ok(view) => containers.put(view),
            Err(error) => {
                failure.try_set(Some(error));
            }
        }
    });
    view! {
        <PageHead title="Container"/>
        {move || failure.get().map(|failure| view! { <FailureBox failure/> })}
        <p><a href="/containers">"All containers"</a></p>
    }
    .into_any()
}

/// What is left of one that was removed while it was looked at.
fn gone(row: &Row) -> AnyView {
    let name = row.view.with_untracked(|view| view.name.clone());
    view! {
        <PageHead title=name sentence="This container was removed."/>
        <Empty text="What it used stays on the usage page.">
            <a class="button" href="/containers">"All containers"</a>" "
            <a class="button" href="/usage">"Usage"</a>
        </Empty>
    }
    .into_any()
}

fn page(row: Row, tab: Memo<String>) -> impl IntoView {
    let view = row.view.clone();
    let title = {
        let view = view.clone();
        Signal::derive(move || view.with(|view| view.name.clone()))
    };
    let sentence = {
        let view = view.clone();
        // How long it is up grows with each second's metrics.
        let tick = Containers::expect().tick();
        Signal::derive(move || {
            tick.track();
            view.with(sentence)
        })
    };
    let problem = {
        let view = view.clone();
        move || {
            view.with(|view| view.error.clone())
                .map(|error| view! { <div class="box tone-bad" role="alert">{error}</div> })
        }
    };
    let base = route::container(&row.id);
    let tabs = TABS
        .iter()
        .map(|(key, name)| {
            let href = if key.is_empty() { base.clone() } else { format!("{base}/{key}") };
            let current = move || (tab.get() == *key).then_some("page");
            view! { <a href=href aria-current=current>{*name}</a> }
        })
        .collect_view();
    let content = {
        let row = row.clone();
        move || match tab.get().as_str() {
            "" => view! { <Summary row=row.clone()/> }.into_any(),
            "logs" => view! { <LogView container=row.id.clone()/> }.into_any(),
            "terminal" => view! { <Shell row=row.clone()/> }.into_any(),
            "inspect" => view! { <Inspect row=row.clone()/> }.into_any(),
            _ => view! { <Empty text="There is no such tab."/> }.into_any(),
        }
    };
    view! {
        <PageHead title sentence>
            <StateChip container=view/>
            <Verbs row/>
        </PageHead>
        {problem}
        <nav class="tabs" aria-label="Container">{tabs}</nav>
        {content}
    }
}

fn sentence(view: &ContainerView) -> String {
    let mut parts = vec![view.spec.image.clone(), format!("tenant {}", view.tenant_name)];
    let now = browser::now();
    match (view.state, view.started_at, view.finished_at) {
        (state, Some(started), _) if state.is_live() => {
            parts.push(format!("up {}", moment::duration(now.0 - started.0)));
        }
        (_, _, Some(finished)) => {
            parts.push(format!("ended {}", moment::ago(finished, now, browser::zone())));
        }
        _ => {}
    }
    if view.restart_count > 0 {
        parts.push(format!("restarted {}×", view.restart_count));
    }
    parts.join(" · ")
}

#[component]
fn Verbs(row: Row) -> impl IntoView {
    let state = {
        let view = row.view.clone();
        Memo::new(move |_| view.with(|view| view.state))
    };
    let navigate = use_navigate();
    let connection = Live::expect().connection();
    let is_offline = move || connection.get() != Connection::Live;
    let button = move |action: Action| {
        let (row, navigate) = (row.clone(), navigate.clone());
        let click = move |_| {
            let navigate = navigate.clone();
            actions::act(action, &row, move || {
                if action == Action::Remove {
                    navigate("/containers", leptos_router::NavigateOptions::default());
                }
            });
        };
        let class = if matches!(action, Action::Remove | Action::Kill) { "danger-quiet" } else { "" };
        view! {
            <button type="button" class=class prop:disabled=is_offline on:click=click
                title=move || is_offline().then_some("There is no connection to the agent.")>
                {action.verb()}
            </button>
        }
    };
    move || {
        let state = state.get();
        ACTIONS.into_iter().filter(|action| action.is_allowed_in(state)).map(button.clone()).collect_view()
    }
}

#[component]
fn Shell(row: Row) -> impl IntoView {
    let is_running = {
        let view = row.view.clone();
        Memo::new(move |_| view.with(|view| view.state == ContainerState::Running))
    };
    move || {
        if is_running.get() {
            view! { <Terminal container=row.id.clone()/> }.into_any()
        } else {
            view! { <Empty text="A terminal needs a running container. Start it first."/> }.into_any()
        }
    }
}

#[component]
fn Inspect(row: Row) -> impl IntoView {
    let json =
        Signal::derive(move || row.view.with(|view| serde_json::to_string_pretty(view).unwrap_or_default()));
    view! {
        <div class="bar">
            <span class="muted">"As the API shows it. Environment variables may hold secrets."</span>
            <span class="grow"></span>
            <Copy text=json label="Copy the JSON"/>
        </div>
        <pre class="card" tabindex="0" aria-label="Container as JSON" data-testid="inspect">{json}</pre>
    }
    .into_any()
}
