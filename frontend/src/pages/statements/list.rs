//! The statements of a month by tenant, or all that were issued.

use leptos::prelude::*;
use leptos_router::NavigateOptions;
use leptos_router::hooks::{use_navigate, use_query_map};
use wharf_shared::permission::Permission;
use wharf_shared::statement::{StatementKind, StatementView};
use wharf_shared::tenant::TenantView;

use super::chip;
use crate::api::Api;
use crate::browser;
use crate::components::{Choice, Choose, Empty, PageHead, show};
use crate::state::{Auth, Remote};
use crate::view::{moment, money, quantity, route, statement};

/// Months to choose from.
const MONTHS: i64 = 24;
/// The choice of everything that has a number, whatever its month.
const ISSUED: &str = "issued";

/// The page.
#[component]
pub(crate) fn Statements() -> impl IntoView {
    let (api, auth) = (Api::expect(), Auth::expect());
    let with_tenants = auth.may(Permission::AllTenants);
    let query = use_query_map();
    let asked = |key: &str| query.with_untracked(|query| query.get(key).unwrap_or_default());
    let months = statement::months(browser::now(), MONTHS);
    let this_month = months.first().map(|(key, _)| key.clone()).unwrap_or_default();
    let period = RwSignal::new(Some(asked("period")).filter(|asked| !asked.is_empty()).unwrap_or(this_month));
    let tenant = RwSignal::new(asked("tenant"));

    // What is chosen is part of the address, so that it can be sent to somebody and is there again on the way back.
    let navigate = use_navigate();
    Effect::new(move |before: Option<(String, String)>| {
        let chosen = (period.get(), tenant.get());
        if before.is_some_and(|before| before != chosen) {
            let query = route::query(&[("period", &chosen.0), ("tenant", &chosen.1)]);
            let options = NavigateOptions { replace: true, scroll: false, ..NavigateOptions::default() };
            navigate(&format!("/statements{query}"), options);
        }
        chosen
    });

    let statements = Remote::new(move || {
        let period = Some(period.get()).filter(|period| period != ISSUED).unwrap_or_default();
        let query = route::query(&[("period", &period), ("tenant", &tenant.get())]);
        api.list::<StatementView>(format!("/statements{query}"))
    })
    .follow("statement");
    let tenants = Remote::new(move || api.list::<TenantView>("/tenants".to_owned()));
    let tenant_choices = Signal::derive(move || {
        let mut choices: Vec<Choice> = vec![(String::new(), "All tenants".to_owned())];
        let tenants = tenants.value().get().unwrap_or_default();
        choices.extend(tenants.into_iter().map(|tenant| (tenant.id.to_string(), tenant.name)));
        choices
    });
    let mut periods: Vec<Choice> = vec![(ISSUED.to_owned(), "Everything issued".to_owned())];
    periods.extend(months);
    // A month that a link names is one of them, however old.
    let linked = period.get_untracked();
    if !periods.iter().any(|(key, _)| *key == linked) {
        periods.push((linked.clone(), linked));
    }
    let sentence = Signal::derive(move || {
        statements.value().with(|statements| {
            let Some(statements) = statements else { return String::new() };
            let owed = statement::owed(statements);
            let count = quantity::plural(statements.len(), "statement");
            if owed.is_empty() { count } else { format!("{count}, {} in all", owed.join(" + ")) }
        })
    });
    let content = move |here: Signal<Vec<StatementView>>| {
        view! {
            <Show when=move || here.with(|here| !here.is_empty()) fallback=move || view! {
                <Empty text="No statement: nothing was used, or nothing has been issued."
                    command="wharf statement list"/>
            }>
                <div class="table-frame" tabindex="0" role="region" aria-label="Statements">
                <table data-testid="statements">
                    <thead><tr>
                        <th scope="col">"Statement"</th><th scope="col">"Tenant"</th><th scope="col">"Month"</th>
                        <th scope="col">"Status"</th><th scope="col">"Due"</th>
                        <th scope="col" class="number">"Net"</th><th scope="col" class="number">"Tax"</th>
                        <th scope="col" class="number">"Total"</th>
                    </tr></thead>
                    <tbody>{move || here.with(|here| here.iter().map(row).collect_view())}</tbody>
                </table>
                </div>
            </Show>
        }
    };
    view! {
        <PageHead title="Statements" sentence/>
        <div class="bar fields">
            <Choose label="Month" value=period choices=Signal::stored(periods)/>
            {with_tenants.then(|| view! { <Choose label="Tenant" value=tenant choices=tenant_choices/> })}
            <button type="button" on:click=move |_| statements.reload()>"Refresh"</button>
        </div>
        {show(statements, content)}
    }
    .into_any()
}

fn row(view: &StatementView) -> AnyView {
    let name = match (view.issued_at, view.kind) {
        (None, _) => format!("{} {}", view.tenant_name, statement::month(view.from)),
        (Some(_), StatementKind::CreditNote) => format!("{} (credit note)", view.id),
        (Some(_), StatementKind::Statement) => view.id.clone(),
    };
    let of = |amount| money::exact(amount, &view.currency);
    view! {
        <tr>
            <th scope="row"><a href=route::statement(&view.id)>{name}</a></th>
            <td><a href=route::tenant(&view.tenant)>{view.tenant_name.clone()}</a></td>
            <td>{statement::month_name(view.from)}</td>
            <td>{chip(view.status)}</td>
            <td>{view.due_at.map(moment::date)}</td>
            <td class="number">{of(&view.net)}</td>
            <td class="number">{of(&view.tax)}</td>
            <td class="number"><strong>{of(&view.total)}</strong></td>
        </tr>
    }
    .into_any()
}
