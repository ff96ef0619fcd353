//! Every operation of the API's document, tried as anonymous, as another tenant's member, as
//! operator and as admin (SECURITY.md H6). An operation that the table does not know fails the test.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wharf_shared::container::ContainerSpec;
use wharf_shared::id::TenantId;
use wharf_shared::user::Role;
use wharf_store::containers::{self, ContainerRecord, Desired, Observed};

use super::world::{Who, World};

/// Who may do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum May {
    /// Anybody.
    Anybody,
    /// Whoever is signed in; what they see is their own.
    SignedIn,
    /// Members of the thing's own tenant, operators, admins: to others it does not exist.
    Tenant,
    /// Operators and admins.
    Operator,
    /// Admins.
    Admin,
    /// A WebSocket: who may is said in its first frame; a request that is no handshake gets nothing.
    Socket,
}

use May::{Admin, Anybody, Operator, SignedIn, Socket, Tenant};

struct Operation {
    method: &'static str,
    /// As in the document, but for the prefix.
    path: &'static str,
    query: &'static str,
    may: May,
    body: Option<Value>,
}

/// Ids of one tenant's things, or of things that do not exist.
struct Things {
    tenant: String,
    user: String,
    token: String,
    container: String,
    volume: String,
    pull: String,
}

impl Things {
    /// Those who may are sent to these, so that nothing happens.
    fn ghosts() -> Self {
        let id = |prefix: &str| format!("{prefix}0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b");
        Self {
            tenant: id("tnt_"),
            user: id("usr_"),
            token: id("tok_"),
            container: "0".repeat(64),
            volume: id("vol_"),
            pull: id("pul_"),
        }
    }

    fn url(&self, operation: &Operation) -> String {
        let Operation { path, query, .. } = operation;
        format!("/api/v1{path}{}{query}", if query.is_empty() { "" } else { "?" })
            .replace("{tenant}", &self.tenant)
            .replace("{token}", &self.token)
            .replace("{user}", &self.user)
            .replace("{container}", &self.container)
            .replace("{volume}", &self.volume)
            .replace("{pull}", &self.pull)
            .replace("{checkpoint}", "chk_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b")
            .replace("{host}", "hst_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b")
            .replace("{contract}", "ctr_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b")
            .replace("{statement}", &format!("{}.2026-11", self.tenant))
            .replace("{line}", "1")
            .replace("{exec}", "no-such-exec")
    }
}

