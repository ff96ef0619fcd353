//! Tenants: the list, creating one, and a tenant's page with its quota.

use std::rc::Rc;

use leptos::prelude::*;
use leptos_router::hooks::{use_navigate, use_params_map};
use wharf_shared::permission::Permission;
use wharf_shared::problem::FieldProblem;
use wharf_shared::tenant::{Quota, TenantSpec, TenantUpdate, TenantView};

use super::contracts::Contracts;
use crate::api::{Api, Failure};
use crate::browser;
use crate::components::{Empty, Field, FormFailure, Modal, PageHead, Working, show};
use crate::state::{Auth, Notices, Question, Questions, Remote};
use crate::view::create::of_field;
use crate::view::{quantity, route};

/// The page of all tenants.
#[component]
pub(crate) fn Tenants() -> impl IntoView {
    let api = Api::expect();
    let may_manage = Auth::expect().may(Permission::TenantManage);
    let is_creating = RwSignal::new(false);
    let tenants = Remote::new(move || api.list::<TenantView>("/tenants".to_owned()))
        .follow("tenant")
        .follow("container")
        .follow("volume");
    let sentence = Signal::derive(move || {
        tenants.value().with(|tenants| {
            tenants.as_ref().map_or_else(String::new, |tenants| quantity::plural(tenants.len(), "tenant"))
        })
    });
    let content = move |tenants: Signal<Vec<TenantView>>| {
        view! {
            <Show when=move || tenants.with(|tenants| !tenants.is_empty()) fallback=|| view! {
                <Empty text="No tenants yet. A container always belongs to one." command="wharf tenant create acme"/>
            }>
                <div class="table-frame" tabindex="0" role="region" aria-label="Tenants">
                <table data-testid="tenants">
                    <thead><tr>
                        <th scope="col">"Name"</th><th scope="col" class="number">"Containers"</th>
                        <th scope="col" class="number">"Volumes"</th><th scope="col">"CPU quota"</th>
                        <th scope="col">"Memory quota"</th><th scope="col">"Network"</th><th scope="col">"Since"</th>
                    </tr></thead>
                    <tbody>{move || tenants.get().iter().map(tenant_row).collect_view()}</tbody>
                </table>
                </div>
            </Show>
        }
    };
    view! {
        <PageHead title="Tenants" sentence>
            {may_manage.then(|| view! {
                <button type="button" class="primary" on:click=move |_| is_creating.set(true)>"New tenant"</button>
            })}
        </PageHead>
        {show(tenants, content)}
        <Show when=move || is_creating.get()>
            <CreateTenant close=Callback::new(move |()| is_creating.set(false)) tenants/>
        </Show>
    }
    .into_any()
}

fn of_quota(used: u32, quota: Option<u32>) -> String {
    quota.map_or_else(|| used.to_string(), |quota| format!("{used} of {quota}"))
}

fn cpu_quota(quota: &Quota) -> String {
    quota.cpu_millis.map_or_else(
        || "no limit".to_owned(),
        |millis| format!("{} cores", quantity::cpus(u64::from(millis))),
    )
}

fn memory_quota(quota: &Quota) -> String {
    quota.memory_bytes.map_or_else(|| "no limit".to_owned(), quantity::bytes)
}

fn tenant_row(tenant: &TenantView) -> AnyView {
    view! {
        <tr>
            <th scope="row"><a href=route::tenant(&tenant.id)>{tenant.name.clone()}</a></th>
            <td class="number">{of_quota(tenant.containers, tenant.quota.containers)}</td>
            <td class="number">{of_quota(tenant.volumes, tenant.quota.volumes)}</td>
            <td>{cpu_quota(&tenant.quota)}</td>
            <td>{memory_quota(&tenant.quota)}</td>
            <td>{tenant.subnet.clone()}</td>
            <td>{browser::zone().date_time(tenant.created_at)}</td>
        </tr>
    }
    .into_any()
}

/// A quota as it is typed.
#[derive(Clone, Copy)]
struct QuotaForm {
    cpus: RwSignal<String>,
    weight: RwSignal<String>,
    memory: RwSignal<String>,
    containers: RwSignal<String>,
    volumes: RwSignal<String>,
    pids: RwSignal<String>,
}

impl QuotaForm {
    fn new(quota: &Quota) -> Self {
        let number =
            |value: Option<u32>| RwSignal::new(value.map_or_else(String::new, |value| value.to_string()));
        Self {
            cpus: RwSignal::new(quota.cpu_millis.map_or_else(String::new, |millis| format!("{millis}m"))),
            weight: number(quota.cpu_weight),
            memory: RwSignal::new(quota.memory_bytes.map_or_else(String::new, |bytes| bytes.to_string())),
            containers: number(quota.containers),
            volumes: number(quota.volumes),
            pids: number(quota.pids),
        }
    }

