//! Price books: the versions, what each unit costs, and a new version.

use leptos::prelude::*;
use wharf_shared::billing::{PriceBookSpec, PriceBookView, PriceSpec, Rounding};
use wharf_shared::decimal::Decimal;
use wharf_shared::permission::Permission;
use wharf_shared::usage::Meter;

use crate::api::{Api, Failure};
use crate::browser;
use crate::components::{Check, Empty, Field, FormFailure, Modal, PageHead, Working, show};
use crate::state::{Auth, Notices, Remote};
use crate::view::create::of_field;
use crate::view::quantity;

/// The page.
#[component]
pub(crate) fn PriceBooks() -> impl IntoView {
    let api = Api::expect();
    let may_change = Auth::expect().may(Permission::PriceManage);
    let is_creating = RwSignal::new(false);
    let books = Remote::new(move || api.list::<PriceBookView>("/billing/price-books".to_owned()));
    let content = move |here: Signal<Vec<PriceBookView>>| {
        view! {
            <Show when=move || here.with(|here| !here.is_empty())
                fallback=|| view! { <Empty text="No price book yet: everything costs nothing until there is one."/> }>
                {move || here.get().iter().map(book).collect_view()}
            </Show>
        }
    };
    let sentence = Signal::derive(move || {
        books.value().with(|books| {
            books.as_ref().map_or_else(String::new, |books| {
                format!(
                    "{}; versions never change, a later one takes over",
                    quantity::plural(books.len(), "version")
                )
            })
        })
    });
    view! {
        <PageHead title="Price books" sentence>
            {may_change.then(|| view! {
                <button type="button" class="primary" on:click=move |_| is_creating.set(true)>"New version"</button>
            })}
        </PageHead>
        {show(books, content)}
        <Show when=move || is_creating.get()>
            <CreateBook close=Callback::new(move |()| is_creating.set(false)) books/>
        </Show>
    }
    .into_any()
}

fn book(view: &PriceBookView) -> AnyView {
    let prices = view
        .book
        .prices
        .iter()
        .map(|price| {
            let prices: Vec<_> = match &price.unit_price {
                Some(unit_price) => vec![unit_price.to_string()],
                None => price.tiers.iter().map(|tier| tier.unit_price.to_string()).collect(),
            };
            view! {
                <tr>
                    <th scope="row">{price.meter.title()}</th>
                    <td class="number">{prices.join(", ")}" "{view.book.currency.clone()}</td>
                    <td>"per "{price.pricing_unit().as_str()}</td>
                </tr>
            }
        })
        .collect_view();
    view! {
        <section class="card">
            <h2>"From "{view.book.effective_from.to_string()}</h2>
            <p class="muted">
                "Made "{browser::zone().date_time(view.created_at)}
                {if view.book.price_unattributed { " · what is used outside of containers is charged too" } else { "" }}
            </p>
            <table class="compact"><tbody>{prices}</tbody></table>
        </section>
    }
    .into_any()
}

#[component]
fn CreateBook(close: Callback<()>, books: Remote<Vec<PriceBookView>>) -> impl IntoView {
    let (api, notices) = (Api::expect(), Notices::expect());
    let latest = books.peek().and_then(|books| books.into_iter().max_by_key(|book| book.book.effective_from));
    let price_of = |meter: Meter| {
        let book = latest.as_ref().map(|view| &view.book);
        let found = book.and_then(|book| book.prices.iter().find(|price| price.meter == meter));
        found.and_then(|price| price.unit_price.as_ref()).map_or_else(String::new, ToString::to_string)
    };
    let prices = Meter::ALL.map(|meter| (meter, RwSignal::new(price_of(meter))));
    let currency =
        RwSignal::new(latest.as_ref().map_or_else(|| "EUR".to_owned(), |view| view.book.currency.clone()));
    let effective_from = RwSignal::new(browser::now().hour_start().to_string());
    let unattributed = RwSignal::new(latest.as_ref().is_some_and(|view| view.book.price_unattributed));
    let typed_problem = RwSignal::new(None::<String>);
    let failure = RwSignal::new(None::<Failure>);
    let is_working = RwSignal::new(false);
    let read = move || -> Result<PriceBookSpec, String> {
        let mut specs = Vec::new();
        for (meter, typed) in prices {
            let typed = typed.get_untracked();
            if !typed.trim().is_empty() {
                let unit_price: Decimal =
                    typed.trim().parse().map_err(|error| format!("{}: {error}", meter.title()))?;
                specs.push(PriceSpec::flat(meter, unit_price));
            }
        }
        let effective_from = effective_from.get_untracked();
        Ok(PriceBookSpec {
            currency: currency.get_untracked().trim().to_owned(),
            effective_from: effective_from
                .trim()
                .parse()
                .map_err(|error| format!("In force from: {error}"))?,
            prices: specs,
            price_unattributed: unattributed.get_untracked(),
            rounding: Rounding::default(),
        })
    };
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let spec = match read() {
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
                    notices.confirm("The new version was made");
                    books.reload();
                    close.run(());
                }
                Err(error) => {
                    failure.try_set(Some(error));
                }
            }
        });
    };
    let problem = move |field: &'static str| {
        Signal::derive(move || {
            failure.with(|failure| failure.as_ref().and_then(|failure| of_field(&failure.fields(), field)))
        })
    };
    let fields = prices
        .into_iter()
        .map(|(meter, typed)| {
            let label = format!("{} per {}", meter.title(), meter.pricing_unit());
            view! { <Field label value=typed/> }
        })
        .collect_view();
    view! {
        <Modal title="New version of the price book" close>
            <form on:submit=submit>
                <FormFailure failure beside=&["currency", "effective_from"]/>
                <p class="problem" role="alert">{typed_problem}</p>
                <div class="row">
                    <Field label="Currency" value=currency problem=problem("currency") required=true/>
                    <Field label="In force from" value=effective_from problem=problem("effective_from")
                        required=true help="A full hour of UTC, the present one or later."/>
                </div>
                <div class="row wrap">{fields}</div>
                <Check label="Charge what is used outside of containers too" value=unattributed/>
                <div class="dialog-actions">
                    <button type="button" on:click=move |_| close.run(())>"Cancel"</button>
                    <Working working=is_working verb="Make the version"/>
                </div>
            </form>
        </Modal>
    }
    .into_any()
}
