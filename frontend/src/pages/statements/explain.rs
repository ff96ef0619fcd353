//! How a line came to be, over its statement: the formula with its numbers, the hours, the readings, and the
//! kernel's file and value of each.

use leptos::prelude::*;
use wharf_shared::statement::{ExplainedRow, Explanation, ReadingEvidence};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::Quality;

use crate::api::{Api, Failure};
use crate::components::{Copy, FailureBox, Modal, Skeleton};
use crate::view::moment::Zone;
use crate::view::state::Tone;
use crate::view::statement::{Proof, proof};
use crate::view::{money, quantity, route};

/// Rows that are fetched at a time.
const ROWS: &str = "24";

/// The drawer.
#[component]
pub(super) fn ExplainDrawer(statement: Signal<String>, line: u32, close: Callback<()>) -> impl IntoView {
    let statement = statement.get_untracked();
    let api = Api::expect();
    let explained = RwSignal::new(None::<Explanation>);
    let failure = RwSignal::new(None::<Failure>);
    let is_working = RwSignal::new(false);
    let path = format!("/statements/{}/lines/{line}/explain", route::encode(&statement));
    let fetch = Callback::new(move |()| {
        let cursor = explained.with_untracked(|here| here.as_ref().and_then(|here| here.next_cursor.clone()));
        let query = route::query(&[("limit", ROWS), ("cursor", &cursor.unwrap_or_default())]);
        let url = format!("{path}{query}");
        is_working.set(true);
        leptos::task::spawn_local(async move {
            match api.get::<Explanation>(url).await {
                Ok(next) => {
                    failure.try_set(None);
                    explained.try_update(|here| match here {
                        Some(here) => {
                            here.rows.extend(next.rows);
                            here.next_cursor = next.next_cursor;
                        }
                        None => *here = Some(next),
                    });
                }
                Err(error) => {
                    failure.try_set(Some(error));
                }
            }
            is_working.try_set(false);
        });
    });
    fetch.run(());
    let command = format!("wharf explain {statement} {line}");
    let is_here = Memo::new(move |_| explained.with(Option::is_some));
    // Only what was fetched last is built anew; what the reader opened stays open.
    let rows = move || {
        explained
            .with(|here| {
                here.as_ref().map(|here| here.rows.clone().into_iter().enumerate().collect::<Vec<_>>())
            })
            .unwrap_or_default()
    };
    // Read when a row is made, and rows are made when the explanation is here.
    let unit = move || explained.with_untracked(|here| here.as_ref().and_then(|here| here.line.unit.clone()));
    let more = move || explained.with(|here| here.as_ref().is_some_and(|here| here.next_cursor.is_some()));
    view! {
        <Modal title=format!("How line {line} came to be") shape="drawer" close>
            <div class="drawer-bar">
                <code class="break">{command.clone()}</code><Copy text=command label="Copy the command"/>
                <button type="button" on:click=move |_| close.run(())>"Close"</button>
            </div>
            {move || failure.get().map(|failure| view! { <FailureBox failure retry=fetch/> })}
            <Show when=move || !is_here.get() && failure.with(Option::is_none)><Skeleton/></Show>
            {move || is_here.get().then(|| explained.with_untracked(|here| here.as_ref().map(head)))}
            <Show when=move || is_here.get()>
                <ol class="plain rows" data-testid="explained">
                    <For each=rows key=|(at, _)| *at children=move |(at, row)| explained_row(&row, &unit().unwrap_or_default(), at == 0)/>
                </ol>
                <Show when=more>
                    <button type="button" on:click=move |_| fetch.run(()) aria-busy=move || is_working.get().to_string()
                        prop:disabled=move || is_working.get()>"More hours"</button>
                </Show>
            </Show>
        </Modal>
    }
    .into_any()
}

/// The line, its formula, and whether it is still what its hours give.
fn head(explanation: &Explanation) -> AnyView {
    let changed = (!explanation.is_unchanged).then(|| {
        view! {
            <div class="box tone-warn" role="status">
                "The statement stays as it was issued, but its hours give something else now: readings came late or \
                were corrected. The difference is not in this line."
            </div>
        }
    });
    let rows = quantity::plural(usize::try_from(explanation.line.rows).unwrap_or(usize::MAX), "row");
    view! {
        <p><strong>{explanation.line.description.clone()}</strong></p>
        <p class="formula" data-testid="formula">{explanation.formula.clone()}</p>
        {changed}
        <p class="muted">
            {rows}", by hour. Open one for the readings that it was counted from."
        </p>
    }
    .into_any()
}