    fn read(self) -> Result<Quota, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut read = |field: &str, typed: RwSignal<String>, parse: &dyn Fn(&str) -> Result<u64, String>| {
            let typed = typed.get_untracked();
            if typed.trim().is_empty() {
                return None;
            }
            parse(typed.trim())
                .map_err(|detail| problems.push(FieldProblem { field: format!("quota.{field}"), detail }))
                .ok()
        };
        let number = |text: &str| text.parse().ok().ok_or_else(|| "a whole number is needed".to_owned());
        let cpu = read("cpu_millis", self.cpus, &|text| quantity::parse_cpus(text).map(u64::from));
        let weight = read("cpu_weight", self.weight, &number);
        let memory = read("memory_bytes", self.memory, &quantity::parse_bytes);
        let containers = read("containers", self.containers, &number);
        let volumes = read("volumes", self.volumes, &number);
        let pids = read("pids", self.pids, &number);
        if !problems.is_empty() {
            return Err(problems);
        }
        let narrow = |value: Option<u64>| value.map(|value| u32::try_from(value).unwrap_or(u32::MAX));
        Ok(Quota {
            containers: narrow(containers),
            volumes: narrow(volumes),
            cpu_millis: narrow(cpu),
            cpu_weight: narrow(weight),
            memory_bytes: memory,
            pids: narrow(pids),
        })
    }

    fn fields(self, problems: Signal<Vec<FieldProblem>>) -> AnyView {
        let problem = move |field: &'static str| {
            Signal::derive(move || problems.with(|problems| of_field(problems, field)))
        };
        view! {
            <fieldset>
                <legend>"Quota"</legend>
                <p class="help">"What all its containers may use together. Empty means no limit."</p>
                <div class="row">
                    <Field label="CPUs" value=self.cpus problem=problem("quota.cpu_millis")/>
                    <Field label="CPU weight" value=self.weight problem=problem("quota.cpu_weight")/>
                    <Field label="Memory" value=self.memory problem=problem("quota.memory_bytes")/>
                </div>
                <div class="row">
                    <Field label="Containers" value=self.containers problem=problem("quota.containers")/>
                    <Field label="Volumes" value=self.volumes problem=problem("quota.volumes")/>
                    <Field label="Processes" value=self.pids problem=problem("quota.pids")/>
                </div>
            </fieldset>
        }
        .into_any()
    }
}

#[component]
fn CreateTenant(close: Callback<()>, tenants: Remote<Vec<TenantView>>) -> impl IntoView {
    let (api, notices) = (Api::expect(), Notices::expect());
    let name = RwSignal::new(String::new());
    let quota = QuotaForm::new(&Quota::default());
    let problems = RwSignal::new(Vec::<FieldProblem>::new());
    let failure = RwSignal::new(None::<Failure>);
    let is_working = RwSignal::new(false);
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let quota = match quota.read() {
            Ok(quota) => quota,
            Err(found) => return problems.set(found),
        };
        problems.set(Vec::new());
        is_working.set(true);
        let spec = TenantSpec { name: name.get_untracked().trim().to_owned(), quota };
        leptos::task::spawn_local(async move {
            let answer = api.send::<_, TenantView>("POST", "/tenants".to_owned(), Some(&spec)).await;
            is_working.try_set(false);
            match answer {
                Ok(tenant) => {
                    notices.confirm(format!("Tenant {} created", tenant.name));
                    tenants.reload();
                    close.run(());
                }
                Err(error) => {
                    problems.try_set(error.fields());
                    failure.try_set(Some(error));
                }
            }
        });
    };
    let problem = Signal::derive(move || problems.with(|problems| of_field(problems, "name")));
    view! {
        <Modal title="New tenant" close>
            <form on:submit=submit>
                <FormFailure failure beside=&["name", "quota"]/>
                <Field label="Name" value=name problem required=true/>
                {quota.fields(problems.into())}
                <div class="dialog-actions">
                    <button type="button" on:click=move |_| close.run(())>"Cancel"</button>
                    <Working working=is_working verb="Create"/>
                </div>
            </form>
        </Modal>
    }
    .into_any()
}

/// A tenant's page.
#[component]
pub(crate) fn TenantPage() -> impl IntoView {
    let (api, auth) = (Api::expect(), Auth::expect());
    let params = use_params_map();
    let given = move || params.with(|params| params.get("tenant").unwrap_or_default());
    let tenant = Remote::new(move || api.get::<TenantView>(format!("/tenants/{}", route::encode(&given()))))
        .follow("tenant")
        .follow("container");
    let title = Signal::derive(move || {
        tenant
            .value()
            .with(|tenant| tenant.as_ref().map_or_else(|| "Tenant".to_owned(), |tenant| tenant.name.clone()))
    });
    let sentence = Signal::derive(move || {
        tenant.value().with(|tenant| {
            tenant.as_ref().map_or_else(String::new, |tenant| {
                format!(
                    "{}, {}",
                    quantity::plural(usize::try_from(tenant.containers).unwrap_or(0), "container"),
                    quantity::plural(usize::try_from(tenant.volumes).unwrap_or(0), "volume")
                )
            })
        })
    });
    let may_manage = auth.may(Permission::TenantManage);
    view! {
        <PageHead title sentence>{may_manage.then(|| view! { <RemoveTenant tenant/> })}</PageHead>
        {show(tenant, move |here| tenant_content(here, tenant, may_manage))}
    }
    .into_any()
}

