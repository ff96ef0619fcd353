//! Pages whose code is fetched when they are first opened.
//!
//! Each function below is a split point: the build cuts the program there into chunks, one for each of
//! the groups named and one for what some of them share. The overview is not among them: it comes with
//! the first load, as do the parts that all pages share.

use leptos::prelude::*;
use leptos::wasm_split::wasm_split;
use leptos_router::ChooseView;

use crate::pages::{
    access, containers, events, host, images, metering, prices, statements, tenants, usage, volumes,
};

/// A route's view that is fetched first.
#[derive(Clone, Copy)]
pub(crate) struct Later<L>(pub(crate) L);

impl<L, F> ChooseView for Later<L>
where
    L: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = AnyView>,
{
    async fn choose(self) -> AnyView {
        (self.0)().await
    }

    async fn preload(&self) {}
}

#[wasm_split(containers, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn container_list() -> AnyView {
    containers::ContainerList().into_any()
}

#[wasm_split(containers, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn create_container() -> AnyView {
    containers::CreateContainer().into_any()
}

#[wasm_split(containers, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn container_page() -> AnyView {
    containers::ContainerPage().into_any()
}

#[wasm_split(stores, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn image_list() -> AnyView {
    images::Images().into_any()
}

#[wasm_split(stores, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn image_page() -> AnyView {
    images::ImagePage().into_any()
}

#[wasm_split(stores, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn volume_list() -> AnyView {
    volumes::Volumes().into_any()
}

#[wasm_split(stores, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn network_list() -> AnyView {
    volumes::Networks().into_any()
}

#[wasm_split(money, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn tenant_list() -> AnyView {
    tenants::Tenants().into_any()
}

#[wasm_split(money, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn tenant_page() -> AnyView {
    tenants::TenantPage().into_any()
}

#[wasm_split(money, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn usage_page() -> AnyView {
    usage::Usage().into_any()
}

#[wasm_split(money, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn price_books() -> AnyView {
    prices::PriceBooks().into_any()
}

#[wasm_split(money, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn statement_list() -> AnyView {
    statements::Statements().into_any()
}

#[wasm_split(money, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn statement_page() -> AnyView {
    statements::StatementPage().into_any()
}

#[wasm_split(money, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn metering_health() -> AnyView {
    metering::MeteringHealth().into_any()
}

#[wasm_split(platform, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn event_list() -> AnyView {
    events::EventsPage().into_any()
}

#[wasm_split(platform, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn audit_trail() -> AnyView {
    events::Audit().into_any()
}

#[wasm_split(platform, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn access_page() -> AnyView {
    access::Access().into_any()
}

#[wasm_split(platform, wasm_split_path = ::leptos::wasm_split)]
pub(crate) fn host_page() -> AnyView {
    host::Hosts().into_any()
}
