//! Usage of a period: lines, totals, a table by time, and the export of exactly that.

use leptos::prelude::*;
use leptos_router::hooks::use_query_map;
use wharf_shared::permission::Permission;
use wharf_shared::tenant::TenantView;
use wharf_shared::time::{DAY_US, Timestamp};
use wharf_shared::usage::{Quality, UsageRow};

use crate::api::Api;
use crate::browser;
use crate::components::{Choice, Choose, Empty, PageHead, show};
use crate::state::{Auth, Remote};
use crate::view::pivot::{self, Across, By, Show as Cells};
use crate::view::usage::{self, Line};
use crate::view::{moment, money, route};

/// Periods to choose from; their ends are full hours of UTC, as bills have them.
const PERIODS: [(&str, &str); 5] = [
    ("month", "This month"),
    ("last-month", "Last month"),
    ("day", "Last 24 hours"),
    ("week", "Last 7 days"),
    ("custom", "From … to …"),
];

/// How many containers a warning names.
const NAMED: usize = 5;

/// Begin and end of a period, half open.
fn period(key: &str, now: Timestamp, from: &str, to: &str) -> Result<(Timestamp, Timestamp), String> {
    let next_hour = Timestamp(now.hour_start().0 + wharf_shared::time::HOUR_US);
    match key {
        "last-month" => Ok((moment::month_start(now, 1), moment::month_start(now, 0))),
        "day" => Ok((Timestamp(next_hour.0 - DAY_US), next_hour)),
        "week" => Ok((Timestamp(next_hour.0 - 7 * DAY_US), next_hour)),
        "custom" => {
            let read = |text: &str| text.trim().parse::<Timestamp>().map_err(|error| error.to_string());
            let (from, to) = (read(from)?.hour_start(), read(to)?.hour_start());
            if from < to { Ok((from, to)) } else { Err("the period ends before it begins".to_owned()) }
        }
        _ => Ok((moment::month_start(now, 0), next_hour)),
    }
}

/// The page.
#[component]
pub(crate) fn Usage() -> impl IntoView {
    let (api, auth) = (Api::expect(), Auth::expect());
    let with_tenants = auth.may(Permission::AllTenants);
    let query = use_query_map();
    let tenant = RwSignal::new(query.with_untracked(|query| query.get("tenant").unwrap_or_default()));
    let chosen = RwSignal::new("month".to_owned());
    let now = browser::now();
    let from = RwSignal::new(moment::date(moment::month_start(now, 0)));
    let to = RwSignal::new(moment::date(Timestamp(now.0 + DAY_US)));
    let span = Memo::new(move |_| period(&chosen.get(), now, &from.get(), &to.get()));
    let selection = Memo::new(move |_| {
        let (from, to) = span.get().ok()?;
        Some((from.to_string(), to.to_string(), tenant.get()))
    });
    let asked = move |more: &[(&str, &str)]| {
        let (from, to, tenant) = selection.get()?;
        let mut pairs = vec![("from", from.as_str()), ("to", to.as_str()), ("tenant", tenant.as_str())];
        pairs.extend(more);
        Some(route::query(&pairs))
    };
    let tenants = Remote::new(move || api.list::<TenantView>("/tenants".to_owned()));
    let rows = Remote::new(move || {
        let query = asked(&[]);
        async move {
            match query {
                Some(query) => api.list::<UsageRow>(format!("/usage{query}")).await,
                None => Ok(Vec::new()),
            }
        }
    });
    let tenant_choices = Signal::derive(move || {
        let mut choices: Vec<Choice> = vec![(String::new(), "All tenants".to_owned())];
        let tenants = tenants.value().get().unwrap_or_default();
        choices.extend(tenants.into_iter().map(|tenant| (tenant.id.to_string(), tenant.name)));
        choices
    });
    let periods: Vec<Choice> =
        PERIODS.iter().map(|(key, name)| ((*key).to_owned(), (*name).to_owned())).collect();
    let export = move |format: &'static str| {
        // The period may go on until now.
        move || {
            asked(&[("format", format), ("provisional", "true")])
                .map(|query| format!("/api/v1/usage/export{query}"))
        }
    };
    let sentence = Signal::derive(move || {
        let Ok((from, to)) = span.get() else { return String::new() };
        let shown = rows.value().with(|rows| {
            let rows = rows.as_deref().unwrap_or_default();
            let totals: Vec<_> =
                usage::totals(rows).iter().map(|total| money::total(&total.sum, &total.currency)).collect();
            if totals.is_empty() { "nothing measured".to_owned() } else { totals.join(" + ") }
        });
        format!("{shown} from {from} to {to}, by UTC hours")
    });
    let shape = Shape::new();
    let custom_problem = Signal::derive(move || span.get().err());
    view! {
        <PageHead title="Usage" sentence>
            <a class="button primary" href=export("csv") download="usage.csv" rel="external">"Export CSV"</a>
            <a class="button" href=export("parquet") download="usage.parquet" rel="external">"Export Parquet"</a>
            <a class="button" href=export("jsonl") download="usage.jsonl" rel="external">"Export JSON lines"</a>
        </PageHead>
        <div class="bar fields">
            <Choose label="Period" value=chosen choices=Signal::stored(periods) problem=custom_problem/>
            <Show when=move || chosen.with(|chosen| chosen == "custom")>
                <label class="inline">"From "<input type="text" bind:value=from/></label>
                <label class="inline">"to "<input type="text" bind:value=to/></label>
            </Show>
            {with_tenants.then(|| view! { <Choose label="Tenant" value=tenant choices=tenant_choices/> })}
            {shape.fields()}
            <button type="button" on:click=move |_| rows.reload()>"Refresh"</button>
        </div>
        {show(rows, move |here| usage_content(here, shape))}
    }
    .into_any()
}

