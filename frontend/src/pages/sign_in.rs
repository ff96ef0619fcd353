//! Signing in, and setting up the first admin with the one-time link.

use leptos::prelude::*;
use leptos_router::hooks::use_navigate;
use wharf_shared::auth::{LoginRequest, PASSWORD_MIN_BYTES, SetupRequest, SetupView};

use crate::api::{Api, Failure};
use crate::browser;
use crate::components::{FailureBox, Field, FormFailure, PageHead, Working};
use crate::state::Auth;
use crate::view::create::of_field;

/// Name and password.
#[component]
pub(crate) fn SignIn() -> impl IntoView {
    let (api, auth) = (Api::expect(), Auth::expect());
    let (name, password) = (RwSignal::new(String::new()), RwSignal::new(String::new()));
    let failure = RwSignal::new(None::<Failure>);
    let is_working = RwSignal::new(false);
    let wants_setup = RwSignal::new(false);
    leptos::task::spawn_local(async move {
        if let Ok(setup) = api.get::<SetupView>("/auth/setup".to_owned()).await {
            wants_setup.try_set(setup.needed);
        }
    });
    browser::focus_later("input[autocomplete=username]");
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        is_working.set(true);
        failure.set(None);
        let request =
            LoginRequest { name: name.get_untracked().trim().to_owned(), password: password.get_untracked() };
        leptos::task::spawn_local(async move {
            let answer = auth.login(request).await;
            is_working.try_set(false);
            failure.try_set(answer.err());
        });
    };
    view! {
        <main class="door">
            <PageHead title="Sign in" sentence="Wharfage"/>
            <Show when=move || wants_setup.get()>
                <div class="box tone-info" role="status">
                    "No admin exists yet. Open the one-time link that the agent printed when it started."
                </div>
            </Show>
            <form on:submit=submit>
                {move || failure.get().map(|failure| view! { <FailureBox failure/> })}
                <Field label="Name" value=name autocomplete="username" required=true/>
                <Field label="Password" value=password kind="password" autocomplete="current-password"
                    required=true/>
                <Working working=is_working verb="Sign in"/>
            </form>
        </main>
    }
    .into_any()
}

/// The first admin's name and password.
#[component]
pub(crate) fn SetUp() -> impl IntoView {
    let auth = Auth::expect();
    let navigate = use_navigate();
    let secret = browser::fragment();
    let has_secret = !secret.is_empty();
    // The secret does not stay in the address, where a screenshot or a shared link would show it.
    if let Ok(history) = window().history() {
        history.replace_state_with_url(&wasm_bindgen::JsValue::NULL, "", Some("/setup")).ok();
    }
    let (name, password, again) =
        (RwSignal::new("admin".to_owned()), RwSignal::new(String::new()), RwSignal::new(String::new()));
    let failure = RwSignal::new(None::<Failure>);
    let is_working = RwSignal::new(false);
    let is_tried = RwSignal::new(false);
    let password_problem = move || {
        let length = password.with(String::len);
        let from_agent = failure
            .with(|failure| failure.as_ref().and_then(|failure| of_field(&failure.fields(), "password")));
        from_agent.or_else(|| {
            (is_tried.get() && length < PASSWORD_MIN_BYTES)
                .then(|| format!("at least {PASSWORD_MIN_BYTES} characters; a sentence is good"))
        })
    };
    let again_problem =
        move || (is_tried.get() && password.get() != again.get()).then(|| "not the same".to_owned());
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        is_tried.set(true);
        if password.with_untracked(String::len) < PASSWORD_MIN_BYTES
            || password.get_untracked() != again.get_untracked()
        {
            return;
        }
        is_working.set(true);
        failure.set(None);
        let request = SetupRequest {
            secret: secret.clone(),
            name: name.get_untracked().trim().to_owned(),
            password: password.get_untracked(),
        };
        let navigate = navigate.clone();
        leptos::task::spawn_local(async move {
            match auth.set_up(request).await {
                Ok(()) => navigate("/", leptos_router::NavigateOptions::default()),
                Err(error) => {
                    failure.try_set(Some(error));
                }
            }
            is_working.try_set(false);
        });
    };
    view! {
        <main class="door">
            <PageHead title="Set up the first admin" sentence="This link works once."/>
            <Show when=move || has_secret fallback=|| view! {
                <div class="box tone-warn" role="alert">
                    "This address lacks its secret. Open the whole link that the agent printed, with what "
                    "stands after the #, or "<a href="/">"sign in"</a>"."
                </div>
            }>""</Show>
            <form on:submit=submit>
                <FormFailure failure beside=&["password"]/>
                <Field label="Name" value=name autocomplete="username" required=true/>
                <Field label="Password" value=password kind="password" autocomplete="new-password" required=true
                    help=format!("At least {PASSWORD_MIN_BYTES} characters.")
                    problem=Signal::derive(password_problem)/>
                <Field label="Password again" value=again kind="password" autocomplete="new-password"
                    required=true problem=Signal::derive(again_problem)/>
                <Working working=is_working verb="Create admin"/>
            </form>
        </main>
    }
    .into_any()
}
