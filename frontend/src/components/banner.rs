//! One row above the page when what is shown is not live, worst first.

use std::time::Duration;

use leptos::prelude::*;
use wharf_shared::time::SECOND_US;

use crate::api::{Connection, Live};
use crate::browser;
use crate::view::moment;

/// A short break is not worth a word.
const QUIET_US: i64 = 2 * SECOND_US;

/// Says that the connection is lost, since when, and that it is back.
#[component]
pub(crate) fn Banner() -> impl IntoView {
    let live = Live::expect();
    let now = RwSignal::new(browser::now());
    let is_back = RwSignal::new(false);
    let was_shown = StoredValue::new(false);
    let tick = move || {
        now.try_set(browser::now());
    };
    if let Ok(ticking) = set_interval_with_handle(tick, Duration::from_secs(1)) {
        on_cleanup(move || ticking.clear());
    }
    let lost_us = Memo::new(move |_| {
        let lost = live.lost_at().get()?;
        let age = now.get().0 - lost.0;
        (age >= QUIET_US).then_some(age)
    });
    Effect::new(move |_| {
        if lost_us.get().is_some() {
            was_shown.set_value(true);
        } else if was_shown.get_value() && live.connection().get() == Connection::Live {
            was_shown.set_value(false);
            is_back.set(true);
            browser::set_later(is_back, false, Duration::from_secs(4));
        }
    });
    let lost = move || {
        let age = lost_us.get()?;
        let since = live.lost_at().get().map(|at| browser::zone().clock(at)).unwrap_or_default();
        let attempt = match live.connection().get() {
            Connection::Waiting(attempt) | Connection::Connecting(attempt) => attempt,
            Connection::Off | Connection::Live => 0,
        };
        Some(view! {
            <div class="banner tone-warn" role="alert" data-testid="reconnecting">
                <span aria-hidden="true">"◌ "</span>
                {format!("Reconnecting… showing data from {since} ({} old)", moment::duration(age))}
                {(attempt > 3).then(|| format!(" · attempt {attempt}"))}
                <button type="button" on:click=move |_| live.connect()>"Retry now"</button>
            </div>
        })
    };
    view! {
        {lost}
        <Show when=move || is_back.get()>
            <div class="banner tone-ok" role="status" data-testid="reconnected">
                "Back. Logs and events went on where they stopped."
            </div>
        </Show>
        <Show when=move || live.is_outdated().get()>
            <div class="banner tone-info" role="status">
                "A new version of the agent is installed. "
                <button type="button" on:click=move |_| drop(window().location().reload())>"Reload"</button>
            </div>
        </Show>
    }
    .into_any()
}
