//! Price books: the versions, what each unit costs and on what conditions, and a new version.

mod create;

use leptos::prelude::*;
use wharf_shared::billing::{PriceBookView, PriceSpec, Rounding};
use wharf_shared::permission::Permission;

use crate::api::Api;
use crate::browser;
use crate::components::{Copy, Empty, PageHead, show};
use crate::state::{Auth, Remote};
use crate::view::{price, quantity};
use create::CreateBook;

/// The page.
#[component]
pub(crate) fn PriceBooks() -> impl IntoView {
    let api = Api::expect();
    let may_change = Auth::expect().may(Permission::PriceManage);
    let is_creating = RwSignal::new(false);
    let books = Remote::new(move || api.list::<PriceBookView>("/billing/price-books".to_owned()))
        .follow("price_book");
    let content = move |here: Signal<Vec<PriceBookView>>| {
        view! {
            <Show when=move || here.with(|here| !here.is_empty())
                fallback=|| view! { <Empty text="No price book yet: everything costs nothing until there is one."/> }>
                {move || {
                    let here = here.get();
                    let now = browser::now();
                    // The last to take effect comes first; of those that have, the first is in force.
                    let current = here.iter().position(|view| view.book.effective_from <= now);
                    here.iter().enumerate().map(|(at, view)| book(view, current.map(|current| at.cmp(&current)))).collect_view()
                }}
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

/// A version, and whether it comes before, is, or comes after the one in force.
fn book(view: &PriceBookView, place: Option<std::cmp::Ordering>) -> AnyView {
    let (tone, word) = match place {
        Some(std::cmp::Ordering::Equal) => ("tone-ok", "in force"),
        Some(std::cmp::Ordering::Greater) => ("tone-muted", "over"),
        Some(std::cmp::Ordering::Less) | None => ("tone-info", "to come"),
    };
    let currency = view.book.currency.clone();
    let rows = view.book.prices.iter().map(|price| price_row(price, &currency)).collect_view();
    let json = serde_json::to_string_pretty(&view.book).unwrap_or_default();
    let rounding = match view.book.rounding {
        Rounding::HalfEven => "a half is rounded to the even neighbour",
        Rounding::HalfUp => "a half is rounded away from zero",
    };
    view! {
        <section class="card" data-testid="book">
            <div class="section-head">
                <h2>"From "{view.book.effective_from.to_string()}</h2>
                <span class=format!("chip {tone}")>{word}</span>
            </div>
            <p class="muted">
                "Made "{browser::zone().date_time(view.created_at)}" · "{rounding}
                {if view.book.price_unattributed { " · what is used outside of containers is charged too" } else { "" }}
            </p>
            <div class="table-frame" tabindex="0" role="region" aria-label=format!("Prices from {}", view.book.effective_from)>
            <table class="compact">
                <thead><tr>
                    <th scope="col">"Meter"</th><th scope="col">"Charged"</th>
                    <th scope="col" class="number">"Price"</th><th scope="col">"Per"</th>
                    <th scope="col">"Conditions"</th>
                </tr></thead>
                <tbody>{rows}</tbody>
            </table>
            </div>
            <details>
                <summary>"As JSON"</summary>
                <p><code class="break">{view.id.to_string()}</code>" "<Copy text=json.clone() label="Copy the book"/></p>
                <pre tabindex="0">{json}</pre>
            </details>
        </section>
    }
    .into_any()
}

fn price_row(price: &PriceSpec, currency: &str) -> AnyView {
    let prices = price::prices(price, currency);
    let conditions = price::conditions(price, currency);
    let each = |texts: Vec<String>| texts.into_iter().map(|text| view! { <div>{text}</div> }).collect_view();
    view! {
        <tr>
            <th scope="row">{price.meter.title()}</th>
            <td>{price::policy(price)}</td>
            <td class="number">{each(prices)}</td>
            <td>{price.pricing_unit().as_str()}</td>
            <td>{each(conditions)}</td>
        </tr>
    }
    .into_any()
}
