//! A new version of the price book, by a short form or as JSON, and what it would change before it is made.

use leptos::prelude::*;
use wharf_shared::billing::{PriceBookSpec, PriceBookView, PriceSpec, Rounding};
use wharf_shared::decimal::Decimal;
use wharf_shared::statement::{SimulateSpec, Simulation};
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::Meter;

use crate::api::{Api, Failure};
use crate::browser;
use crate::components::{Check, Choose, Empty, Field, FormFailure, Lines, Modal, Working};
use crate::state::{Notices, Remote};
use crate::view::create::of_field;
use crate::view::{money, price, route, statement};

/// Months that can be rated again.
const MONTHS: i64 = 24;

/// What is typed, in both forms.
#[derive(Clone, Copy)]
struct Draft {
    is_json: RwSignal<bool>,
    json: RwSignal<String>,
    currency: RwSignal<String>,
    effective_from: RwSignal<String>,
    prices: StoredValue<Vec<(Meter, RwSignal<String>)>>,
    unattributed: RwSignal<bool>,
}

impl Draft {
    /// Begins with the book that is to be replaced.
    fn new(latest: Option<&PriceBookSpec>) -> Self {
        let now = browser::now().hour_start();
        let price_of = |meter: Meter| {
            let found = latest.and_then(|book| book.prices.iter().find(|price| price.meter == meter));
            found.and_then(|price| price.unit_price.as_ref()).map_or_else(String::new, ToString::to_string)
        };
        let prices = Meter::ALL.map(|meter| (meter, RwSignal::new(price_of(meter))));
        let next = Timestamp(now.0 + HOUR_US);
        let book = latest.map_or_else(example, |book| PriceBookSpec { effective_from: next, ..book.clone() });
        Self {
            is_json: RwSignal::new(latest.is_some_and(|book| !price::is_simple(book))),
            json: RwSignal::new(serde_json::to_string_pretty(&book).unwrap_or_default()),
            currency: RwSignal::new(latest.map_or_else(|| "EUR".to_owned(), |book| book.currency.clone())),
            effective_from: RwSignal::new(now.to_string()),
            prices: StoredValue::new(prices.into()),
            unattributed: RwSignal::new(latest.is_some_and(|book| book.price_unattributed)),
        }
    }

    /// The book that was typed, or what is wrong with it.
    fn read(self) -> Result<PriceBookSpec, String> {
        if self.is_json.get_untracked() {
            return serde_json::from_str(&self.json.get_untracked())
                .map_err(|error| format!("The JSON is no price book: {error}"));
        }
        let mut specs = Vec::new();
        for (meter, typed) in self.prices.get_value() {
            let typed = typed.get_untracked();
            if !typed.trim().is_empty() {
                let unit_price: Decimal =
                    typed.trim().parse().map_err(|error| format!("{}: {error}", meter.title()))?;
                specs.push(PriceSpec::flat(meter, unit_price));
            }
        }
        let effective_from = self.effective_from.get_untracked();
        Ok(PriceBookSpec {
            currency: self.currency.get_untracked().trim().to_owned(),
            effective_from: effective_from
                .trim()
                .parse()
                .map_err(|error| format!("In force from: {error}"))?,
            prices: specs,
            price_unattributed: self.unattributed.get_untracked(),
            rounding: Rounding::default(),
        })
    }

    /// The short form has what the JSON says, or the JSON what the short form says.
    fn switch(self) -> Result<(), String> {
        let book = self.read()?;
        if !self.is_json.get_untracked() {
            self.json.set(serde_json::to_string_pretty(&book).unwrap_or_default());
            self.is_json.set(true);
            return Ok(());
        }
        if !price::is_simple(&book) {
            return Err(
                "This book has more than one price for each meter; only the JSON can say so.".to_owned()
            );
        }
        for (meter, typed) in self.prices.get_value() {
            let found = book.prices.iter().find(|price| price.meter == meter);
            let unit_price = found.and_then(|price| price.unit_price.as_ref());
            typed.set(unit_price.map_or_else(String::new, ToString::to_string));
        }
        self.currency.set(book.currency);
        self.effective_from.set(book.effective_from.to_string());
        self.unattributed.set(book.price_unattributed);
        self.is_json.set(false);
        Ok(())
    }
}

/// What a first book may look like.
fn example() -> PriceBookSpec {
    PriceBookSpec {
        currency: "EUR".to_owned(),
        effective_from: browser::now().hour_start(),
        prices: vec![PriceSpec::flat(Meter::CpuUsed, Decimal::zero())],
        price_unattributed: false,
        rounding: Rounding::default(),
    }
}

