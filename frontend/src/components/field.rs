//! Form fields: label above, help below, the problem next to it.

use leptos::prelude::*;

use crate::api::next_id;

/// A line of text.
#[component]
pub(crate) fn Field(
    /// What is asked.
    #[prop(into)]
    label: String,
    /// What is typed.
    value: RwSignal<String>,
    /// A word on what may be typed; a problem, which says so too, takes its place.
    #[prop(into, optional)]
    help: Option<String>,
    /// What is wrong with it.
    #[prop(into, optional)]
    problem: Signal<Option<String>>,
    /// `password`, `search`, …
    #[prop(default = "text")]
    kind: &'static str,
    /// What browsers may fill in.
    #[prop(default = "off")]
    autocomplete: &'static str,
    /// An example.
    #[prop(default = "")]
    placeholder: &'static str,
    /// It cannot stay empty.
    #[prop(optional)]
    required: bool,
) -> impl IntoView {
    let id = format!("field-{}", next_id());
    let (help_id, problem_id) = (format!("{id}-help"), format!("{id}-problem"));
    let described = format!("{help_id} {problem_id}");
    view! {
        <div class="field">
            <label for=id.clone()>{label} {required.then(|| view! { <span class="muted">" (needed)"</span> })}</label>
            <input id=id type=kind autocomplete=autocomplete placeholder=placeholder spellcheck="false"
                autocapitalize="off" required=required aria-describedby=described
                aria-invalid=move || problem.with(Option::is_some).to_string() bind:value=value/>
            <p class="help" id=help_id>{move || help.clone().filter(|_| problem.with(Option::is_none))}</p>
            <p class="problem" id=problem_id aria-live="polite">{problem}</p>
        </div>
    }
    .into_any()
}

/// Several lines of text.
#[component]
pub(crate) fn Lines(
    /// What is asked.
    #[prop(into)]
    label: String,
    /// What is typed.
    value: RwSignal<String>,
    /// A word on what may be typed, in whose place a problem stands.
    #[prop(into)]
    help: String,
    /// What is wrong with it.
    #[prop(into, optional)]
    problem: Signal<Option<String>>,
) -> impl IntoView {
    let id = format!("field-{}", next_id());
    let (help_id, problem_id) = (format!("{id}-help"), format!("{id}-problem"));
    let described = format!("{help_id} {problem_id}");
    view! {
        <div class="field">
            <label for=id.clone()>{label}</label>
            <textarea id=id rows="3" spellcheck="false" autocapitalize="off" aria-describedby=described
                aria-invalid=move || problem.with(Option::is_some).to_string() bind:value=value></textarea>
            <p class="help" id=help_id>{move || problem.with(Option::is_none).then(|| help.clone())}</p>
            <p class="problem" id=problem_id>{problem}</p>
        </div>
    }
    .into_any()
}

/// Yes or no.
#[component]
pub(crate) fn Check(
    /// What is asked.
    #[prop(into)]
    label: String,
    /// The answer.
    value: RwSignal<bool>,
) -> impl IntoView {
    view! { <label class="check"><input type="checkbox" bind:checked=value/>" "{label}</label> }.into_any()
}

/// One of several: what is sent and what is shown.
pub(crate) type Choice = (String, String);

/// Chooses one of several.
#[component]
pub(crate) fn Choose(
    /// What is asked.
    #[prop(into)]
    label: String,
    /// What is chosen.
    value: RwSignal<String>,
    /// What there is.
    #[prop(into)]
    choices: Signal<Vec<Choice>>,
    /// What is wrong with it.
    #[prop(into, optional)]
    problem: Signal<Option<String>>,
) -> impl IntoView {
    let id = format!("field-{}", next_id());
    let problem_id = format!("{id}-problem");
    view! {
        <div class="field">
            <label for=id.clone()>{label}</label>
            <select id=id aria-describedby=problem_id.clone()
                on:change:target=move |event| value.set(event.target().value())
                prop:value=move || { choices.track(); value.get() }>
                {move || {
                    let chosen = value.get();
                    choices.get().into_iter().map(|(key, name)| {
                        let selected = key == chosen;
                        view! { <option value=key selected=selected>{name}</option> }
                    }).collect_view()
                }}
            </select>
            <p class="problem" id=problem_id>{problem}</p>
        </div>
    }
    .into_any()
}
