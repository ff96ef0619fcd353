//! The few things that only a browser knows: the time, its zone, storage, clipboard, location.

use std::time::Duration;

use leptos::prelude::*;
use wasm_bindgen::JsCast;
use wharf_shared::time::Timestamp;

use crate::view::moment::Zone;
use crate::view::number;

/// The time by the browser's clock.
pub(crate) fn now() -> Timestamp {
    Timestamp(number::integer(js_sys::Date::now() * 1_000.0))
}

/// The reader's zone.
pub(crate) fn zone() -> Zone {
    Zone(-number::integer(js_sys::Date::new_0().get_timezone_offset()))
}

/// Reads what [`store`] kept in this browser.
pub(crate) fn stored(key: &str) -> Option<String> {
    window().local_storage().ok()??.get_item(key).ok()?
}

/// Keeps a preference in this browser; where storage is forbidden it lasts as long as the page.
pub(crate) fn store(key: &str, value: &str) {
    if let Ok(Some(storage)) = window().local_storage() {
        storage.set_item(key, value).ok();
    }
}

/// Puts a text into the clipboard.
pub(crate) fn copy(text: &str) {
    let promise = window().navigator().clipboard().write_text(text);
    // Refused without a secure origin; then nothing was copied and nothing is claimed.
    leptos::task::spawn_local(async move {
        wasm_bindgen_futures::JsFuture::from(promise).await.ok();
    });
}

/// `ws://host` or `wss://host` of this page.
pub(crate) fn socket_origin() -> String {
    let location = window().location();
    let scheme = if location.protocol().is_ok_and(|protocol| protocol == "https:") { "wss" } else { "ws" };
    format!("{scheme}://{}", location.host().unwrap_or_default())
}

/// The part of the address after `#`.
pub(crate) fn fragment() -> String {
    window().location().hash().unwrap_or_default().trim_start_matches('#').to_owned()
}

/// Moves the focus to the element that a selector finds first.
pub(crate) fn focus(selector: &str) -> bool {
    let Ok(Some(element)) = document().query_selector(selector) else { return false };
    element.dyn_into::<web_sys::HtmlElement>().is_ok_and(|element| element.focus().is_ok())
}

/// The same before the next frame, when what is being drawn stands.
pub(crate) fn focus_later(selector: &'static str) {
    request_animation_frame(move || {
        focus(selector);
    });
}

/// Sets a signal after a while, if its page is still there.
pub(crate) fn set_later(signal: RwSignal<bool>, value: bool, wait: Duration) {
    let set = move || {
        signal.try_set(value);
    };
    set_timeout(set, wait);
}

/// Value of a style sheet's variable where the element stands.
pub(crate) fn style_variable(element: &web_sys::Element, name: &str) -> String {
    window()
        .get_computed_style(element)
        .ok()
        .flatten()
        .and_then(|style| style.get_property_value(name).ok())
        .unwrap_or_default()
        .trim()
        .to_owned()
}
