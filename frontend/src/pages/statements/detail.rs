//! One statement or credit note: what is charged line by line, what it was made of, and what can be done with it.

use std::rc::Rc;

use leptos::prelude::*;
use leptos_router::NavigateOptions;
use leptos_router::hooks::{use_navigate, use_params_map, use_query_map};
use wharf_shared::permission::Permission;
use wharf_shared::statement::{
    IssueSpec, LineCategory, StatementKind, StatementLine, StatementStatus, StatementView, VoidSpec,
};

use super::chip;
use super::explain::ExplainDrawer;
use crate::api::{Api, Failure};
use crate::components::{Copy, Field, FormFailure, Modal, PageHead, Working, show};
use crate::state::{Auth, Notices, Question, Questions, Remote};
use crate::view::create::of_field;
use crate::view::{moment, money, route, statement};

/// What is open over the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Issue,
    Void,
}

/// The page.
#[component]
pub(crate) fn StatementPage() -> impl IntoView {
    let (api, auth) = (Api::expect(), Auth::expect());
    let params = use_params_map();
    let id = Memo::new(move |_| {
        params.with(|params| {
            let part = |name| params.get(name).unwrap_or_default();
            route::statement_id(&part("statement"), &part("month"))
        })
    });
    let remote =
        Remote::new(move || api.get::<StatementView>(format!("/statements/{}", route::encode(&id.get()))))
            .follow("statement");
    let of = move |read: fn(&StatementView) -> String, else_said: &'static str| {
        Signal::derive(move || {
            remote.value().with(|view| view.as_ref().map_or_else(|| else_said.to_owned(), read))
        })
    };
    let may_act = auth.may(Permission::PriceManage);
    let form = RwSignal::new(None::<Form>);

    // Which line is explained is part of the address.
    let query = use_query_map();
    let line = Memo::new(move |_| query.with(|query| query.get("line")?.parse::<u32>().ok()));
    let navigate = use_navigate();
    let close = Callback::new(move |()| {
        let options = NavigateOptions { scroll: false, ..NavigateOptions::default() };
        navigate(&route::statement(&id.get_untracked()), options);
    });
    let papers = move || {
        let base = format!("/api/v1/statements/{}?format=", route::encode(&id.get()));
        view! {
            <a class="button" href=format!("{base}html") target="_blank" rel="external noopener">"Print view"</a>
            <a class="button" href=format!("{base}csv") download="statement.csv" rel="external">"CSV"</a>
            <a class="button" href=format!("{base}json") download="statement.json" rel="external">"JSON"</a>
        }
    };
    view! {
        <PageHead title=of(statement::title, "Statement") sentence=of(statement::sentence, "")>
            {papers}
            {may_act.then(|| view! { <Verbs remote form/> })}
        </PageHead>
        {show(remote, move |here| content(here, id.into()))}
        {move || form.get().map(|open| {
            let close = Callback::new(move |()| form.set(None));
            match open {
                Form::Issue => view! { <Issue remote close/> }.into_any(),
                Form::Void => view! { <Void remote close/> }.into_any(),
            }
        })}
        {move || line.get().map(|line| view! { <ExplainDrawer statement=id.into() line close/> })}
    }
    .into_any()
}

