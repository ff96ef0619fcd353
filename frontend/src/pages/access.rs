//! Users, API tokens and one's own password.

use std::rc::Rc;

use leptos::prelude::*;
use wharf_shared::auth::{NewToken, PasswordChange, TokenSpec, TokenView};
use wharf_shared::permission::Permission;
use wharf_shared::user::{Role, UserSpec, UserView};

use super::images::tenant_choice;
use crate::api::{Api, Failure};
use crate::browser;
use crate::components::{Choice, Choose, Copy, Empty, Field, FormFailure, Modal, PageHead, Working, show};
use crate::state::{Auth, Notices, Question, Questions, Remote};
use crate::view::create::of_field;
use crate::view::moment;

const ROLES: [Role; 3] = [Role::Admin, Role::Operator, Role::Member];

/// The page.
#[component]
pub(crate) fn Access() -> impl IntoView {
    let auth = Auth::expect();
    let who = auth.user().map(|user| format!("Signed in as {}, {}.", user.name, user.role.as_str()));
    view! {
        <PageHead title="Users and tokens" sentence=Signal::stored(who.unwrap_or_default())/>
        {auth.may(Permission::UserManage).then(|| view! { <Users/> })}
        <Tokens/>
        <Password/>
    }
    .into_any()
}

#[component]
fn Users() -> impl IntoView {
    let api = Api::expect();
    let is_creating = RwSignal::new(false);
    let users = Remote::new(move || api.list::<UserView>("/users".to_owned())).follow("user");
    let content = move |here: Signal<Vec<UserView>>| {
        view! {
            <div class="table-frame" tabindex="0" role="region" aria-label="Users">
            <table data-testid="users">
                <thead><tr>
                    <th scope="col">"Name"</th><th scope="col">"Role"</th><th scope="col">"Since"</th>
                    <th scope="col"><span class="hidden">"Actions"</span></th>
                </tr></thead>
                <tbody>
                    <For each=move || here.get() key=|user| user.id.clone() let:user>{user_row(user, users)}</For>
                </tbody>
            </table>
            </div>
        }
    };
    view! {
        <section class="card">
            <div class="section-head">
                <h2>"Users"</h2>
                <button type="button" class="primary" on:click=move |_| is_creating.set(true)>"New user"</button>
            </div>
            {show(users, content)}
            <Show when=move || is_creating.get()>
                <CreateUser close=Callback::new(move |()| is_creating.set(false)) users/>
            </Show>
        </section>
    }
    .into_any()
}

fn user_row(user: UserView, users: Remote<Vec<UserView>>) -> AnyView {
    let (api, notices, questions) = (Api::expect(), Notices::expect(), Questions::expect());
    let is_self = Auth::expect().user().is_some_and(|me| me.id == user.id);
    let (id, name) = (user.id.clone(), user.name.clone());
    let remove = move |_| {
        let (id, name) = (id.clone(), name.clone());
        questions.ask(Question {
            title: format!("Remove user {name}?"),
            consequence: "The user's sessions and tokens end at once.".to_owned(),
            verb: "Remove the user".to_owned(),
            typed: None,
            act: Rc::new(move || {
                let (id, name) = (id.clone(), name.clone());
                leptos::task::spawn_local(async move {
                    match api.act("DELETE", format!("/users/{id}")).await {
                        Ok(()) => notices.confirm(format!("User {name} removed")),
                        Err(failure) => notices.fail(&format!("Remove user {name}"), &failure),
                    }
                    users.reload();
                });
            }),
        });
    };
    let label = format!("Remove {}", user.name);
    view! {
        <tr>
            <th scope="row">{user.name}{is_self.then_some(" (you)")}</th>
            <td>{user.role.as_str()}</td>
            <td>{browser::zone().date_time(user.created_at)}</td>
            <td class="verbs">
                {(!is_self).then(|| view! {
                    <button type="button" class="quiet" aria-label=label on:click=remove>"Remove"</button>
                })}
            </td>
        </tr>
    }
    .into_any()
}

