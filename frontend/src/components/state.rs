//! The chip that says a container's state.

use leptos::prelude::*;
use wharf_shared::container::ContainerView;

use crate::view::state;

/// Shape, colour and word of a state.
#[component]
pub(crate) fn StateChip(
    /// Whose state.
    #[prop(into)]
    container: Signal<ContainerView>,
) -> impl IntoView {
    let class = move || container.with(|container| format!("chip {}", state::look(container).1.class()));
    let shape = move || container.with(|container| state::look(container).0);
    let words = move || container.with(state::words);
    let why = move || container.with(|container| container.error.clone().unwrap_or_default());
    view! { <span class=class title=why><span aria-hidden="true">{shape}</span>" "{words}</span> }.into_any()
}
