//! Shows a [`Remote`]: skeleton, failure with a way on, content, or content with a word on its age.

use leptos::prelude::*;

use crate::api::Failure;
use crate::state::Remote;

/// Shows `content` once the thing is here. It is built once and then follows the signal.
pub(crate) fn show<T: Clone + Send + Sync + 'static, V: IntoView + 'static>(
    remote: Remote<T>,
    content: impl Fn(Signal<T>) -> V + Send + 'static,
) -> AnyView {
    let is_here = Memo::new(move |_| remote.value().with(Option::is_some));
    let failure = remote.failure();
    let retry = Callback::new(move |()| remote.reload());
    let body = move || match remote.peek() {
        Some(first) if is_here.get() => {
            let value = Signal::derive(move || remote.value().get().unwrap_or_else(|| first.clone()));
            content(value).into_any()
        }
        _ => {
            is_here.track();
            view! {
                <Show when=move || failure.with(Option::is_none)>
                    <Skeleton/>
                </Show>
            }
            .into_any()
        }
    };
    view! {
        {move || {
            let stale = is_here.get();
            failure.get().map(|failure| view! { <FailureBox failure stale retry/> })
        }}
        {body}
    }
    .into_any()
}

/// What stands where something is awaited.
#[component]
pub(crate) fn Skeleton() -> impl IntoView {
    view! { <div class="skeleton" role="status" aria-label="Loading"><i></i><i></i><i></i></div> }.into_any()
}

/// What failed in a form, unless it all stands beside the fields already.
#[component]
pub(crate) fn FormFailure(
    /// What failed.
    failure: RwSignal<Option<Failure>>,
    /// Fields whose problems stand beside them.
    beside: &'static [&'static str],
) -> impl IntoView {
    let said = move || {
        let failure = failure.get().filter(|failure| !failure.is_only_of(beside));
        failure.map(|failure| view! { <FailureBox failure/> })
    };
    said.into_any()
}

/// What failed, why, and a way on.
#[component]
pub(crate) fn FailureBox(
    /// What failed.
    failure: Failure,
    /// What is shown below is older.
    #[prop(optional)]
    stale: bool,
    /// Tries again.
    #[prop(optional, into)]
    retry: Option<Callback<()>>,
) -> impl IntoView {
    let (words, request_id, mut fields) = failure.into_words();
    // What is wrong with a single field is all that the detail says.
    fields.retain(|field| !words.contains(&field.detail));
    let has_no_fields = fields.is_empty();
    view! {
        <div class="box tone-bad" role="alert">
            <p><strong>{words}</strong></p>
            <ul hidden=has_no_fields>
                {fields.into_iter().map(|field| view! { <li><code>{field.field}</code>": "{field.detail}</li> })
                    .collect_view()}
            </ul>
            {stale.then(|| view! { <p>"What is shown below is from before."</p> })}
            {request_id.map(|id| view! { <p class="muted">"Request id "<code>{id}</code></p> })}
            {retry.map(|retry| view! {
                <button type="button" on:click=move |_| retry.run(())>"Try again"</button>
            })}
        </div>
    }
    .into_any()
}