/// What can be done with it as it stands.
#[component]
fn Verbs(remote: Remote<StatementView>, form: RwSignal<Option<Form>>) -> impl IntoView {
    let (api, notices, questions) = (Api::expect(), Notices::expect(), Questions::expect());
    let pay = move |_| {
        let Some(view) = remote.peek() else { return };
        let total = money::exact(&view.total, &view.currency);
        questions.ask(Question {
            title: format!("Was {} paid?", view.id),
            consequence: format!(
                "It is noted that {} has paid {total}. This cannot be taken back.",
                view.tenant_name
            ),
            verb: "Mark as paid".to_owned(),
            typed: None,
            act: Rc::new(move || {
                let id = view.id.clone();
                leptos::task::spawn_local(async move {
                    match api.act("POST", format!("/statements/{id}/pay")).await {
                        Ok(()) => notices.confirm(format!("{id} is paid")),
                        Err(failure) => notices.fail(&format!("Mark {id} as paid"), &failure),
                    }
                    remote.reload();
                });
            }),
        });
    };
    (move || {
        use StatementStatus as S;
        let (kind, status) = remote.value().with(|view| view.as_ref().map(|view| (view.kind, view.status)))?;
        let is_statement = kind == StatementKind::Statement;
        let (can_pay, can_void) = (
            is_statement && matches!(status, S::Issued | S::Overdue),
            is_statement && matches!(status, S::Issued | S::Overdue | S::Paid),
        );
        Some(view! {
            {(status == S::Draft).then(|| view! {
                <button type="button" class="primary" on:click=move |_| form.set(Some(Form::Issue))>"Issue…"</button>
            })}
            {can_pay.then(|| view! { <button type="button" class="primary" on:click=pay>"Mark as paid…"</button> })}
            {can_void.then(|| view! {
                <button type="button" class="danger-quiet" on:click=move |_| form.set(Some(Form::Void))>"Void…"</button>
            })}
        })
    })
    .into_any()
}

fn content(here: Signal<StatementView>, id: Signal<String>) -> AnyView {
    (move || {
        let view = here.get();
        let (currency, adjustment) = (view.currency.clone(), view.adjustment.clone());
        let of = |amount| money::exact(amount, &currency);
        let lines = view.lines.iter().map(|line| line_row(line, &currency, &id.get())).collect_view();
        let sum = |name: &'static str, amount: String| {
            view! { <tr><th scope="row" colspan="6">{name}</th><td class="number">{amount}</td><td></td></tr> }
        };
        let rounded = (adjustment.as_str().contains(|c: char| matches!(c, '1'..='9'))).then(|| {
            view! {
                <p class="muted">
                    "Lines are rounded one by one; that added "{of(&adjustment)}" to the exact sum of all rows."
                </p>
            }
        });
        view! {
            {said(&view)}
            <div class="table-frame" tabindex="0" role="region" aria-label="Lines">
            <table data-testid="lines" class="lines">
                <thead><tr>
                    <th scope="col" class="number">"Line"</th><th scope="col">"What"</th>
                    <th scope="col" class="number">"Quantity"</th><th scope="col" class="number">"Unit price"</th>
                    <th scope="col">"Tier"</th><th scope="col">"Quality"</th>
                    <th scope="col" class="number">"Amount"</th>
                    <th scope="col"><span class="hidden">"Where it comes from"</span></th>
                </tr></thead>
                <tbody>{lines}</tbody>
                <tfoot>
                    {sum("Net", of(&view.net))}
                    {sum("Tax", of(&view.tax))}
                    {sum("Total", of(&view.total))}
                </tfoot>
            </table>
            </div>
            {rounded}
            {facts(&view)}
        }
    })
    .into_any()
}

/// What the reader has to know before the lines.
fn said(view: &StatementView) -> AnyView {
    let gaps = view.lines.iter().any(|line| line.partial_rows > 0);
    let other = view.refers_to.as_ref().map(|other| {
        let link = view! { <a href=route::statement(other)>{other.clone()}</a> };
        match view.kind {
            StatementKind::CreditNote => view! { <p>"It takes back the statement "{link}"."</p> }.into_any(),
            StatementKind::Statement => {
                view! { <p>"It was taken back by the credit note "{link}"."</p> }.into_any()
            }
        }
    });
    let reason = view.void_reason.clone().map(|reason| view! { <p>"Why it was taken back: "{reason}</p> });
    let early = view
        .override_reason
        .clone()
        .map(|reason| view! { <p>"It was issued although hours were not final: "{reason}</p> });
    let has_words = other.is_some() || reason.is_some() || early.is_some();
    view! {
        {has_words.then(|| view! { <div class="box tone-info" role="status">{other}{reason}{early}</div> })}
        {gaps.then(|| view! {
            <div class="box tone-warn" role="status">
                "Readings are missing in some hours. What is missing is not billed; the lines say where."
            </div>
        })}
    }
    .into_any()
}

