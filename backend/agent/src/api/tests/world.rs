//! What every test of the API needs: an agent without its host, two tenants, a user of each role.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;
use wharf_shared::auth::{CSRF_HEADER, TokenSpec};
use wharf_shared::id::TenantId;
use wharf_shared::tenant::TenantSpec;
use wharf_shared::time::Timestamp;
use wharf_shared::user::{Role, UserSpec, UserView};

use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::ctx::Ctx;
use crate::tasks::Tasks;

/// The password of every user of the world.
pub(super) const PASSWORD: &str = "correct horse battery staple";
/// 2026-11-23T12:00:00Z.
const BEGIN: Timestamp = Timestamp(1_795_435_200_000_000);

/// A clock that only moves when it is told to.
#[derive(Debug)]
pub(super) struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    fn boot_ns(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed) - BEGIN.0).expect("it only advances") * 1_000
    }
}

impl ManualClock {
    pub(super) fn advance(&self, us: i64) {
        self.0.fetch_add(us, Ordering::Relaxed);
    }
}

/// An agent, and how to talk to it.
pub(super) struct World {
    pub(super) app: Arc<App>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) router: Router,
    pub(super) dir: tempfile::TempDir,
}

/// What came back.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect(&self.text)
    }

    /// The slug of a problem.
    pub(super) fn kind(&self) -> String {
        self.json()["kind"].as_str().expect("a problem").to_owned()
    }
}

/// With what a request proves who sends it.
#[derive(Debug, Clone)]
pub(super) enum Who {
    Nobody,
    Token(String),
    Browser { cookie: String, csrf: String },
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings than the default ones.
    pub(super) async fn with(settings: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let clock = Arc::new(ManualClock(AtomicI64::new(BEGIN.0)));
        let mut config = Config {
            instance: "wharftest".to_owned(),
            state_dir: dir.path().to_owned(),
            run_dir: dir.path().join("run"),
            // No container is started here; a file is enough.
            shim: std::env::current_exe().expect("this test"),
            ..Config::default()
        };
        settings(&mut config);
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let app = App::build(config, shared, Tasks::default()).await.expect("an agent");
        let router = crate::api::router(Arc::clone(&app));
        Self { app, clock, router, dir }
    }

    /// The bytes of the database's files as they are on disk.
    pub(super) fn database_bytes(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.dir.path()).expect("the directory");
        files
            .map(|file| file.expect("an entry").path())
            .filter(|path| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("wharf.db"))
            })
            .flat_map(|path| std::fs::read(path).expect("a database file"))
            .collect()
    }

    pub(super) async fn tenant(&self, name: &str) -> TenantId {
        let spec = TenantSpec { name: name.to_owned(), ..TenantSpec::default() };
        self.app.tenants.create(&Ctx::system("test"), spec).await.expect("a tenant").id
    }

    pub(super) async fn user(&self, name: &str, role: Role, tenant: Option<&TenantId>) -> UserView {
        let spec =
            UserSpec { name: name.to_owned(), password: PASSWORD.to_owned(), role, tenant: tenant.cloned() };
        self.app.users.create(&Ctx::system("test"), spec).await.expect("a user")
    }

    /// A user and a token of it.
    pub(super) async fn caller(&self, name: &str, role: Role, tenant: Option<&TenantId>) -> Who {
        let user = self.user(name, role, tenant).await;
        let ctx = Ctx { user: Some(user.id), role, tenant: tenant.cloned(), ..Ctx::system("test") };
        let spec = TokenSpec { name: "test".to_owned(), expires_in_days: None };
        Who::Token(self.app.auth.create_token(&ctx, &spec).await.expect("a token").secret)
    }

    /// Signs in as a browser does.
    pub(super) async fn browser(&self, name: &str) -> Who {
        let body = json!({ "name": name, "password": PASSWORD });
        let reply = self.send(&Who::Nobody, "POST", "/api/v1/auth/login", Some(body)).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let cookie = reply.headers[SET_COOKIE].to_str().expect("text");
        let cookie = cookie.split(';').next().expect("name and value").to_owned();
        let csrf = reply.json()["csrf_token"].as_str().expect("a token").to_owned();
        Who::Browser { cookie, csrf }
    }

    pub(super) async fn get(&self, who: &Who, path: &str) -> Reply {
        self.send(who, "GET", path, None).await
    }

    pub(super) async fn send(&self, who: &Who, method: &str, path: &str, body: Option<Value>) -> Reply {
        self.ask(request(who, method, path, body)).await
    }

    pub(super) async fn ask(&self, request: Request<Body>) -> Reply {
        let (status, headers, bytes) = self.ask_for_bytes(request).await;
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        Reply { status, headers, text }
    }

    /// For what is no text.
    pub(super) async fn ask_for_bytes(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Bytes) {
        let response = self.router.clone().oneshot(request).await.expect("the router never fails");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 16 << 20).await.expect("a body");
        (parts.status, parts.headers, bytes)
    }
}

/// A request as this caller's client sends it.
pub(super) fn request(who: &Who, method: &str, path: &str, body: Option<Value>) -> Request<Body> {
    let method: Method = method.parse().expect("a method");
    let mut request = Request::builder().method(method).uri(path).header(HOST, "localhost:8080");
    match who {
        Who::Nobody => {}
        Who::Token(secret) => request = request.header(AUTHORIZATION, format!("Bearer {secret}")),
        Who::Browser { cookie, csrf } => request = request.header(COOKIE, cookie).header(CSRF_HEADER, csrf),
    }
    match body {
        Some(body) => request
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .expect("a request"),
        None => request.body(Body::empty()).expect("a request"),
    }
}