/// The table.
fn operations(things: &Things) -> Vec<Operation> {
    let ask = |method, path, may, body| Operation { method, path, query: "", may, body };
    let get = |path, may| ask("get", path, may, None);
    let post = |path, may, body| ask("post", path, may, Some(body));
    let find = |method, path, query| Operation { query, ..ask(method, path, Tenant, None) };
    let user = json!({ "name": "new", "password": "a long enough one", "role": "operator" });
    let tenant = &things.tenant;
    let image = "busybox:1.36";
    let correction = json!({ "refers_to": 1, "meter": "cpu_used", "delta": "1", "reason": "x" });
    let prices = json!({ "currency": "EUR", "effective_from": "2030-01-01", "prices": [] });
    let budget = json!({ "amount": "5", "currency": "EUR", "thresholds": [{ "percent": 100 }] });
    vec![
        get("/openapi.json", SignedIn),
        get("/audit", Admin),
        get("/auth/setup", Anybody),
        post("/auth/setup", Anybody, json!({})),
        post("/auth/login", Anybody, json!({})),
        ask("post", "/auth/logout", SignedIn, None),
        get("/auth/session", SignedIn),
        post("/auth/password", SignedIn, json!({ "current": "x", "new": "y" })),
        ask("post", "/auth/ws-ticket", SignedIn, None),
        get("/billing/price-books", SignedIn),
        post("/billing/price-books", Admin, prices.clone()),
        post("/billing/price-books/simulate", Admin, json!({ "book": prices, "period": "2026-11" })),
        get("/budgets", SignedIn),
        get("/budgets/{tenant}", Tenant),
        ask("put", "/budgets/{tenant}", Operator, Some(budget)),
        ask("delete", "/budgets/{tenant}", Operator, None),
        get("/checkpoints", Operator),
        get("/checkpoints/{checkpoint}", Operator),
        ask("delete", "/checkpoints/{checkpoint}", Operator, None),
        post("/checkpoints/{checkpoint}/restore", Operator, json!({})),
        get("/containers", SignedIn),
        post("/containers", Tenant, json!({ "image": image, "tenant": tenant })),
        get("/containers/{container}", Tenant),
        ask("patch", "/containers/{container}", Tenant, Some(json!({}))),
        ask("delete", "/containers/{container}", Tenant, None),
        get("/containers/{container}/attach", Socket),
        get("/containers/{container}/changes", Tenant),
        post("/containers/{container}/checkpoints", Operator, json!({})),
        post("/containers/{container}/commit", Tenant, json!({ "reference": "new" })),
        get("/containers/{container}/export", Tenant),
        find("get", "/containers/{container}/files", "path=/etc"),
        find("put", "/containers/{container}/files", "path=/etc"),
        find("get", "/containers/{container}/files/stat", "path=/etc"),
        post("/containers/{container}/exec", Tenant, json!({ "command": ["true"] })),
        get("/containers/{container}/exec/{exec}", Socket),
        post("/containers/{container}/kill", Tenant, json!({ "signal": "KILL" })),
        get("/containers/{container}/logs", Tenant),
        get("/containers/{container}/metrics", Tenant),
        get("/containers/{container}/metrics/history", Tenant),
        ask("post", "/containers/{container}/pause", Tenant, None),
        get("/containers/{container}/processes", Tenant),
        ask("post", "/containers/{container}/restart", Tenant, None),
        ask("post", "/containers/{container}/resume", Tenant, None),
        ask("post", "/containers/{container}/start", Tenant, None),
        post("/containers/{container}/stop", Tenant, json!({})),
        get("/containers/{container}/wait", Tenant),
        get("/metering/hosts", Operator),
        post("/metering/hosts/{host}/retire", Admin, json!({ "reason": "it burnt down" })),
        get("/contracts", SignedIn),
        post("/contracts", Admin, json!({ "tenant": tenant, "from": "2030-01-01" })),
        ask("patch", "/contracts/{contract}", Admin, Some(json!({ "to": "2031-01-01" }))),
        get("/events", SignedIn),
        get("/host", Operator),
        get("/host/checks", Operator),
        get("/images", SignedIn),
        find("delete", "/images", "reference=busybox&tenant={tenant}"),
        find("get", "/images/detail", "reference=busybox&tenant={tenant}"),
        find("post", "/images/import", "reference=new&tenant={tenant}"),
        post("/images/pull", Tenant, json!({ "image": image, "tenant": tenant })),
        get("/images/pulls", SignedIn),
        get("/images/pulls/{pull}", Tenant),
        ask("delete", "/images/pulls/{pull}", Tenant, None),
        post("/images/tag", Tenant, json!({ "source": image, "target": "new", "tenant": tenant })),
        get("/ledger", Operator),
        post("/ledger/corrections", Operator, correction),
        get("/ledger/export", Operator),
        get("/metering", Operator),
        get("/live", Socket),
        get("/outbox", Operator),
        ask("post", "/outbox/retry", Admin, None),
        get("/networks", SignedIn),
        get("/statements", SignedIn),
        get("/statements/{statement}", Tenant),
        post("/statements/{statement}/issue", Admin, json!({})),
        get("/statements/{statement}/lines/{line}/explain", Tenant),
        ask("post", "/statements/{statement}/pay", Admin, None),
        post("/statements/{statement}/void", Admin, json!({ "reason": "wrong" })),
        get("/tenants", SignedIn),
        post("/tenants", Operator, json!({ "name": "new" })),
        get("/tenants/{tenant}", Tenant),
        ask("patch", "/tenants/{tenant}", Operator, Some(json!({}))),
        ask("delete", "/tenants/{tenant}", Operator, None),
        get("/tokens", SignedIn),
        post("/tokens", SignedIn, json!({ "name": "new" })),
        find("delete", "/tokens/{token}", ""),
        get("/usage", SignedIn),
        find("get", "/usage/export", "tenant={tenant}"),
        find("get", "/usage/export/metadata", "tenant={tenant}"),
        get("/users", Admin),
        post("/users", Admin, user),
        ask("delete", "/users/{user}", Admin, None),
        get("/volumes", SignedIn),
        post("/volumes", Tenant, json!({ "name": "new", "tenant": tenant })),
        get("/volumes/{volume}", Tenant),
        ask("delete", "/volumes/{volume}", Tenant, None),
    ]
}

/// Lists that take a tenant: another one's is not found, rather than empty.
const FILTERED: [&str; 11] = [
    "budgets",
    "containers",
    "contracts",
    "events",
    "images",
    "networks",
    "statements",
    "usage",
    "usage/export",
    "usage/export/metadata",
    "volumes",
];

/// A tenant with one of everything.
async fn things(world: &World, tenant: &TenantId, member: &Who) -> Things {
    let made = async |path: &str, body: Value| {
        let reply = world.send(member, "POST", path, Some(body)).await;
        assert!(reply.status.is_success(), "{path}: {}", reply.text);
        let Value::String(id) = reply.json()["id"].take() else { panic!("{path}: no id") };
        id
    };
    let container = ContainerRecord {
        id: "c0".repeat(32).parse().expect("an id"),
        tenant: tenant.clone(),
        tenant_name: String::new(),
        name: "web".to_owned(),
        spec: ContainerSpec { image: "busybox".to_owned(), ..ContainerSpec::default() },
        desired: Desired::Stopped,
        created_at: world.app.clock.now(),
        version: 1,
        observed: Observed::default(),
    };
    let mut tx = world.app.db.begin().await.expect("begun");
    containers::insert(&mut tx, &container, &[]).await.expect("inserted");
    tx.commit().await.expect("committed");
    Things {
        tenant: tenant.to_string(),
        user: world.user("frida", Role::Member, Some(tenant)).await.id.to_string(),
        token: world.get(member, "/api/v1/tokens").await.json()["items"][0]["id"]
            .as_str()
            .expect("an id")
            .to_owned(),
        container: container.id.to_string(),
        volume: made("/api/v1/volumes", json!({ "name": "data" })).await,
        // Nothing listens there, so the pull fails by itself; it is shown all the same.
        pull: made("/api/v1/images/pull", json!({ "image": "127.0.0.1:1/nothing:1" })).await,
    }
}

