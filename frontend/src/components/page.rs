//! The head of a page, and what stands where there is nothing.

use leptos::prelude::*;

use crate::browser;

/// Title and one sentence that answers the page's question; buttons at the end. Moves the focus to
/// the title, so that a screen reader says where one is.
#[component]
pub(crate) fn PageHead(
    /// The page's title.
    #[prop(into)]
    title: Signal<String>,
    /// The page's answer.
    #[prop(into, optional)]
    sentence: Signal<String>,
    /// What can be done here.
    #[prop(optional)]
    children: Option<Children>,
) -> impl IntoView {
    Effect::new(move |_| document().set_title(&format!("{} · Wharfage", title.get())));
    request_animation_frame(|| {
        // A field that asked for the focus keeps it.
        let is_free = document().active_element().is_none_or(|element| element.tag_name() != "INPUT");
        if is_free {
            browser::focus("main h1");
        }
    });
    view! {
        <header class="page-head">
            <div>
                <h1 tabindex="-1">{title}</h1>
                <p class="sentence">{sentence}</p>
            </div>
            <div class="page-actions">{children.map(|children| children())}</div>
        </header>
    }
    .into_any()
}

/// What stands where a list has nothing: one sentence, and a way on.
#[component]
pub(crate) fn Empty(
    /// One sentence.
    #[prop(into)]
    text: Signal<String>,
    /// The same on the command line.
    #[prop(into, optional)]
    command: Option<String>,
    /// A button.
    #[prop(optional)]
    children: Option<Children>,
) -> impl IntoView {
    view! {
        <div class="empty">
            <p>{text}</p>
            {children.map(|children| children())}
            {command.map(|command| view! { <p class="muted">"or: " <code>{command}</code></p> })}
        </div>
    }
    .into_any()
}
