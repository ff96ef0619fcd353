//! Volumes and networks.

use std::rc::Rc;

use leptos::prelude::*;
use wharf_shared::network::NetworkView;
use wharf_shared::permission::Permission;
use wharf_shared::tenant::TenantView;
use wharf_shared::volume::{VolumeSpec, VolumeView};

use super::images::tenant_choice;
use crate::api::{Api, Failure};
use crate::browser;
use crate::components::{Choose, Empty, Field, FormFailure, Modal, PageHead, Working, show};
use crate::state::{Auth, Notices, Question, Questions, Remote};
use crate::view::create::of_field;
use crate::view::quantity;

/// The page of volumes.
#[component]
pub(crate) fn Volumes() -> impl IntoView {
    let api = Api::expect();
    let with_tenants = Auth::expect().may(Permission::AllTenants);
    let is_creating = RwSignal::new(false);
    let volumes = Remote::new(move || api.list::<VolumeView>("/volumes".to_owned()))
        .follow("volume")
        .follow("container");
    let sentence = Signal::derive(move || {
        volumes.value().with(|volumes| {
            volumes.as_ref().map_or_else(String::new, |volumes| {
                let unused = volumes.iter().filter(|volume| volume.used_by.is_empty()).count();
                format!("{}, {unused} without a container", quantity::plural(volumes.len(), "volume"))
            })
        })
    });
    let content = move |volumes_here: Signal<Vec<VolumeView>>| {
        view! {
            <Show when=move || volumes_here.with(|volumes| !volumes.is_empty()) fallback=|| view! {
                <Empty text="No volumes yet. A container that names one makes it." command="wharf volume create data"/>
            }>
                <div class="table-frame" tabindex="0" role="region" aria-label="Volumes">
                <table data-testid="volumes">
                    <thead><tr>
                        <th scope="col">"Name"</th>
                        {with_tenants.then(|| view! { <th scope="col">"Tenant"</th> })}
                        <th scope="col">"Mounted by"</th><th scope="col">"Created"</th>
                        <th scope="col"><span class="hidden">"Actions"</span></th>
                    </tr></thead>
                    <tbody>
                        <For each=move || volumes_here.get() key=|volume| (volume.id.clone(), volume.used_by.clone()) let:volume>
                            {volume_row(volume, with_tenants, volumes)}
                        </For>
                    </tbody>
                </table>
                </div>
            </Show>
        }
    };
    view! {
        <PageHead title="Volumes" sentence>
            <button type="button" class="primary" on:click=move |_| is_creating.set(true)>"New volume"</button>
        </PageHead>
        {show(volumes, content)}
        <Show when=move || is_creating.get()>
            <CreateVolume close=Callback::new(move |()| is_creating.set(false)) volumes/>
        </Show>
    }
    .into_any()
}

fn volume_row(volume: VolumeView, with_tenants: bool, volumes: Remote<Vec<VolumeView>>) -> AnyView {
    let (api, notices, questions) = (Api::expect(), Notices::expect(), Questions::expect());
    let used_by = if volume.used_by.is_empty() { "—".to_owned() } else { volume.used_by.join(", ") };
    let (id, name) = (volume.id.clone(), volume.name.clone());
    let remove = move |_| {
        let (id, name) = (id.clone(), name.clone());
        questions.ask(Question {
            title: format!("Remove volume {name}?"),
            consequence: "All data in it is lost.".to_owned(),
            verb: "Remove the volume".to_owned(),
            typed: Some(name.clone()),
            act: Rc::new(move || {
                let (id, name) = (id.clone(), name.clone());
                leptos::task::spawn_local(async move {
                    match api.act("DELETE", format!("/volumes/{id}")).await {
                        Ok(()) => notices.confirm(format!("Volume {name} removed")),
                        Err(failure) => notices.fail(&format!("Remove volume {name}"), &failure),
                    }
                    volumes.reload();
                });
            }),
        });
    };
    let label = format!("Remove {}", volume.name);
    view! {
        <tr>
            <th scope="row">{volume.name}</th>
            {with_tenants.then(|| view! { <td>{volume.tenant_name}</td> })}
            <td>{used_by}</td>
            <td>{browser::zone().date_time(volume.created_at)}</td>
            <td class="verbs"><button type="button" class="quiet" aria-label=label on:click=remove>"Remove"</button></td>
        </tr>
    }
    .into_any()
}