/// Attacks: H4, H6.
#[tokio::test]
async fn every_operation_is_open_to_those_it_is_for_and_to_nobody_else() {
    let world = World::new().await;
    let (own, foreign) = (world.tenant("own").await, world.tenant("foreign").await);
    let owner = world.caller("fritz", Role::Member, Some(&foreign)).await;
    let member = world.caller("mia", Role::Member, Some(&own)).await;
    let operator = world.caller("olga", Role::Operator, None).await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let (real, ghosts) = (things(&world, &foreign, &owner).await, Things::ghosts());

    let document = world.get(&admin, "/api/v1/openapi.json").await.json();
    let known: BTreeSet<_> = operations(&real)
        .iter()
        .map(|operation| format!("{} /api/v1{}", operation.method, operation.path))
        .collect();
    let paths = document["paths"].as_object().expect("paths");
    let documented: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().expect("operations").keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    let differ: Vec<_> = known.symmetric_difference(&documented).collect();
    assert!(differ.is_empty(), "only in the table or only in the document: {differ:?}");

    for (to_real, to_ghost) in operations(&real).into_iter().zip(operations(&ghosts)) {
        let Operation { method, path, may, .. } = to_real;
        let name = format!("{method} {path}");
        let send = async |who: &Who, url: String, body: &Option<Value>| {
            world.send(who, &method.to_uppercase(), &url, body.clone()).await.status.as_u16()
        };
        let anonymous = send(&Who::Nobody, real.url(&to_real), &to_real.body).await;
        let other = send(&member, real.url(&to_real), &to_real.body).await;
        let as_operator = send(&operator, ghosts.url(&to_ghost), &to_ghost.body).await;
        let as_admin = send(&admin, ghosts.url(&to_ghost), &to_ghost.body).await;
        match may {
            Anybody => assert_ne!(anonymous, 403, "{name} as nobody"),
            Socket => assert!(matches!(anonymous, 400 | 403 | 426), "{name} as nobody: {anonymous}"),
            SignedIn | Tenant | Operator | Admin => assert_eq!(anonymous, 401, "{name} as nobody"),
        }
        match may {
            Anybody | SignedIn => assert!(!matches!(other, 403 | 404), "{name} as another member: {other}"),
            Socket => assert!(matches!(other, 400 | 403 | 404 | 426), "{name} as another member: {other}"),
            Tenant => assert_eq!(other, 404, "{name} as another tenant's member"),
            Operator | Admin => assert_eq!(other, 403, "{name} as a member"),
        }
        match may {
            Admin => assert_eq!(as_operator, 403, "{name} as operator"),
            _ => assert!(!matches!(as_operator, 403), "{name} as operator: {as_operator}"),
        }
        assert!(!matches!(as_admin, 403), "{name} as admin: {as_admin}");
        let all = [anonymous, other, as_operator, as_admin];
        assert!(!all.contains(&500) && !all.contains(&503), "{name} broke: {all:?}");
    }

    for list in FILTERED {
        for by in [real.tenant.as_str(), "foreign"] {
            let reply = world.get(&member, &format!("/api/v1/{list}?tenant={by}")).await;
            assert_eq!(reply.status, 404, "{list} of {by} as another tenant's member");
        }
        let reply = world.get(&member, &format!("/api/v1/{list}")).await;
        for id in [&real.tenant, &real.container, &real.volume, &real.pull] {
            assert!(!reply.text.contains(id.as_str()), "{list} shows another tenant's {id}");
        }
    }

    // All of it has left the foreign tenant as it was.
    for url in ["/api/v1/tenants/{tenant}", "/api/v1/containers/{container}", "/api/v1/volumes/{volume}"] {
        let url = url
            .replace("{tenant}", &real.tenant)
            .replace("{container}", &real.container)
            .replace("{volume}", &real.volume);
        assert_eq!(world.get(&owner, &url).await.status, 200, "{url} as its owner");
    }
}

#[tokio::test]
async fn every_operation_has_an_id_of_its_own_and_says_that_it_may_fail() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let document = world.get(&admin, "/api/v1/openapi.json").await.json();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            assert!(ids.insert(id.clone()), "{method} {path} repeats {id}");
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
        }
    }
}
