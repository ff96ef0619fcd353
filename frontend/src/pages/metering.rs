//! Metering health: whether everything is measured, stored, signed, in the hours, and on its way out.

use std::time::Duration;

use leptos::prelude::*;
use wharf_shared::ledger::LedgerView;
use wharf_shared::metering::{FaultView, MeteringView};
use wharf_shared::outbox::{OutboxRetry, OutboxView};
use wharf_shared::permission::Permission;
use wharf_shared::time::{HOUR_US, Timestamp};

use crate::api::Api;
use crate::browser;
use crate::components::{Copy, Empty, PageHead, show};
use crate::state::{Auth, Notices, Remote};
use crate::view::{metering, moment, quantity, route};

/// All of it is asked for again so often while the page is looked at.
const EVERY: Duration = Duration::from_secs(10);

/// The page.
#[component]
pub(crate) fn MeteringHealth() -> impl IntoView {
    let api = Api::expect();
    let ledger = Remote::new(move || api.get::<LedgerView>("/ledger".to_owned()));
    let health = Remote::new(move || api.get::<MeteringView>("/metering".to_owned()));
    let outbox = Remote::new(move || api.get::<OutboxView>("/outbox".to_owned()));
    let reload = move || {
        ledger.reload();
        health.reload();
        outbox.reload();
    };
    if let Ok(handle) = set_interval_with_handle(reload, EVERY) {
        on_cleanup(move || handle.clear());
    }
    let sentence = Signal::derive(move || {
        let (ledger, health, outbox) = (ledger.value().get(), health.value().get(), outbox.value().get());
        match (ledger, health, outbox) {
            (Some(ledger), Some(health), Some(outbox)) => {
                metering::sentence(&metering::worries(&ledger, &health, &outbox, browser::now()))
            }
            _ => String::new(),
        }
    });
    let worries = move || {
        let (ledger, health, outbox) = (ledger.value().get()?, health.value().get()?, outbox.value().get()?);
        let worries = metering::worries(&ledger, &health, &outbox, browser::now());
        (!worries.is_empty()).then(|| {
            let said = worries.into_iter().map(|worry| view! { <li>{worry}</li> }).collect_view();
            view! { <div class="box tone-warn" role="status" data-testid="worries"><ul>{said}</ul></div> }
        })
    };
    view! {
        <PageHead title="Metering health" sentence>
            <a class="button" href="/api/v1/ledger/export" download="ledger.jsonl" rel="external">"Export the ledger"</a>
        </PageHead>
        {worries}
        {show(health, move |here| move || here.with(figures))}
        <div class="columns">
            <section class="card">
                <h2>"Ledger"</h2>
                {show(ledger, |here| move || here.with(ledger_facts))}
            </section>
            <section class="card">
                <h2>"Outbox"</h2>
                {show(outbox, move |here| view! { <Outbox here remote=outbox/> })}
            </section>
        </div>
        <section class="card">
            <h2>"Gaps, resets and settings of the clock"</h2>
            {show(health, |here| move || here.with(faults))}
        </section>
    }
    .into_any()
}

fn figures(health: &MeteringView) -> AnyView {
    let figure = |name: &'static str, value: String| {
        view! { <div class="figure"><dt>{name}</dt><dd>{value}</dd></div> }
    };
    let behind = metering::behind(health);
    view! {
        <dl class="figures" data-testid="metering">
            {figure("Containers metered", health.containers.to_string())}
            {figure("Records not in the hours", behind.to_string())}
            {figure("Hours are up to date as of", health.rolled_up_at.map_or_else(|| "never".to_owned(), ago))}
            {figure("Gaps", health.gaps.to_string())}
            {figure("Counter resets", health.resets.to_string())}
        </dl>
    }
    .into_any()
}

fn ago(at: Timestamp) -> String {
    moment::ago(at, browser::now(), browser::zone())
}

fn ledger_facts(view: &LedgerView) -> AnyView {
    let head = format!("{}:{}", view.head_seq, view.head_hash);
    let verify = format!("wharf ledger verify ledger.jsonl --key {} --head {head}", view.public_key);
    let signed = view.last_checkpoint.as_ref().map_or_else(
        || "never".to_owned(),
        |checkpoint| format!("{}, as record {}", ago(checkpoint.at), checkpoint.seq),
    );
    let reserve = if view.reserve_is_whole { "kept" } else { "used up: nothing starts" };
    view! {
        <dl class="facts" data-testid="ledger">
            <dt>"Host"</dt><dd><code class="break">{view.host.to_string()}</code></dd>
            <dt>"Records"</dt><dd>{view.head_seq}</dd>
            <dt>"Head"</dt>
            <dd><code class="break">{view.head_hash.clone()}</code>" "<Copy text=head label="Copy the head"/></dd>
            <dt>"Signed"</dt><dd>{signed}</dd>
            <dt>"Key"</dt><dd><code class="break">{view.public_key.clone()}</code></dd>
            <dt>"Room for last readings"</dt><dd>{reserve}</dd>
        </dl>
        <p class="help">
            "The agent does not vouch for itself: export the ledger, and verify the copy elsewhere with what you keep of "
            "head and key."
        </p>
        <p><code class="break">{verify.clone()}</code>" "<Copy text=verify label="Copy the command"/></p>
    }
    .into_any()
}

