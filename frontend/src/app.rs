//! Routes and the shell around the pages.

use leptos::prelude::*;
use leptos_router::components::{A, Route, Router, Routes};
use leptos_router::hooks::use_location;
use leptos_router::path;
use wharf_shared::permission::Permission;

use crate::api::{Api, Connection, Live};
use crate::components::{Banner, FailureBox, NoticeList, PageHead, QuestionDialog};
use crate::keys::Keys;
use crate::lazy::{self, Later};
use crate::pages::{overview, sign_in};
use crate::state::{Auth, Containers, Dismissed, Events, Notices, Questions, Session, Theme};

/// The dashboard.
#[component]
pub(crate) fn App() -> impl IntoView {
    let api = Api::new();
    provide_context(api);
    provide_context(Notices::new());
    provide_context(Questions::new());
    provide_context(Dismissed::new());
    provide_context(Auth::new(api));
    provide_context(Live::new(api));
    Theme::provide();
    view! {
        <Router>
            <Door/>
        </Router>
    }
}

/// Who is let in where.
#[component]
fn Door() -> impl IntoView {
    let auth = Auth::expect();
    let is_setup = {
        let path = use_location().pathname;
        Memo::new(move |_| path.with(|path| path == "/setup"))
    };
    // A change of the user rebuilds the shell; nothing of the one before is kept.
    let session = Memo::new(move |_| auth.session().get());
    move || match session.get() {
        Session::Checking => ().into_any(),
        Session::SignedIn(_) => view! { <Shell/> }.into_any(),
        _ if is_setup.get() => view! { <sign_in::SetUp/> }.into_any(),
        Session::SignedOut => view! { <sign_in::SignIn/> }.into_any(),
        Session::Failed(failure) => {
            let retry = Callback::new(move |()| auth.check());
            view! { <main class="door"><PageHead title="Wharfage"/><FailureBox failure retry/></main> }
                .into_any()
        }
    }
}

/// Navigation, bar and the page.
#[component]
fn Shell() -> impl IntoView {
    let (api, live) = (Api::expect(), Live::expect());
    let events = Events::new(live);
    provide_context(events);
    provide_context(Containers::new(api, live, events));
    live.connect();
    on_cleanup(move || live.disconnect());
    view! {
        <a class="skip" href="#main">"Skip to content"</a>
        <div class="shell">
            <Rail/>
            <div class="body">
                <Banner/>
                <main id="main">
                    <Routes fallback=|| view! {
                        <PageHead title="Not found" sentence="There is no such page."/>
                        <p><a href="/">"Overview"</a></p>
                    }>
                        <Route path=path!("/") view=overview::Overview/>
                        <Route path=path!("/setup") view=overview::Overview/>
                        <Route path=path!("/containers") view=Later(lazy::container_list)/>
                        <Route path=path!("/containers/new") view=Later(lazy::create_container)/>
                        <Route path=path!("/containers/:container/:tab?") view=Later(lazy::container_page)/>
                        <Route path=path!("/images") view=Later(lazy::image_list)/>
                        <Route path=path!("/images/detail") view=Later(lazy::image_page)/>
                        <Route path=path!("/volumes") view=Later(lazy::volume_list)/>
                        <Route path=path!("/networks") view=Later(lazy::network_list)/>
                        <Route path=path!("/tenants") view=Later(lazy::tenant_list)/>
                        <Route path=path!("/tenants/:tenant") view=Later(lazy::tenant_page)/>
                        <Route path=path!("/usage") view=Later(lazy::usage_page)/>
                        <Route path=path!("/statements") view=Later(lazy::statement_list)/>
                        <Route path=path!("/statements/:statement/:month?") view=Later(lazy::statement_page)/>
                        <Route path=path!("/metering") view=Later(lazy::metering_health)/>
                        <Route path=path!("/price-books") view=Later(lazy::price_books)/>
                        <Route path=path!("/events") view=Later(lazy::event_list)/>
                        <Route path=path!("/audit") view=Later(lazy::audit_trail)/>
                        <Route path=path!("/access") view=Later(lazy::access_page)/>
                        <Route path=path!("/hosts") view=Later(lazy::host_page)/>
                    </Routes>
                </main>
            </div>
        </div>
        <NoticeList/>
        <QuestionDialog/>
        <Keys/>
    }
    .into_any()
}

