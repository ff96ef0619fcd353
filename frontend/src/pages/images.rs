//! Images: the list, pulls with progress, import, and an image's page.

use leptos::html;
use leptos::prelude::*;
use leptos_router::hooks::{use_navigate, use_query_map};
use wharf_shared::id::PullId;
use wharf_shared::image::{
    ImageDetail, ImageView, LayerPhase, PullRequest, PullState, PullView, RegistryCredentials, TagRequest,
};
use wharf_shared::live::{Topic, TopicItem};
use wharf_shared::permission::Permission;
use wharf_shared::tenant::TenantView;

use crate::api::{Api, Failure, Live, Told};
use crate::browser;
use crate::components::{
    Choice, Choose, Copy, Empty, FailureBox, Field, FormFailure, Modal, PageHead, Working, show,
};
use crate::state::{Auth, Dismissed, Notices, Question, Questions, Remote};
use crate::view::create::of_field;
use crate::view::state::Tone;
use crate::view::{command, quantity, route};

/// The tenants to choose from; none for a member, who has but one.
fn tenant_choices(api: Api) -> (Remote<Vec<TenantView>>, Signal<Vec<Choice>>) {
    let tenants = Remote::new(move || api.list::<TenantView>("/tenants".to_owned())).follow("tenant");
    let choices = Signal::derive(move || {
        let tenants = tenants.value().get().unwrap_or_default();
        tenants.into_iter().map(|tenant| (tenant.id.to_string(), tenant.name)).collect()
    });
    (tenants, choices)
}

/// The tenant that is chosen, the first one to begin with.
pub(crate) fn tenant_choice(api: Api) -> (RwSignal<String>, Signal<Vec<Choice>>) {
    let (_, choices) = tenant_choices(api);
    let chosen = RwSignal::new(String::new());
    Effect::new(move |_| {
        if let Some((first, _)) = choices.get().first()
            && chosen.with_untracked(String::is_empty)
        {
            chosen.set(first.clone());
        }
    });
    (chosen, choices)
}

/// The page of all images.
#[component]
pub(crate) fn Images() -> impl IntoView {
    let api = Api::expect();
    let dialog = RwSignal::new(None::<bool>);
    let pulls = RwSignal::new(Vec::<PullView>::new());
    let images =
        Remote::new(move || api.list::<ImageView>("/images".to_owned())).follow("image").follow("pull");
    let with_tenants = Auth::expect().may(Permission::AllTenants);
    let sentence = move || {
        images.value().with(|images| {
            images.as_ref().map_or_else(String::new, |images| {
                let bytes = images.iter().map(|image| image.size_bytes).sum();
                format!("{}, {} unpacked", quantity::plural(images.len(), "image"), quantity::bytes(bytes))
            })
        })
    };
    let close = Callback::new(move |()| dialog.set(None));
    let content = move |images: Signal<Vec<ImageView>>| {
        view! {
            <Show when=move || images.with(|images| !images.is_empty()) fallback=|| view! {
                <Empty text="No images yet." command="wharf pull busybox:1.36"/>
            }>
                <div class="table-frame" tabindex="0" role="region" aria-label="Images">
                <table data-testid="images">
                    <thead><tr>
                        <th scope="col">"Reference"</th>
                        {with_tenants.then(|| view! { <th scope="col">"Tenant"</th> })}
                        <th scope="col">"Platform"</th><th scope="col" class="number">"Unpacked"</th>
                        <th scope="col">"Pulled"</th><th scope="col"><span class="hidden">"Actions"</span></th>
                    </tr></thead>
                    <tbody>
                        <For each=move || images.get()
                            key=|image| (image.tenant.clone(), image.reference.clone(), image.digest.clone()) let:image>
                            {image_row(&image, with_tenants)}
                        </For>
                    </tbody>
                </table>
                </div>
            </Show>
        }
    };
    view! {
        <PageHead title="Images" sentence=Signal::derive(sentence)>
            <button type="button" class="primary" on:click=move |_| dialog.set(Some(true))>"Pull an image"</button>
            <button type="button" on:click=move |_| dialog.set(Some(false))>"Import a file"</button>
        </PageHead>
        <Pulls pulls/>
        {show(images, content)}
        {move || dialog.get().map(|is_pull| if is_pull {
            view! { <PullDialog close pulls/> }.into_any()
        } else {
            view! { <ImportDialog close images/> }.into_any()
        })}
    }
    .into_any()
}