#[component]
fn Outbox(here: Signal<OutboxView>, remote: Remote<OutboxView>) -> impl IntoView {
    let (api, notices) = (Api::expect(), Notices::expect());
    let may_retry = Auth::expect().may(Permission::PriceManage);
    let retry = move |_| {
        leptos::task::spawn_local(async move {
            match api.send::<(), OutboxRetry>("POST", "/outbox/retry".to_owned(), None).await {
                Ok(again) => {
                    notices.confirm(format!("{} sent again", quantity::plural(count(again.queued), "event")));
                }
                Err(failure) => notices.fail("Send the refused events again", &failure),
            }
            remote.reload();
        });
    };
    (move || {
        let view = here.get();
        let Some(url) = view.url.clone() else {
            return view! {
                <Empty text="Events of usage are sent nowhere." command="wharfd --set outbox.url=… serve"/>
            }
            .into_any();
        };
        let refused = view.last_refused.iter().take(REFUSED).map(|event| {
            view! { <li>{event.hour.to_string()}" "{event.meter.title()}": "{event.problem.clone()}</li> }
        });
        let oldest = view.oldest_queued_hour.map(|hour| format!(", the oldest of {hour}")).unwrap_or_default();
        view! {
            <dl class="facts" data-testid="outbox">
                <dt>"To"</dt><dd class="break">{url}</dd>
                <dt>"Waiting"</dt><dd>{view.queued}{oldest}</dd>
                <dt>"In hours that go on"</dt><dd>{view.gathering}</dd>
                <dt>"Sent since the start"</dt><dd>{view.sent}{view.last_sent_at.map(|at| format!(", last {}", ago(at)))}</dd>
                <dt>"Refused"</dt><dd>{view.refused}</dd>
                <dt>"Never sent for lack of room"</dt><dd>{view.dropped}</dd>
            </dl>
            {view.problem.clone().map(|problem| view! {
                <p class="problem">{quantity::plural(count(u64::from(view.failures)), "failed attempt")}": "{problem}</p>
            })}
            <ul>{refused.collect_view()}</ul>
            {(may_retry && view.refused > 0).then(|| view! {
                <button type="button" on:click=retry>"Send the refused again"</button>
            })}
        }
        .into_any()
    })
    .into_any()
}

/// Refused events that are shown.
const REFUSED: usize = 5;

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn faults(view: &MeteringView) -> AnyView {
    if view.last_faults.is_empty() {
        return view! { <Empty text="None in the whole journal: every reading follows the one before it."/> }
            .into_any();
    }
    let all = view.gaps + view.resets + view.clock_steps;
    let shown = view.last_faults.iter().map(fault).collect_view();
    view! {
        <p class="muted">{format!("The last {} of {all}.", view.last_faults.len())}</p>
        <div class="table-frame" tabindex="0" role="region" aria-label="Gaps, resets and settings of the clock">
        <table data-testid="faults">
            <thead><tr>
                <th scope="col" class="number">"Record"</th><th scope="col">"What"</th><th scope="col">"Whose"</th>
                <th scope="col">"From"</th><th scope="col">"To"</th><th scope="col">"Lasted"</th>
                <th scope="col">"What it means"</th>
            </tr></thead>
            <tbody>{shown}</tbody>
        </table>
        </div>
    }
    .into_any()
}

fn fault(fault: &FaultView) -> AnyView {
    let (word, meaning) = metering::fault(&fault.kind);
    let whose = match (&fault.container, &fault.tenant) {
        (Some(id), _) => view! { <a href=route::container(id)>{id.short().to_owned()}</a> }.into_any(),
        (None, Some(tenant)) => {
            view! { "the whole of "<a href=route::tenant(tenant)>{tenant.to_string()}</a> }.into_any()
        }
        (None, None) => "the host".into_any(),
    };
    let zone = browser::zone();
    let length_us = fault.to.0.saturating_sub(fault.from.0);
    view! {
        <tr>
            <td class="number">{fault.seq}</td>
            <th scope="row">{word}</th>
            <td class="break">{whose}</td>
            <td><time>{zone.date_time(fault.from)}</time></td>
            <td><time>{zone.date_time(fault.to)}</time></td>
            <td>{if length_us < HOUR_US * 24 * 365 { moment::duration(length_us) } else { "—".to_owned() }}</td>
            <td>{meaning}</td>
        </tr>
    }
    .into_any()
}