/// The dialog.
#[component]
pub(super) fn CreateBook(close: Callback<()>, books: Remote<Vec<PriceBookView>>) -> impl IntoView {
    let (api, notices) = (Api::expect(), Notices::expect());
    let latest = books.peek().and_then(|books| books.into_iter().max_by_key(|book| book.book.effective_from));
    let draft = Draft::new(latest.as_ref().map(|view| &view.book));
    let typed_problem = RwSignal::new(None::<String>);
    let failure = RwSignal::new(None::<Failure>);
    let is_working = RwSignal::new(false);
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let spec = match draft.read() {
            Ok(spec) => spec,
            Err(detail) => return typed_problem.set(Some(detail)),
        };
        typed_problem.set(None);
        is_working.set(true);
        leptos::task::spawn_local(async move {
            let answer =
                api.send::<_, PriceBookView>("POST", "/billing/price-books".to_owned(), Some(&spec)).await;
            is_working.try_set(false);
            match answer {
                Ok(_) => {
                    notices.confirm("A new version of the price book");
                    books.reload();
                    close.run(());
                }
                Err(error) => {
                    failure.try_set(Some(error));
                }
            }
        });
    };
    let switch = move |_| typed_problem.set(draft.switch().err());
    let problem = move |field: &'static str| {
        Signal::derive(move || {
            failure.with(|failure| failure.as_ref().and_then(|failure| of_field(&failure.fields(), field)))
        })
    };
    let short = move || {
        let fields = draft.prices.get_value();
        let fields = fields.into_iter().map(|(meter, value)| {
            view! { <Field label=format!("{} per {}", meter.title(), meter.pricing_unit()) value/> }
        });
        view! {
            <div class="row">
                <Field label="Currency" value=draft.currency problem=problem("currency") required=true/>
                <Field label="In force from" value=draft.effective_from problem=problem("effective_from")
                    required=true help="A full hour of UTC, the present one or later."/>
            </div>
            <div class="row wrap">{fields.collect_view()}</div>
            <Check label="Charge what is used outside of containers too" value=draft.unattributed/>
        }
    };
    let long = move || {
        view! {
            <div class="json"><Lines label="The book as JSON" value=draft.json
                help="As wharf price set --file takes it: policies, units, tiers, allowances, minimums, caps, tax classes."/></div>
        }
    };
    view! {
        <Modal title="New version of the price book" shape="wide" close>
            <form on:submit=submit>
                <FormFailure failure beside=&["currency", "effective_from"]/>
                <p class="problem" role="alert">{typed_problem}</p>
                <div class="segments" role="group" aria-label="How it is written">
                    <button type="button" aria-pressed=move || (!draft.is_json.get()).to_string()
                        prop:disabled=move || !draft.is_json.get() on:click=switch>"Short form"</button>
                    <button type="button" aria-pressed=move || draft.is_json.get().to_string()
                        prop:disabled=move || draft.is_json.get() on:click=switch>"JSON, with all there is"</button>
                </div>
                {move || if draft.is_json.get() { long().into_any() } else { short().into_any() }}
                <Simulate draft typed_problem/>
                <div class="dialog-actions">
                    <button type="button" on:click=move |_| close.run(())>"Cancel"</button>
                    <Working working=is_working verb="Make the version"/>
                </div>
            </form>
        </Modal>
    }
    .into_any()
}

/// Rates a month by the book that is typed, and says who would pay more or less. Nothing is kept.
#[component]
fn Simulate(draft: Draft, typed_problem: RwSignal<Option<String>>) -> impl IntoView {
    let api = Api::expect();
    let months = statement::months(browser::now(), MONTHS);
    // The last one that is over, if there is one, is the whole of a month.
    let period = RwSignal::new(months.get(1).map(|(key, _)| key.clone()).unwrap_or_default());
    let simulation = RwSignal::new(None::<Simulation>);
    let failure = RwSignal::new(None::<Failure>);
    let is_working = RwSignal::new(false);
    let simulate = move |_| {
        let book = match draft.read() {
            Ok(book) => book,
            Err(detail) => return typed_problem.set(Some(detail)),
        };
        typed_problem.set(None);
        is_working.set(true);
        let spec = SimulateSpec { book, period: period.get_untracked() };
        leptos::task::spawn_local(async move {
            let path = "/billing/price-books/simulate".to_owned();
            let answer = api.send::<_, Simulation>("POST", path, Some(&spec)).await;
            is_working.try_set(false);
            failure.try_set(answer.as_ref().err().cloned());
            simulation.try_set(answer.ok());
        });
    };
    view! {
        <fieldset class="simulate">
            <legend>"What would it change?"</legend>
            <FormFailure failure beside=&[]/>
            <div class="row end">
                <Choose label="Month" value=period choices=Signal::stored(months)/>
                <button type="button" on:click=simulate aria-busy=move || is_working.get().to_string()
                    prop:disabled=move || is_working.get()>"Simulate"</button>
            </div>
            <div role="status">{move || simulation.with(|found| found.as_ref().map(simulated))}</div>
        </fieldset>
    }
    .into_any()
}

fn simulated(simulation: &Simulation) -> AnyView {
    let month = statement::month_name(simulation.from);
    if simulation.tenants.is_empty() {
        return view! { <Empty text=format!("Nobody used anything in {month}.")/> }.into_any();
    }
    let of = |amount: &Decimal| money::exact(amount, &simulation.currency);
    let rows = simulation
        .tenants
        .iter()
        .map(|tenant| {
            view! {
                <tr>
                    <th scope="row"><a href=route::tenant(&tenant.tenant)>{tenant.tenant_name.clone()}</a></th>
                    <td class="number">{of(&tenant.current)}</td>
                    <td class="number">{of(&tenant.simulated)}</td>
                    <td class="number">{price::difference(&tenant.difference, &simulation.currency)}</td>
                </tr>
            }
        })
        .collect_view();
    view! {
        <p class="muted">{month}", without credits and tax. Nothing was changed."</p>
        <div class="table-frame" tabindex="0" role="region" aria-label="What would change">
        <table class="compact" data-testid="simulation">
            <thead><tr>
                <th scope="col">"Tenant"</th><th scope="col" class="number">"As it is"</th>
                <th scope="col" class="number">"By this book"</th><th scope="col" class="number">"Difference"</th>
            </tr></thead>
            <tbody>{rows}</tbody>
            <tfoot><tr>
                <th scope="row">"All"</th>
                <td class="number">{of(&simulation.current)}</td>
                <td class="number">{of(&simulation.simulated)}</td>
                <td class="number">{price::difference(&simulation.difference, &simulation.currency)}</td>
            </tr></tfoot>
        </table>
        </div>
    }
    .into_any()
}
