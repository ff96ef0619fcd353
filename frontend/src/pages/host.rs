//! The host: what it is and what it can do.

use leptos::prelude::*;
use wharf_shared::host::{CheckStatus, CheckView, HostView};

use super::overview::host_facts;
use crate::api::Api;
use crate::components::{PageHead, show};
use crate::state::Remote;
use crate::view::quantity;
use crate::view::state::Tone;

/// The page.
#[component]
pub(crate) fn Hosts() -> impl IntoView {
    let api = Api::expect();
    let host = Remote::new(move || api.get::<HostView>("/host".to_owned())).follow("container");
    let checks = Remote::new(move || api.get::<Vec<CheckView>>("/host/checks".to_owned()));
    let sentence = Signal::derive(move || {
        checks.value().with(|checks| {
            checks.as_ref().map_or_else(String::new, |checks| {
                let bad = checks.iter().filter(|check| check.status != CheckStatus::Ok).count();
                if bad == 0 {
                    "Everything is there.".to_owned()
                } else {
                    format!("{} to know about", quantity::plural(bad, "thing"))
                }
            })
        })
    });
    let not_measurable = move |host: Signal<HostView>| {
        move || {
            let meters = host.with(|host| host.not_measurable.join(", "));
            (!meters.is_empty()).then(|| view! {
                <div class="box tone-warn">"Not measurable here: "{meters}". Their lines say so and cost nothing."</div>
            })
        }
    };
    view! {
        <PageHead title="Host" sentence/>
        {show(host, move |host| view! {
            {not_measurable(host)}
            <section class="card">{host_facts(host)}</section>
        })}
        <section class="card">
            <h2>"What this host can do"</h2>
            {show(checks, |checks| move || check_table(&checks.get()))}
        </section>
    }
    .into_any()
}

fn check_table(checks: &[CheckView]) -> AnyView {
    let rows = checks
        .iter()
        .map(|check| {
            let (tone, shape, word) = match check.status {
                CheckStatus::Ok => (Tone::Ok, "●", "there"),
                CheckStatus::Degraded => (Tone::Warn, "▲", "less"),
                CheckStatus::Missing => (Tone::Bad, "✖", "missing"),
            };
            view! {
                <tr>
                    <td><span class=format!("chip {}", tone.class())><span aria-hidden="true">{shape}</span>" "{word}</span></td>
                    <th scope="row">{check.name.clone()}</th>
                    <td>
                        {check.detail.clone()}
                        {check.remedy.clone().map(|remedy| view! { <div class="muted" data-testid="remedy">{remedy}</div> })}
                    </td>
                </tr>
            }
        })
        .collect_view();
    view! {
        <div class="table-frame" tabindex="0" role="region" aria-label="Checks">
        <table data-testid="checks">
            <thead><tr><th scope="col">"Status"</th><th scope="col">"What"</th><th scope="col">"Found"</th></tr></thead>
            <tbody>{rows}</tbody>
        </table>
        </div>
    }
    .into_any()
}