/// How the table is laid out.
#[derive(Clone, Copy)]
struct Shape {
    rows: RwSignal<String>,
    columns: RwSignal<String>,
    cells: RwSignal<String>,
}

impl Shape {
    fn new() -> Self {
        let begin = |key: &str| RwSignal::new(key.to_owned());
        Self { rows: begin("line"), columns: begin("day"), cells: begin("amount") }
    }

    /// One line for each container and meter, without columns of time.
    fn is_lines(self) -> bool {
        self.rows.with(|rows| rows == "line")
    }

    fn axes(self) -> (By, Across, Cells) {
        let by = self.rows.with(|rows| match rows.as_str() {
            "tenant" => By::Tenant,
            "meter" => By::Meter,
            _ => By::Container,
        });
        let across = if self.columns.with(|columns| columns == "hour") { Across::Hour } else { Across::Day };
        let cells =
            if self.cells.with(|cells| cells == "quantity") { Cells::Quantity } else { Cells::Amount };
        (by, across, cells)
    }

    fn fields(self) -> AnyView {
        let choices = |all: &[(&str, &str)]| -> Signal<Vec<Choice>> {
            Signal::stored(all.iter().map(|(key, name)| ((*key).to_owned(), (*name).to_owned())).collect())
        };
        let rows = choices(&[
            ("line", "Container and meter, in all"),
            ("tenant", "Tenant, over time"),
            ("container", "Container, over time"),
            ("meter", "Meter, over time"),
        ]);
        let (columns, cells) = (
            choices(&[("day", "Days"), ("hour", "Hours")]),
            choices(&[("amount", "Amounts"), ("quantity", "Quantities")]),
        );
        view! {
            <Choose label="By" value=self.rows choices=rows/>
            <Show when=move || !self.is_lines()>
                <Choose label="Columns" value=self.columns choices=columns/>
                <Choose label="Show" value=self.cells choices=cells/>
            </Show>
        }
        .into_any()
    }
}

fn usage_content(rows: Signal<Vec<UsageRow>>, shape: Shape) -> AnyView {
    let totals = move || {
        rows.with(|rows| usage::totals(rows))
            .into_iter()
            .flat_map(|usage::Total { currency, sum, tenants }| {
                let all = (tenants.len() > 1).then(|| ("All tenants".to_owned(), sum));
                all.into_iter().chain(tenants).map(move |(name, sum)| (name, money::total(&sum, &currency)))
            })
            .map(|(name, amount)| view! { <div class="figure"><dt>{name}</dt><dd>{amount}</dd></div> })
            .collect_view()
    };
    let lines = Memo::new(move |_| rows.with(|rows| usage::lines(rows)));
    let partial =
        move || {
            let partial = lines.with(|lines| usage::partial(lines));
            (!partial.is_empty()).then(|| view! {
            <div class="box tone-warn" role="status">
                "In the lines marked partial readings are missing, and what is missing is not billed: "
                {named(&partial)}"."
            </div>
        })
        };
    view! {
        <Show when=move || rows.with(|rows| !rows.is_empty())
            fallback=|| view! { <Empty text="Nothing was measured in this period."/> }>
            <dl class="figures" data-testid="usage-totals">{totals}</dl>
            {partial}
            <Show when=move || shape.is_lines() fallback=move || pivot_table(rows, shape)>
            <div class="table-frame" tabindex="0" role="region" aria-label="Usage">
            <table data-testid="usage">
                <thead><tr>
                    <th scope="col">"Tenant"</th><th scope="col">"Container"</th><th scope="col">"Meter"</th>
                    <th scope="col" class="number">"Quantity"</th><th scope="col">"Quality"</th>
                    <th scope="col" class="number">"Amount"</th>
                </tr></thead>
                <tbody>{move || lines.with(|lines| lines.iter().map(line_row).collect_view())}</tbody>
            </table>
            </div>
            </Show>
        </Show>
    }
    .into_any()
}