/// One row: an hour of one container at this price.
fn explained_row(row: &ExplainedRow, priced: &str, is_open: bool) -> AnyView {
    let whose =
        if row.container.is_none() { "outside of containers".to_owned() } else { row.container_name.clone() };
    let short = row.container.as_ref().map(|id| id.short().to_owned()).filter(|short| *short != whose);
    let partial = (row.quality == Quality::Partial)
        .then(|| view! { <span class=format!("chip {}", Tone::Warn.class())>"gap, not billed"</span> });
    let unit = row.metered_unit.clone();
    let metered = money::number(&row.metered_quantity);
    let (tone, proven) = match proof(row) {
        Proof::Whole(sum) => {
            (Tone::Ok, format!("The readings add up to {sum} {unit}: exactly what is rated here."))
        }
        Proof::Differs(sum) => (
            Tone::Info,
            format!(
                "The readings shown add up to {sum} {unit}, this row has {metered} of it: the border of a price, a \
                 correction, or readings beyond those shown."
            ),
        ),
        Proof::Nothing => (
            Tone::Muted,
            "No reading of it is in this host's journal; it may be in another host's.".to_owned(),
        ),
    };
    // Where it was read is mostly the same all through an hour, and then said once.
    let (origin, source) =
        (common(row.readings.iter().map(|of| of.origin.clone())), common(row.readings.iter().map(source)));
    let (with_origin, with_source) = (origin.is_none(), source.is_none());
    let with_where = with_origin || with_source;
    let readings = row.readings.iter().map(|of| reading(of, with_origin, with_source)).collect_view();
    let has_readings = !row.readings.is_empty();
    let said =
        [origin, source].into_iter().flatten().filter(|said| !said.is_empty()).collect::<Vec<_>>().join("; ");
    let shown = row.readings.len();
    let cut = (u64::try_from(shown).is_ok_and(|shown| shown < row.readings_total)).then(
        || view! { <p class="muted">{format!("The first {shown} of {} readings.", row.readings_total)}</p> },
    );
    let corrections = row.corrections.iter().map(|of| {
        format!(
            "Record {} corrects {} by {} {unit}: {} ({})",
            of.seq,
            of.refers_to,
            money::number(&of.delta),
            of.reason,
            of.author
        )
    });
    let late = row.late.iter().map(|of| {
        let (delta, [first, last]) = (money::number(&of.delta), of.seqs);
        format!(
            "{delta} {unit} are of {}, which {} had billed when they came (records {first} to {last} of {})",
            of.hour, of.statement, of.host
        )
    });
    let others = corrections.chain(late).map(|text| view! { <p class="where">{text}</p> }).collect_view();
    let said = (has_readings && !said.is_empty()).then(|| view! { <p class="where">"Read from: "{said}</p> });
    view! {
        <li>
            <details open=is_open>
                <summary>
                    <time>{hour(row)}</time>
                    <span class="clip">{whose}{short.map(|short| view! { " "<code class="muted">{short}</code> })}</span>
                    {partial}
                    <span class="number">{money::number(&row.quantity)}" "<span class="muted">{priced.to_owned()}</span></span>
                    <span class="number"><strong>{money::number(&row.amount)}</strong></span>
                </summary>
                <p>{row.meter.title()}": "{metered}" "{unit.clone()}" in this row."</p>
                <p class=format!("proof {}", tone.class())>{proven}</p>
                {said}
                {others}
                {cut}
                {has_readings.then(|| view! {
                    <div class="table-frame" tabindex="0" role="region" aria-label="Readings">
                    <table class="compact">
                        <thead><tr>
                            <th scope="col" class="number">"Record"</th><th scope="col">"Kind"</th>
                            <th scope="col">"From – to, UTC"</th>
                            <th scope="col" class="number">"The kernel said"</th>
                            <th scope="col" class="number">"Adds"</th>
                            {with_where.then(|| view! { <th scope="col">"Where"</th> })}
                        </tr></thead>
                        <tbody>{readings}</tbody>
                    </table>
                    </div>
                })}
            </details>
        </li>
    }
    .into_any()
}

/// `2026-11-29 14:00`, in UTC as bills have it.
fn hour(row: &ExplainedRow) -> String {
    row.hour.to_string().replace('T', " ").replace(":00Z", "")
}

/// What all of them say, if they say the same.
fn common(mut texts: impl Iterator<Item = String>) -> Option<String> {
    let first = texts.next()?;
    texts.all(|text| text == first).then_some(first)
}

/// Control group, its id and the like, as the journal has them.
fn source(reading: &ReadingEvidence) -> String {
    let parts: Vec<_> = reading.source.iter().map(|(key, value)| format!("{key} {value}")).collect();
    parts.join(", ")
}

fn reading(reading: &ReadingEvidence, with_origin: bool, with_source: bool) -> AnyView {
    let clock = |at: Timestamp| Zone(0).clock_ms(at);
    let raw = reading.raw.map_or_else(|| "—".to_owned(), |raw| raw.to_string());
    let origin = with_origin.then(|| reading.origin.clone());
    let source = with_source.then(|| view! { <div class="muted">{source(reading)}</div> });
    view! {
        <tr>
            <td class="number">{reading.seq}</td>
            <td>{reading.kind.clone()}</td>
            <td class="nowrap">{clock(reading.t0)}" – "{clock(reading.t1)}</td>
            <td class="number">{raw}</td>
            <td class="number">{money::number(&reading.delta)}</td>
            {(with_origin || with_source).then(|| view! { <td class="where">{origin}{source}</td> })}
        </tr>
    }
    .into_any()
}
