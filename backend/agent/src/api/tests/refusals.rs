//! What is refused is told as a problem that names the field or thing and says what to do.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use wharf_shared::user::Role;

use super::world::{Reply, Who, World};

/// The parts that every problem has (RFC 9457), and this one's kind and words.
fn assert_problem(case: &str, reply: &Reply, kind: &str, words: &[&str]) {
    assert!(!reply.status.is_success(), "{case}: {}", reply.text);
    assert_eq!(reply.headers[CONTENT_TYPE], "application/problem+json", "{case}");
    let problem = reply.json();
    assert_eq!(problem["kind"], kind, "{case}: {}", reply.text);
    assert_eq!(problem["type"], format!("/problems/{kind}"), "{case}");
    assert_eq!(problem["status"], reply.status.as_u16(), "{case}");
    for part in ["title", "detail", "instance"] {
        assert!(problem[part].as_str().is_some_and(|text| !text.is_empty()), "{case}: no {part}");
    }
    for word in words {
        assert!(reply.text.contains(word), "{case}: {word:?} is not in {}", reply.text);
    }
}

/// Attacks: B14, D2, D12.
#[tokio::test]
async fn a_container_that_cannot_be_is_refused_with_what_to_do() {
    let world = World::new().await;
    let shop = world.tenant("shop").await;
    let operator = world.caller("ops", Role::Operator, None).await;
    let member = world.caller("mia", Role::Member, Some(&shop)).await;
    let create = async |who: &Who, more: Value| {
        let mut spec = json!({ "image": "busybox:1", "tenant": shop });
        spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        world.send(who, "POST", "/api/v1/containers", Some(spec)).await
    };
    assert_eq!(create(&operator, json!({ "name": "web" })).await.status, StatusCode::CREATED);
    let mount = |source: Value, target: &str| json!({ "volumes": [{ "source": source, "target": target }] });
    let gone = "tnt_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b";
    for (case, who, more, kind, words) in [
        ("name clash", &operator, json!({ "name": "web" }), "name-taken", &["web", "choose"][..]),
        ("bad name", &operator, json!({ "name": "a b" }), "invalid", &["name"]),
        ("no image", &operator, json!({ "image": "" }), "invalid", &["image"]),
        ("bad image", &operator, json!({ "image": "busybox:no tag" }), "invalid", &["image"]),
        ("unknown field", &operator, json!({ "privilege": true }), "invalid", &["privilege"]),
        ("unknown limit", &operator, json!({ "limits": { "memory": 1 } }), "invalid", &["memory"]),
        (
            "little memory",
            &operator,
            json!({ "limits": { "memory_bytes": 1 } }),
            "invalid",
            &["limits.memory_bytes", "between"],
        ),
        ("odd port", &operator, json!({ "ports": [{ "container_port": 0 }] }), "invalid", &["port"]),
        ("wrong type", &operator, json!({ "command": "sh" }), "invalid", &["command"]),
        ("mount on the root", &operator, mount(json!({ "volume": "v" }), "/"), "invalid", &["volumes[0]"]),
        ("host path", &member, mount(json!({ "host": "/etc" }), "/x"), "forbidden", &["operators"]),
        ("host network", &member, json!({ "network": "host" }), "forbidden", &["operators"]),
        ("no such tenant", &operator, json!({ "tenant": gone }), "not-found", &["tenant"]),
    ] {
        assert_problem(case, &create(who, more).await, kind, words);
    }
    let list = world.get(&operator, "/api/v1/containers?all=true").await.json();
    assert_eq!(list["items"].as_array().expect("a list").len(), 1, "what was refused left a row");
    assert_eq!(world.get(&operator, "/api/v1/volumes").await.json()["items"], json!([]));
}

#[tokio::test]
async fn what_the_state_or_the_quota_does_not_allow_is_told_so() {
    let world = World::new().await;
    let shop = world.tenant("shop").await;
    let operator = world.caller("ops", Role::Operator, None).await;
    let ask = async |method: &str, path: &str, body: Value| {
        world.send(&operator, method, &format!("/api/v1{path}"), Some(body)).await
    };
    let quota = json!({ "quota": { "containers": 1, "volumes": 1, "memory_bytes": 1 << 30 } });
    assert_eq!(ask("PATCH", "/tenants/shop", quota).await.status, StatusCode::OK);
    let spec = |memory: Option<u64>, volume: &str| {
        let volumes = json!([{ "source": { "volume": volume }, "target": "/v" }]);
        json!({ "name": "web", "image": "busybox", "tenant": shop, "volumes": volumes,
            "limits": { "memory_bytes": memory } })
    };
    let without = ask("POST", "/containers", spec(None, "data")).await;
    assert_problem("no limit", &without, "invalid", &["limits.memory_bytes", "quota"]);
    let much = ask("POST", "/containers", spec(Some(2 << 30), "data")).await;
    assert_problem("too much memory", &much, "quota-exceeded", &["memory", "ask for more"]);
    let made = ask("POST", "/containers", spec(Some(1 << 29), "data")).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let second = ask("POST", "/containers", spec(Some(1 << 29), "data")).await;
    assert_problem("one too many", &second, "quota-exceeded", &["containers", "remove"]);
    for (case, method, path, body, kind, words) in [
        ("kill", "POST", "/containers/web/kill", json!({ "signal": "TERM" }), "conflict", &["start it"][..]),
        ("signal", "POST", "/containers/web/kill", json!({ "signal": "NOPE" }), "invalid", &["SIGHUP"]),
        ("pause", "POST", "/containers/web/pause", json!({}), "conflict", &["start it"]),
        ("missing", "POST", "/containers/nobody/start", json!({}), "not-found", &["nobody"]),
        (
            "volume quota",
            "POST",
            "/volumes",
            json!({ "name": "b", "tenant": shop }),
            "quota-exceeded",
            &["remove"],
        ),
        ("volume in use", "DELETE", "/volumes/data", json!({}), "in-use", &["web", "remove"]),
        ("tenant in use", "DELETE", "/tenants/shop", json!({}), "in-use", &["remove"]),
        (
            "no pull",
            "DELETE",
            "/images/pulls/pul_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b",
            json!({}),
            "not-found",
            &["pull"],
        ),
    ] {
        assert_problem(case, &ask(method, path, body).await, kind, words);
    }
}