fn image_row(image: &ImageView, with_tenants: bool) -> AnyView {
    let run = format!(
        "/containers/new{}",
        route::query(&[("image", &image.reference), ("tenant", image.tenant.as_str())])
    );
    view! {
        <tr>
            <th scope="row" class="clip"><a href=route::image(&image.reference, &image.tenant)>{image.reference.clone()}</a></th>
            {with_tenants.then(|| view! { <td>{image.tenant_name.clone()}</td> })}
            <td>{image.platform.clone()}</td>
            <td class="number">{quantity::bytes(image.size_bytes)}</td>
            <td>{browser::zone().date_time(image.pulled_at)}</td>
            <td class="verbs"><a class="button quiet" href=run aria-label=format!("Run {}", image.reference)>"Run"</a></td>
        </tr>
    }
    .into_any()
}

/// Pulls under way and those that ended while one looked.
#[component]
fn Pulls(pulls: RwSignal<Vec<PullView>>) -> impl IntoView {
    let (api, notices, dismissed) = (Api::expect(), Notices::expect(), Dismissed::expect());
    let may_cancel = Auth::expect().may(Permission::TenantWrite);
    let subscription = Live::expect().subscribe(Topic::Pulls, move |told| {
        let Told::Items(items) = told else { return };
        for item in items {
            if let TopicItem::Pull(pull) = item
                && !dismissed.contains(&pull.id)
            {
                put(pulls, pull);
            }
        }
    });
    let dismiss = Callback::new(move |id: PullId| {
        pulls.update(|pulls| pulls.retain(|pull| pull.id != id));
        dismissed.add(id);
    });
    // One that waits for its registry tells nothing; it is in the list all the same.
    leptos::task::spawn_local(async move {
        let known = api.list::<PullView>("/images/pulls".to_owned()).await.unwrap_or_default();
        for pull in known.into_iter().rev().filter(PullView::is_running) {
            add(pulls, pull);
        }
    });
    let _subscription = StoredValue::new_local(subscription);
    view! {
        <Show when=move || pulls.with(|pulls| !pulls.is_empty())>
            <section class="card" aria-label="Pulls" data-testid="pulls">
                {move || pulls.with(|pulls| {
                    pulls.iter().map(|pull| pull_item(pull, api, notices, may_cancel, dismiss)).collect_view()
                })}
            </section>
        </Show>
    }
    .into_any()
}

/// Takes news of a pull; the latest begun comes first.
fn put(pulls: RwSignal<Vec<PullView>>, pull: PullView) {
    pulls.try_update(|pulls| match pulls.iter_mut().find(|known| known.id == pull.id) {
        Some(known) => *known = pull,
        None => pulls.insert(0, pull),
    });
}

/// The same for an answer, which may be older than what is known already.
fn add(pulls: RwSignal<Vec<PullView>>, pull: PullView) {
    let is_new = |pulls: &Vec<PullView>| !pulls.iter().any(|known| known.id == pull.id);
    if pulls.try_with_untracked(is_new) == Some(true) {
        put(pulls, pull);
    }
}

