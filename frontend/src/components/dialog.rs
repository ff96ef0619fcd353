//! Dialogs: the browser's own element, which holds the focus and closes on Escape.

use leptos::html;
use leptos::prelude::*;

use super::Field;
use crate::state::{Question, Questions};

/// A dialog that is open as long as it stands in the page.
#[component]
pub(crate) fn Modal(
    /// Its title.
    #[prop(into)]
    title: String,
    /// Called when it is to go.
    #[prop(into)]
    close: Callback<()>,
    /// `wide` for tables and texts; `drawer` at the side, as high as the window.
    #[prop(optional)]
    shape: &'static str,
    /// What it holds.
    children: Children,
) -> impl IntoView {
    let dialog = NodeRef::<html::Dialog>::new();
    Effect::new(move |_| {
        if let Some(dialog) = dialog.get()
            && !dialog.open()
        {
            dialog.show_modal().ok();
        }
    });
    let label = title.clone();
    view! {
        <dialog node_ref=dialog class=shape aria-label=label on:close=move |_| close.run(())>
            <h2>{title}</h2>
            {children()}
        </dialog>
    }
    .into_any()
}

/// Shows the question that is open.
#[component]
pub(crate) fn QuestionDialog() -> impl IntoView {
    let questions = Questions::expect();
    (move || questions.open().map(|question| asked(questions, question))).into_any()
}

fn asked(questions: Questions, question: Question) -> AnyView {
    let typed = RwSignal::new(String::new());
    let wanted = question.typed.clone();
    let is_ready = {
        let wanted = wanted.clone();
        Signal::derive(move || {
            wanted.as_ref().is_none_or(|wanted| typed.with(|typed| typed.trim() == wanted))
        })
    };
    // The page is one thread; the view wants to be told so.
    let act = StoredValue::new_local(question.act);
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        if is_ready.get_untracked() {
            let act = act.get_value();
            questions.close();
            act();
        }
    };
    view! {
        <Modal title=question.title close=move |()| questions.close()>
            <form on:submit=submit>
                <p>{question.consequence}</p>
                {wanted.map(|wanted| view! {
                    <Field label=format!("Type {wanted} to go on") value=typed/>
                })}
                <div class="dialog-actions">
                    <button type="button" on:click=move |_| questions.close()>"Cancel"</button>
                    <button type="submit" class="danger" prop:disabled=move || !is_ready.get()>
                        {question.verb}
                    </button>
                </div>
            </form>
        </Modal>
    }
    .into_any()
}
