//! The create form. What is typed is checked at once with the agent's own rules; what only the agent
//! can know comes back to the same fields.

use leptos::prelude::*;
use leptos_router::hooks::{use_navigate, use_query_map};
use wharf_shared::container::ContainerView;
use wharf_shared::image::ImageView;
use wharf_shared::permission::Permission;
use wharf_shared::tenant::TenantView;

use crate::api::{Api, Failure};
use crate::components::{Check, Choice, Choose, Copy, FailureBox, Field, Lines, PageHead, Working};
use crate::state::{Auth, Containers, Remote};
use crate::view::create::{Draft, RESTART, as_command_line, as_json, of_field, spec};
use crate::view::route;

/// Signals of the form, one a field.
#[derive(Clone, Copy)]
struct Form {
    image: RwSignal<String>,
    name: RwSignal<String>,
    tenant: RwSignal<String>,
    command: RwSignal<String>,
    entrypoint: RwSignal<String>,
    env: RwSignal<String>,
    labels: RwSignal<String>,
    ports: RwSignal<String>,
    volumes: RwSignal<String>,
    user: RwSignal<String>,
    workdir: RwSignal<String>,
    cpus: RwSignal<String>,
    memory: RwSignal<String>,
    pids: RwSignal<String>,
    restart: RwSignal<String>,
    terminal: RwSignal<bool>,
    read_only: RwSignal<bool>,
    auto_remove: RwSignal<bool>,
}

impl Form {
    fn new(image: String, tenant: String) -> Self {
        let text = || RwSignal::new(String::new());
        Self {
            image: RwSignal::new(image),
            name: text(),
            tenant: RwSignal::new(tenant),
            command: text(),
            entrypoint: text(),
            env: text(),
            labels: text(),
            ports: text(),
            volumes: text(),
            user: text(),
            workdir: text(),
            cpus: text(),
            memory: text(),
            pids: text(),
            restart: RwSignal::new("no".to_owned()),
            terminal: RwSignal::new(false),
            read_only: RwSignal::new(false),
            auto_remove: RwSignal::new(false),
        }
    }

    fn draft(self) -> Draft {
        Draft {
            image: self.image.get(),
            name: self.name.get(),
            tenant: self.tenant.get(),
            command: self.command.get(),
            entrypoint: self.entrypoint.get(),
            env: self.env.get(),
            labels: self.labels.get(),
            ports: self.ports.get(),
            volumes: self.volumes.get(),
            user: self.user.get(),
            workdir: self.workdir.get(),
            cpus: self.cpus.get(),
            memory: self.memory.get(),
            pids: self.pids.get(),
            restart: self.restart.get(),
            terminal: self.terminal.get(),
            read_only: self.read_only.get(),
            auto_remove: self.auto_remove.get(),
        }
    }
}