#[component]
fn CreateUser(close: Callback<()>, users: Remote<Vec<UserView>>) -> impl IntoView {
    let (api, notices) = (Api::expect(), Notices::expect());
    let (tenant, choices) = tenant_choice(api);
    let (name, password, role) = (
        RwSignal::new(String::new()),
        RwSignal::new(String::new()),
        RwSignal::new(Role::Member.as_str().to_owned()),
    );
    let failure = RwSignal::new(None::<Failure>);
    let is_working = RwSignal::new(false);
    let is_member = move || role.with(|role| role == Role::Member.as_str());
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        is_working.set(true);
        let chosen = role.get_untracked();
        let role = ROLES.into_iter().find(|role| role.as_str() == chosen).unwrap_or(Role::Member);
        let spec = UserSpec {
            name: name.get_untracked().trim().to_owned(),
            password: password.get_untracked(),
            role,
            tenant: if role == Role::Member { tenant.get_untracked().parse().ok() } else { None },
        };
        leptos::task::spawn_local(async move {
            let answer = api.send::<_, UserView>("POST", "/users".to_owned(), Some(&spec)).await;
            is_working.try_set(false);
            match answer {
                Ok(user) => {
                    notices.confirm(format!("User {} created", user.name));
                    users.reload();
                    close.run(());
                }
                Err(error) => {
                    failure.try_set(Some(error));
                }
            }
        });
    };
    let problem = move |field: &'static str| {
        Signal::derive(move || {
            failure.with(|failure| failure.as_ref().and_then(|failure| of_field(&failure.fields(), field)))
        })
    };
    let roles: Vec<Choice> = vec![
        ("admin".to_owned(), "Admin: everything".to_owned()),
        ("operator".to_owned(), "Operator: every tenant's workloads and the host".to_owned()),
        ("member".to_owned(), "Member: one tenant's workloads".to_owned()),
    ];
    view! {
        <Modal title="New user" close>
            <form on:submit=submit>
                <FormFailure failure beside=&["name", "password", "role"]/>
                <Field label="Name" value=name problem=problem("name") required=true/>
                <Field label="Password" value=password kind="password" autocomplete="new-password"
                    problem=problem("password") required=true help="At least 12 characters."/>
                <Choose label="Role" value=role choices=Signal::stored(roles) problem=problem("role")/>
                <div hidden=move || !is_member()>
                    <Choose label="Tenant" value=tenant choices problem=problem("tenant")/>
                </div>
                <div class="dialog-actions">
                    <button type="button" on:click=move |_| close.run(())>"Cancel"</button>
                    <Working working=is_working verb="Create"/>
                </div>
            </form>
        </Modal>
    }
    .into_any()
}

#[component]
fn Tokens() -> impl IntoView {
    let api = Api::expect();
    let notices = Notices::expect();
    let tokens = Remote::new(move || api.list::<TokenView>("/tokens".to_owned())).follow("token");
    let (name, days) = (RwSignal::new(String::new()), RwSignal::new("90".to_owned()));
    let made = RwSignal::new(None::<NewToken>);
    let failure = RwSignal::new(None::<Failure>);
    let is_working = RwSignal::new(false);
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        is_working.set(true);
        failure.set(None);
        let spec = TokenSpec {
            name: name.get_untracked().trim().to_owned(),
            expires_in_days: days.get_untracked().trim().parse().ok(),
        };
        leptos::task::spawn_local(async move {
            match api.send::<_, NewToken>("POST", "/tokens".to_owned(), Some(&spec)).await {
                Ok(token) => {
                    notices.confirm(format!("Token {} created", token.token.name));
                    name.try_set(String::new());
                    made.try_set(Some(token));
                }
                Err(error) => {
                    failure.try_set(Some(error));
                }
            }
            is_working.try_set(false);
            tokens.reload();
        });
    };
    let secret = move || {
        made.get().map(|made| {
            let secret = made.secret.clone();
            view! {
                <div class="box tone-info" role="status">
                    <p><strong>"Copy the token now: it is shown only once."</strong></p>
                    <p><code class="break" data-testid="token-secret">{secret.clone()}</code></p>
                    <Copy text=Signal::stored(secret) label="Copy the token"/>
                </div>
            }
        })
    };
    let content = move |here: Signal<Vec<TokenView>>| {
        view! {
            <Show when=move || here.with(|here| !here.is_empty())
                fallback=|| view! { <Empty text="No tokens yet. Tools sign in with one."/> }>
                <div class="table-frame" tabindex="0" role="region" aria-label="Tokens">
                <table data-testid="tokens">
                    <thead><tr>
                        <th scope="col">"Name"</th><th scope="col">"Acts for"</th><th scope="col">"Ends"</th>
                        <th scope="col">"Last used"</th><th scope="col"><span class="hidden">"Actions"</span></th>
                    </tr></thead>
                    <tbody>
                        <For each=move || here.get() key=|token| token.id.clone() let:token>
                            {token_row(token, tokens)}
                        </For>
                    </tbody>
                </table>
                </div>
            </Show>
        }
    };
    let problem = move |field: &'static str| {
        Signal::derive(move || {
            failure.with(|failure| failure.as_ref().and_then(|failure| of_field(&failure.fields(), field)))
        })
    };
    view! {
        <section class="card">
            <h2>"API tokens"</h2>
            {secret}
            <FormFailure failure beside=&["name", "expires_in_days"]/>
            {show(tokens, content)}
            <form class="row end" on:submit=submit>
                <Field label="Name of a new token" value=name problem=problem("name") required=true/>
                <Field label="Days until it ends" value=days problem=problem("expires_in_days")/>
                <Working working=is_working verb="Create token"/>
            </form>
        </section>
    }
    .into_any()
}