#[component]
fn CreateVolume(close: Callback<()>, volumes: Remote<Vec<VolumeView>>) -> impl IntoView {
    let (api, notices) = (Api::expect(), Notices::expect());
    let with_tenants = Auth::expect().may(Permission::AllTenants);
    let (tenant, choices) = tenant_choice(api);
    let name = RwSignal::new(String::new());
    let failure = RwSignal::new(None::<Failure>);
    let is_working = RwSignal::new(false);
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        is_working.set(true);
        let spec = VolumeSpec {
            name: name.get_untracked().trim().to_owned(),
            tenant: if with_tenants { tenant.get_untracked().parse().ok() } else { None },
            ..VolumeSpec::default()
        };
        leptos::task::spawn_local(async move {
            let answer = api.send::<_, VolumeView>("POST", "/volumes".to_owned(), Some(&spec)).await;
            is_working.try_set(false);
            match answer {
                Ok(volume) => {
                    notices.confirm(format!("Volume {} created", volume.name));
                    volumes.reload();
                    close.run(());
                }
                Err(error) => {
                    failure.try_set(Some(error));
                }
            }
        });
    };
    let problem = Signal::derive(move || {
        failure.with(|failure| failure.as_ref().and_then(|failure| of_field(&failure.fields(), "name")))
    });
    view! {
        <Modal title="New volume" close>
            <form on:submit=submit>
                <FormFailure failure beside=&["name"]/>
                <Field label="Name" value=name problem required=true/>
                {with_tenants.then(|| view! { <Choose label="Tenant" value=tenant choices/> })}
                <div class="dialog-actions">
                    <button type="button" on:click=move |_| close.run(())>"Cancel"</button>
                    <Working working=is_working verb="Create"/>
                </div>
            </form>
        </Modal>
    }
    .into_any()
}

/// The page of networks: one bridge for each tenant.
#[component]
pub(crate) fn Networks() -> impl IntoView {
    let api = Api::expect();
    let networks = Remote::new(move || api.list::<NetworkView>("/networks".to_owned()))
        .follow("tenant")
        .follow("container");
    let tenants = Remote::new(move || api.list::<TenantView>("/tenants".to_owned())).follow("tenant");
    let name = move |network: &NetworkView| {
        tenants.value().with(|tenants| {
            let found = tenants.iter().flatten().find(|tenant| tenant.id == network.tenant);
            found.map_or_else(|| network.tenant.to_string(), |tenant| tenant.name.clone())
        })
    };
    let content = move |networks: Signal<Vec<NetworkView>>| {
        let rows =
            move || {
                networks.get().iter().map(|network| view! {
                <tr>
                    <th scope="row">{name(network)}</th><td><code>{network.bridge.clone()}</code></td>
                    <td>{network.subnet.clone()}</td><td>{network.gateway.clone()}</td>
                    <td class="number">{network.addresses_used}</td>
                </tr>
            }).collect_view()
            };
        view! {
            <Show when=move || networks.with(|networks| !networks.is_empty())
                fallback=|| view! { <Empty text="No networks yet: each tenant gets one of its own."/> }>
                <div class="table-frame" tabindex="0" role="region" aria-label="Networks">
                <table>
                    <thead><tr>
                        <th scope="col">"Tenant"</th><th scope="col">"Bridge"</th><th scope="col">"Addresses"</th>
                        <th scope="col">"Gateway"</th><th scope="col" class="number">"In use"</th>
                    </tr></thead>
                    <tbody>{rows}</tbody>
                </table>
                </div>
            </Show>
        }
    };
    view! {
        <PageHead title="Networks" sentence="Each tenant has a bridge of its own; no traffic passes between tenants."/>
        {show(networks, content)}
    }
    .into_any()
}