/// The page.
#[component]
pub(crate) fn CreateContainer() -> impl IntoView {
    let (api, auth, containers) = (Api::expect(), Auth::expect(), Containers::expect());
    let with_tenants = auth.may(Permission::AllTenants);
    let query = use_query_map();
    let given = |key: &str| query.with_untracked(|query| query.get(key).unwrap_or_default());
    let form = Form::new(given("image"), given("tenant"));
    let tenants = Remote::new(move || api.list::<TenantView>("/tenants".to_owned())).follow("tenant");
    let images = Remote::new(move || api.list::<ImageView>("/images".to_owned())).follow("image");
    // With one tenant there is nothing to choose.
    Effect::new(move |_| {
        if let Some([only]) = tenants.value().get().as_deref()
            && with_tenants
            && form.tenant.with_untracked(String::is_empty)
        {
            form.tenant.set(only.id.to_string());
        }
    });
    let failure = RwSignal::new(None::<Failure>);
    let is_tried = RwSignal::new(false);
    let is_working = RwSignal::new(false);
    let checked = Memo::new(move |_| spec(&form.draft()));
    // What the agent said holds until the form changes.
    Effect::new(move |_| {
        checked.track();
        failure.set(None);
    });
    let problem = move |field: &'static str| {
        Signal::derive(move || {
            let from_agent = failure
                .with(|failure| failure.as_ref().and_then(|failure| of_field(&failure.fields(), field)));
            from_agent.or_else(|| {
                is_tried.get().then(|| checked.with(|(_, problems)| of_field(problems, field))).flatten()
            })
        })
    };
    let tenant_problem = Signal::derive(move || {
        let is_missing = with_tenants && is_tried.get() && form.tenant.with(String::is_empty);
        is_missing.then(|| "choose whose container it is".to_owned()).or_else(|| problem("tenant").get())
    });
    let navigate = use_navigate();
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        is_tried.set(true);
        let (spec, problems) = checked.get_untracked();
        if !problems.is_empty() || (with_tenants && form.tenant.with_untracked(String::is_empty)) {
            crate::browser::focus_later("form [aria-invalid=true]");
            return;
        }
        is_working.set(true);
        let navigate = navigate.clone();
        leptos::task::spawn_local(async move {
            let answer =
                api.send::<_, ContainerView>("POST", "/containers?start=true".to_owned(), Some(&spec)).await;
            is_working.try_set(false);
            match answer {
                Ok(view) => {
                    let path = route::container(&view.id);
                    containers.put(view);
                    navigate(&path, leptos_router::NavigateOptions::default());
                }
                Err(error) => {
                    failure.try_set(Some(error));
                }
            }
        });
    };
    let tenant_choices = Signal::derive(move || {
        let mut choices: Vec<Choice> = vec![(String::new(), "Choose…".to_owned())];
        let tenants = tenants.value().get().unwrap_or_default();
        choices.extend(tenants.into_iter().map(|tenant| (tenant.id.to_string(), tenant.name)));
        choices
    });
    let restart_choices: Vec<Choice> =
        RESTART.iter().map(|(key, name)| ((*key).to_owned(), (*name).to_owned())).collect();
    let command_line = Signal::derive(move || {
        let tenant = tenants.value().with(|tenants| {
            let id = form.tenant.get();
            let found = tenants.iter().flatten().find(|tenant| tenant.id.as_str() == id);
            found.map(|tenant| tenant.name.clone()).unwrap_or_default()
        });
        checked.with(|(spec, _)| as_command_line(spec, &tenant))
    });
    let json = Signal::derive(move || checked.with(|(spec, _)| as_json(spec)));
    let image_names = move || {
        let mut names: Vec<_> =
            images.value().get().unwrap_or_default().into_iter().map(|image| image.reference).collect();
        names.sort();
        names.dedup();
        names.into_iter().map(|name| view! { <option value=name></option> }).collect_view()
    };
    view! {
        <PageHead title="New container" sentence="It starts at once; a missing image is pulled first."/>
        <form class="two-columns" on:submit=submit novalidate>
            <div>
                {move || failure.get().map(|failure| view! { <FailureBox failure/> })}
                <fieldset>
                    <legend>"What runs"</legend>
                    <ImageField form problem=problem("image")/>
                    <datalist id="images">{image_names}</datalist>
                    {with_tenants.then(|| view! {
                        <Choose label="Tenant" value=form.tenant choices=tenant_choices problem=tenant_problem/>
                    })}
                    <Field label="Name" value=form.name problem=problem("name") help="Made up when empty."/>
                    <Field label="Command" value=form.command problem=problem("command")
                        help="Replaces the image's. Quotes as in a shell: sh -c 'echo hello; sleep 60'"/>
                    <Lines label="Environment" value=form.env problem=problem("env") help="NAME=value, one a line."/>
                </fieldset>
                <fieldset>
                    <legend>"What it may use"</legend>
                    <div class="row">
                        <Field label="CPUs" value=form.cpus problem=problem("limits.cpu_millis")
                            help="0.5, 2 or 250m; empty for no limit."/>
                        <Field label="Memory" value=form.memory problem=problem("limits.memory_bytes")
                            help="512m or 1.5g; empty for no limit."/>
                        <Field label="Processes" value=form.pids problem=problem("limits.pids")
                            help="Processes and threads."/>
                    </div>
                </fieldset>
                <fieldset>
                    <legend>"How it is reached and what it keeps"</legend>
                    <Lines label="Published ports" value=form.ports problem=problem("ports")
                        help="[[ip:]host:]container[/udp], one a line: 8080:80"/>
                    <Lines label="Volumes" value=form.volumes problem=problem("volumes")
                        help="name:/path[:ro], one a line; also tmpfs=64m:/path."/>
                </fieldset>
                <details>
                    <summary>"More"</summary>
                    <Choose label="Start again" value=form.restart choices=Signal::stored(restart_choices)
                        problem=problem("restart")/>
                    <Field label="Entrypoint" value=form.entrypoint problem=problem("entrypoint")/>
                    <Lines label="Labels" value=form.labels problem=problem("labels") help="name=value, one a line."/>
                    <div class="row">
                        <Field label="User" value=form.user problem=problem("user") help="user, uid or uid:gid"/>
                        <Field label="Working directory" value=form.workdir problem=problem("workdir")/>
                    </div>
                    <Check label="A terminal with standard input" value=form.terminal/>
                    <Check label="Read-only root file system" value=form.read_only/>
                    <Check label="Remove it when it has ended" value=form.auto_remove/>
                    <p class="problem">{problem("auto_remove")}</p>
                </details>
                <div class="form-actions">
                    <Working working=is_working verb="Create and start"/>
                    <a class="button" href="/containers">"Cancel"</a>
                </div>
            </div>
            <aside class="card">
                <h2>"The same by command line"</h2>
                <pre class="wrap">{command_line}</pre>
                <Copy text=command_line label="Copy the command line"/>
                <h2>"and by the API"</h2>
                <p class="muted">"POST /api/v1/containers?start=true"</p>
                <pre tabindex="0" aria-label="Request body">{json}</pre>
                <Copy text=json label="Copy the request"/>
            </aside>
        </form>
    }
    .into_any()
}

/// The image's field, with the images that are here as suggestions.
#[component]
fn ImageField(form: Form, problem: Signal<Option<String>>) -> impl IntoView {
    view! {
        <div class="field">
            <label for="field-image">"Image"<span class="muted">" (needed)"</span></label>
            <input id="field-image" type="text" list="images" autocomplete="off" spellcheck="false"
                autocapitalize="off" placeholder="busybox:1.36" required
                aria-invalid=move || problem.with(Option::is_some).to_string()
                aria-describedby="field-image-problem" bind:value=form.image/>
            <p class="problem" id="field-image-problem">{problem}</p>
        </div>
    }
    .into_any()
}