fn pull_item(
    pull: &PullView,
    api: Api,
    notices: Notices,
    may_cancel: bool,
    dismiss: Callback<PullId>,
) -> AnyView {
    let (words, tone) = match (pull.state, pull.cancelled_by()) {
        (PullState::Resolving, _) => ("asking the registry".to_owned(), Tone::Info),
        (PullState::Pulling, _) => ("pulling".to_owned(), Tone::Info),
        (PullState::Done, _) => ("is here".to_owned(), Tone::Ok),
        (PullState::Failed, Some(who)) => (format!("cancelled by {who}"), Tone::Muted),
        (PullState::Failed, None) => ("failed".to_owned(), Tone::Bad),
    };
    // Why it failed may take several lines, and no badge has those.
    let why = pull.error.clone().filter(|_| pull.cancelled_by().is_none());
    let why = why.map(|why| view! { <p class="problem break">{why}</p> });
    let cancel = (may_cancel && pull.is_running()).then(|| {
        let id = pull.id.clone();
        let cancel = move |_| {
            let path = format!("/images/pulls/{id}");
            leptos::task::spawn_local(async move {
                // What becomes of the pull comes over the live connection.
                if let Err(failure) = api.act("DELETE", path).await {
                    notices.fail("The pull could not be cancelled", &failure);
                }
            });
        };
        let label = format!("Cancel the pull of {}", pull.image);
        view! { <button type="button" class="quiet" aria-label=label on:click=cancel>"Cancel"</button> }
    });
    let dismiss = (!pull.is_running()).then(|| {
        let id = pull.id.clone();
        let label = format!("Dismiss the pull of {}", pull.image);
        let click = move |_| dismiss.run(id.clone());
        view! { <button type="button" class="quiet" aria-label=label on:click=click>"Dismiss"</button> }
    });
    let layers = (pull.state != PullState::Done && pull.cancelled_by().is_none()).then(|| {
        let layer = |layer: &wharf_shared::image::LayerProgress| {
            let name = layer.digest.strip_prefix("sha256:").unwrap_or(&layer.digest);
            let name: String = name.chars().take(12).collect();
            let phase = match layer.phase {
                LayerPhase::Waiting => "waiting",
                LayerPhase::Downloading => "downloading",
                LayerPhase::Extracting => "unpacking",
                LayerPhase::Done => "done",
                LayerPhase::Exists => "was here",
            };
            let is_over = matches!(layer.phase, LayerPhase::Done | LayerPhase::Exists);
            let share = layer.total_bytes.and_then(|total| quantity::per_cent(layer.current_bytes, total));
            let share = if is_over { Some(100) } else { share };
            let size = match layer.total_bytes {
                Some(total) => {
                    format!("{} of {}", quantity::bytes(layer.current_bytes), quantity::bytes(total))
                }
                None => quantity::bytes(layer.current_bytes),
            };
            view! {
                <li>
                    <code>{name.clone()}</code>
                    <progress max="100" value=share.map(|share| share.to_string())
                        aria-label=format!("Layer {name}")></progress>
                    <span class="muted">{phase}" "{(!is_over).then_some(size)}</span>
                </li>
            }
        };
        view! { <ul class="plain layers">{pull.layers.iter().map(layer).collect_view()}</ul> }
    });
    view! {
        <div class="pull" data-testid="pull">
            <div class="pull-head">
                <strong class="break">{pull.image.clone()}</strong><span class=format!("chip {}", tone.class())>{words}</span>{cancel}{dismiss}
            </div>
            {why}
            {layers}
        </div>
    }
    .into_any()
}

#[component]
fn PullDialog(close: Callback<()>, pulls: RwSignal<Vec<PullView>>) -> impl IntoView {
    let (api, notices) = (Api::expect(), Notices::expect());
    let with_tenants = Auth::expect().may(Permission::AllTenants);
    let (tenant, choices) = tenant_choice(api);
    let (image, user, password) =
        (RwSignal::new(String::new()), RwSignal::new(String::new()), RwSignal::new(String::new()));
    let failure = RwSignal::new(None::<Failure>);
    let is_working = RwSignal::new(false);
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        is_working.set(true);
        let username = user.get_untracked();
        let request = PullRequest {
            image: image.get_untracked().trim().to_owned(),
            tenant: if with_tenants { tenant.get_untracked().parse().ok() } else { None },
            credentials: (!username.is_empty())
                .then(|| RegistryCredentials { username, password: password.get_untracked() }),
        };
        leptos::task::spawn_local(async move {
            let answer = api.send::<_, PullView>("POST", "/images/pull".to_owned(), Some(&request)).await;
            is_working.try_set(false);
            match answer {
                Ok(pull) => {
                    notices.confirm(format!("Pulling {}", pull.image));
                    add(pulls, pull);
                    close.run(());
                }
                Err(error) => {
                    failure.try_set(Some(error));
                }
            }
        });
    };
    let problem = Signal::derive(move || {
        failure.with(|failure| failure.as_ref().and_then(|failure| of_field(&failure.fields(), "image")))
    });
    view! {
        <Modal title="Pull an image" close>
            <form on:submit=submit>
                <FormFailure failure beside=&["image"]/>
                <Field label="Image" value=image problem placeholder="busybox:1.36" required=true
                    help="name:tag or registry.example/team/name@sha256:…"/>
                {with_tenants.then(|| view! { <Choose label="Tenant" value=tenant choices/> })}
                <details>
                    <summary>"The registry wants a name and a password"</summary>
                    <Field label="User name" value=user/>
                    <Field label="Password or token" value=password kind="password"
                        help="Used once, never stored."/>
                </details>
                <div class="dialog-actions">
                    <button type="button" on:click=move |_| close.run(())>"Cancel"</button>
                    <Working working=is_working verb="Pull"/>
                </div>
            </form>
        </Modal>
    }
    .into_any()
}

