//! A tenant's contracts, on its page: what it pays in place of what the price book says.

use leptos::prelude::*;
use wharf_shared::billing::ContractView;

use crate::api::Api;
use crate::browser;
use crate::components::{Empty, show};
use crate::state::Remote;
use crate::view::{price, route};

/// The contracts of a tenant, the newest first.
#[component]
pub(super) fn Contracts(
    /// The tenant's id.
    #[prop(into)]
    tenant: Signal<String>,
) -> impl IntoView {
    let api = Api::expect();
    let contracts = Remote::new(move || {
        let query = route::query(&[("tenant", &tenant.get())]);
        api.list::<ContractView>(format!("/contracts{query}"))
    })
    .follow("contract");
    let content = |here: Signal<Vec<ContractView>>| {
        view! {
            <Show when=move || here.with(|here| !here.is_empty()) fallback=|| view! {
                <Empty text="No contract: the tenant pays what the price book says." command="wharf contract add FILE"/>
            }>
                {move || here.with(|here| here.iter().map(contract).collect_view())}
            </Show>
        }
    };
    view! {
        <section class="card" data-testid="contracts">
            <h2>"Contracts"</h2>
            {show(contracts, content)}
        </section>
    }
    .into_any()
}

fn contract(view: &ContractView) -> AnyView {
    let now = browser::now();
    let spec = &view.contract;
    let (tone, word) = if now < spec.from {
        ("tone-info", "to come")
    } else if spec.to.is_some_and(|to| to <= now) {
        ("tone-muted", "over")
    } else {
        ("tone-ok", "in force")
    };
    let terms = price::terms(spec).into_iter().map(|said| view! { <li>{said}</li> }).collect_view();
    view! {
        <div class="contract">
            <p><strong>{price::span(spec)}</strong>" "<span class=format!("chip {tone}")>{word}</span></p>
            <ul>{terms}</ul>
            <p class="muted"><code class="break">{view.id.to_string()}</code></p>
        </div>
    }
    .into_any()
}
