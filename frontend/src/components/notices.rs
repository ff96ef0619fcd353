//! Shows notices: confirmations pass, failures stay until they are read.

use leptos::prelude::*;

use crate::state::Notices;

/// The notices, above everything.
#[component]
pub(crate) fn NoticeList() -> impl IntoView {
    let notices = Notices::expect();
    view! {
        <div class="notices" role="status" aria-live="polite" aria-label="Notices">
            <For each=move || notices.list().get() key=|notice| notice.id let:notice>
                <div class=if notice.is_failure { "notice tone-bad" } else { "notice tone-ok" }>
                    <span>
                        {notice.text}
                        {notice.request_id.map(|id| view! { <small>" (request id "<code>{id}</code>")"</small> })}
                    </span>
                    <button type="button" class="quiet" aria-label="Dismiss"
                        on:click=move |_| notices.dismiss(notice.id)>"×"</button>
                </div>
            </For>
        </div>
    }
    .into_any()
}