fn line_row(line: &StatementLine, currency: &str, id: &str) -> AnyView {
    let quantity = line.quantity.as_ref().map(|quantity| {
        let unit = line.unit.clone().unwrap_or_default();
        view! { {money::number(quantity)}<div class="muted">{unit}</div> }
    });
    let list = statement::list_price(line).map(|list| {
        view! { <div class="muted">"by the book "{money::exact(list, currency)}</div> }
    });
    let price = line.unit_price.as_ref().map(|price| money::exact(price, currency));
    let quality = statement::quality(line).map(|(words, tone)| {
        view! { <span class=format!("chip {}", tone.class())>{words}</span> }
    });
    let explain = (line.category == LineCategory::Usage).then(|| {
        let href = format!("{}?line={}", route::statement(id), line.line);
        let label = format!("Explain line {}, {}", line.line, line.description);
        view! { <a class="button quiet" href=href aria-label=label>"Explain"</a> }
    });
    view! {
        <tr>
            <td class="number muted">{line.line}</td>
            <th scope="row">{line.description.clone()}</th>
            <td class="number">{quantity}</td>
            <td class="number">{price}{list}</td>
            <td>{statement::tier(line)}</td>
            <td>{quality}</td>
            <td class="number">
                <strong title=format!("exactly {} {currency}", line.exact_amount)>
                    {money::exact(&line.amount, currency)}
                </strong>
            </td>
            <td class="verbs">{explain}</td>
        </tr>
    }
    .into_any()
}

/// Parties, period, books, and the hashes that prove that it never changed.
fn facts(view: &StatementView) -> AnyView {
    let listed = |ids: Vec<String>| if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
    let fact =
        |name: &'static str, what: Option<String>| what.map(|what| view! { <dt>{name}</dt><dd>{what}</dd> });
    let hash = |name: &'static str, hash: Option<String>| {
        hash.map(|hash| {
            view! { <dt>{name}</dt><dd><code class="break">{hash.clone()}</code>" "<Copy text=hash label=format!("Copy {name}")/></dd> }
        })
    };
    view! {
        <section class="card facts-below">
            <h2>"What it was made of"</h2>
            <dl class="facts">
                <dt>"Status"</dt><dd>{chip(view.status)}</dd>
                <dt>"From"</dt><dd>{view.provider.clone()}</dd>
                <dt>"To"</dt><dd><a href=route::tenant(&view.tenant)>{view.tenant_name.clone()}</a></dd>
                <dt>"Period"</dt>
                <dd>{moment::date(view.from)}" to before "{moment::date(view.to)}", by UTC hours"</dd>
                {fact("Issued", view.issued_at.map(|at| {
                    format!("{at} by {}", view.issued_by.clone().unwrap_or_default())
                }))}
                {fact("Due", view.due_at.map(moment::date))}
                {fact("Paid", view.paid_at.map(|at| at.to_string()))}
                {fact("Price books", Some(listed(view.price_books.iter().map(ToString::to_string).collect())))}
                {fact("Contracts", Some(listed(view.contracts.iter().map(ToString::to_string).collect())))}
                {hash("Evidence, SHA-256", Some(view.evidence_hash.clone()))}
                {hash("Content, SHA-256", view.content_hash.clone())}
            </dl>
        </section>
    }
    .into_any()
}

