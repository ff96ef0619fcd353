//! Buttons that do a little more.

use std::time::Duration;

use leptos::prelude::*;

use crate::browser;

/// Copies a text, and says that it did.
#[component]
pub(crate) fn Copy(
    /// What is copied.
    #[prop(into)]
    text: Signal<String>,
    /// What the button is called.
    #[prop(into)]
    label: String,
) -> impl IntoView {
    let is_done = RwSignal::new(false);
    let copy = move |_| {
        browser::copy(&text.get_untracked());
        is_done.set(true);
        browser::set_later(is_done, false, Duration::from_secs(2));
    };
    view! {
        <button type="button" class="quiet" on:click=copy aria-label=label.clone() title=label>
            {move || if is_done.get() { "Copied" } else { "Copy" }}
        </button>
    }
    .into_any()
}

/// A submit button that is busy while `working`; it keeps its width.
#[component]
pub(crate) fn Working(
    /// Whether something is under way.
    #[prop(into)]
    working: Signal<bool>,
    /// The verb.
    #[prop(into)]
    verb: String,
) -> impl IntoView {
    view! {
        <button type="submit" class="primary" aria-busy=move || working.get().to_string()
            prop:disabled=move || working.get()>
            {verb}
        </button>
    }
    .into_any()
}