#[component]
fn ImportDialog(close: Callback<()>, images: Remote<Vec<ImageView>>) -> impl IntoView {
    let (api, notices) = (Api::expect(), Notices::expect());
    let with_tenants = Auth::expect().may(Permission::AllTenants);
    let (tenant, choices) = tenant_choice(api);
    let reference = RwSignal::new(String::new());
    let failure = RwSignal::new(None::<Failure>);
    let is_working = RwSignal::new(false);
    let file = NodeRef::<html::Input>::new();
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let Some(file) = file.get_untracked().and_then(|input| input.files()?.get(0)) else { return };
        is_working.set(true);
        let owner = if with_tenants { tenant.get_untracked() } else { String::new() };
        let query = route::query(&[
            ("reference", reference.get_untracked().trim()),
            ("tenant", &owner),
            ("format", "auto"),
        ]);
        leptos::task::spawn_local(async move {
            let path = format!("/images/import{query}");
            let answer = api.upload::<Vec<ImageView>>(path, "application/x-tar", &file).await;
            is_working.try_set(false);
            match answer {
                Ok(made) => {
                    notices.confirm(format!("{} imported", quantity::plural(made.len(), "image")));
                    images.reload();
                    close.run(());
                }
                Err(error) => {
                    failure.try_set(Some(error));
                }
            }
        });
    };
    view! {
        <Modal title="Import a file" close>
            <form on:submit=submit>
                {move || failure.get().map(|failure| view! { <FailureBox failure/> })}
                <div class="field">
                    <label for="import-file">"Archive"</label>
                    <input id="import-file" type="file" node_ref=file required
                        accept=".tar,.gz,.tgz,.zst,application/x-tar"/>
                    <p class="help">"A Docker or OCI archive, or a root file system as a plain tarball."</p>
                </div>
                <Field label="Reference" value=reference
                    help="What it shall be called; needed for a root file system, such as debian:mine."/>
                {with_tenants.then(|| view! { <Choose label="Tenant" value=tenant choices/> })}
                <div class="dialog-actions">
                    <button type="button" on:click=move |_| close.run(())>"Cancel"</button>
                    <Working working=is_working verb="Import"/>
                </div>
            </form>
        </Modal>
    }
    .into_any()
}

/// An image's page.
#[component]
pub(crate) fn ImagePage() -> impl IntoView {
    let api = Api::expect();
    let query = use_query_map();
    let given = move |key: &str| query.with(|query| query.get(key).unwrap_or_default());
    let detail = Remote::new(move || {
        let query = route::query(&[("reference", &given("reference")), ("tenant", &given("tenant"))]);
        api.get::<ImageDetail>(format!("/images/detail{query}"))
    });
    let title = Signal::derive(move || given("reference"));
    let sentence = Signal::derive(move || {
        detail.value().with(|detail| {
            detail.as_ref().map_or_else(String::new, |detail| {
                format!(
                    "{} · {} · tenant {}",
                    detail.image.platform,
                    quantity::bytes(detail.image.size_bytes),
                    detail.image.tenant_name
                )
            })
        })
    });
    view! {
        <PageHead title sentence><ImageVerbs detail/></PageHead>
        {show(detail, |detail| move || image_facts(&detail.get()))}
    }
    .into_any()
}

#[component]
fn ImageVerbs(detail: Remote<ImageDetail>) -> impl IntoView {
    let (api, notices, questions) = (Api::expect(), Notices::expect(), Questions::expect());
    let navigate = use_navigate();
    let is_tagging = RwSignal::new(false);
    let target = RwSignal::new(String::new());
    let tag = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let Some(detail) = detail.peek() else { return };
        let request = TagRequest {
            source: detail.image.reference,
            target: target.get_untracked().trim().to_owned(),
            tenant: Some(detail.image.tenant),
        };
        leptos::task::spawn_local(async move {
            match api.send::<_, ImageView>("POST", "/images/tag".to_owned(), Some(&request)).await {
                Ok(image) => notices.confirm(format!("{} names this image too", image.reference)),
                Err(failure) => notices.fail("Tag", &failure),
            }
            is_tagging.try_set(false);
        });
    };
    let remove = move |_| {
        let Some(detail) = detail.peek() else { return };
        let reference = detail.image.reference.clone();
        let query = route::query(&[("reference", &reference), ("tenant", detail.image.tenant.as_str())]);
        let navigate = navigate.clone();
        questions.ask(Question {
            title: format!("Remove {reference}?"),
            consequence: "Layers that no other image needs are deleted; it can be pulled again.".to_owned(),
            verb: "Remove the image".to_owned(),
            typed: None,
            act: std::rc::Rc::new(move || {
                let (reference, query, navigate) = (reference.clone(), query.clone(), navigate.clone());
                leptos::task::spawn_local(async move {
                    match api.act("DELETE", format!("/images{query}")).await {
                        Ok(()) => {
                            notices.confirm(format!("{reference} removed"));
                            navigate("/images", leptos_router::NavigateOptions::default());
                        }
                        Err(failure) => notices.fail(&format!("Remove {reference}"), &failure),
                    }
                });
            }),
        });
    };
    let run = move || {
        detail.value().with(|detail| {
            detail.as_ref().map_or_else(String::new, |detail| {
                let image = &detail.image;
                let query = route::query(&[("image", &image.reference), ("tenant", image.tenant.as_str())]);
                format!("/containers/new{query}")
            })
        })
    };
    view! {
        <a class="button primary" href=run>"Run"</a>
        <button type="button" on:click=move |_| is_tagging.set(true)>"Tag"</button>
        <button type="button" class="danger-quiet" on:click=remove>"Remove"</button>
        <Show when=move || is_tagging.get()>
            <Modal title="Tag the image" close=move |()| is_tagging.set(false)>
                <form on:submit=tag>
                    <Field label="A further name" value=target placeholder="team/app:stable" required=true/>
                    <div class="dialog-actions">
                        <button type="button" on:click=move |_| is_tagging.set(false)>"Cancel"</button>
                        <button type="submit" class="primary">"Tag"</button>
                    </div>
                </form>
            </Modal>
        </Show>
    }
    .into_any()
}