fn token_row(token: TokenView, tokens: Remote<Vec<TokenView>>) -> AnyView {
    let (api, notices, questions) = (Api::expect(), Notices::expect(), Questions::expect());
    let (id, name) = (token.id.clone(), token.name.clone());
    let remove = move |_| {
        let (id, name) = (id.clone(), name.clone());
        questions.ask(Question {
            title: format!("Remove token {name}?"),
            consequence: "Tools that use it are refused at once.".to_owned(),
            verb: "Remove the token".to_owned(),
            typed: None,
            act: Rc::new(move || {
                let (id, name) = (id.clone(), name.clone());
                leptos::task::spawn_local(async move {
                    match api.act("DELETE", format!("/tokens/{id}")).await {
                        Ok(()) => notices.confirm(format!("Token {name} removed")),
                        Err(failure) => notices.fail(&format!("Remove token {name}"), &failure),
                    }
                    tokens.reload();
                });
            }),
        });
    };
    let zone = browser::zone();
    let used =
        token.last_used_at.map_or_else(|| "never".to_owned(), |at| moment::ago(at, browser::now(), zone));
    let label = format!("Remove {}", token.name);
    view! {
        <tr>
            <th scope="row">{token.name}</th>
            <td>{format!("{} ({})", token.user_name, token.role.as_str())}</td>
            <td>{zone.date_time(token.expires_at)}</td>
            <td>{used}</td>
            <td class="verbs"><button type="button" class="quiet" aria-label=label on:click=remove>"Remove"</button></td>
        </tr>
    }
    .into_any()
}

#[component]
fn Password() -> impl IntoView {
    let (api, notices) = (Api::expect(), Notices::expect());
    let (current, new) = (RwSignal::new(String::new()), RwSignal::new(String::new()));
    let failure = RwSignal::new(None::<Failure>);
    let is_working = RwSignal::new(false);
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        is_working.set(true);
        failure.set(None);
        let change = PasswordChange { current: current.get_untracked(), new: new.get_untracked() };
        leptos::task::spawn_local(async move {
            match api.send_unit("POST", "/auth/password".to_owned(), Some(&change)).await {
                Ok(()) => {
                    notices.confirm("Password changed");
                    current.try_set(String::new());
                    new.try_set(String::new());
                }
                Err(error) => {
                    failure.try_set(Some(error));
                }
            }
            is_working.try_set(false);
        });
    };
    let problem = move |field: &'static str| {
        Signal::derive(move || {
            failure.with(|failure| failure.as_ref().and_then(|failure| of_field(&failure.fields(), field)))
        })
    };
    view! {
        <section class="card">
            <h2>"Your password"</h2>
            <form class="row end" on:submit=submit>
                <FormFailure failure beside=&["current", "new"]/>
                <Field label="Present password" value=current kind="password" autocomplete="current-password"
                    problem=problem("current") required=true/>
                <Field label="New password" value=new kind="password" autocomplete="new-password"
                    problem=problem("new") required=true/>
                <Working working=is_working verb="Change"/>
            </form>
        </section>
    }
    .into_any()
}