fn tenant_content(here: Signal<TenantView>, remote: Remote<TenantView>, may_manage: bool) -> AnyView {
    let fact = move |read: fn(&TenantView) -> String| move || here.with(read);
    let tenant_id = Memo::new(move |_| here.with(|tenant| tenant.id.to_string()));
    let containers =
        move || format!("/containers{}", route::query(&[("search", &format!("tenant:{}", here.get().name))]));
    let statements = move || {
        format!("/statements{}", route::query(&[("period", "issued"), ("tenant", here.get().id.as_str())]))
    };
    let usage = move || format!("/usage{}", route::query(&[("tenant", here.get().id.as_str())]));
    view! {
        <div class="columns">
            <section class="card">
                <h2>"Facts"</h2>
                <dl class="facts">
                    <dt>"Id"</dt><dd><code class="break">{fact(|tenant| tenant.id.to_string())}</code></dd>
                    <dt>"Containers"</dt><dd>{fact(|tenant| of_quota(tenant.containers, tenant.quota.containers))}</dd>
                    <dt>"Volumes"</dt><dd>{fact(|tenant| of_quota(tenant.volumes, tenant.quota.volumes))}</dd>
                    <dt>"CPU quota"</dt><dd>{fact(|tenant| cpu_quota(&tenant.quota))}</dd>
                    <dt>"Memory quota"</dt><dd>{fact(|tenant| memory_quota(&tenant.quota))}</dd>
                    <dt>"Network"</dt><dd>{fact(|tenant| tenant.subnet.clone())}</dd>
                    <dt>"User ids on the host"</dt>
                    <dd>{fact(|tenant| format!("from {}, 65536 of them", tenant.id_base))}</dd>
                    <dt>"Since"</dt><dd>{fact(|tenant| browser::zone().date_time(tenant.created_at))}</dd>
                </dl>
                <p><a class="button" href=containers>"Its containers"</a>" "<a class="button" href=usage>"Its usage"</a>" "
                    <a class="button" href=statements>"Its statements"</a></p>
            </section>
            {may_manage.then(|| view! { <section class="card"><EditQuota here remote/></section> })}
            <Contracts tenant=tenant_id/>
        </div>
    }
    .into_any()
}

#[component]
fn EditQuota(here: Signal<TenantView>, remote: Remote<TenantView>) -> impl IntoView {
    let (api, notices) = (Api::expect(), Notices::expect());
    let form = QuotaForm::new(&here.get_untracked().quota);
    let problems = RwSignal::new(Vec::<FieldProblem>::new());
    let is_working = RwSignal::new(false);
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let quota = match form.read() {
            Ok(quota) => quota,
            Err(found) => return problems.set(found),
        };
        problems.set(Vec::new());
        is_working.set(true);
        let id = here.get_untracked().id;
        leptos::task::spawn_local(async move {
            let update = TenantUpdate { quota: Some(quota), ..TenantUpdate::default() };
            match api.send::<_, TenantView>("PATCH", format!("/tenants/{id}"), Some(&update)).await {
                Ok(_) => notices.confirm("Quota changed"),
                Err(failure) => {
                    problems.try_set(failure.fields());
                    notices.fail("Change the quota", &failure);
                }
            }
            is_working.try_set(false);
            remote.reload();
        });
    };
    view! {
        <form on:submit=submit>
            {form.fields(problems.into())}
            <Working working=is_working verb="Change the quota"/>
        </form>
    }
    .into_any()
}

#[component]
fn RemoveTenant(tenant: Remote<TenantView>) -> impl IntoView {
    let (api, notices, questions) = (Api::expect(), Notices::expect(), Questions::expect());
    let navigate = use_navigate();
    let remove = move |_| {
        let Some(here) = tenant.peek() else { return };
        let navigate = navigate.clone();
        questions.ask(Question {
            title: format!("Remove tenant {}?", here.name),
            consequence: "It must have no containers and no volumes left. What it used stays for billing."
                .to_owned(),
            verb: "Remove the tenant".to_owned(),
            typed: Some(here.name.clone()),
            act: Rc::new(move || {
                let (here, navigate) = (here.clone(), navigate.clone());
                leptos::task::spawn_local(async move {
                    match api.act("DELETE", format!("/tenants/{}", here.id)).await {
                        Ok(()) => {
                            notices.confirm(format!("Tenant {} removed", here.name));
                            navigate("/tenants", leptos_router::NavigateOptions::default());
                        }
                        Err(failure) => notices.fail(&format!("Remove tenant {}", here.name), &failure),
                    }
                });
            }),
        });
    };
    view! { <button type="button" class="danger-quiet" on:click=remove>"Remove"</button> }.into_any()
}
