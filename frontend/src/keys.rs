//! The keyboard: `g` and a letter go to a page, `/` searches, `?` shows the keys.

use std::time::Duration;

use leptos::ev;
use leptos::prelude::*;
use leptos_router::hooks::use_navigate;
use wasm_bindgen::JsCast;

use crate::browser;
use crate::components::Modal;
use crate::view::route;

/// A letter after `g` must follow soon.
const CHORD_LASTS: Duration = Duration::from_millis(1_200);

/// Listens for keys, and shows them when asked.
#[component]
pub(crate) fn Keys() -> impl IntoView {
    let is_shown = RwSignal::new(false);
    let is_going = RwSignal::new(false);
    let navigate = use_navigate();
    let handle = window_event_listener(ev::keydown, move |event| {
        if event.ctrl_key() || event.alt_key() || event.meta_key() || is_typed_into(&event) {
            return;
        }
        let key = event.key();
        if is_going.get_untracked() {
            is_going.set(false);
            if let Some(path) = route::shortcut(&key) {
                event.prevent_default();
                navigate(path, leptos_router::NavigateOptions::default());
            }
            return;
        }
        match key.as_str() {
            "g" => {
                is_going.set(true);
                browser::set_later(is_going, false, CHORD_LASTS);
            }
            "/" if browser::focus("[data-search]") => event.prevent_default(),
            "?" => is_shown.set(true),
            _ => {}
        }
    });
    on_cleanup(move || handle.remove());
    let rows = route::GO_TO
        .iter()
        .map(|(key, _, name)| view! { <tr><th scope="row"><kbd>"g"</kbd>" "<kbd>{*key}</kbd></th><td>{*name}</td></tr> });
    let rows = StoredValue::new_local(rows);
    view! {
        <Show when=move || is_shown.get()>
            <Modal title="Keys" close=move |()| is_shown.set(false)>
                <table class="compact">
                    <tbody>
                        <tr><th scope="row"><kbd>"/"</kbd></th><td>"Search on this page"</td></tr>
                        <tr><th scope="row"><kbd>"?"</kbd></th><td>"These keys"</td></tr>
                        <tr><th scope="row"><kbd>"Esc"</kbd></th><td>"Close what is open"</td></tr>
                        {rows.with_value(|rows| rows.clone().collect_view())}
                    </tbody>
                </table>
                <div class="dialog-actions">
                    <button type="button" on:click=move |_| is_shown.set(false)>"Close"</button>
                </div>
            </Modal>
        </Show>
    }
    .into_any()
}

fn is_typed_into(event: &web_sys::KeyboardEvent) -> bool {
    let Some(element) = event.target().and_then(|target| target.dyn_into::<web_sys::HtmlElement>().ok())
    else {
        return false;
    };
    matches!(element.tag_name().as_str(), "INPUT" | "TEXTAREA" | "SELECT") || element.is_content_editable()
}