#[component]
fn Rail() -> impl IntoView {
    let auth = Auth::expect();
    let is_open = RwSignal::new(false);
    // On a narrow screen the menu closes when a page was chosen.
    let path = use_location().pathname;
    Effect::new(move |_| {
        path.track();
        is_open.set(false);
    });
    let link = |path: &'static str, name: &'static str| {
        view! { <li><A href=path exact=path == "/">{name}</A></li> }.into_any()
    };
    let if_may = move |permission: Permission, path, name| auth.may(permission).then(|| link(path, name));
    let name = auth.user().map(|user| user.name).unwrap_or_default();
    view! {
        <header class="rail" class:open=move || is_open.get()>
            <div class="brand">
                <strong>"Wharfage"</strong>
                <button type="button" class="menu" aria-expanded=move || is_open.get().to_string()
                    aria-controls="navigation" on:click=move |_| is_open.update(|open| *open = !*open)>"Menu"</button>
            </div>
            <nav id="navigation" aria-label="Main">
                <ul>{link("/", "Overview")}</ul>
                <h2 id="nav-workloads">"Workloads"</h2>
                <ul aria-labelledby="nav-workloads">
                    {link("/containers", "Containers")}
                    {link("/images", "Images")}
                    {link("/volumes", "Volumes")}
                    {link("/networks", "Networks")}
                    {link("/events", "Events")}
                </ul>
                <h2 id="nav-money">"Tenants and money"</h2>
                <ul aria-labelledby="nav-money">
                    {link("/tenants", "Tenants")}
                    {link("/usage", "Usage")}
                    {link("/statements", "Statements")}
                    {if_may(Permission::PriceManage, "/price-books", "Price books")}
                    {if_may(Permission::HostRead, "/metering", "Metering health")}
                </ul>
                <h2 id="nav-platform">"Platform"</h2>
                <ul aria-labelledby="nav-platform">
                    {if_may(Permission::HostRead, "/hosts", "Host")}
                    {if_may(Permission::UserManage, "/audit", "Audit")}
                    {link("/access", "Users and tokens")}
                </ul>
            </nav>
            <div class="rail-foot">
                <Dot/>
                <ThemeButton/>
                <div class="who"><span class="clip" title=name.clone()>{name.clone()}</span>
                    <button type="button" class="quiet" on:click=move |_| auth.logout()>"Sign out"</button></div>
            </div>
        </header>
    }
    .into_any()
}

/// Whether what is shown is live.
#[component]
fn Dot() -> impl IntoView {
    let live = Live::expect();
    let look = move || match live.connection().get() {
        Connection::Live => ("connection tone-ok", "●", "live"),
        Connection::Connecting(_) => ("connection tone-info", "◐", "connecting"),
        Connection::Waiting(_) => ("connection tone-warn", "◌", "offline"),
        Connection::Off => ("connection tone-muted", "○", "off"),
    };
    view! {
        <span class=move || look().0 data-testid="connection">
            <span aria-hidden="true">{move || look().1}</span>" "{move || look().2}
        </span>
    }
    .into_any()
}

#[component]
fn ThemeButton() -> impl IntoView {
    let theme = expect_context::<RwSignal<Theme>>();
    view! {
        <button type="button" class="quiet" data-testid="theme"
            on:click=move |_| theme.update(|theme| *theme = theme.next())>
            "Theme: "{move || theme.get().as_str()}
        </button>
    }
    .into_any()
}