fn image_facts(detail: &ImageDetail) -> AnyView {
    let list = |values: &[String]| if values.is_empty() { "—".to_owned() } else { values.join(", ") };
    let text = |value: &str| if value.is_empty() { "—".to_owned() } else { value.to_owned() };
    let labels: Vec<_> = detail.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let layers = detail
        .layers
        .iter()
        .zip(1..)
        .map(|(layer, at)| {
            view! {
                <tr>
                    <td class="number">{at}</td><td class="clip"><code>{layer.digest.clone()}</code></td>
                    <td class="number">{quantity::bytes(layer.compressed_bytes)}</td>
                    <td class="number">{quantity::bytes(layer.unpacked_bytes)}</td>
                </tr>
            }
        })
        .collect_view();
    let history = detail
        .history
        .iter()
        .map(|step| {
            view! {
                <tr>
                    <td>{step.created.clone().unwrap_or_else(|| "—".to_owned())}</td>
                    <td class="clip" title=step.created_by.clone()><code>{step.created_by.clone()}</code></td>
                    <td>{step.comment.clone()}{step.empty_layer.then_some(" (no layer)")}</td>
                </tr>
            }
        })
        .collect_view();
    view! {
        <div class="columns">
            <section class="card">
                <h2>"Facts"</h2>
                <dl class="facts">
                    <dt>"Digest"</dt><dd><code class="break">{detail.image.digest.clone()}</code>" "
                        <Copy text=Signal::stored(detail.image.digest.clone()) label="Copy the digest"/></dd>
                    <dt>"Built"</dt><dd>{detail.image.built_at.clone().unwrap_or_else(|| "—".to_owned())}</dd>
                    <dt>"Pulled"</dt><dd>{browser::zone().date_time(detail.image.pulled_at)}</dd>
                    <dt>"Entrypoint"</dt><dd><code>{text(&command::join(&detail.entrypoint))}</code></dd>
                    <dt>"Command"</dt><dd><code>{text(&command::join(&detail.command))}</code></dd>
                    <dt>"User"</dt><dd>{text(&detail.user)}</dd>
                    <dt>"Working directory"</dt><dd>{text(&detail.workdir)}</dd>
                    <dt>"Listens on"</dt><dd>{list(&detail.exposed_ports)}</dd>
                    <dt>"Wants volumes at"</dt><dd>{list(&detail.volumes)}</dd>
                    <dt>"Labels"</dt><dd>{list(&labels)}</dd>
                </dl>
                <details><summary>"Environment"</summary><pre>{detail.env.join("\n")}</pre></details>
            </section>
            <section class="card">
                <h2>{quantity::plural(detail.layers.len(), "layer")}</h2>
                <div class="table-frame" tabindex="0" role="region" aria-label="Layers">
                <table class="compact">
                    <thead><tr><th scope="col" class="number">"#"</th><th scope="col">"Digest"</th>
                        <th scope="col" class="number">"Packed"</th><th scope="col" class="number">"Unpacked"</th></tr></thead>
                    <tbody>{layers}</tbody>
                </table>
                </div>
            </section>
        </div>
        <section class="card">
            <h2>"History"</h2>
            <div class="table-frame" tabindex="0" role="region" aria-label="History">
            <table class="compact">
                <thead><tr><th scope="col">"When"</th><th scope="col">"Step"</th><th scope="col">"Remark"</th></tr></thead>
                <tbody>{history}</tbody>
            </table>
            </div>
        </section>
    }
    .into_any()
}