#[component]
fn Issue(remote: Remote<StatementView>, close: Callback<()>) -> impl IntoView {
    let (api, notices, navigate) = (Api::expect(), Notices::expect(), use_navigate());
    let Some(view) = remote.peek() else { return ().into_any() };
    let reason = RwSignal::new(String::new());
    let failure = RwSignal::new(None::<Failure>);
    let is_working = RwSignal::new(false);
    let id = view.id.clone();
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        is_working.set(true);
        let typed = reason.get_untracked().trim().to_owned();
        let spec = IssueSpec { override_reason: (!typed.is_empty()).then_some(typed) };
        let (path, navigate) = (format!("/statements/{}/issue", route::encode(&id)), navigate.clone());
        leptos::task::spawn_local(async move {
            let answer = api.send::<_, StatementView>("POST", path, Some(&spec)).await;
            is_working.try_set(false);
            match answer {
                Ok(issued) => {
                    notices.confirm(format!("{} issued", issued.id));
                    close.run(());
                    navigate(&route::statement(&issued.id), NavigateOptions::default());
                }
                Err(error) => {
                    failure.try_set(Some(error));
                }
            }
        });
    };
    let problem = problem_of(failure, "override_reason");
    let (total, name) = (money::exact(&view.total, &view.currency), view.tenant_name);
    let month = statement::month_name(view.from);
    view! {
        <Modal title=format!("Issue the statement of {name}?") close>
            <form on:submit=submit>
                <FormFailure failure beside=&["override_reason"]/>
                <p>
                    "It gets the next number and never changes again: "<strong>{total}</strong>" for "{month}
                    ". Only a credit note takes it back."
                </p>
                <Field label="Issue it early, because" value=reason problem
                    help="Only needed while readings may still come late; it is printed on the statement."/>
                <div class="dialog-actions">
                    <button type="button" on:click=move |_| close.run(())>"Cancel"</button>
                    <Working working=is_working verb="Issue it"/>
                </div>
            </form>
        </Modal>
    }
    .into_any()
}

#[component]
fn Void(remote: Remote<StatementView>, close: Callback<()>) -> impl IntoView {
    let (api, notices, navigate) = (Api::expect(), Notices::expect(), use_navigate());
    let Some(view) = remote.peek() else { return ().into_any() };
    let reason = RwSignal::new(String::new());
    let failure = RwSignal::new(None::<Failure>);
    let is_working = RwSignal::new(false);
    let id = view.id.clone();
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        is_working.set(true);
        let spec = VoidSpec { reason: reason.get_untracked().trim().to_owned() };
        let (path, navigate) = (format!("/statements/{}/void", route::encode(&id)), navigate.clone());
        leptos::task::spawn_local(async move {
            let answer = api.send::<_, StatementView>("POST", path, Some(&spec)).await;
            is_working.try_set(false);
            match answer {
                Ok(note) => {
                    notices.confirm(format!("Taken back by the credit note {}", note.id));
                    close.run(());
                    navigate(&route::statement(&note.id), NavigateOptions::default());
                }
                Err(error) => {
                    failure.try_set(Some(error));
                }
            }
        });
    };
    let problem = problem_of(failure, "reason");
    let (total, name) = (money::exact(&view.total, &view.currency), view.tenant_name);
    view! {
        <Modal title=format!("Void {}?", view.id) close>
            <form on:submit=submit>
                <FormFailure failure beside=&["reason"]/>
                <p>
                    {name}" no longer owes "<strong>{total}</strong>": a credit note with a number of its own takes \
                    the statement back. The month can be issued again then. This cannot be undone."
                </p>
                <Field label="Why" value=reason problem required=true help="Printed on the credit note."/>
                <div class="dialog-actions">
                    <button type="button" on:click=move |_| close.run(())>"Cancel"</button>
                    <Working working=is_working verb="Void it"/>
                </div>
            </form>
        </Modal>
    }
    .into_any()
}

/// What is wrong with a field, if the agent said so.
fn problem_of(failure: RwSignal<Option<Failure>>, field: &'static str) -> Signal<Option<String>> {
    Signal::derive(move || {
        failure.with(|failure| failure.as_ref().and_then(|failure| of_field(&failure.fields(), field)))
    })
}
