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
    // One effect and not four: lists make and drop many of these while one scrolls.
    let chip = |container: &ContainerView| {
        let (shape, tone) = state::look(container);
        let why = container.error.clone().unwrap_or_default();
        view! {
            <span class=format!("chip {}", tone.class()) title=why>
                <span aria-hidden="true">{shape}</span>" "{state::words(container)}
            </span>
        }
    };
    (move || container.with(chip)).into_any()
}
