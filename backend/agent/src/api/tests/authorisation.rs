//! Every operation of the OpenAPI document, tried as anonymous, as another tenant's member, as
//! operator and as admin (SECURITY.md H6). An operation that the table does not know fails the test.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wharf_shared::user::Role;

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
}

use May::{Admin, Anybody, Operator, SignedIn, Tenant};

struct Operation {
    method: &'static str,
    /// As in the document, but for the prefix.
    path: &'static str,
    may: May,
    body: Option<Value>,
}

/// The table. `{tenant}` in a query or body is the foreign tenant's id.
fn operations(tenant: &str) -> Vec<Operation> {
    let row = |method, path, may, body| Operation { method, path, may, body };
    let user = json!({ "name": "new", "password": "a long enough one", "role": "operator" });
    vec![
        row("get", "/openapi.json", SignedIn, None),
        row("get", "/audit", Admin, None),
        row("get", "/auth/setup", Anybody, None),
        row("post", "/auth/setup", Anybody, Some(json!({}))),
        row("post", "/auth/login", Anybody, Some(json!({}))),
        row("post", "/auth/logout", SignedIn, None),
        row("get", "/auth/session", SignedIn, None),
        row("post", "/auth/password", SignedIn, Some(json!({ "current": "x", "new": "y" }))),
        row("post", "/auth/ws-ticket", SignedIn, None),
        row("get", "/events", SignedIn, None),
        row("get", "/host", Operator, None),
        row("get", "/host/checks", Operator, None),
        row("get", "/tenants", SignedIn, None),
        row("post", "/tenants", Operator, Some(json!({ "name": "new" }))),
        row("get", "/tenants/{tenant}", Tenant, None),
        row("patch", "/tenants/{tenant}", Operator, Some(json!({}))),
        row("delete", "/tenants/{tenant}", Operator, None),
        row("get", "/tokens", SignedIn, None),
        row("post", "/tokens", SignedIn, Some(json!({ "name": "new" }))),
        row("delete", "/tokens/{token}", Tenant, None),
        row("get", "/users", Admin, None),
        row("post", "/users", Admin, Some(user)),
        row("delete", "/users/{user}", Admin, None),
    ]
}

#[tokio::test]
async fn every_operation_is_open_to_those_it_is_for_and_to_nobody_else() {
    let world = World::new().await;
    let (own, foreign) = (world.tenant("own").await, world.tenant("foreign").await);
    let foreign_user = world.user("frida", Role::Member, Some(&foreign)).await;
    let frida = world.caller("fritz", Role::Member, Some(&foreign)).await;
    let member = world.caller("mia", Role::Member, Some(&own)).await;
    let operator = world.caller("olga", Role::Operator, None).await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let document = world.get(&admin, "/api/v1/openapi.json").await.json();
    let foreign_token = world.get(&frida, "/api/v1/tokens").await.json()["items"][0]["id"].clone();

    let real = |path: &str| {
        path.replace("{tenant}", foreign.as_str())
            .replace("{token}", foreign_token.as_str().expect("an id"))
            .replace("{user}", foreign_user.id.as_str())
    };
    // Those who may are sent to what does not exist, so that nothing happens.
    let ghost = |path: &str| {
        let uuid = "0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b";
        path.replace("{tenant}", &format!("tnt_{uuid}"))
            .replace("{token}", &format!("tok_{uuid}"))
            .replace("{user}", &format!("usr_{uuid}"))
    };

    let operations = operations(foreign.as_str());
    let known: BTreeSet<_> =
        operations.iter().map(|operation| format!("{} /api/v1{}", operation.method, operation.path)).collect();
    let paths = document["paths"].as_object().expect("paths");
    let documented: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().expect("operations").keys().map(move |method| format!("{method} {path}")))
        .collect();
    assert_eq!(known, documented, "the table and the document differ");

    for Operation { method, path, may, body } in operations {
        let name = format!("{method} {path}");
        let send = async |who: &Who, path: String| {
            let path = format!("/api/v1{path}");
            world.send(who, &method.to_uppercase(), &path, body.clone()).await.status.as_u16()
        };
        let anonymous = send(&Who::Nobody, real(path)).await;
        assert_eq!(anonymous == 401, may != Anybody, "{name} as nobody: {anonymous}");

        // Signing out is tried last of all, with a token that stays good.
        let other = send(&member, real(path)).await;
        match may {
            Anybody | SignedIn => assert!(!matches!(other, 401 | 403 | 404), "{name} as another member: {other}"),
            Tenant => assert_eq!(other, 404, "{name} as another tenant's member"),
            Operator | Admin => assert_eq!(other, 403, "{name} as a member"),
        }
        let as_operator = send(&operator, ghost(path)).await;
        match may {
            Admin => assert_eq!(as_operator, 403, "{name} as operator"),
            _ => assert!(!matches!(as_operator, 401 | 403), "{name} as operator: {as_operator}"),
        }
        let as_admin = send(&admin, ghost(path)).await;
        assert!(!matches!(as_admin, 401 | 403), "{name} as admin: {as_admin}");
        assert!(![anonymous, other, as_operator, as_admin].contains(&500), "{name} broke");
    }
    // All of it has left the foreign tenant as it was.
    assert_eq!(world.get(&frida, "/api/v1/tenants/foreign").await.status, 200);
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