/// Usage over time.
fn pivot_table(rows: Signal<Vec<UsageRow>>, shape: Shape) -> AnyView {
    (move || {
        let (by, across, cells) = shape.axes();
        let table = match rows.with(|rows| pivot::pivot(rows, by, across, cells)) {
            Ok(table) => table,
            Err(detail) => return view! { <div class="box tone-info" role="status">{detail}</div> }.into_any(),
        };
        let first = match by {
            By::Tenant => "Tenant",
            By::Container => "Container",
            By::Meter => "Meter",
        };
        let has_gaps = table.totals.iter().any(|line| line.total.is_partial);
        let heads = table.columns.iter().map(|name| view! { <th scope="col" class="number">{name.clone()}</th> });
        view! {
            <div class="table-frame" tabindex="0" role="region" aria-label="Usage over time">
            <table class="compact pivot" data-testid="pivot">
                <thead><tr>
                    <th scope="col">{first}", UTC"</th>{heads.collect_view()}<th scope="col" class="number">"Total"</th>
                </tr></thead>
                <tbody>{table.lines.iter().map(pivot_row).collect_view()}</tbody>
                <tfoot>{table.totals.iter().map(pivot_row).collect_view()}</tfoot>
            </table>
            </div>
            {has_gaps.then(|| view! { <p class="muted">"▲ readings are missing, and what is missing is not billed"</p> })}
        }
        .into_any()
    })
    .into_any()
}

fn pivot_row(line: &pivot::Line) -> AnyView {
    let cell = |cell: &pivot::Cell| {
        let gap = cell.is_partial.then(|| {
            view! { <span class="tone-warn gap" title="readings are missing">"▲"<span class="hidden">" partial"</span></span>" " }
        });
        view! { {gap}{cell.text.clone()} }
    };
    let cells = line.cells.iter().map(|found| {
        view! { <td class="number">{found.as_ref().map_or_else(|| "".into_any(), |found| cell(found).into_any())}</td> }
    });
    let more = (!line.more.is_empty()).then(|| view! { " "<span class="muted">{line.more.clone()}</span> });
    view! {
        <tr>
            <th scope="row">{line.name.clone()}{more}</th>
            {cells.collect_view()}
            <td class="number"><strong>{cell(&line.total)}</strong></td>
        </tr>
    }
    .into_any()
}

/// The first few, and how many more there are.
fn named(all: &[String]) -> String {
    let first = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn line_row(line: &Line) -> AnyView {
    let (name, short) = line.whose();
    let short = short.map(|short| view! { " "<code class="muted">{short.to_owned()}</code> });
    let quality = match line.quality {
        Quality::Measured => view! { <span class="chip tone-ok">"measured"</span> }.into_any(),
        Quality::Partial => view! { <span class="chip tone-warn">"partial"</span> }.into_any(),
        Quality::NotMeasurable => {
            view! { <span class="chip tone-muted">"not measurable here"</span> }.into_any()
        }
    };
    view! {
        <tr>
            <td>{line.tenant.clone()}</td>
            <td>{name.to_owned()}{short}</td>
            <td>{line.meter.title()}</td>
            <td class="number">{usage::quantity(line)}</td>
            <td>{quality}</td>
            <td class="number">{money::price(&line.amount, &line.currency)}</td>
        </tr>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_whole_hours_and_half_open() {
        let now: Timestamp = "2026-11-23T14:03:07Z".parse().expect("a time");
        let shown = |key| period(key, now, "", "").map(|(from, to)| format!("{from} {to}"));
        assert_eq!(shown("month").as_deref(), Ok("2026-11-01T00:00:00Z 2026-11-23T15:00:00Z"));
        assert_eq!(shown("last-month").as_deref(), Ok("2026-10-01T00:00:00Z 2026-11-01T00:00:00Z"));
        assert_eq!(shown("day").as_deref(), Ok("2026-11-22T15:00:00Z 2026-11-23T15:00:00Z"));
        assert!(period("custom", now, "2026-11-02", "2026-11-01").is_err());
        assert!(period("custom", now, "yesterday", "2026-11-01").is_err());
    }
}
